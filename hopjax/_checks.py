"""Checks at the door: every public entry calls these, nothing inside a solve does.

Shapes, dtypes and static values raise a one-line `ValueError` or `TypeError`. Array values do
the same while they are concrete; under a JAX transformation they become a runtime check with a
fixed message.
"""

import inspect
import math
import operator
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import get_opaque_trace_state
from jaxtyping import Array, ArrayLike, Bool, Float, Inexact, Key

from hopjax._errors import ArgumentError, ArgumentTypeError, shown

_Entries = TypeVar("_Entries", bound=Array | np.ndarray)


def cast_floats(tree: Any, dtype: Any) -> Any:
    """Every floating array of a PyTree in one dtype."""

    def cast(leaf):
        is_float = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if is_float else leaf

    return jax.tree.map(cast, tree)


def on_host(value: Any) -> np.ndarray:
    """Any concrete array or number as NumPy has it, a key as its words; inside a trace too."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        with jax.ensure_compile_time_eval():
            value = jax.random.key_data(value)
    return np.asarray(value)


def is_traced(value: Any) -> bool:
    """Whether any leaf of a PyTree is an abstract value inside jit, vmap or grad."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def _kind(value: Any) -> str:
    """A one-line description of a value for an error message."""
    if eqx.is_array(value):
        article = "a traced" if is_traced(value) else "an"
        return f"{article} array of dtype {value.dtype} and shape {value.shape}"
    return f"{shown(value)} ({type(value).__name__})"


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.floating)


def check_number(value: Any, name: str, *, positive: bool = False) -> float:
    """A finite static Python float; `positive` asks for more than zero."""
    right = "a positive number" if positive else "a finite number"
    if is_traced(value):
        raise ArgumentTypeError(
            name,
            "a static Python float",
            "a traced value",
            hint="it fixes the number of steps, so it cannot change under jit, vmap or grad",
        )
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(value, (np.number, np.ndarray, Array)):
        real = value.ndim == 0 and _is_real(value.dtype)
    if not real:
        raise ArgumentTypeError(name, right, _kind(value))
    try:
        number = float(value)
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise ArgumentError(name, right, number)
    return number


def check_count(value: Any, name: str, minimum: int = 1) -> int:
    """A static Python integer of at least `minimum`."""
    right = f"an integer of at least {minimum}"
    try:
        if isinstance(value, (bool, np.bool_)) or is_traced(value):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(name, right, _kind(value)) from None
    if count < minimum:
        raise ArgumentError(name, right, shown(count))
    return count


def machine_memory() -> float:
    """In bytes; infinite where it is not known."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # no POSIX
        return math.inf


def check_fits(size: int, name: str, what: str, got: Any) -> None:
    """Refuse what needs more bytes, at the least, than this machine has."""
    memory = machine_memory()
    if size > memory:
        least = f"{size / 2**30:.3g}" if size < 2**100 else "more than 1e20"
        raise ArgumentError(
            name,
            f"{what} in the {memory / 2**30:.3g} GiB of this machine",
            f"{shown(got)}, which takes {least} GiB at least",
            must="leave",
        )


def check_sides(value: Any, name: str) -> tuple[int, int]:
    """Rows and columns of a picture: one count for both, or one for each."""
    if not isinstance(value, (tuple, list)):
        return check_count(value, name), check_count(value, name)
    if len(value) != 2:
        raise ArgumentError(name, "one count or (rows, columns)", shown(value))
    rows, columns = (check_count(side, f"{name}[{place}]") for place, side in enumerate(value))
    return rows, columns


def check_index(value: Any, name: str, size: int, things: str) -> int:
    """A static index from 0 below `size`, the number of `things`."""
    index = check_count(value, name, minimum=0)
    if index >= size:
        raise ArgumentError(name, f"below the number of {things}, {size}", shown(index))
    return index


def check_flag(value: Any, name: str) -> bool:
    """A static Python bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(name, "True or False", _kind(value))
    return bool(value)


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """One of some words."""
    if not isinstance(value, str) or value not in choices:
        right = ", ".join(f'"{choice}"' for choice in choices)
        raise ArgumentError(name, f"one of {right}", shown(value))
    return value


def check_instance(value: Any, kinds: type | tuple[type, ...], name: str, right: str) -> None:
    """A value of one of the given types; `right` says in words what is expected."""
    if not isinstance(value, kinds):
        got = f"the class {value.__name__}" if isinstance(value, type) else _kind(value)
        raise ArgumentTypeError(name, right, got)


def check_takes(function: Callable, name: str, right: str, /, *args: Any, **kwargs: Any) -> None:
    """A function that can be called so; what it does is not looked at."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        what = getattr(function, "__name__", type(function).__name__)
        raise ArgumentTypeError(name, right, what, must="take", hint=error) from None


def check_key(key: Any, name: str = "key") -> Key[Array, ""]:
    """One threefry key. A legacy `uint32[2]` key is accepted and becomes a typed one.

    Other generators are refused: their draws differ between a batch and a single trajectory.
    """
    right = "one threefry key as from jax.random.key(0)"
    is_typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not is_typed:
        if not eqx.is_array(key) or key.dtype != jnp.uint32 or key.shape != (2,):
            raise ArgumentTypeError(name, right, _kind(key))
        key = jax.random.wrap_key_data(jnp.asarray(key), impl="threefry2x32")
    if str(jax.random.key_impl(key)) not in ("fry", "threefry2x32"):
        raise ArgumentError(
            name,
            right,
            f"one of the generator `{jax.random.key_impl(key)}`",
            hint="its draws depend on batching",
        )
    if key.shape != ():
        raise ArgumentError(name, right, f"{key.shape} keys", hint="use jax.vmap over them")
    return key


class BadValues:
    """Runtime checks under a trace as data: which failed, and of what argument each is."""

    def __init__(self):
        self.wrong: list[tuple[str, str]] = []  # name and what is right, as of `ArgumentError`
        self.bad: list[Bool[Array, ""]] = []
        self.trace = get_opaque_trace_state()


_BAD_VALUES: ContextVar[BadValues | None] = ContextVar("bad_values", default=None)


@contextmanager
def collect_bad_values() -> Iterator[BadValues]:
    """Collect the runtime checks that are made in this trace, instead of failing at run time.

    A batch can then name the trial, and no callback runs on the device.
    """
    values = BadValues()
    token = _BAD_VALUES.set(values)
    try:
        yield values
    finally:
        _BAD_VALUES.reset(token)


def check_values(
    array: _Entries,
    bad: Bool[ArrayLike, "..."],
    name: str,
    right: str,
    *,
    fits: tuple[str, ...] = (),
) -> _Entries:
    """Refuse entries marked `bad`: at once if concrete, by a runtime check if traced.

    Returns the array, which the caller must go on with (an unused check is removed by XLA). For
    `fits` see `ArgumentError`.
    """
    if is_traced((array, bad)):
        values = _BAD_VALUES.get()
        if values is None or values.trace != get_opaque_trace_state():
            return eqx.error_if(array, jnp.any(bad), str(ArgumentError(name, right)))
        values.wrong.append((name, right))
        values.bad.append(jnp.any(bad))
        return array
    where = np.argwhere(np.broadcast_to(np.asarray(bad), array.shape))
    if len(where):
        index = tuple(where[0].tolist())
        place = f" at index {list(index)}" if index else ""
        got = f"{shown(np.asarray(array)[index])}{place}"
        raise ArgumentError(name, right, got, fits=fits)
    return array


def is_bad(array: Array | np.ndarray, right) -> Bool[ArrayLike, "..."]:
    """`~right(array)`, computed by NumPy on the host while the array is concrete."""
    return ~right(array if is_traced(array) else np.asarray(array))


class _NoNumbers(Exception):
    """A value is no array of real numbers."""


def _host_number(value: Any) -> tuple[float, bool]:
    """A Python number of any size as a float, and whether it is one that is infinite itself."""
    if not isinstance(value, (bool, int, float, np.number, np.bool_)):
        raise _NoNumbers
    try:
        return float(value), not isinstance(value, int) and math.isinf(value)
    except OverflowError:
        return math.inf, False


def size_within(dtype: Any) -> str:
    """What a number must be that a dtype can hold, to print."""
    kind = np.finfo(dtype)
    return f"of a size up to {kind.max:.3g}, the largest of {kind.dtype}"


def _host_floats(value: Any, name: str, dtype: Any = None) -> Float[np.ndarray, "..."]:
    """Real numbers that are all on the host as floats there: none wraps or becomes infinite.

    Without a dtype float32 is kept, and anything else becomes JAX's default float.
    """
    try:
        given = np.asarray(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise _NoNumbers from None
    floats, infinite = given, None
    if given.dtype == object and not isinstance(value, np.ndarray):  # integers beyond 64 bits?
        numbers = [_host_number(each) for each in given.ravel()]
        floats = np.array([number for number, _ in numbers], float).reshape(given.shape)
        infinite = np.array([each for _, each in numbers], bool).reshape(given.shape)
    if floats.dtype.kind not in "biuf" or isinstance(value, np.ma.MaskedArray):
        raise _NoNumbers
    size = floats.dtype.itemsize if floats.dtype.kind == "f" else 0
    if size == 2:
        raise _NoNumbers
    if dtype is None:
        dtype = np.dtype(np.float32 if size == 4 else jnp.result_type(float))
    with np.errstate(over="ignore"):
        result = floats.astype(dtype)
    lost = np.isinf(result) & ~(np.isinf(floats) if infinite is None else infinite)
    if lost.any():
        check_values(given, lost, name, size_within(dtype))
    return result


def _with_floats(value: Any, name: str) -> Any:
    """The same numbers, of which some are JAX's, none of them an integer."""
    if isinstance(value, (list, tuple)):
        return [_with_floats(item, name) for item in value]
    if isinstance(value, jax.Array):
        whole = jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == jnp.bool_
        return value.astype(jnp.result_type(float)) if whole else value
    floats = _host_floats(value, name)
    # A Python number takes the dtype of those beside it.
    return float(floats) if isinstance(value, (int, float)) else floats


def _floats(value: Any, name: str) -> Inexact[Array, "..."]:
    """Real numbers as a JAX array of floats."""
    if hasattr(value, "__jax_array__"):
        value = jnp.asarray(value)
    lists = isinstance(value, (list, tuple))
    if not any(
        isinstance(leaf, jax.Array) for leaf in (jax.tree.leaves(value) if lists else [value])
    ):
        return jnp.asarray(_host_floats(value, name))
    numbers = _with_floats(value, name)
    try:
        array = jnp.asarray(numbers)
    except (TypeError, ValueError):
        raise _NoNumbers from None
    if not jnp.issubdtype(array.dtype, jnp.floating) or jnp.finfo(array.dtype).bits < 32:
        raise _NoNumbers
    return array.astype(array.dtype)  # no longer weak: 8.0 and array(8.0) compile once


def _no_numbers(
    value: Any, name: str, shapes: tuple[tuple[int | str, ...], ...]
) -> ArgumentTypeError:
    right = "one real number" if shapes == ((),) else "an array of real numbers"
    return ArgumentTypeError(name, f"{right} (float32 or float64)", _kind(value))


def check_array(
    value: Any, name: str, *shapes: tuple[int | str, ...], hint: str = "", finite: bool = True
) -> Inexact[Array, "..."]:
    """A real floating array of one of the given shapes with finite entries.

    A shape lists sizes; a string in it names an axis of any size, and no shape at all allows
    any. Float32 and float64 are kept, as far as JAX has them. Integers of any size, booleans and
    Python's numbers become the default float, rounded to the nearest like any other number; what
    is too large for it is refused. This is the one place where what a user gives becomes an array
    of JAX, which on its own would let integers of 64 bits wrap.
    """
    try:
        array = _floats(value, name)
    except _NoNumbers:
        raise _no_numbers(value, name, shapes) from None
    _check_shape(array.shape, name, shapes, hint)
    if finite:
        array = check_values(array, is_bad(array, lambda a: abs(a) < math.inf), name, "finite")
    return array


def check_host_array(
    value: Any, name: str, *shapes: tuple[int | str, ...], finite: bool = True
) -> Float[np.ndarray, "..."]:
    """As `check_array` for what is not traced, on the host and in float64 always."""
    try:
        array = _host_floats(value, name, np.float64)
    except _NoNumbers:
        raise _no_numbers(value, name, shapes) from None
    _check_shape(array.shape, name, shapes)
    if finite:
        check_values(array, ~np.isfinite(array), name, "finite")
    return array


def _check_shape(
    shape: tuple[int, ...], name: str, shapes: tuple[tuple[int | str, ...], ...], hint: str = ""
) -> None:
    """Refuse a shape that is none of `shapes`, if there are any."""

    def fits(wanted):
        return len(wanted) == len(shape) and all(
            isinstance(want, str) or want == got for want, got in zip(wanted, shape, strict=True)
        )

    if shapes and not any(map(fits, shapes)):
        wanted = " or ".join(
            "of shape (" + ", ".join(map(str, each)) + ("," if len(each) == 1 else "") + ")"
            if each
            else "one number"
            for each in shapes
        )
        raise ArgumentError(name, wanted, f"shape {tuple(shape)}", hint=hint)


def check_positive(value: Any, name: str, *shapes: tuple[int | str, ...]) -> Inexact[Array, "..."]:
    """As `check_array`, with all entries above zero."""
    array = check_array(value, name, *shapes)
    return check_values(array, is_bad(array, lambda a: a > 0), name, "positive")
