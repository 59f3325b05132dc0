"""The work of a study: its cells in chunks, how they are solved, and what they become."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from hopjax._errors import warn
from hopjax.engine import Chunk, Device, progress_bar
from hopjax.ensemble import (
    Ensemble,
    Partial,
    Totals,
    make_ensemble,
    summarise_chunks,
    trial_program,
)
from hopjax.program import Program, is_installed, reached, sources_of
from hopjax.store import Code, describe, environment, make_code
from hopjax.study.cells import Cell, OfCell
from hopjax.study.dataset import Table, attributes_of, make_dataset, words_for_diverged

if TYPE_CHECKING:
    import xarray as xr

Item = tuple[int, int]  # the place of a cell, and the number of a chunk of it


@dataclasses.dataclass(frozen=True)
class Work:
    """Everything that is to be solved, and how."""

    trial: Callable[..., Any]
    trials: int
    key: Key[Array, ""]
    grid: dict[str, list[Any]]  # {} for a list of cells
    points: list[dict[str, Any]]
    cells: list[Cell]
    paired: tuple[str, ...]
    static: tuple[str, ...]
    quantiles: tuple[float, ...]
    settings: dict[str, Any]
    version: str | None

    @property
    def made_of(self) -> tuple[Any, ...]:
        """What has code of the user's in it."""
        return self.trial, self.settings

    @property
    def chunk(self) -> int:
        """Trials that are solved together."""
        return self.cells[0].plan.chunk

    def with_chunk(self, chunk: int) -> "Work":
        """The same in chunks of another size."""
        cells = [
            cell._replace(plan=dataclasses.replace(cell.plan, chunk=chunk)) for cell in self.cells
        ]
        return dataclasses.replace(self, cells=cells)

    @property
    def items(self) -> list[Item]:
        """All chunks, cell by cell."""
        chunks = range(-(-self.trials // self.chunk))
        return list(itertools.product(range(len(self.cells)), chunks))

    def groups(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Those that one compilation serves."""
        groups: dict[str, list[Item]] = {}
        for item in items:
            groups.setdefault(self.cells[item[0]].program, []).append(item)
        yield from groups.values()

    def size(self, index: int) -> int:
        """How many trials a chunk has."""
        return min(self.chunk, self.trials - index * self.chunk)

    def solve(
        self,
        group: list[Item],
        devices: list[Device],
        save: Callable[[int, int, dict[str, Partial]], None] | None = None,
    ) -> Iterator[tuple[int, dict[str, Partial]]]:
        """Sizes and summaries of chunks of one group; `save` runs beside the solving."""
        first = self.cells[group[0][0]]
        numbers = iter(group)

        def sink(_: Chunk, parts: dict[str, Partial]):
            place, index = next(numbers)
            if save is None:
                return self.size(index), parts
            save(place, index, parts)
            return self.size(index), {}

        chunks = (self.cells[place].chunk(index) for place, index in group)
        make = OfCell(self.trial, first.static)
        yield from summarise_chunks(make, first.plan, chunks, self.trials, devices, sink)

    def solve_in_memory(self, devices: list[Device], progress: bool) -> Iterator[Ensemble]:
        """The results of every cell."""
        totals = [Totals(cell.plan.all_reductions) for cell in self.cells]
        with progress_bar(self.trials * len(self.cells), "study", progress) as bar:
            for group in self.groups(self.items):
                for (place, _), (size, parts) in zip(
                    group, self.solve(group, devices), strict=True
                ):
                    totals[place].add(parts)
                    bar.update(size)
        for cell, total in zip(self.cells, totals, strict=True):
            yield make_ensemble(cell.plan, cell.problem, total.all())

    def definition(self) -> dict[str, Any]:
        """Everything that defines the numbers of a cell of given parameters."""
        trial = describe(self.trial)
        if dataclasses.is_dataclass(self.trial):  # without fields that the sweep sets
            for name in self.points[0]:
                trial.pop(name, None)
        return {
            "trial": trial,
            "key": describe(self.key),
            "parameters": sorted(self.points[0]),
            "paired": sorted(self.paired),
            "static": sorted(self.static),
            **{name: describe(value) for name, value in self.settings.items()},
            "version": self.version,
            "chunk": self.chunk,
            "float": str(jnp.result_type(float)),
        }

    def code(self) -> Code:
        """The program of a trial of each cell, traced afresh; cells may share one."""
        programs: dict[str, Program] = {}
        for cell in self.cells:
            if cell.program not in programs:
                make = OfCell(self.trial, cell.static)
                programs[cell.program] = trial_program(make, cell.plan, cell.traced)
        own = [
            each
            for each in self.settings["reductions"].values()
            if not is_installed(type(each).__module__)
        ]
        sources = sources_of(self.made_of)
        return make_code(programs, reached(*own), sources, self.version, environment())

    def dataset(self, ensembles: Iterable[Ensemble], origin: dict[str, Any]) -> "xr.Dataset":
        """The results of every cell, with labels and where they come from; warns of divergence.

        Each is let go once it is a table: its histogram is much larger than what is made of it.
        """
        diverged, criteria, tables = [], [], []
        for cell, ensemble in zip(self.cells, ensembles, strict=True):
            diverged += words_for_diverged(cell.label, ensemble.diverged, self.trials)
            criteria.append(ensemble.criterion)
            tables.append(Table(ensemble.ts, ensemble.variables(self.quantiles)))
        if diverged:
            more = f"; and {len(diverged) - 5} more cells" if len(diverged) > 5 else ""
            warn(f"Trials diverged, and means leave them out: {'; '.join(diverged[:5])}{more}.")
        criterion = criteria[0]
        if any(each != criterion for each in criteria):
            criterion = self.cells[0].plan.criterion  # cells of several models
        attributes = attributes_of(
            self.definition(), self.paired, self.trials, criterion, origin, diverged
        )
        return make_dataset(self.grid, self.points, tables, self.quantiles, attributes)
