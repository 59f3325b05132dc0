"""The folder of a study: a manifest, immutable chunk files, a lock, and what was merged from them.

    DIR/manifest.json            what defines the numbers, and which programs computed them where
    DIR/chunks/CELL/000007.npz   one chunk of one cell; 000007-of-40.npz if it has 40 trials only
    DIR/damaged/                 chunk files that could not be read, kept aside
    DIR/replaced/                those of a program that was changed, likewise
    DIR/result.nc                the merged dataset, with its checksum in result.sha256
    DIR/lock                     held, by the operating system, while a study runs

That of a tuning has the steps so far, DIR/steps.npz, instead of chunks and damaged files.
Every file is written aside and moved into place, so that it is whole or absent.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import secrets
import socket
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hopjax.store.identity import differences

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 4  # of the folder
_MANIFEST = {
    **{"kind": str, "definition": dict, "environment": dict, "elsewhere": list},
    **{"programs": dict, "sources": dict, "provenance": dict},
}


class StudyError(RuntimeError):
    """A study cannot go on, for a reason outside its own definition; nothing was destroyed."""


class Damaged(Exception):
    """A chunk file cannot be trusted."""


@contextlib.contextmanager
def _plainly(doing: str, kind: type[OSError] = OSError) -> Iterator[None]:
    """What the operating system refuses, as one line."""
    try:
        yield
    except kind as error:
        reason = error.strerror or str(error)
        raise StudyError(f"Cannot {doing}: {reason}.") from error


@contextlib.contextmanager
def _closing(file: Any) -> Iterator[None]:
    """Close a file whatever is still to be written to it."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.close()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_programs(value: dict[str, Any]) -> bool:
    """Whether this is {program: {environment: [digests]}}."""
    return all(
        isinstance(known, dict)
        and all(isinstance(digests, list) for digests in known.values())
        and all(isinstance(each, str) for digests in known.values() for each in digests)
        for known in value.values()
    )


class Store:
    """The folder of one study."""

    def __init__(self, folder: Path):
        """Name the folder; nothing is touched."""
        self.folder = folder
        self._study = self._place = ""

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.folder / "manifest.json"

    @property
    def result_path(self) -> Path:
        """Where the merged dataset goes."""
        return self.folder / "result.nc"

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Make the folder if need be and hold its lock, which vanishes with this process.

        Gives a token of this run, not 0, by which other processes of it know that it goes on.
        """
        with _plainly(f"make the folder {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _plainly(f"write into the folder {self.folder}"):
            lock = (self.folder / "lock").open("a+", buffering=1)
        with _closing(lock):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise StudyError(
                    f"The folder {self.folder} is in use by {holder}: wait for it, or take another "
                    "folder."
                ) from None
            token = 1 + secrets.randbelow(2**32 - 1)
            with _plainly(f"write into the folder {self.folder}"):
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {socket.gethostname()}, run {token}\n")
                lock.flush()
                for pattern in (".*.tmp", "chunks/*/.*.npz.*.tmp"):  # of a run that was killed
                    for stale in self.folder.glob(pattern):
                        stale.unlink()
            yield token
            lock.truncate(0)  # says that all went well; closing the file gives the lock back

    def in_use(self, token: int) -> bool:
        """Whether the run with this token has not ended yet."""
        with _plainly(f"read {self.folder / 'lock'}"):
            return f"run {token}\n" in (self.folder / "lock").read_text()

    def write_failure(self, token: int, process: int, error: Exception) -> None:
        """Tell the first process that another one has failed."""
        with contextlib.suppress(OSError):
            (self.folder / f".failure.{token}.{process}.tmp").write_text(f"{error}")

    def raise_failure(self, token: int) -> None:
        """Fail if another process has."""
        for path in self.folder.glob(f".failure.{token}.*.tmp"):
            raise StudyError(f"Process {path.name.split('.')[3]} failed: {path.read_text()}")

    def read_manifest(self) -> dict[str, Any] | None:
        """The manifest; None if there is none yet."""
        try:
            text = self.manifest_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StudyError(f"Cannot read {self.manifest_path}: {error.strerror}.") from error
        except UnicodeDecodeError:
            text = ""
        try:
            manifest = json.loads(text)
            if not isinstance(manifest, dict):
                raise ValueError
            written = manifest["format"]
            if isinstance(written, int) and written != FORMAT:
                raise StudyError(
                    f"The folder {self.folder} was written in the format {written} of another "
                    f"version of hopjax, and this one reads {FORMAT}: take another folder."
                )
            if written != FORMAT:
                raise ValueError
            for name, kind in _MANIFEST.items():
                if not isinstance(manifest[name], kind):
                    raise ValueError
            if not isinstance(manifest.get("cells", []), list):
                raise ValueError
            texts = manifest["sources"].values()
            if not _are_programs(manifest["programs"]) or not all(map(_is_text, texts)):
                raise ValueError
            return manifest
        except (ValueError, KeyError, RecursionError):
            raise StudyError(
                f"{self.manifest_path} is not the manifest of a study that this version can read: "
                "take another folder."
            ) from None

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write or replace it."""
        text = json.dumps({"format": FORMAT} | manifest, indent=1, ensure_ascii=False) + "\n"
        self._write(self.manifest_path, lambda file: file.write(text.encode()))

    def refuse_elsewhere(
        self, manifest: dict[str, Any], here: dict[str, Any], allowed: bool
    ) -> None:
        """Fail if it was begun in another environment, unless that is allowed."""
        moved = differences(manifest["environment"], here)
        if moved and not allowed:
            raise StudyError(
                f"What is in {self.folder} was begun elsewhere: it differs in "
                f"{'; '.join(moved[:4])}. Allow it by elsewhere=True (--elsewhere): the last "
                "digits of its numbers will then not be those of one machine."
            )

    def use(self, study: str, place: str) -> None:
        """Which study the chunks are of, and the environment: they name them."""
        self._study, self._place = study, place

    def chunk_path(self, cell: str, index: int, size: int, chunk: int) -> Path:
        """Where a chunk is, or would be."""
        part = "" if size == chunk else f"-of-{size}"
        return self.folder / "chunks" / cell / f"{index:06d}{part}.npz"

    def has(self, path: Path) -> bool:
        """Whether a file of the folder is there."""
        with _plainly(f"read {path}"):
            return path.exists()

    def numbers(self, path: Path, chunk: int) -> tuple[int, int]:
        """Which chunk a file has, and how many trials that has."""
        index, _, size = path.stem.partition("-of-")
        return int(index), int(size) if size else chunk

    def write_chunk(
        self, path: Path, parts: dict[str, dict[str, np.ndarray]], program: str
    ) -> None:
        """Save a chunk, which names the program that computed it."""
        arrays: dict[str, Any] = {
            f"{name}/{field}": values
            for name, part in parts.items()
            for field, values in part.items()
        }
        arrays["about"] = np.array(f"{self._label(path)} {program} {self._place}")
        self._write(path, lambda file: np.savez_compressed(file, **arrays))

    def _label(self, path: Path) -> str:
        return f"{self._study} {path.relative_to(self.folder)}"

    def origin(self, path: Path) -> tuple[str, str]:
        """The program that computed a chunk, and the environment; empty where it cannot be read."""
        try:
            content = io.BytesIO(path.read_bytes())  # NumPy leaves a damaged file open
            with np.load(content, allow_pickle=False) as arrays:
                *_, program, place = str(arrays["about"]).split(" ")
        except Exception:  # as in `read_chunk`
            return "", ""
        return program, place

    def read_chunk(
        self, path: Path, programs: Collection[str] | None = None
    ) -> dict[str, dict[str, np.ndarray]]:
        """A chunk that is there, computed by one of these programs.

        Raises:
            Damaged: if it is not what was written, or was computed by another program.
        """
        try:
            with _plainly(f"read {path}", PermissionError):
                content = path.read_bytes()
        except OSError as error:
            raise Damaged(error.strerror) from error
        parts: dict[str, dict[str, np.ndarray]] = {}
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if archive.testzip() is not None:
                    raise Damaged("its checksum is wrong")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                label, program, _ = str(arrays["about"]).rsplit(" ", 2)
                if label != self._label(path):
                    raise Damaged("it belongs to another study or place")
                if programs is not None and program not in programs:
                    raise Damaged("it was computed by another program")
                for name in arrays.files:
                    if name != "about":
                        reduction, field = name.split("/")
                        parts.setdefault(reduction, {})[field] = arrays[name]
        except Damaged:
            raise
        except Exception:  # zlib, zipfile and NumPy fail in many ways on changed bytes
            raise Damaged("it is incomplete or overwritten") from None
        return parts

    def set_aside(self, path: Path, into: str = "damaged") -> Path:
        """Move a damaged or replaced file away, never over another one."""
        folder = self.folder / into
        with _plainly(f"move {path} into {folder}"):
            folder.mkdir(exist_ok=True)
            stem = f"{path.parent.name}-{path.name}" if path.parent != self.folder else path.name
            number = sum(1 for _ in folder.glob(f"{stem}*"))
            aside = folder / (f"{stem}.{number}" if number else stem)
            path.rename(aside)
        return aside

    def write_result(self, dataset: "xr.Dataset") -> None:
        """Put the merged dataset and its checksum into place."""
        content = bytes(dataset.to_netcdf(engine="h5netcdf", format="NETCDF4"))
        self._write(self.result_path, lambda file: file.write(content))
        line = f"{hashlib.sha256(content).hexdigest()}  {self.result_path.name}\n"  # as sha256sum
        self._write(self.folder / "result.sha256", lambda file: file.write(line.encode()))

    def _write(self, path: Path, write: Callable[[Any], Any]) -> None:
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with _plainly(f"save {path} (all chunks that were finished before are safe)"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with aside.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)
