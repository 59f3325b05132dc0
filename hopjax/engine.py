"""Chunks of trials on devices: one engine for ensembles, studies, gradients and `map_trials`.

A chunk is solved whole on one device, by a program for one device, because XLA rounds a program for
several devices differently. So nothing depends on how many devices there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree, UInt32

from hopjax._checks import (
    check_count,
    check_flag,
    check_instance,
    check_key,
    check_takes,
    collect_bad_values,
)
from hopjax._errors import ArgumentError, names_keywords, shown
from hopjax._keys import data_of, key_of, trial_key
from hopjax.program import as_written, is_array, tracing, under_this_mark

CHUNK = 128  # trials that are solved together on a device, if there are as many
Device = Any  # jax.Device, which is a variable to type checkers
_T = TypeVar("_T")
Checks = list[tuple[str, str]]  # the argument that a check is of, and what it must be


class OutOfRangeError(ArgumentError):
    """A trial has a value that it must not have."""


class Chunk(NamedTuple):
    """Trials `start`, `start + 1`, ... of a key that are solved together.

    Attributes:
        key: the numbers of the key whose trials they are.
        start: the first trial's number.
        arguments: arrays that the trials share, but not all chunks.
        label: to say where a trial is.
    """

    key: UInt32[np.ndarray, "2"]
    start: int
    arguments: Any = None
    label: str = ""


class Checked(NamedTuple):
    """What trials gave.

    Attributes:
        results: with a leading axis of trials, or whatever their program makes of these.
        bad: which of the checks at run time failed.
    """

    results: Any
    bad: Bool[Array, "trials checks"]


class Program(NamedTuple):
    """How a chunk is solved, as a PyTree.

    Attributes:
        function: `function(shared, arguments, key, numbers, checks)` -> `Checked`, for the trials
            of these numbers; when it is traced it gives to `checks`, a list, what those in `bad`
            are of.
        shared: arrays, functions and whatever else all chunks have in common.
        size: the number of trials of a chunk.
    """

    function: Callable[..., Checked]
    shared: Any
    size: int


def each_trial(
    one: Callable[[Int[Array, ""]], PyTree[Array]],
    numbers: Int[Array, " n"],
    checks: Checks,
    *,
    one_by_one: bool = False,
) -> Checked:
    """What `one` gives of the trials with these numbers, and which of its checks failed.

    Args:
        one: a function of a trial's number.
        numbers: of the trials.
        checks: gets what the checks are of, one by one.
        one_by_one: whether trials follow each other and are not computed together.
    """

    def checked(number: Int[Array, ""]) -> tuple[PyTree[Array], Bool[Array, " checks"]]:
        with collect_bad_values() as values:
            results = one(number)
        checks[:] = values.wrong
        return results, jnp.array(values.bad, bool).reshape(len(values.bad))

    run = partial(jax.lax.map, checked) if one_by_one else jax.vmap(checked)
    return Checked(*run(numbers))


@partial(jax.jit, static_argnums=0)
def _solve(static: Any, arrays: Any, arguments: Any, key: Array, start: Array) -> Checked:
    """A chunk on the device that its arguments are on; not by Equinox, which waits for results."""
    with tracing():
        return _traced(static, arrays, arguments, key, start, [])


def _traced(static: Any, arrays: Any, arguments: Any, key: Any, start: Any, checks: Checks):
    structure, leaves = static
    program: Program = eqx.combine(arrays, jax.tree.unflatten(structure, leaves))
    numbers = start + jnp.arange(program.size)
    return program.function(program.shared, arguments, key_of(key), numbers, checks)


class OnDevices:
    """A program on devices, which take turns in running chunks of trials."""

    def __init__(self, program: Program, devices: Sequence[Device]):
        """What all chunks have in common goes to the devices once."""
        self._arrays, rest = eqx.partition(program, is_array)
        leaves, structure = jax.tree.flatten(rest)
        self._static = structure, tuple(leaves)
        self._places = [(device, jax.device_put(self._arrays, device)) for device in devices]

    def run(
        self,
        chunks: Iterable[Chunk],
        trials: int,
        sink: Callable[[Chunk, Any], _T],
        name: Callable[[Chunk, int], str] = lambda chunk, number: f"trial {number}{chunk.label}",
    ) -> Iterator[_T]:
        """For each chunk `sink(chunk, results)`, in their order.

        While the devices solve, the host hands the results of earlier chunks, as NumPy arrays, to
        `sink`, in another thread.

        Args:
            chunks: of which trials.
            trials: how many there are of a key; no check is made of those that fill up a last
                chunk.
            sink: what becomes of the results of a chunk.
            name: what a trial is called in an error.

        Raises:
            OutOfRangeError: where a check fails in a trial, naming the trial.
        """

        @under_this_mark
        def solve(place: int, chunk: Chunk) -> Checked:
            device, arrays = self._places[place]
            return _solve(self._static, arrays, *jax.device_put(_arguments(chunk), device))

        @under_this_mark
        def hand_over(chunk: Chunk, solved: Future[Checked]) -> _T:
            results, bad = jax.tree.map(np.asarray, solved.result())
            for row, check in np.argwhere(bad[: trials - chunk.start])[:1]:
                where = name(chunk, chunk.start + int(row))
                instead = f"which it is not in {where}"
                raise OutOfRangeError(*self._checks(chunk)[check], instead=instead)
            return sink(chunk, results)

        with ExitStack() as stack:
            # A thread for each device: on CPUs a call returns when all is computed.
            solvers = [stack.enter_context(ThreadPoolExecutor(1)) for _ in self._places]
            host = stack.enter_context(ThreadPoolExecutor(1))
            waiting: deque[Future[_T]] = deque()
            for number, chunk in enumerate(chunks):
                if number == 0:  # once for all devices
                    _solve.trace(self._static, self._arrays, *_arguments(chunk))
                place = number % len(solvers)
                solved = solvers[place].submit(solve, place, chunk)
                waiting.append(host.submit(hand_over, chunk, solved))
                if len(waiting) > 2 * len(solvers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _checks(self, chunk: Chunk) -> Checks:
        """What the checks are of."""
        checks: Checks = []
        run = partial(_traced, self._static, checks=checks)
        jax.eval_shape(run, self._arrays, *_arguments(chunk))
        return checks


def _arguments(chunk: Chunk) -> tuple[Any, np.ndarray, np.ndarray]:
    return chunk.arguments, chunk.key, np.asarray(chunk.start, int)


def check_trials(trials: Any, name: str = "trials") -> int:
    """A number of trials; their numbers enter the keys as 32 bits."""
    if check_count(trials, name) >= 2**31:
        raise ArgumentError(name, "below 2^31", shown(trials))
    return int(trials)


def check_devices(devices: Any) -> list[Device]:
    """The devices to work on: this process's, if none are given."""
    local = jax.local_devices()
    if devices is None:
        return local
    right = f"a list of some of this process's devices {local}"
    check_instance(devices, Sequence, "devices", right)
    some = list(devices)
    if not some or any(device not in local for device in some) or len(set(some)) < len(some):
        raise ArgumentError("devices", right, devices)
    return some


def progress_bar(total: int, label: str, show: bool, done: int = 0, unit: str = "trial"):
    """Trials (or other units) done, their rate and the time left; see `hopjax._progress`."""
    from hopjax._progress import progress  # not at the top: importing hopjax stays light

    return progress(total, label, show, done, unit)


_CHUNK_OF_A_MAP = 64  # so that a hundred trials keep two devices busy


class _Mapped(eqx.Module):
    """A program that calls a function of the user's for each trial."""

    trials: int = eqx.field(static=True)
    one_by_one: bool = eqx.field(static=True)

    def __call__(self, shared: Any, arguments: Any, key: Any, numbers: Any, checks: Any):
        """All cells in a row, each with the trials of its own key."""
        function, cells = shared

        def one(number: Int[Array, ""]) -> PyTree[Array]:
            if cells is None:
                return function(trial_key(key, number))
            cell, number = jnp.divmod(number, self.trials)
            parameters = jax.tree.map(lambda leaf: leaf[cell], cells)
            return function(trial_key(trial_key(key, cell), number), parameters)

        return each_trial(one, numbers, checks, one_by_one=self.one_by_one)


@names_keywords
@as_written
def map_trials(
    function: Callable[..., PyTree[Array]],
    *,
    trials: int,
    key: PRNGKeyArray,
    cells: PyTree[Array] = None,
    one_by_one: bool = False,
    chunk: int | None = None,
    devices: Sequence[Device] | None = None,
    label: str = "trials",
    progress: bool = True,
) -> PyTree[np.ndarray]:
    """What a function gives of many trials, computed in chunks on all devices.

    For whatever is no `Trial` with a `Criterion`: several solves in a trial, other questions than
    retrieval. Same key and `chunk`: same bits, on any number of devices.

    Example:
        ```python
        def final_overlaps(key):
            memories = hj.random_memories(key, num_memories=10, num_neurons=256)
            u = hj.mixture(memories, jnp.full(10, 0.5).at[0].set(3.0))
            noise = hj.AdditiveNoise(1.0)
            return hj.solve(
                hj.IDPHopfield(memories), u, u, t1=5.0, dt=0.01, noise=noise, key=key
            ).overlaps[-1]


        overlaps = hj.map_trials(final_overlaps, trials=1000, key=jax.random.key(0))  # (1000, 10)
        ```

    Args:
        function: `function(key)` -> arrays, of a trial's key; with `cells`,
            `function(key, cell)`. It is compiled, for many trials at once; a lambda made anew per
            call compiles anew per call.
        trials: how many, of each cell.
        key: decides everything random: trial j has the key `fold_in(key, j)`, and of cell c
            `fold_in(fold_in(key, c), j)`.
        cells: arrays that share a leading axis, along which their entries are the cells; None for
            no cells.
        one_by_one: whether the trials of a chunk follow each other; then a branch that a trial
            does not take costs nothing.
        chunk: trials that are solved together on a device; by default up to 64. Rounding depends
            on it. A GPU wants thousands at a time.
        devices: by default all local ones.
        label: what the bar is called.
        progress: whether to show it on stderr: a bar on a terminal, else a line every 30 s.

    Returns:
        The arrays on the host, with leading axes (trials,), or (cells, trials).

    Raises:
        TypeError, ValueError: for a wrong argument.
        OutOfRangeError: where a trial has a value that it must not have, naming the trial.
    """
    trials, key = check_trials(trials), check_key(key)
    check_flag(one_by_one, "one_by_one")
    check_flag(progress, "progress")
    check_instance(label, str, "label", "a text")
    if not callable(function):
        check_instance(function, FunctionType, "function", "a function of a trial's key")
    count = 1 if cells is None else _check_cells(cells)
    right, given = "a trial's key", (key,)
    if cells is not None:
        right, given = "a trial's key and a cell", (key, cells)
    check_takes(function, "function", right, *given)
    total = check_trials(trials * count)
    if chunk is None:
        chunk = -(-total // -(-total // _CHUNK_OF_A_MAP))
    size = check_count(chunk, "chunk")
    program = Program(_Mapped(trials, one_by_one), (function, cells), size)
    chunks = [Chunk(data_of(key), start) for start in range(0, total, size)]

    def name(_: Chunk, number: int) -> str:
        cell, trial = divmod(number, trials)
        return f"trial {trial}" + ("" if cells is None else f" of cell {cell}")

    parts = []
    with progress_bar(total, label, progress) as bar:
        placed = OnDevices(program, check_devices(devices))
        for part in placed.run(chunks, total, lambda _, results: results, name):
            parts.append(part)
            bar.update(min(size, total - size * (len(parts) - 1)))
    leading = (trials,) if cells is None else (count, trials)
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[:total].reshape(*leading, *leaves[0].shape[1:]),
        *parts,
    )


def _check_cells(cells: Any) -> int:
    """How many there are."""
    leaves = jax.tree.leaves(cells)
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves}
    if len(sizes) != 1 or 0 in sizes:
        shapes = shown([np.shape(leaf) for leaf in leaves])
        raise ArgumentError("cells", "arrays that share a leading axis", shapes)
    return sizes.pop()
