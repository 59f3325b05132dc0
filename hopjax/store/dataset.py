"""The dataset in a folder."""

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

from hopjax.store.files import StudyError

if TYPE_CHECKING:
    import xarray as xr


def load_result(folder: str | Path, what: str) -> "xr.Dataset":
    """The dataset in a folder of `what`, whose checksum is right."""
    import xarray as xr

    path = Path(folder) / "result.nc"
    try:
        content, sha = path.read_bytes(), path.with_suffix(".sha256").read_text()
        if sha.split()[:1] != [hashlib.sha256(content).hexdigest()]:
            raise ValueError(f"it is not what was written: run the {what} again")
        return xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    except FileNotFoundError:
        if path.exists():
            raise StudyError(
                f"{path} has no checksum beside it, result.sha256: run the {what} again."
            ) from None
        raise StudyError(
            f"{path} does not exist: run the {what} in this folder to its end first."
        ) from None
    except Exception as error:  # xarray and h5py fail in many ways on what is no dataset
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise StudyError(f"Cannot read {path}: {reason}.") from error


def load_kept(folder: str | Path, kind: str) -> "xr.Dataset":
    """The dataset in a folder that holds what `kind` says, and nothing else."""
    dataset = load_result(folder, kind)
    if (title := dataset.attrs.get("title")) != f"hopjax {kind}":
        raise StudyError(f"The folder {folder} holds no {kind}, but what calls itself {title!r}.")
    return dataset
