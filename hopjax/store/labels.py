"""Cells are found by the very values that were swept: truth values, None and sequences too."""

from typing import Any

import numpy as np
import xarray as xr
from xarray.core.indexing import IndexSelResult
from xarray.indexes import PandasIndex

from hopjax._errors import warn
from hopjax.store.values import label, plain


class Labels(PandasIndex):
    """An index of a parameter whose values are found by their labels; see `label`.

    Along an axis of its own one value is one place, as ever in xarray. Along the axis of a list of
    cells several cells may have it, and the axis stays.
    """

    def sel(
        self, labels: dict[Any, Any], method: str | None = None, tolerance: Any = None
    ) -> IndexSelResult:
        """The places of a value, or of each of a list of values; a slice is that of pandas."""
        ((name, given),) = labels.items()
        if isinstance(given, slice) or method is not None:
            return super().sel(labels, method, tolerance)
        if isinstance(given, (xr.DataArray, xr.Variable)):
            given = given.to_numpy()
        if isinstance(given, np.ndarray):
            given = given.tolist()
        several = isinstance(given, list)
        places: dict[str, list[int]] = {}
        for place, value in enumerate(self.index.tolist()):
            places.setdefault(label(value), []).append(place)
        found: list[int] = []
        for value in given if several else [given]:
            text = label(plain(value, name))
            if text not in places:
                raise KeyError(
                    f"`{name}` has no value {value!r}, but {', '.join(places)} (a list asks for "
                    "several values; one that is a sequence is a tuple)."
                )
            found += places[text]
        if self.dim == name and not several:
            return IndexSelResult({self.dim: found[0]})
        return IndexSelResult({self.dim: np.array(found)})


def with_labels(dataset: xr.Dataset) -> xr.Dataset:
    """A study's dataset in which every swept parameter can be selected by value."""
    axes = dataset["retrieved"].dims
    for name, values in dataset.coords.items():
        name = str(name)
        plain_axis = name in axes and values.dtype.kind in "iuf"
        if values.dims in [(axis,) for axis in axes] and not plain_axis:
            dataset = dataset.drop_indexes(name, errors="ignore").set_xindex(name, Labels)
    return dataset


def warn_of_names(dataset: xr.Dataset) -> None:
    """One warning of all variables that an attribute of the dataset cannot give."""
    methods = {*dir(xr.Dataset), *dir(xr.DataArray)} - {"dt"}  # of single variables of dates only
    hidden = [str(name) for name in dataset.variables if name in methods]
    if hidden:
        warn(
            f"Datasets have attributes of their own that are called {', '.join(hidden)}: write "
            + ", ".join(f'dataset["{name}"]' for name in hidden)
            + " for what is called so here.",
        )
