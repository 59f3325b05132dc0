"""What a study will cost."""

import dataclasses
import math
import time
from typing import NamedTuple

from hopjax.engine import Device, OnDevices
from hopjax.ensemble import summary_job
from hopjax.study.cells import Cell, OfCell
from hopjax.study.work import Work

BYTES_OF_A_TRIAL = 40  # in the dataset
_TIMED = 2**29  # products of a memory and a neuron in the chunk that is timed, about


class Estimate(NamedTuple):
    """What a study will cost; see `Study.estimate`."""

    cells: int
    trials: int
    chunks: int
    seconds: float
    bytes_at_work: int
    bytes_of_result: int


def estimate(work: Work, devices: list[Device]) -> Estimate:
    """From a short run of one chunk on each device; other programs by the size of their steps."""
    groups = [(work.cells[group[0][0]], len(group)) for group in work.groups(work.items)]
    cell, _ = groups[0]
    compiling, per_step = _time(work, cell, devices)
    seconds, bytes_at_work = 0.0, 0
    for other, chunks in groups:
        grid, model = other.problem.grid, other.problem.model
        rounds = -(-chunks // len(devices))
        size = other.products / cell.products
        seconds += compiling + rounds * grid.num_steps * per_step * size
        saved = len(grid.save_times) * (model.memories.shape[0] + 2)
        per_trial = (saved + 8 * model.state_size + model.memories.size) * model.memories.itemsize
        bytes_at_work = max(bytes_at_work, 2 * len(devices) * work.chunk * per_trial)
    per_cell = BYTES_OF_A_TRIAL * work.trials + 8 * sum(
        (4 + len(work.quantiles)) * len(each.problem.grid.save_times) for each in work.cells
    ) // len(work.cells)
    return Estimate(
        len(work.cells),
        work.trials * len(work.cells),
        len(work.items),
        seconds,
        bytes_at_work,
        per_cell * len(work.cells),
    )


def _time(work: Work, cell: Cell, devices: list[Device]) -> tuple[float, float]:
    """Seconds to compile the program of a cell, and of a step of a chunk on every device."""
    grid = cell.problem.grid
    wanted = max(50, min(grid.num_steps, _TIMED // (work.chunk * cell.products)))
    steps = grid.stride * math.ceil(wanted / grid.stride)
    plan = dataclasses.replace(
        cell.plan,
        t1=steps * grid.dt,
        save_every=grid.stride * grid.dt,
        criterion=dataclasses.replace(cell.plan.criterion, settle=0.0, since=0.0),
    )
    job = summary_job(OfCell(work.trial, cell.static), plan, work.trials)
    chunks = [cell.chunk(0)] * len(devices)
    starts = []
    for _ in range(2):
        starts.append(time.perf_counter())
        list(OnDevices(job, devices).run(chunks))
    begun, compiled, end = *starts, time.perf_counter()
    return compiled - begun - (end - compiled), (end - compiled) / steps
