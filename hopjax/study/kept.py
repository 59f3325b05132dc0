"""A study in a folder: what is there, what is missing, and what was merged from it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from hopjax._errors import warn
from hopjax.engine import Device, progress_bar
from hopjax.ensemble import Ensemble, Partial, Totals, make_ensemble, summarise_chunks
from hopjax.program import running
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
    environment,
    open_folder,
    origin,
)
from hopjax.study.cells import OfCell
from hopjax.study.load import load_study
from hopjax.study.unfinished import view_of
from hopjax.study.work import Work

if TYPE_CHECKING:
    import xarray as xr

_LOOK_EVERY = 0.5  # seconds, while waiting for other processes


class KeptStudy(AbstractKept):
    """A study as a folder keeps it: a file for every chunk."""

    kind = "study"
    files = ("chunks/*",)

    def __init__(self, work: Work, store: Store, devices: list[Device], *, any_chunk: bool):
        """Nothing is touched; `any_chunk` says whether the folder's size of chunks is as good."""
        self.work, self.store, self.devices = work, store, devices
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
        with running(code.digests[cell.program]):
            (found,) = summarise_chunks(
                make, cell.plan, [chunk], chunk.start + size, self.devices[:1]
            )
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
        """Solve what is missing, and merge.

        As one of several processes this is my share; the first opens the folder and merges. They
        talk at the start only, when all have just come up. Later they look at files, which may take
        as long as it takes.
        """
        store, me, all_of_us = self.store, jax.process_index(), jax.process_count()
        flags = {"resume": resume, "elsewhere": elsewhere, "accept": accept}
        if all_of_us > 1:
            return self._run_in_processes(flags, progress, me, all_of_us)
        with store.locked():
            about, code = self._open(**flags)
            self._solve_missing(code, progress, 0, 1)
            return self._merge(about, code)

    def _run_in_processes(
        self, flags: dict[str, Any], progress: bool, me: int, all_of_us: int
    ) -> "xr.Dataset":
        from jax.experimental import multihost_utils

        store = self.store
        if me == 0:
            with store.locked() as token:
                try:
                    about, code = self._open(**flags)
                except (StudyError, ValueError):
                    multihost_utils.broadcast_one_to_all(np.uint32(0))
                    raise
                multihost_utils.broadcast_one_to_all(np.uint32(token))
                self._solve_missing(code, progress, me, all_of_us)
                missing = {self._path(*item) for item in self.work.items}
                while missing := {path for path in missing if not store.has(path)}:
                    store.raise_failure(token)
                    time.sleep(_LOOK_EVERY)
                return self._merge(about, code)
        token = int(multihost_utils.broadcast_one_to_all(np.uint32(0)))
        if token == 0:
            raise StudyError(f"The first process cannot use the folder {store.folder}.")
        try:
            _, code = self._open(**flags | {"resume": True, "accept": None}, write=False)
            self._solve_missing(code, False, me, all_of_us)
        except Exception as error:
            store.write_failure(token, me, error)
            raise
        while store.in_use(token):
            time.sleep(_LOOK_EVERY)
        return load_study(store.folder)

    def _open(
        self, resume: bool, elsewhere: bool, accept: str | None, write: bool = True
    ) -> tuple[dict[str, Any], Code]:
        """The manifest and the code; damaged chunks are set aside."""
        there = (self.store.read_manifest() or {}).get("definition", {}).get("chunk")
        if self._any_chunk and type(there) is int and there > 0:
            self.work = self.work.with_chunk(there)
        about, code = open_folder(
            self.store, self, resume=resume, elsewhere=elsewhere, accept=accept, write=write
        )
        if write:
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

    def _solve_missing(self, code: Code, progress: bool, me: int, all_of_us: int) -> None:
        """Solve and save my share of the chunks that are not there."""
        work, store = self.work, self.store
        share = work.items[me::all_of_us]
        missing = [item for item in share if not store.has(self._path(*item))]

        def save(place: int, index: int, parts: dict[str, Partial]) -> None:
            program = code.digests[work.cells[place].program]
            store.write_chunk(self._path(place, index), parts, program)

        total, left = (sum(work.size(index) for _, index in some) for some in (share, missing))
        with progress_bar(total, "study", progress, total - left) as bar:
            for group in work.groups(missing):
                # What JAX has kept of another program is not used.
                with running(code.digests[work.cells[group[0][0]].program]):
                    for size, _ in work.solve(group, self.devices, save):
                        bar.update(size)

    def _merge(self, about: dict[str, Any], code: Code) -> "xr.Dataset":
        self.store.gather()
        dataset = self.work.dataset(self._merged(about, code), origin(about))
        self.store.write_result(dataset)
        return dataset

    def _merged(self, about: dict[str, Any], code: Code) -> Iterator[Ensemble]:
        """The results of every cell, one at a time: only the dataset holds all of them."""
        for place, cell in enumerate(self.work.cells):
            with running(code.digests[cell.program]):
                ensemble = self._merge_cell(about, place)
            yield ensemble

    def _merge_cell(self, about: dict[str, Any], place: int) -> Ensemble:
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
        return make_ensemble(cell.plan, cell.problem, totals.all())
