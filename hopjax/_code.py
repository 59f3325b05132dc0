"""What code depends on: the functions, classes and constants that it names, and so on from these.

Installed packages are not followed: they count by their names, and have versions. What a function
makes of its arguments is told by its bytecode, which knows neither remarks nor the names of local
variables; and by the values that it finds outside: defaults, what it encloses, what it names.
"""

import dataclasses
import functools
import hashlib
import inspect
import sys
import sysconfig
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

_INSTALLED = tuple(
    dict.fromkeys(
        sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
)
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
# Of a class, what says nothing about what it computes.
_ABOUT = frozenset(
    """__module__ __doc__ __dict__ __weakref__ __qualname__ __annotations__ __firstlineno__
    __static_attributes__ __annotate_func__ __annotations_cache__ __dataclass_params__
    __dataclass_fields__ __match_args__ __abstractmethods__ _abc_impl __parameters__
    __orig_bases__ __subclasshook__""".split()
)
# Of an object that stands for a function of the user's, where that is.
_STANDS_FOR = ("__wrapped__", "__func__", "func", "fget", "fset", "fdel", "method")


@functools.cache
def is_installed(module: str) -> bool:
    """Whether a module belongs to Python or to a package that was installed, hopjax included."""
    top = module.partition(".")[0]
    if top == "hopjax" or top in sys.stdlib_module_names - {"__main__"}:
        return True
    if top == "__main__":
        return False
    while "." in module and module not in sys.modules:  # part of one that was compiled
        module = module.rpartition(".")[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.builtin_module_names
    return "site-packages" in file or "dist-packages" in file or file.startswith(_INSTALLED)


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
    digest = walk.digest(part for value in values for part in walk.value(value, "it"))
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

    def digest(self, parts: Iterable[str | bytes]) -> str:
        """SHA-256 of all parts; empty where nothing of the user's was found."""
        sha = hashlib.sha256()
        for part in parts:
            sha.update(part if isinstance(part, bytes) else part.encode())
            sha.update(b"\0")
        return sha.hexdigest() if self.found else ""

    def _again(self, value: Any) -> str | None:
        """The number of what was seen before."""
        if id(value) in self.numbers:
            return f"again {self.numbers[id(value)]}"
        self.numbers[id(value)] = len(self.numbers)
        self.kept.append(value)
        return None

    def tree(self, value: Any) -> Iterator[str | bytes]:
        """A PyTree, without its arrays."""
        if _is_leaf(type(value)):
            return
        if isinstance(value, Mapping):
            for item in value.values():
                yield from self.tree(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from self.tree(item)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from self._class(type(value))
            for field in dataclasses.fields(value):
                yield from self.tree(getattr(value, field.name, None))
        else:
            yield from self.value(value, type(value).__name__)

    def value(self, value: Any, name: str) -> Iterator[str | bytes]:
        """Anything; `name` is what to call it where it is hidden."""
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            yield f"{type(value).__name__} {value!r}"
        elif value is ... or value is NotImplemented:
            yield repr(value)
        elif isinstance(value, (jax.Array, np.ndarray, np.generic)):
            yield from self._array(value, name)
        elif isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(value, _BUILTIN):
            yield f"{type(value).__name__} {getattr(value, '__qualname__', value)}"
        elif (again := self._again(value)) is not None:
            yield again
        elif isinstance(value, Mapping):
            yield f"mapping of {len(value)}"
            for key, item in value.items():
                yield from self.value(key, name)
                yield from self.value(item, f"{name}[{key!r}]")
        elif isinstance(value, (list, tuple)):
            yield f"{type(value).__name__} of {len(value)}"
            for item in value:
                yield from self.value(item, name)
        elif isinstance(value, (set, frozenset)):
            yield f"set of {len(value)}"
            for item in sorted(value, key=repr):
                yield from self.value(item, name)
        elif isinstance(value, functools.partial):
            yield "partial"
            for part in (value.func, value.args, value.keywords):
                yield from self.value(part, name)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value, seen=True)
        else:
            yield from self._object(value, name)

    def _array(self, value: Any, name: str) -> Iterator[str | bytes]:
        if isinstance(value, Tracer):
            yield f"traced {value.aval}"
            return
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        yield f"array {array.dtype} {array.shape}"
        if array.dtype == object:
            yield from self.value(array.tolist(), name)
        else:
            yield hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()

    def _function(self, function: types.FunctionType) -> Iterator[str | bytes]:
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
                    yield from self.value(value, name)
            wrapped = getattr(function, "__wrapped__", None)
            if wrapped is not None:
                yield from self.value(wrapped, function.__qualname__)
            return
        self.found = True
        self._note(function)
        yield "function"
        yield from self._code(function.__code__, function.__globals__, function.__doc__)
        for value in (function.__defaults__, function.__kwdefaults__):
            yield from self.value(value, function.__qualname__)
        for name, value in encloses:
            yield from self.value(value, name)
        wrapped = getattr(function, "__wrapped__", None)
        if wrapped is not None:
            yield from self.value(wrapped, function.__qualname__)

    def _code(
        self, code: types.CodeType, known: Mapping[str, Any], doc: str | None = None
    ) -> Iterator[str | bytes]:
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
        found = []
        for name in code.co_names:
            value = known.get(name, _missing(name))
            follows = value is not _NOTHING and _is_own(value)
            # How a function of the user's is called does not count, what it is does.
            yield "*" if follows and not isinstance(value, types.ModuleType) else name
            if value is not _NOTHING:
                found.append((name, value))
        for name, value in found:
            if isinstance(value, types.ModuleType):
                yield from self._of_module(value, code.co_names)
            else:
                yield from self.value(value, name)
        for each in inner:
            yield from self._code(each, known)

    def _of_module(self, module: types.ModuleType, names: tuple[str, ...]) -> Iterator[str | bytes]:
        """What code takes from a module of the user's, by the names in that code."""
        yield f"module {module.__name__}"
        if is_installed(module.__name__):
            return
        self.found = True
        for name in names:
            value = getattr(module, name, _NOTHING)
            if isinstance(value, types.ModuleType):
                if value is not module and value.__name__.startswith(f"{module.__name__}."):
                    yield from self._of_module(value, names)
            elif value is not _NOTHING:
                yield from self.value(value, f"{module.__name__}.{name}")

    def _class(self, kind: type, seen: bool = False) -> Iterator[str | bytes]:
        if is_installed(kind.__module__):
            yield f"class {kind.__module__}.{kind.__qualname__}"
            return
        if not seen and (again := self._again(kind)) is not None:
            yield again
            return
        self.found = True
        self._note(kind)
        yield "class"
        for base in kind.__mro__[1:]:
            yield from self._class(base)
        for name, item in sorted(vars(kind).items()):
            if name not in _ABOUT:
                yield name
                yield from self.value(item, f"{kind.__qualname__}.{name}")
        for field in getattr(kind, "__dataclass_fields__", {}).values():
            yield field.name
            if field.default is not dataclasses.MISSING:
                yield from self.value(field.default, field.name)
            for part in (field.default_factory, field.metadata.get("converter")):
                if part is not dataclasses.MISSING and part is not None:
                    yield from self.value(part, field.name)

    def _object(self, value: Any, name: str) -> Iterator[str | bytes]:
        """An instance, or what stands for a function."""
        kind = type(value)
        yield from self._class(kind)
        parts = [
            part
            for attribute in _STANDS_FOR
            if (part := inspect.getattr_static(value, attribute, None)) is not None
            and not isinstance(part, _BUILTIN)
            and not isinstance(part, property)
        ]
        if not parts:
            part = getattr(value, "__wrapped__", None)  # of compiled functions
            parts = [] if part is None else [part]
        own = not is_installed(kind.__module__)
        if parts and hasattr(kind, "lower"):  # compiled: what it knows beside is JAX's own
            yield from self.value(parts[0], name)
            return
        if dataclasses.is_dataclass(value):
            inside = {
                field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)
            }
        elif own or callable(value):
            inside = dict(getattr(value, "__dict__", {}))
            for base in kind.__mro__:
                for slot in getattr(base, "__slots__", ()) if own else ():
                    if hasattr(value, slot) and slot not in ("__dict__", "__weakref__"):
                        inside[slot] = getattr(value, slot)
        else:
            inside = {}
        for part in parts:
            yield from self.value(part, name)
        for attribute, part in sorted(inside.items()):
            if attribute not in ("__doc__", "__module__", "__name__", "__qualname__"):
                yield from self.value(part, f"{name}.{attribute}")
        if not (own or parts or inside):
            from_package = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
            if callable(value) and isinstance(from_package, str):
                yield from_package
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
        if "<locals>" not in value.__qualname__ or value.__qualname__ not in self.sources:
            self.sources[value.__qualname__] = text


_NOTHING = object()


def _missing(name: str) -> Any:
    """What a name is that a module does not have: a module that the code imports itself."""
    module = sys.modules.get(name)
    return module if module is not None and not is_installed(name) else _NOTHING


def _is_own(value: Any) -> bool:
    """Whether a value is a function or class of the user's."""
    if not (callable(value) or isinstance(value, types.ModuleType)):
        return False
    module = getattr(value, "__name__" if isinstance(value, types.ModuleType) else "__module__", "")
    return isinstance(module, str) and not is_installed(module)
