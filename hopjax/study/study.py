"""A sweep over parameters: thousands of trials in every cell, as one labelled dataset.

With a folder, every finished chunk is saved: a study that was killed goes on where it was, and
ends with the same numbers. Every cell's key is made from its parameters, so neither the order of
the cells nor others beside it change its numbers.
"""

import copy
import dataclasses
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PRNGKeyArray

from hopjax._checks import (
    check_fits,
    check_flag,
    check_instance,
    check_key,
    check_number,
    check_takes,
    shown,
)
from hopjax._keys import cell_key, data_of
from hopjax._steps import steps_of
from hopjax.engine import Chunk, Device, check_devices, check_trials, progress_bar
from hopjax.ensemble import (
    AbstractReduction,
    Ensemble,
    Partial,
    Plan,
    Totals,
    make_ensemble,
    make_plan,
    summarise_chunks,
    trial_program,
)
from hopjax.program import Program, as_code_is, is_installed, reached, running, sources_of
from hopjax.solving import PassageFunction, Problem, SaveFunction
from hopjax.store import (
    Code,
    Damaged,
    Store,
    StudyError,
    accepted,
    begin,
    canonical,
    check_accept,
    check_version,
    describe,
    digest,
    environment,
    first_difference,
    go_on,
    make_code,
    origin,
    provenance,
    refuse_changes,
    text,
)
from hopjax.study.dataset import load_study, make_dataset
from hopjax.study.sweep import (
    OF_THE_SOLVE,
    check_names,
    check_sweep,
    float_names,
    is_traced_kind,
)
from hopjax.trials import Criterion, Trial, uncompiled

if TYPE_CHECKING:
    import xarray as xr


_BYTES_OF_A_TRIAL = 40  # in the dataset
_LOOK_EVERY = 0.5  # seconds, while waiting for other processes


class Cell(NamedTuple):
    """One combination of parameters."""

    parameters: dict[str, Any]
    name: str  # of its folder: the hash of its parameters
    key: Key[Array, ""]
    plan: Plan
    static: tuple[tuple[str, Any], ...]  # parameters that fix shapes or choices
    traced: dict[str, Any]  # numbers, which can change without compiling anew
    problem: Problem

    @property
    def program(self) -> str:
        """The name of the program that solves it: cells of one name are compiled together."""
        shapes = {name: np.shape(value) for name, value in self.traced.items()}
        plan = self.plan
        return digest([self.static, shapes, plan.t1, plan.dt, plan.save_every])[:16]

    @property
    def label(self) -> str:
        """The parameters, to print."""
        return ", ".join(f"{name} = {text(value)}" for name, value in self.parameters.items())

    def chunk(self, index: int) -> Chunk:
        """Its trials that are solved together, chunk by chunk."""
        start = index * self.plan.chunk
        return Chunk(data_of(self.key), start, self.traced, f" of the cell {self.label}")


class _OfCell(eqx.Module):
    """The user's function with the parameters of a cell."""

    function: Callable[..., Trial]
    static: tuple[tuple[str, Any], ...] = eqx.field(static=True)

    def __call__(self, key, parameters) -> Trial:
        return self.function(key, **dict(self.static), **parameters)


class Estimate(NamedTuple):
    """What a study will cost; see `Study.estimate`."""

    cells: int
    trials: int
    chunks: int
    seconds: float
    bytes_at_work: int
    bytes_of_result: int


class Study:
    """A sweep: the same trial with other parameters in each cell.

    Example:
        ```python
        def trial(key, noise, distractor):
            memories = hj.random_memories(key, num_memories=10, num_neurons=1024)
            weights = jnp.full(10, distractor).at[0].set(3.0)
            u = hj.mixture(memories, weights)
            return hj.Trial(hj.IDPHopfield(memories), u, u, hj.AdditiveNoise(noise))


        study = hj.Study(
            trial,
            {"noise": [0.5, 1.0, 1.5], "distractor": [0.5, 1.0]},
            trials=1000,
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
        """Check everything: each cell's trial is made once or twice, and nothing is solved.

        Args:
            trial: `trial(key, **parameters)` makes a `Trial` from a trial's key and the
                parameters of a cell. What it draws otherwise, as from NumPy's generator, is
                refused.
            sweep: a grid, {name: values}, of which every combination is a cell; or a list of
                cells, [{name: value, ...}, ...]. Values are numbers, strings, truth values, None
                or sequences of numbers. Fractional numbers reach the function as arrays under a
                trace; strings, truth values and whole numbers (if all values of a parameter are
                whole and it is not annotated as float) as they are, because they fix shapes or
                choices, and compile anew. `t1`, `dt` and
                `save_every` can be swept too and do not reach the function.
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
            static: further parameters that are not to be traced.
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
            raise TypeError(
                "Argument `trial` must be a function of a key and the swept parameters, got "
                f"{type(trial).__name__}."
            )
        self.trial = trial
        self.trials = check_trials(trials)
        self.key = check_key(key)
        self.quantiles = _check_quantiles(quantiles)
        self._grid, points = check_sweep(sweep, (*float_names(trial), *OF_THE_SOLVE))
        names = list(points[0])
        self.paired = check_names(paired, "paired", names)
        static = check_names(static, "static", names)
        static += tuple(getattr(trial, "static_parameters", ()))
        self._settings: dict[str, Any] = {
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
            if self._settings[name] is None and name not in names:
                raise TypeError(f"Argument `{name}` must be given, or swept.")
        for name in OF_THE_SOLVE:
            if self._settings[name] is not None and name in names:
                raise TypeError(f"Argument `{name}` must not be given where it is swept.")
        given = [name for name in names if name not in OF_THE_SOLVE]
        right = f"a key and the swept parameters {', '.join(given)}"
        check_takes(trial, "trial", right, None, **dict.fromkeys(given))
        self._points, self._static = points, static
        self.version = check_version(version)
        self._chosen_chunk = chunk
        check_fits(
            _BYTES_OF_A_TRIAL * self.trials * len(points), "trials", "the results of all", trials
        )
        with as_code_is(self._made_of):
            self._cells = self._make_cells()

    @property
    def _made_of(self) -> tuple[Any, ...]:
        return self.trial, self._settings

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The parameters of every cell, in order."""
        return [cell.parameters for cell in self._cells]

    @property
    def chunk(self) -> int:
        """Trials that are solved together."""
        return self._cells[0].plan.chunk

    def _make_cells(self) -> list[Cell]:
        cells, looked_at = [], set()
        for parameters in self._points:
            of_solve = {name: parameters[name] for name in OF_THE_SOLVE if name in parameters}
            own = {name: value for name, value in parameters.items() if name not in of_solve}
            try:
                plan = make_plan(
                    trials=self.trials, chunk=self._chosen_chunk, **(self._settings | of_solve)
                )
                make = partial(uncompiled(self.trial), self.key, **own)
                trial = make()
                problem = plan.check(trial)
                traced = {
                    name: self._argument(name, value, plan)
                    for name, value in own.items()
                    if name not in self._static and is_traced_kind(value)
                }
                # Draws outside the key are looked for once for each set of static values.
                static = {name: value for name, value in own.items() if name not in traced}
                if canonical(static) not in looked_at:
                    plan.check_draws(trial, problem, make, self.trial)
                    looked_at.add(canonical(static))
            except (TypeError, ValueError) as error:
                cell = ", ".join(f"{name} = {text(value)}" for name, value in parameters.items())
                message = " ".join(str(error).split())
                raise type(error)(f"{message} (In the cell {cell}.)") from error
            cells.append(
                Cell(
                    parameters,
                    digest(parameters)[:16],
                    cell_key(
                        self.key,
                        digest(
                            {name: v for name, v in parameters.items() if name not in self.paired}
                        ),
                    ),
                    plan,
                    tuple(static.items()),
                    traced,
                    problem,
                )
            )
        return cells

    def _key_of(self, parameters: dict[str, Any]) -> Key[Array, ""]:
        """Of a cell, from the parameters that are not paired."""
        own = {name: value for name, value in parameters.items() if name not in self.paired}
        return cell_key(self.key, digest(own))

    def _argument(self, name: str, value: Any, plan: Plan) -> Any:
        """A number as it is traced; of a time that must lie on a step the step, of fixed steps."""
        if name in getattr(self.trial, "time_parameters", ()) and not plan.adaptive:
            return steps_of(np.asarray(value, float), name, plan.dt)
        return np.asarray(value, jnp.result_type(float))

    def run(
        self,
        folder: str | Path | None = None,
        *,
        resume: bool = True,
        elsewhere: bool = False,
        accept_changes: str | None = None,
        devices: Sequence[Device] | None = None,
        progress: bool = True,
    ) -> "xr.Dataset":
        """Solve what is not solved yet and return the dataset.

        In several processes of `jax.distributed`, all of which must see the folder, each takes
        its share of the chunks, and the first merges them.

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
            progress: whether to show a bar, on a terminal only.

        Returns:
            An `xarray.Dataset` with the swept parameters as coordinates.

        Raises:
            ValueError: if a folder needs a `version` of the study.
            StudyError: if the folder cannot be used: it is locked, or holds another study or that
                of other code, or cannot be written. Nothing is destroyed.
        """
        accept = check_accept(accept_changes)
        for flag, name in ((resume, "resume"), (elsewhere, "elsewhere"), (progress, "progress")):
            check_flag(flag, name)
        devices = check_devices(devices)
        if folder is None:
            if jax.process_count() > 1:
                raise ValueError("Argument `folder` must be given in several processes, got None.")
            with as_code_is(self._made_of):
                return self._run_in_memory(devices, progress)
        store = Store(Path(folder))
        if jax.process_count() == 1:
            with store.locked():
                study, about, code = self._open(store, resume, elsewhere, accept, devices)
                study._solve_missing(store, code, devices, progress, 0, 1)
                return study._merge(store, about, code)
        return self._run_in_processes(store, resume, elsewhere, accept, devices, progress)

    def _run_in_memory(self, devices: list[Device], progress: bool) -> "xr.Dataset":
        totals = [Totals(cell.plan.all_reductions) for cell in self._cells]
        with progress_bar(self.trials * len(self._cells), "study", progress) as bar:
            for group in self._groups(self._work()):
                for (place, _), (size, parts) in zip(
                    group, self._solve(group, devices), strict=True
                ):
                    totals[place].add(parts)
                    bar.update(size)
        ensembles = [
            make_ensemble(cell.plan, cell.problem, total.all())
            for cell, total in zip(self._cells, totals, strict=True)
        ]
        return self._dataset(ensembles, provenance() | environment())

    def _run_in_processes(
        self, store, resume, elsewhere, accept, devices, progress
    ) -> "xr.Dataset":
        """My share, as one of several processes; the first opens the folder and merges.

        They talk at the start only, when all have just come up. Later they look at files, which
        may take as long as it takes.
        """
        from jax.experimental import multihost_utils

        me, all_of_us = jax.process_index(), jax.process_count()
        if me == 0:
            with store.locked() as token:
                try:
                    study, about, code = self._open(store, resume, elsewhere, accept, devices)
                except (StudyError, ValueError):
                    multihost_utils.broadcast_one_to_all(np.uint32(0))
                    raise
                multihost_utils.broadcast_one_to_all(np.uint32(token))
                study._solve_missing(store, code, devices, progress, me, all_of_us)
                missing = {study._path(store, *item) for item in study._work()}
                while missing := {path for path in missing if not store.has(path)}:
                    store.raise_failure(token)
                    time.sleep(_LOOK_EVERY)
                return study._merge(store, about, code)
        token = int(multihost_utils.broadcast_one_to_all(np.uint32(0)))
        if token == 0:
            raise StudyError(f"The first process cannot use the folder {store.folder}.")
        try:
            study, _, code = self._open(store, True, elsewhere, None, devices, write=False)
            study._solve_missing(store, code, devices, False, me, all_of_us)
        except Exception as error:
            store.write_failure(token, me, error)
            raise
        while store.in_use(token):
            time.sleep(_LOOK_EVERY)
        return load_study(store.folder)

    # The work: (place of the cell, number of the chunk), cell by cell.

    def _work(self) -> list[tuple[int, int]]:
        chunks = range(-(-self.trials // self.chunk))
        return list(itertools.product(range(len(self._cells)), chunks))

    def _groups(self, work: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        """Work that one compilation serves."""
        groups: dict[str, list[tuple[int, int]]] = {}
        for item in work:
            groups.setdefault(self._cells[item[0]].program, []).append(item)
        yield from groups.values()

    def _size(self, index: int) -> int:
        return min(self.chunk, self.trials - index * self.chunk)

    def _solve(
        self,
        group: list[tuple[int, int]],
        devices: list[Device],
        save: Callable[[int, int, dict[str, Partial]], None] | None = None,
    ) -> Iterator[tuple[int, dict[str, Partial]]]:
        """Sizes and summaries of chunks of one group; `save` runs beside the solving."""
        first = self._cells[group[0][0]]
        numbers = iter(group)

        def sink(_: Chunk, parts: dict[str, Partial]):
            place, index = next(numbers)
            if save is None:
                return self._size(index), parts
            save(place, index, parts)
            return self._size(index), {}

        chunks = (self._cells[place].chunk(index) for place, index in group)
        make = _OfCell(self.trial, first.static)
        yield from summarise_chunks(make, first.plan, chunks, self.trials, devices, sink)

    # The folder.

    def _describe_trial(self) -> Any:
        """What is known of the function in words; without fields that the sweep sets."""
        about = describe(self.trial)
        if dataclasses.is_dataclass(self.trial):
            for name in self._points[0]:
                about.pop(name, None)
        return about

    def _definition(self) -> dict[str, Any]:
        """Everything that defines the numbers of a cell of given parameters."""
        return {
            "trial": self._describe_trial(),
            "key": describe(self.key),
            "parameters": sorted(self._points[0]),
            "paired": sorted(self.paired),
            **{name: describe(value) for name, value in self._settings.items()},
            "version": self.version,
            "chunk": self.chunk,
            "float": str(jnp.result_type(float)),
        }

    def _programs(self) -> Code:
        """The program of a trial of each cell, traced afresh; cells may share one."""
        programs: dict[str, Program] = {}
        for cell in self._cells:
            if cell.program not in programs:
                make = _OfCell(self.trial, cell.static)
                programs[cell.program] = trial_program(make, cell.plan, cell.traced)
        own = [
            each
            for each in self._settings["reductions"].values()
            if not is_installed(type(each).__module__)
        ]
        sources = sources_of(self._made_of)
        return make_code(programs, reached(*own), sources, self.version, environment())

    def _open(
        self,
        store: Store,
        resume: bool,
        elsewhere: bool,
        accept: str | None,
        devices: list[Device],
        write: bool = True,
    ) -> tuple["Study", dict[str, Any], Code]:
        """This study with the chunk size of the folder's, the manifest, which may grow, the code.

        Refuses a folder that holds another study.
        """
        manifest, study = store.read_manifest(), self
        here = environment()
        if manifest is None:
            if write and any(store.folder.glob("chunks/*")):
                raise StudyError(
                    f"The folder {store.folder} has chunks but no manifest.json: take another "
                    "folder, or put the manifest back."
                )
            manifest = begin(study._definition(), here)
        else:
            if not resume:
                raise StudyError(
                    f"The folder {store.folder} holds a study already, and resume is off: take "
                    "another folder."
                )
            if self._chosen_chunk is None:
                chunk = manifest["definition"].get("chunk")
                if isinstance(chunk, int) and not isinstance(chunk, bool) and chunk > 0:
                    study = self._with_chunk(chunk)
            study._refuse_another(store, manifest)
            store.refuse_elsewhere(manifest, here, elsewhere)
        code = study._programs()
        store.use(digest(manifest["definition"]), code.place)
        grown = go_on(
            manifest,
            code,
            accept,
            refuse=partial(refuse_changes, store.folder, manifest, code, study._label_of, "study"),
            try_again=partial(study._refuse_other_numbers, store, code, devices[0]),
            set_aside=partial(study._set_replaced_aside, store),
            here=here,
        )
        cells = {canonical(cell): cell for cell in [*manifest["cells"], *study.cells]}
        grown |= {"cells": list(cells.values()), "trials": study.trials}
        if write:
            if canonical(grown) != canonical(manifest):
                store.write_manifest(grown)
            study._set_damaged_aside(store, grown)
        return study, grown, code

    def _label_of(self, program: str) -> str:
        """The first cell of a program, to print."""
        return f"the cell {next(cell.label for cell in self._cells if cell.program == program)}"

    def _chunks_of(self, store: Store, program: str) -> Iterator[tuple[int, Path]]:
        """The chunks of a program that there are, of more trials than mine too."""
        for place, cell in enumerate(self._cells):
            if cell.program == program:
                for path in sorted((store.folder / "chunks" / cell.name).glob("*.npz")):
                    yield place, path

    def _refuse_other_numbers(
        self, store: Store, code: Code, device: Device, names: list[str]
    ) -> None:
        """Compute a stored chunk of each changed program again, which must give the same bits."""
        for name in names:
            there = [*self._chunks_of(store, name)]
            here = [item for item in there if store.origin(item[1])[1] == code.place]
            if there and not here:
                raise StudyError(
                    f"The folder {store.folder} has no chunk of {self._label_of(name)} that was "
                    'computed in this environment, to try accept_changes="same" on.'
                )
            for place, path in here[:1]:
                index, size = store.numbers(path, self.chunk)
                try:
                    stored = store.read_chunk(path)
                except Damaged as damage:
                    raise StudyError(
                        f"The chunk {path} is damaged ({damage}), on which to try "
                        'accept_changes="same": move it away.'
                    ) from None
                found = self._recomputed(place, index, size, device, code)
                where = first_difference(stored, found)
                if where is not None:
                    raise StudyError(
                        f'The folder {store.folder} cannot go on with accept_changes="same": '
                        f"{self._label_of(name)} has other numbers now, {where}."
                    )

    def _recomputed(
        self, place: int, index: int, size: int, device: Device, code: Code
    ) -> dict[str, Partial]:
        """A chunk of a cell."""
        cell = self._cells[place]
        make = _OfCell(self.trial, cell.static)
        chunk = cell.chunk(index)
        with running(code.digests[cell.program]):
            (parts,) = summarise_chunks(make, cell.plan, [chunk], chunk.start + size, [device])
        return parts

    def _set_replaced_aside(self, store: Store, names: list[str]) -> None:
        for name in names:
            for _, path in self._chunks_of(store, name):
                store.set_aside(path, "replaced")

    def _with_chunk(self, chunk: int) -> "Study":
        study = copy.copy(self)
        study._cells = [
            cell._replace(plan=dataclasses.replace(cell.plan, chunk=chunk)) for cell in self._cells
        ]
        return study

    def _set_damaged_aside(self, store: Store, manifest: dict[str, Any]) -> None:
        others = {each for name in manifest["programs"] for each in accepted(manifest, name)}
        for place, index in self._work():
            path = self._path(store, place, index)
            if not store.has(path):
                continue
            known = accepted(manifest, self._cells[place].program)
            try:
                store.read_chunk(path, known)
            except Damaged as damage:
                into, why = "damaged", f"is damaged ({damage})"
                if store.origin(path)[0] in others - known:
                    into = "replaced"
                    why = (
                        "was computed with other kinds of parameters (one of them had whole "
                        "numbers only)"
                    )
                aside = store.set_aside(path, into)
                warnings.warn(
                    f"The chunk {path} {why}: it is kept as {aside} and computed again.",
                    stacklevel=4,
                )

    def _refuse_another(self, store: Store, manifest: dict[str, Any]) -> None:
        if "tuning" in manifest["definition"]:
            raise StudyError(f"The folder {store.folder} holds a tuning: take another folder.")
        store.refuse_another(manifest, self._definition(), "study")
        mine = {canonical(cell) for cell in self.cells}
        lost = [cell for cell in manifest["cells"] if canonical(cell) not in mine]
        if lost:
            raise StudyError(
                f"The folder {store.folder} holds another study: its cell {canonical(lost[0])} is "
                "not in this sweep, which may only grow. Take another folder."
            )

    def _path(self, store: Store, place: int, index: int) -> Path:
        return store.chunk_path(self._cells[place].name, index, self._size(index), self.chunk)

    def _solve_missing(
        self,
        store: Store,
        code: Code,
        devices: list[Device],
        progress: bool,
        me: int,
        all_of_us: int,
    ) -> None:
        """Solve and save my share of the chunks that are not there."""
        share = self._work()[me::all_of_us]
        missing = [item for item in share if not store.has(self._path(store, *item))]

        def save(place: int, index: int, parts: dict[str, Partial]) -> None:
            program = code.digests[self._cells[place].program]
            store.write_chunk(self._path(store, place, index), parts, program)

        total, left = (sum(self._size(index) for _, index in some) for some in (share, missing))
        with progress_bar(total, "study", progress, total - left) as bar:
            for group in self._groups(missing):
                # What JAX has kept of another program is not used.
                with running(code.digests[self._cells[group[0][0]].program]):
                    for size, _ in self._solve(group, devices, save):
                        bar.update(size)

    def _merge(self, store: Store, about: dict[str, Any], code: Code) -> "xr.Dataset":
        ensembles = []
        for place, cell in enumerate(self._cells):
            with running(code.digests[cell.program]):
                ensembles.append(self._merge_cell(store, about, place, cell))
        dataset = self._dataset(ensembles, origin(about))
        store.write_result(bytes(dataset.to_netcdf(engine="h5netcdf", format="NETCDF4")))
        return dataset

    def _merge_cell(self, store: Store, about: dict[str, Any], place: int, cell: Cell) -> Ensemble:
        totals, programs = Totals(cell.plan.all_reductions), accepted(about, cell.program)
        for index in range(-(-self.trials // self.chunk)):
            path = self._path(store, place, index)
            try:
                parts = store.read_chunk(path, programs)
            except Damaged as damage:
                raise StudyError(
                    f"The chunk {path} was lost while the study ran ({damage}): run it again."
                ) from None
            totals.add(parts)
        return make_ensemble(cell.plan, cell.problem, totals.all())

    def _dataset(self, ensembles: list[Ensemble], origin: dict[str, Any]) -> "xr.Dataset":
        """The results with their labels and where they come from; warns of divergence."""
        diverged = [
            f"{cell.label}: {len(ensemble.diverged)} of {self.trials}, the first is trial "
            f"{ensemble.diverged[0]}"
            for cell, ensemble in zip(self._cells, ensembles, strict=True)
            if len(ensemble.diverged)
        ]
        if diverged:
            more = f"; and {len(diverged) - 5} more cells" if len(diverged) > 5 else ""
            warnings.warn(
                f"Trials diverged, and means leave them out: {'; '.join(diverged[:5])}{more}.",
                stacklevel=4,
            )
        criterion = ensembles[0].criterion
        if any(ensemble.criterion != criterion for ensemble in ensembles):
            criterion = self._cells[0].plan.criterion  # cells of several models
        attributes = {
            "title": "hopjax study",
            "trials": self.trials,
            "chunk_size": self.chunk,
            **criterion.attributes,
            "paired": ", ".join(self.paired),
            "random numbers": "threefry2x32",
            "key": canonical(describe(self.key)),
            "definition": canonical(self._definition()),
            **{name: str(value) for name, value in origin.items()},
            "diverged": "; ".join(diverged) or "none",
        }
        return make_dataset(self._grid, self._points, ensembles, self.quantiles, attributes)

    def estimate(self, devices: Sequence[Device] | None = None) -> Estimate:
        """What a run will cost here, from short runs of one chunk of each program.

        They take some seconds: each program is compiled, and solved for a few steps.
        """
        with as_code_is(self._made_of):
            return self._estimate(check_devices(devices))

    def _estimate(self, devices: list[Device]) -> Estimate:
        seconds, bytes_at_work = 0.0, 0
        for group in self._groups(self._work()):
            cell = self._cells[group[0][0]]
            grid = cell.problem.grid
            stride = grid.stride
            short = max(stride, stride * math.ceil(50 / stride))
            rates = []
            for steps in (short, 3 * short):
                plan = dataclasses.replace(
                    cell.plan,
                    t1=steps * grid.dt,
                    save_every=grid.stride * grid.dt,
                    criterion=dataclasses.replace(cell.plan.criterion, settle=0.0, since=0.0),
                )
                chunks = [cell.chunk(0)] * len(devices)
                make = _OfCell(self.trial, cell.static)
                start = time.perf_counter()
                list(summarise_chunks(make, plan, chunks, self.trials, devices))
                compiled = time.perf_counter()
                list(summarise_chunks(make, plan, chunks, self.trials, devices))
                rates.append((compiled - start, time.perf_counter() - compiled))
            per_step = max(rates[1][1] - rates[0][1], 0) / (2 * short)
            fixed = max(rates[0][1] - per_step * short, 0)
            rounds = -(-len(group) // len(devices))
            seconds += rounds * (fixed + per_step * grid.num_steps) + rates[0][0]
            model = cell.problem.model
            saved = len(grid.save_times) * (model.memories.shape[0] + 2)
            per_trial = saved + 8 * model.state_size + model.memories.size
            bytes_at_work = max(
                bytes_at_work, 2 * len(devices) * self.chunk * per_trial * model.memories.itemsize
            )
        per_cell = _BYTES_OF_A_TRIAL * self.trials + 8 * sum(
            (4 + len(self.quantiles)) * len(cell.problem.grid.save_times) for cell in self._cells
        ) // len(self._cells)
        return Estimate(
            len(self._cells),
            self.trials * len(self._cells),
            len(self._work()),
            seconds,
            bytes_at_work,
            per_cell * len(self._cells),
        )


def _check_quantiles(quantiles: Any) -> tuple[float, ...]:
    try:
        if isinstance(quantiles, (str, bytes)):
            raise TypeError
        check_instance(quantiles, (Sequence, np.ndarray, jax.Array), "quantiles", "a list")
        levels = tuple(check_number(level, "quantiles") for level in quantiles)
    except (TypeError, ValueError):
        levels = (math.nan,)
    if not all(0 <= level <= 1 for level in levels) or list(levels) != sorted(set(levels)):
        raise ValueError(
            "Argument `quantiles` must be increasing numbers from 0 to 1 in a list, which may be "
            f"empty, got {shown(quantiles)}."
        )
    return levels
