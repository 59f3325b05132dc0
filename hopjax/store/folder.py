"""The folder of a study: a manifest, immutable chunk files, a lock, and what was merged from them.

    DIR/manifest.json                  what defines the numbers, and which programs computed them
    DIR/chunks/CELL/000007.npz         one chunk of one cell; 000007-of-40.npz if it has 40 trials
    DIR/chunks/CELL/000000-000063.zip  many of them, where there would be too many files
    DIR/damaged/                       chunk files that could not be read, kept aside
    DIR/replaced/                      those of a program that was changed, likewise
    DIR/result.nc                      the merged dataset, with its checksum in result.sha256
    DIR/lock                           held, by the operating system, while a study runs
    DIR/holder                         who holds it

That of a tuning has the steps so far, DIR/steps.npz, instead of chunks and damaged files.
Every file is written aside and moved into place, so that it is whole or absent.
"""

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hopjax.store.batches import Batches, number_of, singles
from hopjax.store.files import Damaged, StudyError, plainly, replacing, reserve, write_whole
from hopjax.store.identity import differences
from hopjax.store.lock import locked

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 5  # of the folder
_ABOUT = "about.npy"  # in a chunk: what it is, and what computed it
_MANIFEST = {
    **{"kind": str, "definition": dict, "environment": dict, "elsewhere": list},
    **{"programs": dict, "sources": dict, "provenance": dict},
}


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
        self._batch, self._batches = 1, Batches()
        self._single: Counter[tuple[Path, int]] = Counter()  # saved files of a row

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.folder / "manifest.json"

    @property
    def result_path(self) -> Path:
        """Where the merged dataset goes."""
        return self.folder / "result.nc"

    @property
    def checksum_path(self) -> Path:
        """Where its checksum goes, once it is there."""
        return self.result_path.with_suffix(".sha256")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; see `hopjax.store.lock`."""
        with locked(self.folder):
            try:
                yield
            finally:
                self._batches.close()

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
            if not isinstance(manifest.get("view", {}), dict):
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
        write_whole(self.manifest_path, lambda file: file.write(text.encode()))

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

    def use(self, study: str, place: str, batch: int = 1) -> None:
        """Which study the chunks are of, and the environment: they name them.

        `batch` is how many of them shall be in a file; see `hopjax.store.batches`.
        """
        self._study, self._place, self._batch = study, place, batch

    def computed_in(self, place: str) -> None:
        """The environment of the chunks that are saved from now on."""
        self._place = place

    def chunk_path(self, cell: str, index: int, size: int, chunk: int) -> Path:
        """Where a chunk is, or would be; it may be in a batch instead."""
        part = "" if size == chunk else f"-of-{size}"
        return self.folder / "chunks" / cell / f"{index:06d}{part}.npz"

    def numbers(self, path: Path, chunk: int) -> tuple[int, int]:
        """Which chunk a path is of, and how many trials that has."""
        index, _, size = path.stem.partition("-of-")
        return int(index), int(size) if size else chunk

    def has(self, path: Path) -> bool:
        """Whether a chunk, or another file of the folder, is there."""
        with plainly(f"read {path}"):
            return path.exists() or self._batches.of(path) is not None

    def files_of(self, cell: str) -> list[Path]:
        """The files with chunks of a cell."""
        return self._batches.files(self.folder / "chunks" / cell)

    def chunks_of(self, cell: str) -> set[str]:
        """The names of the chunks of a cell that are there, even if a run is at work on them."""
        return self._batches.chunks_of(self.folder / "chunks" / cell)

    def chunks_in(self, file: Path) -> list[Path]:
        """The chunks in a file; none where a batch cannot be read."""
        if file.suffix != ".zip":
            return [file]
        return [file.with_name(name) for name in self._batches.names(file)]

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
        write_whole(path, lambda file: np.savez_compressed(file, **arrays))
        if self._batch > 1:
            row = path.parent, number_of(path.name) // self._batch
            self._single[row] += 1
            if self._single[row] == self._batch:
                self._gather(*row)

    def gather(self) -> None:
        """Put what is left of single files into batches."""
        for cell in (self.folder / "chunks").glob("*") if self._batch > 1 else ():
            for row in sorted({number_of(path.name) // self._batch for path in singles(cell)}):
                self._gather(cell, row)

    def _gather(self, cell: Path, row: int) -> None:
        with plainly(f"write into {cell}"):
            self._batches.gather(cell, row * self._batch, self._batch)

    def _label(self, path: Path) -> str:
        return f"{self._study} {path.relative_to(self.folder)}"

    def origin(self, path: Path) -> tuple[str, str]:
        """The program that computed a chunk, and the environment; empty where it cannot be read."""
        try:
            content = io.BytesIO(self._read(path))  # NumPy leaves a damaged file open
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
        parts: dict[str, dict[str, np.ndarray]] = {}
        with self._chunk(path, programs) as archive:
            for name in archive.namelist():
                if name != _ABOUT:
                    reduction, field = name.removesuffix(".npy").split("/")
                    parts.setdefault(reduction, {})[field] = _array(archive.read(name))
        return parts

    def check_chunk(self, path: Path, programs: Collection[str]) -> None:
        """Refuse what `read_chunk` would, for less than half of the time."""
        with self._chunk(path, programs) as archive:
            if archive.testzip() is not None:
                raise Damaged("its checksum is wrong")

    @contextlib.contextmanager
    def _chunk(self, path: Path, programs: Collection[str] | None) -> Iterator[zipfile.ZipFile]:
        """The arrays of a chunk that says that it is this one; whatever else fails is damage."""
        try:
            with plainly(f"read {path}", (PermissionError,)):
                content = self._read(path)
        except OSError as error:
            raise Damaged(error.strerror) from error
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                label, program, _ = str(_array(archive.read(_ABOUT))).rsplit(" ", 2)
                if label != self._label(path):
                    raise Damaged("it belongs to another study or place")
                if programs is not None and program not in programs:
                    raise Damaged("it was computed by another program")
                yield archive
        except Damaged:
            raise
        except Exception:  # zlib, zipfile and NumPy fail in many ways on changed bytes
            raise Damaged("it is incomplete or overwritten") from None

    def _read(self, path: Path) -> bytes:
        """The file of a chunk, wherever it is."""
        for _ in range(2):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                batch = self._batches.of(path)
                if batch is not None:
                    return self._batches.read(path, batch)
                self._batches.look_again(path.parent)  # another process may have gathered it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def set_aside(self, path: Path, into: str = "damaged") -> Path:
        """Move a damaged or replaced file away, never over another one.

        Of a chunk it is the file that it is in; what else is there is saved in single files.
        """
        folder, batch = self.folder / into, None
        if not path.exists() and (batch := self._batches.of(path)) is not None:
            for other in self.chunks_in(batch):
                with contextlib.suppress(Damaged):
                    content = b"" if other == path else self._batches.read(other, batch)
                    if content and not other.exists():
                        write_whole(other, lambda file, content=content: file.write(content))
            path = batch
        with plainly(f"move {path} into {folder}"):
            folder.mkdir(exist_ok=True)
            stem = f"{path.parent.name}-{path.name}" if path.parent != self.folder else path.name
            number = sum(1 for _ in folder.glob(f"{stem}*"))
            aside = folder / (f"{stem}.{number}" if number else stem)
            self._batches.look_again(path.parent)
            path.rename(aside)
        return aside

    def write_result(self, dataset: "xr.Dataset") -> None:
        """Put the merged dataset and its checksum into place."""
        # The file has a path, as xarray would lock what is in memory between processes of dask.
        with replacing(self.result_path, (OSError, RuntimeError)) as aside:
            reserve(aside, bytes_at_most(dataset))
            dataset.to_netcdf(aside, engine="h5netcdf", format="NETCDF4")
            with aside.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()
        line = f"{checksum}  {self.result_path.name}\n"  # as sha256sum
        write_whole(self.checksum_path, lambda file: file.write(line.encode()))


def _array(content: bytes) -> np.ndarray:
    """What NumPy saved, of any kind but Python's objects."""
    size = 10 + int.from_bytes(content[8:10], "little")
    shape, in_columns, dtype = _header(content[:size])
    if dtype.hasobject:
        raise ValueError
    array = np.frombuffer(content, dtype, offset=size)
    return array.reshape(shape, order="F" if in_columns else "C").copy()


@functools.lru_cache(256)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """What NumPy says of an array: the same of most, and slow to read."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError
    return np.lib.format.read_array_header_1_0(file)


def bytes_at_most(dataset: "xr.Dataset") -> int:
    """More than a file of the dataset has, by little where it is large."""

    def texts(values: Iterable[Any]) -> int:
        return sum(64 + len(str(value).encode()) for value in values)

    size = 2**16 + texts(dataset.attrs.values())
    for variable in dataset.variables.values():
        values = variable.to_numpy()
        size += values.nbytes if values.dtype.kind in "biufc" else texts(values.ravel().tolist())
        size += 2**12 + texts(variable.attrs.values())
    return size
