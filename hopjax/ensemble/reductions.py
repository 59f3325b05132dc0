"""What is kept of many trials: measured on each by JAX, summed on the host chunk by chunk.

A reduction measures one trial inside the compiled batch and is summed in float64 on the host, so
that memory grows with the number of trials by what it keeps of them only.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from hopjax._checks import check_array, check_number
from hopjax._errors import ArgumentError, ArgumentTypeError, names_keywords

Partial = dict[str, np.ndarray]  # what a reduction knows of some trials, by name
Measure = Callable[[Any, Any], PyTree[Array]]  # of a `Trial` and its `Trajectory`


class AbstractReduction(eqx.Module):
    """Something to be kept of an ensemble: `measure` one trial, `summarise` a chunk, `merge`.

    Chunks are merged in their order, so results do not depend on how the work was spread. A
    partial result is a flat dict of arrays, which is also what is saved on disk.
    """

    @abc.abstractmethod
    def measure(self, trial: Any, trajectory: Any) -> PyTree[Array]:
        """What to hand to the host of one `Trial` and its `Trajectory`; runs under vmap."""

    @abc.abstractmethod
    def summarise(self, measured: PyTree[np.ndarray], ok: Bool[np.ndarray, " n"]) -> Partial:
        """A chunk: what was measured, with a leading axis of trials, and which did not diverge."""

    @abc.abstractmethod
    def merge(self, first: Partial, second: Partial) -> Partial:
        """Two summaries as one; `first` holds the earlier trials."""

    @abc.abstractmethod
    def finish(self, total: Partial) -> Partial:
        """The results, by name."""


class Moments(AbstractReduction):
    """Mean and variance over the trials that did not diverge, entry by entry, in float64.

    Results: `mean`, `variance` (unbiased; NaN for fewer than two trials) and `count`.
    """

    function: Measure

    def __init__(self, function: Measure):
        """`function(trial, trajectory)` gives one array."""
        self.function = _check_function(function)

    def measure(self, trial: Any, trajectory: Any) -> PyTree[Array]:
        """function(trial, trajectory), one array."""
        return _one_array(self.function(trial, trajectory))

    def summarise(self, measured: PyTree[np.ndarray], ok: Bool[np.ndarray, " n"]) -> Partial:
        """Count, mean and the sum of squares about the mean."""
        values = np.asarray(measured)[ok].astype(float)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no variance
            mean = np.asarray(values.sum(axis=0) / max(len(values), 1))
            squares = np.asarray(((values - mean) ** 2).sum(axis=0))
        return {"count": np.array(len(values)), "mean": mean, "squares": squares}

    def merge(self, first: Partial, second: Partial) -> Partial:
        """Chan, Golub and LeVeque's update: nothing cancels."""
        count = first["count"] + second["count"]
        share = second["count"] / max(int(count), 1)
        with np.errstate(invalid="ignore", over="ignore"):
            shift = second["mean"] - first["mean"]
            between = first["count"] * share * shift**2
            mean = first["mean"] + share * shift
        squares = first["squares"] + second["squares"] + between
        return {
            "count": np.asarray(count),
            "mean": np.asarray(mean),
            "squares": np.asarray(squares),
        }

    def finish(self, total: Partial) -> Partial:
        """Mean, variance and count."""
        count = int(total["count"])
        return {
            "mean": total["mean"] if count else np.full_like(total["mean"], np.nan),
            "variance": (
                total["squares"] / (count - 1)
                if count > 1
                else np.full_like(total["squares"], np.nan)
            ),
            "count": total["count"],
        }


class Histogram(AbstractReduction):
    """Counts in bins of equal width over the trials that did not diverge, entry by entry.

    What lies outside [low, high] is counted in the bin at that end, and NaN nowhere. Results:
    `counts`, with the bins along a last axis, and `edges`.
    """

    function: Measure
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)
    num_bins: int = eqx.field(static=True)

    @names_keywords
    def __init__(self, function: Measure, *, low: float, high: float, bin_width: float):
        """`bin_width` is rounded so that a whole number of bins fills [low, high]."""
        self.function = _check_function(function)
        self.low, self.high = check_number(low, "low"), check_number(high, "high")
        if self.high <= self.low:
            raise ArgumentError("high", f"above low = {low}", high)
        width = check_number(bin_width, "bin_width", positive=True)
        if width > self.high - self.low:
            raise ArgumentError(
                "bin_width", f"at most high - low = {high - low:g}", f"{bin_width:g}"
            )
        self.num_bins = round((self.high - self.low) / width)
        if self.num_bins > 10**6:
            raise ArgumentError(
                "bin_width", "at most a million bins", f"{bin_width:g}", must="make"
            )

    @property
    def edges(self) -> Float[np.ndarray, " ends"]:
        """The ends of the bins."""
        return np.linspace(self.low, self.high, self.num_bins + 1)

    def measure(self, trial: Any, trajectory: Any) -> PyTree[Array]:
        """function(trial, trajectory), one array."""
        return _one_array(self.function(trial, trajectory))

    def summarise(self, measured: PyTree[np.ndarray], ok: Bool[np.ndarray, " n"]) -> Partial:
        """Counts of each entry in each bin."""
        # Clipped before anything is multiplied, which could overflow; NaN stays NaN.
        values = np.clip(np.asarray(measured)[ok].astype(float), self.low, self.high)
        places = np.floor((values - self.low) * (self.num_bins / (self.high - self.low)))
        places = np.minimum(places, self.num_bins - 1)
        shape = values.shape[1:]
        size = int(np.prod(shape))
        flat = places.reshape(-1, size) + self.num_bins * np.arange(size)
        flat = flat[~np.isnan(flat)].astype(np.int64)
        counts = np.bincount(flat, minlength=size * self.num_bins)
        return {"counts": counts.reshape(*shape, self.num_bins).astype(np.int64)}

    def merge(self, first: Partial, second: Partial) -> Partial:
        """The sum."""
        return {"counts": first["counts"] + second["counts"]}

    def finish(self, total: Partial) -> Partial:
        """Counts and edges."""
        return {"counts": total["counts"], "edges": self.edges}


class PerTrial(AbstractReduction):
    """A few numbers of every trial, in the order of the trials; those that diverged included.

    Results: `values`, or one result per name if the function returns a dict of arrays. Each has
    dimensions of its own in the dataset of a study, unless the function has an attribute `axes`, a
    dict by name of the names of its axes: results share those of the same name.
    """

    function: Measure

    def __init__(self, function: Measure):
        """`function(trial, trajectory)` gives an array, or a dict of arrays by name."""
        self.function = _check_function(function)

    @property
    def axes(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the axes of results, without that of the trials, where they have names."""
        axes = getattr(self.function, "axes", None)
        return axes if isinstance(axes, Mapping) else {}

    def measure(self, trial: Any, trajectory: Any) -> PyTree[Array]:
        """function(trial, trajectory), an array or a dict of arrays."""
        values = self.function(trial, trajectory)
        if not isinstance(values, dict):
            values = {"values": values}
        for name in values:
            if not isinstance(name, str) or not name or set("/\0") & set(name):
                raise ArgumentError(
                    "function",
                    "a dict by names that a file can hold, given (trial, trajectory)",
                    repr(name),
                    must="give",
                )
        arrays = {name: _one_array(value) for name, value in values.items()}
        _check_axes(self.axes, arrays)
        return arrays

    def summarise(self, measured: PyTree[np.ndarray], ok: Bool[np.ndarray, " n"]) -> Partial:
        """All of them."""
        del ok
        return {name: np.asarray(values) for name, values in measured.items()}

    def merge(self, first: Partial, second: Partial) -> Partial:
        """One after the other."""
        return {name: np.concatenate([first[name], second[name]]) for name in first}

    def finish(self, total: Partial) -> Partial:
        """All of them."""
        return total


def _check_function(function: Any) -> Measure:
    if not callable(function):
        raise ArgumentTypeError("function", "a function of (trial, trajectory)", repr(function))
    return function


def _check_axes(axes: Mapping[str, tuple[str, ...]], results: Mapping[str, Array]) -> None:
    """Refuse names of axes that do not fit the results."""
    sizes: dict[str, int] = {}
    for name, named in axes.items():
        shape = results[name].shape if name in results else None
        if shape is None or len(shape) != len(named):
            got = f"{', '.join(named)} for {name} of shape {shape}"
            raise ArgumentError("function.axes", "a name for each axis of a result", got)
        for axis, size in zip(named, shape, strict=True):
            if axis in results or sizes.setdefault(axis, size) != size:
                got = f"{axis} in {name} of shape {shape}"
                right = "of one length each, and not called like a result"
                raise ArgumentError("function.axes", right, got)


def _one_array(value: Any) -> Array:
    """What a user's function gave, if it is an array of numbers that a file can hold."""
    try:
        if isinstance(value, (tuple, list)):
            raise TypeError
        array = check_array(value, "function") if _would_wrap(value) else jnp.asarray(value)
        # Of NumPy itself, unlike keys and bfloat16.
        if not isinstance(array.dtype, np.dtype) or array.dtype.kind not in "biufc":
            raise TypeError
    except (TypeError, ValueError):
        got = getattr(value, "dtype", type(value).__name__)
        raise ArgumentTypeError(
            "function", "an array of numbers, given (trial, trajectory)", got, must="give"
        ) from None
    return array


def _would_wrap(value: Any) -> bool:
    """Whether these are integers on the host that JAX's integers cannot hold."""
    if not isinstance(value, (int, np.integer, np.ndarray)):
        return False
    whole = np.asarray(value)
    if whole.dtype.kind not in "iu" or not whole.size:
        return whole.dtype == object
    kind = np.iinfo(jax.dtypes.canonicalize_dtype(whole.dtype))
    return bool(whole.min() < kind.min or whole.max() > kind.max)


class Merger:
    """Merges summaries as they come, in their order, along a binary tree.

    So every number is copied log₂(chunks) times only and few summaries are held at a time.
    """

    def __init__(self, reduction: AbstractReduction):
        self._reduction = reduction
        self._stack: list[tuple[int, Partial]] = []  # sizes in chunks, decreasing powers of two

    def add(self, part: Partial) -> None:
        """Take the next summary."""
        size = 1
        while self._stack and self._stack[-1][0] == size:
            _, before = self._stack.pop()
            part, size = self._reduction.merge(before, part), 2 * size
        self._stack.append((size, part))

    def total(self) -> Partial:
        """All summaries so far, at least one, as one."""
        _, total = self._stack[-1]
        for _, before in reversed(self._stack[:-1]):
            total = self._reduction.merge(before, total)
        return total


class Totals:
    """A merger for each of several reductions."""

    def __init__(self, reductions: Mapping[str, AbstractReduction]):
        self._mergers = {name: Merger(reduction) for name, reduction in reductions.items()}

    def add(self, parts: Mapping[str, Partial]) -> None:
        """Take the next chunk: a summary by each reduction."""
        for name, merger in self._mergers.items():
            merger.add(parts[name])

    def all(self) -> dict[str, Partial]:
        """What there is of all chunks so far."""
        return {name: merger.total() for name, merger in self._mergers.items()}
