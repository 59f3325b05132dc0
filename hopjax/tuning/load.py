"""Reading a tuning again."""

from pathlib import Path
from typing import TYPE_CHECKING

from hopjax._checks import check_flag
from hopjax._errors import names_keywords
from hopjax.store import load_kept
from hopjax.tuning.unfinished import is_unfinished_tuning, load_unfinished_tuning

if TYPE_CHECKING:
    import xarray as xr


@names_keywords
def load_tuning(folder: str | Path, *, unfinished: bool = False) -> "xr.Dataset":
    """The dataset of a tuning's folder, `Tuning.history` as `tune` returned it.

    Args:
        folder: of the tuning.
        unfinished: whether to take the steps so far of a tuning that is running, or was
            interrupted. That disturbs nothing. Its attribute `unfinished` says how many there are,
            and what comes after the last step is left out: the tuned values and the fresh trials.
            Of a tuning that is finished it is the whole dataset.

    Raises:
        StudyError: if there is none, or it cannot be read.
    """
    if check_flag(unfinished, "unfinished") and is_unfinished_tuning(Path(folder)):
        return load_unfinished_tuning(Path(folder))
    return load_kept(folder, "tuning")
