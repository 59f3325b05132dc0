"""The program of a computation: what tells it from another, and that it is what runs.

JAX keeps what it has traced by the identity of functions, and so goes on with the old program
where something that a function calls was redefined: a notebook's cell that was run again. Here all
that is kept is kept by a mark as well, and another mark means that all is traced anew, inner
compiled functions included.
"""

import contextlib
import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

from hopjax._checks import on_host
from hopjax.program.code import digest_of, reached

_MARK = jax.make_user_context(None)
_F = TypeVar("_F", bound=Callable[..., Any])

_SYMBOL = r'@(?:"[^"]*"|[\w$.\-]+)'
_DEFINED = re.compile(rf"func\.func (?:public |private )?({_SYMBOL})")
_ANY = re.compile(rf"(custom_call )?({_SYMBOL})")
_CALLBACK = re.compile(r"(custom_call @\w*callback\w*\([^)]*\)) \{.*?\} :")
# Operations that leave the program, and where what they call is.
_LEAVING = ("pure_callback", "io_callback", "ffi_call", "noinline")
# Packages whose functions are known by their version.
_KNOWN = ("hopjax", "jax", "diffrax", "equinox", "lineax", "optimistix")


def under_this_mark(function: _F) -> _F:
    """A function that goes on under the present mark in whatever thread it is called."""
    mark = _MARK.value

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _MARK(mark):
            return function(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


# Marks of code that only differs by what it counted or kept while it was traced.
_SAME: dict[str, str] = {}


@dataclasses.dataclass
class _Run:
    """A call that goes on with the code in a PyTree; what tracing changes of it does not count."""

    tree: Any
    digest: str
    mark: str

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """Around a trace: the code as it leaves it stands for the code as it found it."""
        untouched = digest_of(self.tree) == self.digest
        yield
        after = digest_of(self.tree)
        if untouched and after != self.digest:
            _SAME[after], self.digest = self.mark, after


_RUN: ContextVar[_Run | None] = ContextVar("run", default=None)


def tracing() -> contextlib.AbstractContextManager[None]:
    """Around a trace of the user's code: what this alone changes of it is no change of the code."""
    run = _RUN.get()
    return contextlib.nullcontext() if run is None else run.tracing()


@contextlib.contextmanager
def as_code_is(tree: Any) -> Iterator[None]:
    """Go on with what was traced from the user's code that a PyTree reaches, as it is now."""
    digest = "" if _MARK.value is not None else digest_of(tree)
    if not digest:
        yield
        return
    run = _Run(tree, digest, _SAME.get(digest, digest))
    token = _RUN.set(run)
    try:
        with _MARK(run.mark):
            yield
    finally:
        _RUN.reset(token)


def as_written(function: _F) -> _F:
    """A function that traces anew what was traced before its arguments' code has changed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with as_code_is((args, kwargs)):
            return function(*args, **kwargs)

    return call  # pyright: ignore[reportReturnType]


def compiled(function: _F) -> _F:
    """As `equinox.filter_jit`, but traced anew where code that the arguments reach has changed."""

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with tracing():
            return function(*args, **kwargs)

    jitted: Any = eqx.filter_jit(traced)
    return as_written(jitted)


# The marks of programs by their digests, so that one that was compiled is not compiled again.
_MARKS: dict[str, Any] = {}


def remember(digest: str, mark: Any) -> None:
    """What runs under a digest is what was traced under this mark, or under an earlier one."""
    _MARKS.setdefault(digest, mark)


def running(digest: str) -> contextlib.AbstractContextManager[None]:
    """Run the program of a digest: nothing that JAX has kept of another one is used."""
    return _MARK(_MARKS[digest])


class Program(NamedTuple):
    """A computation as it is handed to the compiler.

    Attributes:
        digest: SHA-256 of its text, without the names of functions, and of the arrays given to it.
        hidden: functions outside packages that it calls back into, which the text does not tell.
        mark: under which it was traced; what is traced under it later has the same code.
    """

    digest: str
    hidden: tuple[str, ...]
    mark: Any


def program_of(
    function: Callable[..., PyTree],
    given: PyTree,
    *numbers: PyTree,
    mark: Any = None,
    platform: str | None = None,
) -> Program:
    """The program of `function(given, *numbers)`, traced afresh.

    Args:
        function: gives arrays.
        given: whatever it needs; the arrays in it count by their values, as data.
        numbers: arguments that may change: their shapes count alone.
        mark: one that was made for this run, to trace several programs under; None for another.
        platform: what it is lowered for, such as "cpu"; None for that of this process.
    """
    mark = object() if mark is None else mark
    arrays, rest = eqx.partition(given, is_array)

    def run(arrays: PyTree, *numbers: PyTree) -> PyTree:
        return function(eqx.combine(arrays, rest), *numbers)

    with _MARK(mark):
        traced = jax.jit(run).trace(arrays, *numbers)
        text = traced.lower(lowering_platforms=None if platform is None else (platform,)).as_text()
    sha = hashlib.sha256(_nameless(text).encode())
    for array in jax.tree.leaves(arrays):
        sha.update(on_host(array).tobytes())
    hidden = tuple(dict.fromkeys(_left_to(traced.jaxpr)))
    return Program(sha.hexdigest(), hidden, mark)


def is_array(leaf: Any) -> bool:
    """Whether a leaf is data, of JAX or of NumPy."""
    return eqx.is_array(leaf) or isinstance(leaf, (np.ndarray, np.generic))


def _nameless(text: str) -> str:
    """A program's text with its functions numbered, and without the addresses of callbacks."""
    numbers = {symbol: f"@{place}" for place, symbol in enumerate(_DEFINED.findall(text))}

    def rename(found: re.Match[str]) -> str:
        return found[0] if found[1] else numbers.get(found[2], found[0])

    text = re.sub(r"^module @\S+", "module", text)
    return _CALLBACK.sub(r"\1 :", _ANY.sub(rename, text))


def _is_known(function: Any) -> bool:
    """Whether it is a function of a package whose version tells what it computes, and no data."""
    module = getattr(function, "__module__", None) or ""
    if isinstance(function, type(np.sort)):
        return module.partition(".")[0] == "numpy"
    return (
        isinstance(function, types.FunctionType)
        and module.partition(".")[0] in _KNOWN
        and module != "equinox._callback"  # which encloses what the user calls
        and not reached(function).digest
    )


def _left_to(program: ClosedJaxpr | Jaxpr) -> Iterator[str]:
    """Functions outside packages that a program calls on the host."""
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    for step in jaxpr.eqns:
        if step.primitive.name in _LEAVING:
            function: Any = step.params.get("callback")
            function = getattr(function, "callback_func", function)
            if not _is_known(function):
                kind = step.params.get("target_name", type(function).__qualname__)
                name = getattr(function, "__qualname__", kind)
                yield f"{step.primitive.name} of {name}"
        for value in step.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                    yield from _left_to(inner)
