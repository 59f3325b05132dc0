"""`map_trials`: what a function of the user's gives of many trials."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from hopjax._checks import check_count, check_flag, check_instance, check_key, check_takes
from hopjax._errors import ArgumentError, names_keywords, shown
from hopjax._keys import data_of, trial_key
from hopjax.engine.devices import (
    Chunk,
    Device,
    Job,
    Program,
    check_trials,
    each_trial,
    progress_bar,
)
from hopjax.engine.workers import check_where, place
from hopjax.program import as_written

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


@dataclass(frozen=True)
class _Named:
    """What a trial is called in an error."""

    trials: int
    with_cells: bool

    def __call__(self, _: Chunk, number: int) -> str:
        cell, trial = divmod(number, self.trials)
        return f"trial {trial}" + (f" of cell {cell}" if self.with_cells else "")


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
    executor: Executor | None = None,
    elsewhere: bool = False,
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
        executor: whose workers do the work in place of this process, as for `Study.run`.
        elsewhere: whether workers may have other software or processors than this process.
        label: what the bar is called.
        progress: whether to show it on stderr: a bar on a terminal, else a line every 30 s.

    Returns:
        The arrays on the host, with leading axes (trials,), or (cells, trials).

    Raises:
        TypeError, ValueError: for a wrong argument.
        OutOfRangeError: where a trial has a value that it must not have, naming the trial.
    """
    trials, key = check_trials(trials), check_key(key)
    where = check_where(devices, executor, elsewhere)
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

    job = Job(program, total, name=_Named(trials, cells is not None))
    parts = []
    with progress_bar(total, label, progress) as bar:
        for part in place(job, where).run(chunks):
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
