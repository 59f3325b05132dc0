"""A look at a folder that has no result yet: nothing in it is locked or changed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hopjax.store.files import StudyError
from hopjax.store.folder import Store
from hopjax.store.identity import digest


def view_in(folder: Path, kind: str) -> dict[str, Any] | None:
    """The manifest of a folder that holds what `kind` says, with what others must know of it."""
    try:
        manifest = Store(folder).read_manifest()
    except StudyError:
        return None
    return manifest if manifest and manifest["kind"] == kind and "view" in manifest else None


def has_result(folder: Path) -> bool:
    """Whether there is a merged dataset with its checksum."""
    store = Store(folder)
    return all(map(store.has, (store.result_path, store.checksum_path)))


@contextlib.contextmanager
def looking_at(folder: Path, kind: str) -> Iterator[tuple[Store, dict[str, Any]]]:
    """The folder and its manifest, while it is read.

    Raises:
        StudyError: if it holds something else, or its manifest was changed.
    """
    store, manifest = Store(folder), view_in(folder, kind)
    if manifest is None:
        raise StudyError(f"The folder {folder} holds no {kind} that can be looked at.")
    store.use(digest(manifest["definition"]), "")
    try:
        yield store, manifest
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(
            f"{store.manifest_path} was changed after it was written ({reason}): run the {kind} "
            "again."
        ) from error
