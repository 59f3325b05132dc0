"""What code depends on: the functions, classes and constants that it names, and so on from these.

Installed packages are not followed: they count by their names, and have versions. What a function
makes of its arguments is told by its bytecode, which knows neither remarks nor the names of local
variables; and by the values that it finds outside: defaults, what it encloses, what it names.
"""

import dataclasses
import functools
import hashlib
import inspect
import random
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

from hopjax._checks import on_host
from hopjax.program.names import all_names, imported, is_installed, names_in

_BUILTIN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    np.ufunc,
    np.dtype,
)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, tuple, list, dict)
_PLAIN += (jax.Array, np.ndarray, np.generic)
_LEAVES = (type(None), jax.Array, Tracer, np.ndarray, np.generic, bool, int, float, complex, str)
_LEAVES += (Executor,)  # where something is computed does not count
# Of a class, what says nothing about what it computes.
_ABOUT = frozenset(
    """__module__ __doc__ __dict__ __weakref__ __qualname__ __annotations__ __firstlineno__
    __static_attributes__ __annotate_func__ __annotations_cache__ __dataclass_params__
    __dataclass_fields__ __match_args__ __abstractmethods__ _abc_impl __parameters__
    __orig_bases__ __subclasshook__ __slotnames__""".split()
)
# Of an object that stands for a function of the user's, where that is.
_STANDS_FOR = ("__wrapped__", "func", "fget", "fset", "fdel", "method", "dispatcher")
# What moves on whenever it is used.
_MOVING = (np.random.Generator, np.random.RandomState, random.Random)
_SHOWN = 200  # characters of a constant
_Parts = Iterator[Any]  # texts, bytes and further parts


class Reached(NamedTuple):
    """What some code depends on.

    Attributes:
        digest: changes with it, the same in every process; empty for code of packages alone.
        sources: the texts of functions and classes, by name, where they are known.
        hidden: what could not be looked into.
    """

    digest: str
    sources: dict[str, str]
    hidden: tuple[str, ...]


def reached(*values: Any) -> Reached:
    """All that functions, classes or methods depend on."""
    walk = _Walk(texts=True)
    digest = walk.digest(walk.value(value, "it") for value in values)
    return Reached(digest, walk.sources, tuple(dict.fromkeys(walk.hidden)))


def sources_of(tree: Any) -> dict[str, str]:
    """The texts of the user's functions and classes that a PyTree reaches, by name."""
    walk = _Walk(texts=True)
    walk.digest(walk.tree(tree))
    return walk.sources


def digest_of(tree: Any) -> str:
    """Changes with what the functions and classes in a PyTree depend on; its arrays are left out.

    Empty where all of it belongs to packages, which is found out in no time.
    """
    if _is_of_packages(tree):
        return ""
    walk = _Walk(texts=False)
    return walk.digest(walk.tree(tree))


@functools.cache
def _is_leaf(kind: type) -> bool:
    """Whether things of a type are data of a PyTree."""
    return issubclass(kind, _LEAVES)


@functools.cache
def _fields(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass, Equinox modules included; None for other types."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(field.name for field in dataclasses.fields(kind))


def _is_of_packages(tree: Any) -> bool:
    """Whether a PyTree has arrays, numbers and classes of packages only: a quick look."""
    kind = type(tree)
    if _is_leaf(kind):
        return True
    if kind in (tuple, list):
        return all(map(_is_of_packages, tree))
    if kind is dict:
        return all(map(_is_of_packages, tree.values()))
    fields = _fields(kind)
    if fields is None or not is_installed(kind.__module__):
        return False
    return all(_is_of_packages(getattr(tree, name, None)) for name in fields)


class _Walk:
    """One look at everything that is reached, each thing once."""

    def __init__(self, *, texts: bool):
        self.texts = texts
        self.numbers: dict[int, int] = {}
        self.kept: list[Any] = []  # alive, so that no other thing gets its identity
        self.sources: dict[str, str] = {}
        self.hidden: list[str] = []
        self.found = False  # anything of the user's

    def digest(self, parts: Iterable[Any]) -> str:
        """SHA-256 of all parts; empty where nothing of the user's was found."""
        left: list[Iterator[Any]] = [iter(parts)]
        sha = hashlib.sha256()
        while left:  # a walk of any depth
            part: Any = next(left[-1], _NOTHING)
            if part is _NOTHING:
                left.pop()
            elif isinstance(part, (str, bytes)):
                sha.update(part if isinstance(part, bytes) else part.encode())
                sha.update(b"\0")
            else:
                left.append(part)
        return sha.hexdigest() if self.found else ""

    def _again(self, value: Any) -> str | None:
        """The number of what was seen before."""
        if id(value) in self.numbers:
            return f"again {self.numbers[id(value)]}"
        self.numbers[id(value)] = len(self.numbers)
        self.kept.append(value)
        return None

    def tree(self, value: Any) -> _Parts:
        """A PyTree, without its arrays."""
        if _is_leaf(type(value)):
            return
        if isinstance(value, Mapping):
            for item in value.values():
                yield self.tree(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield self.tree(item)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield self._class(type(value))
            for field in dataclasses.fields(value):
                yield self.tree(getattr(value, field.name, None))
        else:
            yield self.value(value, type(value).__name__)

    def value(self, value: Any, name: str) -> _Parts:
        """Anything; `name` is what to call it where it is hidden."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            yield f"{type(value).__name__} {value!r}"
        elif value is ... or value is NotImplemented:
            yield repr(value)
        elif isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(value, _BUILTIN):
            yield f"{type(value).__name__} {getattr(value, '__qualname__', value)}"
            owner = getattr(value, "__self__", None)
            if not isinstance(owner, (type, types.ModuleType)):
                yield self.value(owner, name)
        elif (again := self._again(value)) is not None:
            yield again
        elif isinstance(value, (jax.Array, np.ndarray, np.generic)):
            yield self._array(value, name)
        elif isinstance(value, Mapping):
            yield f"mapping of {len(value)}"
            for key, item in value.items():
                yield self.value(key, name)
                yield self.value(item, f"{name}[{key!r}]")
        elif isinstance(value, (list, tuple)):
            yield f"{type(value).__name__} of {len(value)}"
            for item in value:
                yield self.value(item, name)
        elif isinstance(value, (set, frozenset)):
            yield f"set of {len(value)}"
            for item in sorted(value, key=repr):
                yield self.value(item, name)
        elif isinstance(value, types.MethodType):
            yield self.value(value.__func__, name)
            yield self.value(value.__self__, name)
        elif isinstance(value, (functools.partial, functools.partialmethod)):
            yield "partial"
            for part in (value.func, value.args, value.keywords):
                yield self.value(part, name)
        elif isinstance(value, types.FunctionType):
            yield self._function(value)
        elif isinstance(value, type):
            yield self._class(value, seen=True)
        else:
            yield self._object(value, name)

    def _array(self, value: Any, name: str) -> _Parts:
        if isinstance(value, Tracer):
            yield f"traced {value.aval}"
            return
        array = on_host(value)
        yield f"array {array.dtype} {array.shape}"
        if array.dtype == object:
            yield self.value(array.tolist(), name)
        else:
            yield hashlib.sha256(array.tobytes()).digest()

    def _function(self, function: types.FunctionType) -> _Parts:
        """The code, and the values that it finds; of a package's function only what it encloses."""
        own = not is_installed(function.__module__ or "")
        encloses = []
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                encloses.append((name, cell.cell_contents))
            except ValueError:  # not filled yet
                encloses.append((name, None))
        if not own:
            yield f"function {function.__module__}.{function.__qualname__}"
            for name, value in encloses:
                if callable(value) or isinstance(value, _PLAIN):
                    yield self.value(value, name)
            wrapped = getattr(function, "__wrapped__", None)
            if wrapped is not None:
                yield self.value(wrapped, function.__qualname__)
            return
        self.found = True
        self._note(function)
        yield "function"
        yield self._code(function.__code__, function.__globals__, function.__doc__)
        for value in (function.__defaults__, function.__kwdefaults__):
            yield self.value(value, function.__qualname__)
        for name, value in [*encloses, *sorted(vars(function).items())]:
            if isinstance(value, types.ModuleType):
                yield self._of_module(value, all_names(function.__code__))
            else:
                yield self.value(value, name)

    def _code(
        self, code: types.CodeType, known: Mapping[str, Any], doc: str | None = None
    ) -> _Parts:
        """The instructions, and the values that they name in their module."""
        yield code.co_code
        yield f"{code.co_argcount} {code.co_kwonlyargcount} {code.co_flags}"
        yield getattr(code, "co_exceptiontable", b"")
        inner = []
        for place, constant in enumerate(code.co_consts):
            if isinstance(constant, types.CodeType):
                inner.append(constant)
            elif not (place == 0 and doc is not None and constant == doc):
                yield repr(
                    sorted(constant, key=repr) if isinstance(constant, frozenset) else constant
                )
        named, imports = names_in(code)
        found = {name: known[name] for name in named if name in known}
        for name in code.co_names:
            follows = name in found and _is_own(found[name])
            # How a function of the user's is called does not count, what it is does.
            yield "*" if follows and not isinstance(found[name], types.ModuleType) else name
        for name, value in found.items():
            if isinstance(value, types.ModuleType):
                yield self._of_module(value, code.co_names)
            else:
                self._note_constant(value, name)
                yield self.value(value, name)
        for level, name, parts in imports:
            module = imported("." * level + name, known, self.texts)
            if module is not None:
                for part in parts:
                    imported(f"{module.__name__}.{part}", known, self.texts)
                yield self._of_module(module, code.co_names)
        for each in inner:
            yield self._code(each, known)

    def _of_module(self, module: types.ModuleType, names: tuple[str, ...]) -> _Parts:
        """What code takes from a module of the user's, by the names in that code."""
        yield f"module {module.__name__}"
        if is_installed(module.__name__):
            return
        self.found = True
        for name in names:
            value = getattr(module, name, _NOTHING)
            if isinstance(value, types.ModuleType):
                if value is not module and value.__name__.startswith(f"{module.__name__}."):
                    yield self._of_module(value, names)
            elif value is not _NOTHING:
                self._note_constant(value, f"{module.__name__}.{name}")
                yield self.value(value, f"{module.__name__}.{name}")

    def _class(self, kind: type, seen: bool = False) -> _Parts:
        if is_installed(kind.__module__):
            yield f"class {kind.__module__}.{kind.__qualname__}"
            return
        if not seen and (again := self._again(kind)) is not None:
            yield again
            return
        self.found = True
        self._note(kind)
        yield "class"
        for base in (type(kind), *kind.__mro__[1:]):
            yield self._class(base)
        for name, item in sorted(vars(kind).items()):
            if name not in _ABOUT:
                yield name
                yield self.value(item, f"{kind.__qualname__}.{name}")
        for field in getattr(kind, "__dataclass_fields__", {}).values():
            yield field.name
            if field.default is not dataclasses.MISSING:
                yield self.value(field.default, field.name)
            for part in (field.default_factory, field.metadata.get("converter")):
                if part is not dataclasses.MISSING and part is not None:
                    yield self.value(part, field.name)

    def _object(self, value: Any, name: str) -> _Parts:
        """An instance, or what stands for a function."""
        kind = type(value)
        yield self._class(kind)
        parts = [
            part
            for attribute in _STANDS_FOR
            if (part := inspect.getattr_static(value, attribute, None)) is not None
            and not isinstance(part, _BUILTIN)
            and not isinstance(part, property)
        ]
        if not parts:
            part = _get(value, "__wrapped__")  # of compiled functions
            parts = [] if part is None else [part]
        own = not is_installed(kind.__module__)
        if parts and hasattr(kind, "lower"):  # compiled: what it knows beside is JAX's own
            yield self.value(parts[0], name)
            return
        if dataclasses.is_dataclass(value):
            inside = {field.name: _get(value, field.name) for field in dataclasses.fields(value)}
        elif own or callable(value):
            inside = dict(_get(value, "__dict__") or {})
            for base in kind.__mro__:
                for slot in getattr(base, "__slots__", ()) if own else ():
                    if slot not in ("__dict__", "__weakref__"):
                        inside[slot] = _get(value, slot)
        else:
            inside = {}
        for part in parts:
            yield self.value(part, name)
        for attribute, part in sorted(inside.items()):
            if attribute not in ("__doc__", "__module__", "__name__", "__qualname__"):
                yield self.value(part, f"{name}.{attribute}")
        if not (own or parts or inside):
            from_package = _get(value, "__qualname__") or _get(value, "__name__")
            reduced = _reduced(value)
            if callable(value) and isinstance(from_package, str):
                yield from_package
            elif reduced is not None:
                yield self.value(reduced, name)
            else:
                self.hidden.append(f"{name} ({kind.__qualname__})")
                yield f"hidden {kind.__module__}.{kind.__qualname__}"

    def _note(self, value: Any) -> None:
        """Keep the text of a function or class."""
        if not self.texts:
            return
        try:
            text = textwrap.dedent(inspect.getsource(value))
        except (OSError, TypeError, IndentationError):  # typed into a prompt
            return
        self._keep(value.__qualname__, text)

    def _note_constant(self, value: Any, name: str) -> None:
        """Keep what a number, text or array is that code reads."""
        if self.texts and isinstance(value, _PLAIN):
            text = f"{name} = {value!r}"
            if len(text) > _SHOWN or isinstance(value, (jax.Array, np.ndarray)):
                walk = _Walk(texts=False)
                walk.found = True
                text = (
                    f"{name} = {type(value).__name__} {walk.digest(walk.value(value, name))[:16]}"
                )
            self._keep(name, text)

    def _keep(self, name: str, text: str) -> None:
        """Several of one name stand below each other."""
        before = self.sources.get(name)
        if before is None:
            self.sources[name] = text
        elif text not in before:
            self.sources[name] = f"{before}\n{text}"


_NOTHING = object()


def _get(value: Any, name: str) -> Any:
    """An attribute, None where there is none: objects of the user's may fail in any way."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _reduced(value: Any) -> tuple[Any, ...] | None:
    """What an object of a package is made from, as it would be pickled; None if it cannot be."""
    if isinstance(value, _MOVING):
        return None
    try:
        made, given, *state = value.__reduce_ex__(4)
    except Exception:
        return None
    return (made, given, *(list(part) if isinstance(part, Iterator) else part for part in state))


def _is_own(value: Any) -> bool:
    """Whether a value is a function or class of the user's."""
    if not (callable(value) or isinstance(value, types.ModuleType)):
        return False
    module = getattr(value, "__name__" if isinstance(value, types.ModuleType) else "__module__", "")
    return isinstance(module, str) and not is_installed(module)
