"""One life of a folder: it is begun, gone on with, or refused, whatever it keeps."""

import abc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from hopjax.store.files import Damaged, StudyError
from hopjax.store.folder import Store
from hopjax.store.identity import canonical, differences, digest, provenance
from hopjax.store.programs import Code, changed, first_difference, record, source_difference

Parts = dict[str, dict[str, Any]]  # what a file has: arrays, by name and field
_REMEDY = (
    'Take another folder; or go on by accept_changes="same" (--accept-changes same), if it was '
    "only written in another way, which is tried on what is there; or by "
    'accept_changes="redo" (--accept-changes redo), which computes anew what it had computed.'
)


class AbstractKept(abc.ABC):
    """What a folder keeps of a study or a tuning, and how that goes on.

    Attributes:
        kind: what it is, in a word.
        files: patterns of the files that its numbers are in.
    """

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def definition(self) -> dict[str, Any]:
        """What decides its numbers beside the programs, as plain data."""

    @abc.abstractmethod
    def environment(self) -> dict[str, Any]:
        """What the bits of its numbers may depend on besides."""

    @abc.abstractmethod
    def code(self) -> Code:
        """Its programs, traced afresh."""

    @abc.abstractmethod
    def label(self, program: str) -> str:
        """What a program computes, to print."""

    @abc.abstractmethod
    def files_of(self, store: Store, program: str) -> Iterator[Path]:
        """The files that there are with the numbers of a program."""

    @abc.abstractmethod
    def again(self, path: Path, parts: Parts, code: Code) -> tuple[Parts, Parts]:
        """Some numbers of a file, and the same computed again."""

    def batch(self) -> int:
        """How many chunks shall be in a file."""
        return 1

    def grown(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """What the manifest says besides, which may grow; refuses what it must not lose."""
        del manifest
        return {}


def open_folder(
    store: Store,
    kept: AbstractKept,
    *,
    resume: bool,
    elsewhere: bool,
    accept: str | None,
) -> tuple[dict[str, Any], Code]:
    """The manifest of a folder with this run, and the code of the run.

    Args:
        store: the folder, which is locked by this process.
        kept: what it shall keep.
        resume: whether to go on with what it holds.
        elsewhere: whether to go on in another environment.
        accept: what to do where programs have changed; see `check_accept`.

    Raises:
        StudyError: if the folder holds something else, or was written by other code.
    """
    manifest, here = store.read_manifest(), kept.environment()
    if manifest is None:
        for pattern in kept.files:
            for path in store.folder.glob(pattern):
                name = path.relative_to(store.folder).parts[0]
                raise StudyError(
                    f"The folder {store.folder} has {name} but no manifest.json: take another "
                    "folder, or put the manifest back."
                )
        manifest = {
            **{"kind": kept.kind, "definition": kept.definition(), "programs": {}, "sources": {}},
            **{"environment": here, "elsewhere": [], "provenance": provenance()},
        }
        more = kept.grown({})
    else:
        _refuse_another(store, kept, manifest, resume=resume)
        more = kept.grown(manifest)
        store.refuse_elsewhere(manifest, here, elsewhere)
    code = kept.code()
    store.use(digest(manifest["definition"]), code.place, kept.batch())
    names = changed(manifest, code)
    if accept is None and names:
        _refuse_changes(store, kept, manifest, code, names)
    if accept == "same":
        _refuse_other_numbers(store, kept, code, names)
    elif accept == "redo":
        for name in names:
            for path in kept.files_of(store, name):
                store.set_aside(path, "replaced")
    grown = record(manifest, code, names if accept == "redo" else ()) | more
    grown = with_environment(grown, here)
    if canonical(grown) != canonical(manifest):
        store.write_manifest(grown)
    return grown, code


def with_environment(manifest: dict[str, Any], environment: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a study that goes on in some environment too."""
    if environment in (manifest["environment"], *manifest["elsewhere"]):
        return manifest
    return manifest | {"elsewhere": [*manifest["elsewhere"], environment]}


def origin(manifest: dict[str, Any]) -> dict[str, Any]:
    """Where what is in a folder comes from, as attributes."""
    elsewhere = manifest["elsewhere"]
    places = {"elsewhere": canonical(elsewhere)} if elsewhere else {}
    return manifest["provenance"] | manifest["environment"] | places


def _refuse_another(
    store: Store, kept: AbstractKept, manifest: dict[str, Any], *, resume: bool
) -> None:
    """Fail if the folder holds something that is defined otherwise, or shall not go on."""
    if not resume:
        raise StudyError(
            f"The folder {store.folder} holds a {manifest['kind']} already, and resume is off: "
            "take another folder."
        )
    if manifest["kind"] != kept.kind:
        raise StudyError(
            f"The folder {store.folder} holds a {manifest['kind']}: take another folder."
        )
    found = differences(manifest["definition"], kept.definition())
    if found:
        raise StudyError(
            f"The folder {store.folder} holds another {kept.kind}, which differs in "
            f"{'; '.join(found[:4])}: take another folder."
        )


def _refuse_changes(
    store: Store, kept: AbstractKept, manifest: dict[str, Any], code: Code, names: list[str]
) -> None:
    """Fail, with the difference of the sources."""
    diff = source_difference(manifest["sources"], code.sources)
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    raise StudyError(
        f"The folder {store.folder} holds a {kept.kind} whose code has changed, or was written in "
        f"another order: what computes {kept.label(names[0])}{more} is another program. {_REMEDY}"
        + (f"\n{diff}" if diff else " The source that is known is the same: what it reads differs.")
    )


def _refuse_other_numbers(store: Store, kept: AbstractKept, code: Code, names: list[str]) -> None:
    """Compute a file of each program again, once if several share it: the bits must be the same."""
    cannot = f'The folder {store.folder} cannot go on with accept_changes="same": '
    tried: dict[Path, str] = {}
    for name in names:
        there = [path for file in kept.files_of(store, name) for path in store.chunks_in(file)]
        here = next((path for path in there if store.origin(path)[1] == code.place), None)
        if there and here is None:
            label = kept.label(name)
            raise StudyError(f"{cannot}nothing of {label} was computed in this environment.")
        if here is not None:
            tried.setdefault(here, name)
    for path, name in tried.items():
        try:
            parts = store.read_chunk(path)
        except Damaged as damage:
            raise StudyError(f"{cannot}{path} is damaged ({damage}): move it away.") from None
        where = first_difference(*kept.again(path, parts, code))
        if where is not None:
            raise StudyError(f"{cannot}{kept.label(name)} has other numbers now, {where}.")
