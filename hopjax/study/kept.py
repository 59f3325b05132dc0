"""A study in a folder: what is there, what is missing, and what was merged from it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hopjax._errors import warn
from hopjax.engine import OnDevices, Where, Workers, check_devices, progress_bar
from hopjax.ensemble import Ensemble, Partial, Totals, make_ensemble, summary_job
from hopjax.program import environment, running
from hopjax.store import (
    AbstractKept,
    Code,
    Damaged,
    Parts,
    Store,
    StudyError,
    accepted,
    batch_size,
    canonical,
    open_folder,
    origin,
    place_of,
    with_environment,
)
from hopjax.study.cells import OfCell
from hopjax.study.unfinished import view_of
from hopjax.study.work import Item, Work

if TYPE_CHECKING:
    import xarray as xr


class KeptStudy(AbstractKept):
    """A study as a folder keeps it: a file for every chunk."""

    kind = "study"
    files = ("chunks/*",)

    def __init__(self, work: Work, store: Store, where: Where, *, any_chunk: bool):
        """Nothing is touched; `any_chunk` says whether the folder's size of chunks is as good."""
        self.work, self.store, self.where = work, store, where
        self._any_chunk = any_chunk

    # As for any folder.

    def definition(self) -> dict[str, Any]:
        """See `Work`."""
        return self.work.definition()

    def environment(self) -> dict[str, Any]:
        """Versions, kinds of devices and flags."""
        return environment()

    def code(self) -> Code:
        """See `Work`."""
        return self.work.code()

    def label(self, program: str) -> str:
        """The first cell of a program."""
        return f"the cell {next(c.label for c in self.work.cells if c.program == program)}"

    def files_of(self, store: Store, program: str) -> Iterator[Path]:
        """The chunks of a program that there are, of more trials than mine too."""
        for cell in self.work.cells:
            if cell.program == program:
                yield from store.files_of(cell.name)

    def again(self, path: Path, parts: Parts, code: Code) -> tuple[Parts, Parts]:
        """A chunk."""
        cell = next(cell for cell in self.work.cells if cell.name == path.parent.name)
        index, size = self.store.numbers(path, self.work.chunk)
        make, chunk = OfCell(self.work.trial, cell.static), cell.chunk(index)
        job = summary_job(make, cell.plan, chunk.start + size)
        with running(code.digests[cell.program]):
            (found,) = OnDevices(job, check_devices(None)[:1]).run([chunk])
        return parts, found

    def batch(self) -> int:
        """As many chunks as a file of so many must have."""
        return batch_size(len(self.work.items))

    def grown(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """All cells that the folder ever had, and how many trials there are."""
        mine = [cell.parameters for cell in self.work.cells]
        known = {canonical(cell): cell for cell in [*manifest.get("cells", []), *mine]}
        here = {canonical(cell) for cell in mine}
        if lost := [cell for cell in known if cell not in here]:
            raise StudyError(
                f"The folder {self.store.folder} holds another study: its cell {lost[0]} is "
                "not in this sweep, which may only grow. Take another folder."
            )
        work = self.work
        view = view_of(work.cells, work.grid, work.quantiles)
        return {"cells": list(known.values()), "trials": work.trials, "view": view}

    # A run.

    def progress(self) -> tuple[int, int]:
        """How many chunks are there, and how many there are in all."""
        items = self.work.items
        return sum(self.store.has(self._path(*item)) for item in items), len(items)

    def run(
        self, resume: bool, elsewhere: bool, accept: str | None, progress: bool
    ) -> "xr.Dataset":
        """Solve what is missing, and merge. Workers see nothing of the folder."""
        with self.store.locked():
            about, code = self._open(resume, elsewhere, accept)
            about = self._solve_missing(about, code, progress)
            return self._merge(about, code, progress)

    def _open(
        self, resume: bool, elsewhere: bool, accept: str | None
    ) -> tuple[dict[str, Any], Code]:
        """The manifest and the code; damaged chunks are set aside."""
        there = (self.store.read_manifest() or {}).get("definition", {}).get("chunk")
        if self._any_chunk and type(there) is int and there > 0:
            self.work = self.work.with_chunk(there)
        about, code = open_folder(
            self.store, self, resume=resume, elsewhere=elsewhere, accept=accept
        )
        self._set_damaged_aside(about)
        self.store.gather()
        return about, code

    def _set_damaged_aside(self, manifest: dict[str, Any]) -> None:
        for cell in self.work.cells:
            for file in self.store.files_of(cell.name):
                if not self.store.chunks_in(file):
                    aside = self.store.set_aside(file)
                    warn(f"The batch {file} is damaged: it is kept as {aside} and computed again.")
        others = {each for name in manifest["programs"] for each in accepted(manifest, name)}
        for item in self.work.items:
            path = self._path(*item)
            if not self.store.has(path):
                continue
            known = accepted(manifest, self.work.cells[item[0]].program)
            try:
                self.store.check_chunk(path, known)
            except Damaged as damage:
                into, why = "damaged", f"is damaged ({damage})"
                if self.store.origin(path)[0] in others - known:
                    into = "replaced"
                    why = (
                        "was computed with other kinds of parameters (one of them had whole "
                        "numbers only)"
                    )
                aside = self.store.set_aside(path, into)
                warn(f"The chunk {path} {why}: it is kept as {aside} and computed again.")

    def _path(self, place: int, index: int) -> Path:
        work = self.work
        return self.store.chunk_path(work.cells[place].name, index, work.size(index), work.chunk)

    def _solve_missing(self, about: dict[str, Any], code: Code, progress: bool) -> dict[str, Any]:
        """Solve and save the chunks that are not there; the manifest after that."""
        work, store = self.work, self.store
        missing = [item for item in work.items if not store.has(self._path(*item))]

        def save(item: Item, parts: dict[str, Partial]) -> None:
            program = code.digests[work.cells[item[0]].program]
            store.write_chunk(self._path(*item), parts, program)
            bar.update(work.size(item[1]))

        total, left = (sum(work.size(index) for _, index in some) for some in (work.items, missing))
        with progress_bar(total, "study", progress, total - left) as bar:
            if isinstance(self.where, Workers):
                for item, done in work.solve_on(self.where, missing):
                    grown = with_environment(about, done.environment)
                    if grown is not about:
                        store.write_manifest(about := grown)
                    store.computed_in(place_of(done.environment))
                    save(item, done.parts)
                return about
            for group in work.groups(missing):
                # What JAX has kept of another program is not used.
                with running(code.digests[work.cells[group[0][0]].program]):
                    for _ in work.solve(group, self.where, save):
                        pass
        return about

    def _merge(self, about: dict[str, Any], code: Code, progress: bool) -> "xr.Dataset":
        self.store.gather()
        items = len(self.work.items)
        with progress_bar(items, "merging", progress, unit="chunk", delay=1.0) as bar:
            dataset = self.work.dataset(self._merged(about, code, bar.update), origin(about))
        self.store.write_result(dataset)
        return dataset

    def _merged(
        self, about: dict[str, Any], code: Code, count: Callable[[], Any]
    ) -> Iterator[Ensemble]:
        """The results of every cell, one at a time: only the dataset holds all of them."""
        for place, cell in enumerate(self.work.cells):
            with running(code.digests[cell.program]):
                ensemble = self._merge_cell(about, place, count)
            yield ensemble

    def _merge_cell(self, about: dict[str, Any], place: int, count: Callable[[], Any]) -> Ensemble:
        cell = self.work.cells[place]
        totals, programs = Totals(cell.plan.all_reductions), accepted(about, cell.program)
        for index in range(-(-self.work.trials // self.work.chunk)):
            path = self._path(place, index)
            try:
                parts = self.store.read_chunk(path, programs)
            except Damaged as damage:
                raise StudyError(
                    f"The chunk {path} was lost while the study ran ({damage}): run it again."
                ) from None
            totals.add(parts)
            count()
        return make_ensemble(cell.plan, cell.problem, totals.all())
