"""Chunks of trials on devices or workers: for ensembles, studies, gradients and `map_trials`."""

from hopjax.engine.devices import (
    CHUNK as CHUNK,
    Checked as Checked,
    Checks as Checks,
    Chunk as Chunk,
    Device as Device,
    Job as Job,
    OnDevices as OnDevices,
    OutOfRangeError as OutOfRangeError,
    Program as Program,
    check_devices as check_devices,
    check_trials as check_trials,
    each_trial as each_trial,
    progress_bar as progress_bar,
)
from hopjax.engine.mapped import map_trials as map_trials
from hopjax.engine.workers import (
    Done as Done,
    OnWorkers as OnWorkers,
    Packed as Packed,
    Where as Where,
    WorkerError as WorkerError,
    Workers as Workers,
    check_where as check_where,
    in_order as in_order,
    place as place,
)
