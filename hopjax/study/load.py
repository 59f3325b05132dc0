"""Reading a study again."""

from pathlib import Path
from typing import TYPE_CHECKING

from hopjax._checks import check_flag
from hopjax._errors import names_keywords
from hopjax.store import load_kept
from hopjax.study.unfinished import is_unfinished_study, load_unfinished_study

if TYPE_CHECKING:
    import xarray as xr


@names_keywords
def load_study(folder: str | Path, *, unfinished: bool = False) -> "xr.Dataset":
    """The merged dataset of a study's folder, as `Study.run` returned it.

    (`xarray.load_dataset` reads the file as well, but finds what is neither a number nor a text
    nor a truth value by its label only, such as "null" or "[6,0.5]".)

    Args:
        folder: of the study.
        unfinished: whether to take what there is of a study that is running, or was interrupted.
            That disturbs nothing. `trials_done` then says how many trials each cell has; what is
            of a trial is NaN where that is not done, and your own reductions are left out. Its
            attribute `unfinished` says how many there are in all. Of a study that is finished it
            is the whole dataset.

    Raises:
        StudyError: if there is none, or it cannot be read.
    """
    from hopjax.store.labels import with_labels

    if check_flag(unfinished, "unfinished") and is_unfinished_study(Path(folder)):
        return load_unfinished_study(Path(folder))
    return with_labels(load_kept(folder, "study"))
