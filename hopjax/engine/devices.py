"""Chunks of trials on the devices of this process.

A chunk is solved whole on one device, by a program for one device, because XLA rounds a program for
several devices differently. So nothing depends on how many devices there are.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree, UInt32

from hopjax._checks import (
    check_count,
    check_instance,
    collect_bad_values,
)
from hopjax._errors import ArgumentError, shown
from hopjax._keys import key_of
from hopjax.program import is_array, tracing, under_this_mark

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


def as_they_are(_: Chunk, results: Any) -> Any:
    """The results of a chunk."""
    return results


def by_number(chunk: Chunk, number: int) -> str:
    """What a trial is called in an error."""
    return f"trial {number}{chunk.label}"


class Job(NamedTuple):
    """Chunks of one program, and what becomes of their results where they are solved.

    Attributes:
        program: how a chunk is solved.
        trials: how many there are of a key; no check is made of those that fill up a last chunk.
        summarise: `summarise(chunk, results)` of NumPy arrays -> what is handed on.
        name: what a trial is called in an error.
        host: what `summarise` calls of the user's, whose code counts as the program does.
    """

    program: Program
    trials: int
    summarise: Callable[[Chunk, Any], Any] = as_they_are
    name: Callable[[Chunk, int], str] = by_number
    host: tuple[Any, ...] = ()


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
    return solved(program, arguments, key, start, checks)


def solved(program: Program, arguments: Any, key: Any, start: Any, checks: Checks) -> Checked:
    """A chunk, under a trace."""
    numbers = start + jnp.arange(program.size)
    return program.function(program.shared, arguments, key_of(key), numbers, checks)


class OnDevices:
    """A job on devices, which take turns in running chunks of trials."""

    def __init__(self, job: Job, devices: Sequence[Device]):
        """What all chunks have in common goes to the devices once."""
        self._job = job
        self._arrays, rest = eqx.partition(job.program, is_array)
        leaves, structure = jax.tree.flatten(rest)
        self._static = structure, tuple(leaves)
        self._places = [(device, jax.device_put(self._arrays, device)) for device in devices]

    def run(
        self, chunks: Iterable[Chunk], sink: Callable[[Chunk, Any], _T] = as_they_are
    ) -> Iterator[_T]:
        """For each chunk `sink(chunk, parts)`, in their order; `parts` is what its summary is.

        While the devices solve, the host summarises the results of earlier chunks and hands them
        to `sink`, in another thread.

        Raises:
            OutOfRangeError: where a check fails in a trial, naming the trial.
        """
        job = self._job

        @under_this_mark
        def solve(place: int, chunk: Chunk) -> Checked:
            device, arrays = self._places[place]
            return _solve(self._static, arrays, *jax.device_put(_arguments(chunk), device))

        @under_this_mark
        def hand_over(chunk: Chunk, solved: Future[Checked]) -> _T:
            results, bad = jax.tree.map(np.asarray, solved.result())
            for row, check in np.argwhere(bad[: job.trials - chunk.start])[:1]:
                where = job.name(chunk, chunk.start + int(row))
                instead = f"which it is not in {where}"
                raise OutOfRangeError(*self._checks(chunk)[check], instead=instead)
            return sink(chunk, job.summarise(chunk, results))

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


def progress_bar(
    total: int, label: str, show: bool, done: int = 0, unit: str = "trial", delay: float = 0.0
):
    """Trials (or other units) done, their rate and the time left; see `hopjax._progress`."""
    from hopjax._progress import progress  # not at the top: importing hopjax stays light

    return progress(total, label, show, done, unit, delay)
