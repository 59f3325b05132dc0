"""What there is of a tuning that runs, or was interrupted: its steps so far.

The manifest has what the tuning's own code would know: where it began, its bounds, and what its
losses are called.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from hopjax.store import Damaged, StudyError, canonical, has_result, looking_at, origin, view_in
from hopjax.tuning.descent import History
from hopjax.tuning.kept import STEPS
from hopjax.tuning.parameters import make_ranges, values_of
from hopjax.tuning.result import course_of, path_of, terms_of

if TYPE_CHECKING:
    import xarray as xr


def is_unfinished_tuning(folder: Path) -> bool:
    """Whether a folder has a tuning without a result."""
    return view_in(folder, "tuning") is not None and not has_result(folder)


def load_unfinished_tuning(folder: Path) -> "xr.Dataset":
    """The dataset of the steps that there are.

    Raises:
        StudyError: if there is no tuning, or no step of it is saved.
    """
    with looking_at(folder, "tuning") as (store, manifest):
        path = store.folder / STEPS
        if not store.has(path):
            raise StudyError(f"No step of the tuning in {folder} is saved yet.")
        try:
            history = History.unpack(store.read_chunk(path))
        except Damaged as damage:
            raise StudyError(f"{path} is damaged ({damage}): move it away to tune anew.") from None
        return _dataset(history, manifest)


def _dataset(history: History, manifest: dict[str, Any]) -> "xr.Dataset":
    import xarray as xr  # here, so that importing hopjax stays light

    definition, terms = manifest["definition"], manifest["view"]["terms"]
    start = {name: jnp.asarray(value, float) for name, value in definition["parameters"].items()}
    z = {name: jnp.asarray(history.array(f"z:{name}")) for name in start}
    values = values_of(z, make_ranges(start, definition["bounds"]))
    variables = course_of(history) | terms_of(history)
    for name, value in values.items():
        variables |= path_of(name, np.asarray(value, float))
    done = f"{len(history)} of at most {definition['steps']} steps are done"
    if history.reason:
        done += "; what they led to is not verified yet"
    attributes = {
        "title": "hopjax tuning",
        "unfinished": done,
        "parameters": ", ".join(start),
        "skipped": int(history.array("skipped").sum()),
        "mode": definition["mode"],
        "trials": definition["trials"],
        "key": canonical(definition["key"]),
        "definition": canonical(definition),
        **{name: str(value) for name, value in origin(manifest).items()},
    }
    coordinates = {"step": np.arange(len(history)), "term": np.array(terms, object)}
    return xr.Dataset(variables, coordinates, attributes)
