"""The work of a study: its cells in chunks, how they are solved, and what they become."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Key

from hopjax._errors import warn
from hopjax.engine import (
    Chunk,
    Device,
    Done,
    Job,
    OnDevices,
    Packed,
    Where,
    Workers,
    in_order,
    progress_bar,
)
from hopjax.ensemble import (
    Ensemble,
    Partial,
    Totals,
    make_ensemble,
    own_reductions,
    summary_job,
    trial_program,
)
from hopjax.program import Program, environment, reached, sources_of
from hopjax.store import Code, describe, make_code
from hopjax.study.cells import Cell, OfCell
from hopjax.study.dataset import Table, attributes_of, make_dataset, words_for_diverged

if TYPE_CHECKING:
    import xarray as xr

_T = TypeVar("_T")
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

    def job(self, group: list[Item]) -> Job:
        """How chunks of one group are solved and summarised."""
        first = self.cells[group[0][0]]
        return summary_job(OfCell(self.trial, first.static), first.plan, self.trials)

    def solve(
        self,
        group: list[Item],
        devices: list[Device],
        save: Callable[[Item, dict[str, Partial]], _T],
    ) -> Iterator[_T]:
        """What `save` gives of the summaries of one group, in order, beside the solving."""
        numbers = iter(group)
        chunks = (self.cells[place].chunk(index) for place, index in group)
        placed = OnDevices(self.job(group), devices)
        yield from placed.run(chunks, lambda _, parts: save(next(numbers), parts))

    def solve_on(self, workers: Workers, items: Iterable[Item]) -> Iterator[tuple[Item, Done]]:
        """Summaries as workers finish them, whose longest trials come first."""

        def cost(group: list[Item]) -> int:
            cell = self.cells[group[0][0]]
            return cell.products * cell.problem.grid.num_steps

        groups = sorted(self.groups(items), key=cost, reverse=True)
        ordered = [item for group in groups for item in group]

        def tasks() -> Iterator[tuple[Packed, Chunk]]:
            for group in groups:
                packed = Packed(self.job(group))
                yield from ((packed, self.cells[place].chunk(index)) for place, index in group)

        for done in workers.run(tasks(), len(ordered)):
            yield ordered[done.number], done

    def solve_in_memory(self, where: Where, progress: bool) -> Iterator[Ensemble]:
        """The results of every cell."""
        totals = [Totals(cell.plan.all_reductions) for cell in self.cells]
        with progress_bar(self.trials * len(self.cells), "study", progress) as bar:
            for (place, index), parts in self._summaries(where):
                totals[place].add(parts)
                bar.update(self.size(index))
        for cell, total in zip(self.cells, totals, strict=True):
            yield make_ensemble(cell.plan, cell.problem, total.all())

    def _summaries(self, where: Where) -> Iterator[tuple[Item, dict[str, Partial]]]:
        """Of all chunks, in the order of those of a cell."""
        if isinstance(where, Workers):
            solved = self.solve_on(where, self.items)
            yield from in_order((done.number, (item, done.parts)) for item, done in solved)
        else:
            for group in self.groups(self.items):
                yield from self.solve(group, where, lambda item, parts: (item, parts))

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
        own = own_reductions(self.settings["reductions"])
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
