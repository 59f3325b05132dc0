"""Chunk files of a cell, gathered into batches where there would be too many files.

A chunk is saved in a file of its own, so that none waits for others. Once all chunks of a row are
there, their files are put, byte for byte, into one zip file, chunks/CELL/000000-000063.zip, and
taken away. A folder that was left in between has some chunks twice, which are the same.
"""

import math
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

from hopjax.store.files import Damaged, write_whole

_BATCHES = "[0-9]*-[0-9]*.zip"  # what they are called
_CHUNK = re.compile(r"(\d+)(-of-\d+)?\.npz")
MOST_FILES = 4096  # that a study may have, but for one of each cell


def batch_size(chunks: int) -> int:
    """How many chunks a file has, in a study of so many: a power of two, 1 for no batches."""
    return 1 if chunks <= MOST_FILES else 2 ** math.ceil(math.log2(2 * chunks / MOST_FILES))


def number_of(name: str) -> int:
    """Which chunk of its cell a file has."""
    found = _CHUNK.fullmatch(name)
    assert found is not None
    return int(found[1])


def singles(cell: Path) -> list[Path]:
    """The chunks of a cell that have a file of their own."""
    return [path for path in cell.glob("*.npz") if _CHUNK.fullmatch(path.name)]


class _Listed(NamedTuple):
    """The batches of a cell: of each the chunks in it, and of each chunk the batch."""

    names: dict[Path, list[str]]
    holders: dict[str, Path]


class Batches:
    """Which chunks of a folder are in batches, and what is in them.

    One batch is kept open, as chunks are read in their order.
    """

    def __init__(self):
        """Nothing is looked at yet."""
        self._known: dict[Path, _Listed] = {}
        self._open: zipfile.ZipFile | None = None

    def of(self, path: Path) -> Path | None:
        """The batch that a chunk is in."""
        return self._in_cell(path.parent).holders.get(path.name)

    def chunks_of(self, cell: Path) -> set[str]:
        """The names of the chunks of a cell that are there now, single or not."""
        # Single files first: they are taken away after the batch that they went into is there.
        names = {path.name for path in singles(cell)}
        self.look_again(cell)
        return names.union(self._in_cell(cell).holders)

    def names(self, batch: Path) -> list[str]:
        """The chunks in a batch; none if it cannot be read."""
        return self._in_cell(batch.parent).names.get(batch, [])

    def read(self, path: Path, batch: Path) -> bytes:
        """The file of a chunk.

        Raises:
            Damaged: if its checksum is wrong.
        """
        try:
            return self._opened(batch).read(path.name)
        except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
            raise Damaged(f"in {batch.name}: {error}") from None

    def look_again(self, cell: Path) -> None:
        """Forget what was known of a cell."""
        self._known.pop(cell, None)
        self.close()

    def close(self) -> None:
        """Let go of the batch that is open, which Windows would not let anyone move."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def gather(self, cell: Path, first: int, size: int) -> None:
        """Put the chunks of a row, `size` of them from `first` on, into one batch.

        Single files of these chunks, and batches that hold nothing else, are then taken away.
        """
        row, listed = range(first, first + size), self._in_cell(cell)
        old = [path for path in singles(cell) if number_of(path.name) in row]
        names = {path.name for path in old}
        for batch, inside in listed.names.items():
            if inside and all(number_of(inside[end]) in row for end in (0, -1)):  # in their order
                old.append(batch)
                names.update(inside)
        if len(old) < 2:
            return
        inside = sorted(names, key=lambda name: (number_of(name), name))
        new = cell / f"{number_of(inside[0]):06d}-{number_of(inside[-1]):06d}.zip"
        try:
            write_whole(new, lambda file: self._pack(file, [cell / name for name in inside]))
        except Damaged:  # which the next run will set aside
            return
        for path in {*old} - {new}:
            listed.names.pop(path, None)
            path.unlink()
        listed.names[new] = inside
        listed.holders.update(dict.fromkeys(inside, new))

    def _pack(self, file: IO[bytes], paths: Iterable[Path]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for path in paths:
                batch = None if path.exists() else self.of(path)
                content = path.read_bytes() if batch is None else self.read(path, batch)
                archive.writestr(zipfile.ZipInfo(path.name), content)
        self.close()

    def _in_cell(self, cell: Path) -> _Listed:
        if cell not in self._known:
            names = {batch: self._list(batch) for batch in sorted(cell.glob(_BATCHES))}
            holders = {name: batch for batch, inside in names.items() for name in inside}
            self._known[cell] = _Listed(names, holders)
        return self._known[cell]

    def files(self, cell: Path) -> list[Path]:
        """The files with chunks of a cell; batches that cannot be read too."""
        return sorted([*singles(cell), *self._in_cell(cell).names])

    def _list(self, batch: Path) -> list[str]:
        try:
            names = self._opened(batch).namelist()
        except (OSError, zipfile.BadZipFile, NotImplementedError):
            return []
        # Of a batch that was cut off one may find the end of a chunk, which is a zip file too.
        return names if all(map(_CHUNK.fullmatch, names)) else []

    def _opened(self, batch: Path) -> zipfile.ZipFile:
        if self._open is None or self._open.filename != str(batch):
            self.close()
            self._open = zipfile.ZipFile(batch)
        return self._open
