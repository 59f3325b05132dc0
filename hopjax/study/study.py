"""A sweep over parameters: thousands of trials in every cell, as one labelled dataset.

With a folder, every finished chunk is saved: a study that was killed goes on where it was, and
ends with the same numbers. Every cell's key is made from its parameters, so neither the order of
the cells nor others beside it change its numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffrax as dfx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from hopjax._checks import (
    check_fits,
    check_flag,
    check_instance,
    check_key,
    check_number,
    check_takes,
)
from hopjax._errors import ArgumentError, ArgumentTypeError, names_keywords, shown
from hopjax.engine import Device, check_devices, check_trials, check_where
from hopjax.ensemble import AbstractReduction
from hopjax.program import as_code_is, environment
from hopjax.solving import PassageFunction, SaveFunction
from hopjax.store import Store, canonical, check_accept, check_version, provenance
from hopjax.study.cells import make_cells
from hopjax.study.estimate import BYTES_OF_A_TRIAL, Estimate, estimate
from hopjax.study.kept import KeptStudy
from hopjax.study.sweep import OF_THE_SOLVE, check_names, check_sweep
from hopjax.study.work import Work
from hopjax.trials import Criterion, Trial, fractional, marked

if TYPE_CHECKING:
    import xarray as xr


class Study:
    """A sweep: the same trial with other parameters in each cell.

    Example:
        ```python
        def trial(key, noise, distractor):
            memories = hj.random_memories(key, num_memories=10, num_neurons=256)
            weights = jnp.full(10, distractor).at[0].set(3.0)
            u = hj.mixture(memories, weights)
            return hj.Trial(hj.IDPHopfield(memories), u, u, hj.AdditiveNoise(noise))


        study = hj.Study(
            trial,
            {"noise": [0.5, 1.0, 1.5], "distractor": [0.5, 1.0]},
            trials=200,
            key=jax.random.key(0),
            t1=10.0,
            dt=0.01,
        )
        dataset = study.run("noise_study")
        dataset.retrieved.sel(noise=1.0, distractor=0.5)
        ```

    Cells are selected by the values that were swept, of whatever kind, in the dataset of `run` and
    in that of `load_study`: `dataset.sel(flag=True)`, `dataset.sel(previous=None)`,
    `dataset.sel(weights=(6.0, 0.5))`; a list, `dataset.sel(flag=[True, False])`, is several values.
    Where values are not all numbers, all texts or all truth values, the coordinate shows their
    labels, texts as they are and anything else in JSON: "null", "[6,0.5]". In a study of a list of
    cells each `sel` keeps the cells with that value: `dataset.sel(flag=True).sel(noise=1.0)`.
    """

    @names_keywords
    def __init__(
        self,
        trial: Callable[..., Trial],
        sweep: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
        *,
        trials: int,
        key: PRNGKeyArray,
        t1: float | None = None,
        dt: float | None = None,
        save_every: float | None = None,
        criterion: Criterion | None = None,
        save_fn: SaveFunction | None = None,
        passage_fn: PassageFunction | None = None,
        reductions: Mapping[str, AbstractReduction] | None = None,
        paired: Sequence[str] = (),
        static: Sequence[str] = (),
        chunk: int | None = None,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        solver: dfx.AbstractSolver | None = None,
        stepsize_controller: dfx.AbstractStepSizeController | None = None,
        version: str | None = None,
    ):
        """Check everything: each cell's trial is made, some also traced, and nothing is solved.

        Args:
            trial: `trial(key, **parameters)` makes a `Trial` from a trial's key and the
                parameters of a cell. What it draws otherwise, as from NumPy's generator, is
                refused.
            sweep: a grid, {name: values}, of which every combination is a cell; or a list of
                cells, [{name: value, ...}, ...]. Values are numbers, strings, truth values, None
                or sequences of numbers. Numbers reach the function as arrays under a trace, and
                all their values share a program: whole ones are integers, unless another value of
                the parameter is fractional or the function annotates it as float. Strings, truth
                values and None reach it as they are, and compile anew. `t1`, `dt` and `save_every`
                can be swept too and do not reach the function.
            trials: in each cell. Raising it later goes on from what there is.
            key: decides everything random; a cell's own key is made from it and the cell's
                parameters, and a trial's from that and its number.
            t1: end, as for `solve`; unless swept.
            dt: step, as for `solve`; unless swept.
            save_every: as for `solve`.
            criterion: as for `solve_ensemble`.
            save_fn: as for `solve_ensemble`.
            passage_fn: as for `solve_ensemble`.
            reductions: as for `solve_ensemble`.
            paired: parameters that do not enter a cell's key: cells that differ in these only
                have the same memories and noise.
            static: parameters whose numbers reach the function as they are, because they fix a
                shape or a choice; each value compiles anew. A function that needs one of them so is
                refused with its name. `Retrieval` knows its own. A dataclass says it in the
                metadata of a field, {"static": True}, as `equinox.field(static=True)` does.
            chunk: as for `solve_ensemble`; once a folder holds a study, that of the study.
            quantiles: levels of the quantiles in the dataset, from 0 to 1; none if it is empty.
            solver: as for `solve`.
            stepsize_controller: as for `solve`.
            version: a text of your choice for what a folder cannot see: what Python computes
                beside the program, as in a `jax.pure_callback`. Another one is another study.

        Raises:
            TypeError, ValueError: for a wrong argument; where it is a cell's, that is named.
        """
        if not callable(trial):
            right = "a function of a key and the swept parameters"
            raise ArgumentTypeError("trial", right, type(trial).__name__)
        trials, key, version = check_trials(trials), check_key(key), check_version(version)
        levels = _check_quantiles(quantiles)
        grid, points = check_sweep(sweep, (*fractional(trial), *OF_THE_SOLVE))
        names = list(points[0])
        paired = check_names(paired, "paired", names)
        static = check_names(static, "static", names)
        static += tuple(name for name in marked(trial, "static") if name in names)
        settings: dict[str, Any] = {
            "t1": t1,
            "dt": dt,
            "save_every": save_every,
            "criterion": Criterion() if criterion is None else criterion,
            "save_fn": save_fn,
            "passage_fn": passage_fn,
            "reductions": {} if reductions is None else reductions,
            "solver": solver,
            "stepsize_controller": stepsize_controller,
        }
        for name in ("t1", "dt"):
            if settings[name] is None and name not in names:
                raise ArgumentTypeError(name, "given, or swept")
        for name in OF_THE_SOLVE:
            if settings[name] is not None and name in names:
                raise ArgumentTypeError(name, "given where it is swept", must="not be")
        given = [name for name in names if name not in OF_THE_SOLVE]
        right = f"a key and the swept parameters {', '.join(given)}"
        check_takes(trial, "trial", right, None, **dict.fromkeys(given))
        size = BYTES_OF_A_TRIAL * trials * len(points)
        check_fits(size, "trials", "the results of all", trials)
        with as_code_is((trial, settings)):
            cells = make_cells(
                trial,
                points,
                trials=trials,
                key=key,
                paired=paired,
                static=static,
                chunk=chunk,
                settings=settings,
            )
            self._work = Work(
                *(trial, trials, key, grid, points, [*cells], paired, static, levels),
                *(settings, version),
            )
        self._any_chunk = chunk is None
        self._kept: KeptStudy | None = None  # the last folder that it ran in

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The parameters of every cell, in order."""
        return [cell.parameters for cell in self._work.cells]

    @property
    def trials(self) -> int:
        """How many there are in each cell."""
        return self._work.trials

    @property
    def chunk(self) -> int:
        """Trials that are solved together."""
        return self._work.chunk

    def run(
        self,
        folder: str | Path | None = None,
        *,
        resume: bool = True,
        elsewhere: bool = False,
        accept_changes: str | None = None,
        devices: Sequence[Device] | None = None,
        executor: Executor | None = None,
        progress: bool = True,
    ) -> "xr.Dataset":
        """Solve what is not solved yet and return the dataset.

        Chunks can be the tasks of an executor, such as `client.get_executor()` of dask: workers may
        come and go, see no folder, and give the very numbers of one process. See docs/cluster.md.

        A folder knows the program that its numbers were computed by. It notices where the trial,
        or anything that it calls or reads, computes something else than it did, and is blind to
        remarks and to the names of local variables and functions.

        Args:
            folder: where to keep chunks and `result.nc`; None keeps nothing.
            resume: whether to go on with a study that the folder holds.
            elsewhere: whether to go on even if it was begun with other versions of the software
                or on another kind of device, which changes the last digits.
            accept_changes: what to do where the program is another one than the folder's: None to
                refuse it; "same" if it was only written in another way: a stored chunk of each
                program is computed again and must be the same to the bit; "redo" to set what it
                computed aside and to compute it anew.
            devices: as for `solve_ensemble`.
            executor: a `concurrent.futures.Executor` that does not fork, whose workers solve the
                chunks in place of this process, each on all devices that it sees. This process
                alone touches the folder.
            progress: whether to show it on stderr: a bar on a terminal, else a line every 30 s.

        Returns:
            An `xarray.Dataset` with the swept parameters as coordinates.

        Raises:
            ValueError: if a folder needs a `version` of the study.
            StudyError: if the folder cannot be used: another run holds it, or its file system has
                no locks; it holds another study or that of other code, or cannot be written.
                Nothing is destroyed.
            WorkerError: where workers of the executor cannot go on; what they finished is saved.
        """
        accept = check_accept(accept_changes)
        for flag, name in ((resume, "resume"), (elsewhere, "elsewhere"), (progress, "progress")):
            check_flag(flag, name)
        where = check_where(devices, executor, elsewhere)
        if folder is None:
            with as_code_is(self._work.made_of):
                ensembles = self._work.solve_in_memory(where, progress)
                return self._work.dataset(ensembles, provenance() | environment())
        self._kept = KeptStudy(self._work, Store(Path(folder)), where, any_chunk=self._any_chunk)
        return self._kept.run(resume, elsewhere, accept, progress)

    def __repr__(self) -> str:
        """Its cells and trials, the folder it last ran in, and what is done there."""
        work, cells = self._work, len(self._work.cells)
        kinds = {name: {canonical(point[name]) for point in work.points} for name in work.points[0]}
        swept = ", ".join(f"{name} ({len(values)})" for name, values in kinds.items())
        lines = [f"Study: {cells} cells of {work.trials} trials, over {swept}"]
        if self._kept is None:
            return "\n".join([*lines, f"  {len(work.items)} chunks of up to {work.chunk} to solve"])
        done, total = self._kept.progress()
        return "\n".join(
            [*lines, f"  {done} of {total} chunks are done in {self._kept.store.folder}"]
        )

    def estimate(self, devices: Sequence[Device] | None = None) -> Estimate:
        """What a run will cost here, from a short run of one chunk; that takes some seconds."""
        with as_code_is(self._work.made_of):
            return estimate(self._work, check_devices(devices))


def _check_quantiles(quantiles: Any) -> tuple[float, ...]:
    try:
        if isinstance(quantiles, (str, bytes)):
            raise TypeError
        check_instance(quantiles, (Sequence, np.ndarray, jax.Array), "quantiles", "a list")
        levels = tuple(check_number(level, "quantiles") for level in quantiles)
    except (TypeError, ValueError):
        levels = (math.nan,)
    if not all(0 <= level <= 1 for level in levels) or list(levels) != sorted(set(levels)):
        right = "increasing numbers from 0 to 1 in a list, which may be empty"
        raise ArgumentError("quantiles", right, shown(quantiles))
    return levels
