"""A study's folder: damage, full disks, locks, kills, devices and processes."""

import errno
import hashlib
import io
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small_study
import xarray as xr
from conftest import ROOT
from processes import starting, wait, wait_for
from small_study import study

import hopjax as hj
from hopjax.store.files import Damaged
from hopjax.store.folder import Store, bytes_at_most


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a study; not to be changed."""
    folder = tmp_path_factory.mktemp("store") / "saved"
    study().run(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(saved):
    return hj.load_study(saved)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / "study"))


def files(folder: Path, pattern: str = "**/*") -> dict[Path, tuple[Any, ...]]:
    """What is in a folder, and which files these are; without the lock."""
    return {
        path.relative_to(folder): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob(pattern)
        if path.is_file() and path.name != "lock"
    }


def chunks(folder: Path) -> list[Path]:
    return sorted(folder.glob("chunks/*/*.npz"))


def assert_refused(folder: Path, match: str, **settings: Any) -> None:
    """In one line, and nothing in the folder is touched."""
    before = files(folder)
    with pytest.raises(hj.StudyError, match=match) as error:
        study().run(folder, **settings)
    assert "\n" not in str(error.value)
    assert files(folder) == before


# Damage.


def flip(content: bytes, place: int, bits: int = 0xFF) -> bytes:
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


def in_the_data(content: bytes) -> int:
    """A place in the middle of what the first array of a zip file was packed to."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return len(content) // 3
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
    lengths = np.frombuffer(content[first.header_offset + 26 : first.header_offset + 30], "<u2")
    return first.header_offset + 30 + int(lengths.sum()) + first.compress_size // 2


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "all but one": lambda content: content[:-1],
    "garbage": lambda content: b"garbage " * 100,
    "a pickle": lambda content: b"\x80\x04N.",
    "in the data": lambda content: flip(content, in_the_data(content)),
    "marked encrypted": lambda content: flip(content, content.index(b"PK\x01\x02") + 8, 1),
    "zeroed": lambda content: bytes(len(content)),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_is_named_kept_and_computed_again(folder, dataset, damage):
    path = chunks(folder)[7]
    bad = DAMAGES[damage](path.read_bytes())
    path.write_bytes(bad)
    before = files(folder)
    with pytest.warns(UserWarning, match=f"{path} is damaged") as record:
        found = study().run(folder)
    assert len(record) == 1
    xr.testing.assert_identical(found, dataset)
    (aside,) = (folder / "damaged").iterdir()
    assert aside.read_bytes() == bad
    assert str(aside) in str(record[0].message)
    after = files(folder, "chunks/**/*")
    assert {name for name in after if after[name] != before[name]} == {path.relative_to(folder)}


@pytest.mark.slow
def test_chunks_in_another_place_are_damaged_and_none_is_lost(folder, dataset, tmp_path):
    one, other, *_ = (path for path in chunks(folder) if path.name == "000000.npz")
    shutil.copy(other, one)  # of another cell
    shutil.copy(other, other.with_name("000001.npz"))
    elsewhere = tmp_path / "other"
    study(key=jax.random.key(6)).run(elsewhere)
    partial = next(path for path in chunks(folder) if "of" in path.name)
    shutil.copy(elsewhere / partial.relative_to(folder), partial)  # of another study
    with pytest.warns(UserWarning, match="belongs to another study or place") as record:
        found = study().run(folder)
    assert len(record) == 3
    xr.testing.assert_identical(found, dataset)
    # The same ones again: what was kept before stays.
    shutil.copy(other, one)
    with pytest.warns(UserWarning, match="is damaged"):
        study().run(folder)
    assert len(list((folder / "damaged").iterdir())) == 4


def as_arrays(parts: dict[str, dict[str, np.ndarray]]) -> dict[tuple[str, str], bytes]:
    return {
        (name, field): values.tobytes()
        for name, part in parts.items()
        for field, values in part.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.long)])
def test_no_change_of_a_byte_and_no_truncation_goes_unnoticed(folder, stride):
    path = chunks(folder)[0]
    store = Store(folder)
    store.use(about(path).split()[0], "")
    content, right = path.read_bytes(), as_arrays(store.read_chunk(path))
    damaged = 0
    changed = [flip(content, place, 1 + place % 255) for place in range(0, len(content), stride)]
    cut = [content[:length] for length in range(0, len(content), stride)]
    for number, bad in enumerate(changed + cut):
        path.write_bytes(bad)
        try:
            found = as_arrays(store.read_chunk(path))
        except Damaged:
            damaged += 1
        else:  # a time stamp, say
            assert number < len(changed)
            assert found == right
    assert damaged >= len(cut) + len(changed) / 4


def about(path: Path) -> str:
    with np.load(path) as arrays:
        return str(arrays["about"])


@pytest.mark.slow
def test_chunks_name_their_study_and_place(folder):
    texts = [about(path).split() for path in chunks(folder)]
    assert len({(study, *origin) for study, _, *origin in texts}) == 1
    assert [folder / place for _, place, *_ in texts] == chunks(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"3",
        b"{}",
        b'{"format": "5"}',
        b'{"format": 5}',
        b'{"format": 5, "kind": "study", "definition": {}, "cells": 5, "environment": {}, '
        b'"elsewhere": [], "programs": {}, "sources": {}, "provenance": {}}',
        b'{"format": 5, "kind": "study", "definition": {}, "environment": {}, "elsewhere": [], '
        b'"programs": {"a": {"b": 3}}, "sources": {}, "provenance": {}}',
        b'{"format": 5, "kind": "study", "definition": {}, "environment": {}, "elsewhere": [], '
        b'"programs": {}, "sources": {"a": 3}, "provenance": {}}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    assert_refused(folder, r"manifest\.json is not the manifest of a study|holds another study")


def test_chunks_without_a_manifest_are_refused(folder):
    (folder / "manifest.json").unlink()
    assert_refused(folder, r"has chunks but no manifest\.json")


@pytest.mark.slow
def test_what_a_killed_run_left_aside_is_removed_and_what_is_not_ours_stays(folder, dataset):
    stale = [
        folder / ".manifest.json.123.tmp",
        folder / ".result.123.tmp",
        chunks(folder)[0].with_name(".000000.npz.123.tmp"),
    ]
    foreign = [folder / "notes" / ".draft.tmp", folder / "notes" / "draft.tmp", folder / "a.tmp"]
    foreign[0].parent.mkdir()
    for path in stale + foreign:
        path.write_bytes(b"half")
    xr.testing.assert_identical(study().run(folder), dataset)
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in foreign)


@pytest.mark.slow
def test_a_lost_result_is_merged_anew(folder, dataset):
    before = files(folder, "chunks/**/*")
    (folder / "result.nc").unlink()
    with pytest.raises(hj.StudyError, match=r"result\.nc does not exist: run the study"):
        hj.load_study(folder)
    study().run(folder)
    xr.testing.assert_identical(hj.load_study(folder), dataset)
    assert files(folder, "chunks/**/*") == before


# h5netcdf's half-opened files complain while they are taken away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", list(DAMAGES)[:5])
def test_a_truncated_result_is_refused(folder, damage):
    path = folder / "result.nc"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(hj.StudyError, match=r"Cannot read .*result\.nc") as error:
        hj.load_study(folder)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_result_with_a_changed_byte_is_refused_or_the_same(folder, dataset):
    path = folder / "result.nc"
    content = path.read_bytes()
    refused = 0
    for place in random.Random(0).sample(range(len(content)), 25):
        path.write_bytes(flip(content, place))
        try:
            found = hj.load_study(folder)
        except hj.StudyError:
            refused += 1
        else:
            xr.testing.assert_identical(found, dataset)
    assert refused > 0


# Disks that are full or not to be written.


def run_out(monkeypatch, function: str, module: Any, calls: int) -> None:
    """Make the disk full after so many calls of a function."""
    original, left = getattr(module, function), [calls]

    def limited(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **kwargs)

    monkeypatch.setattr(module, function, limited)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "function", "calls"),
    [(os, "fsync", 0), (os, "fsync", 6), (np, "savez_compressed", 5)],
)
def test_a_full_disk_stops_the_study_in_one_line_and_it_goes_on_later(
    tmp_path, monkeypatch, dataset, module, function, calls
):
    folder = tmp_path / "study"
    with monkeypatch.context() as patch:
        run_out(patch, function, module, calls)
        with pytest.raises(hj.StudyError, match=r"Cannot save .*: No space left on") as error:
            study().run(folder)
    assert "\n" not in str(error.value)
    before = files(folder)
    assert len(chunks(folder)) == max(calls - (module is os), 0)
    assert not list(folder.rglob("*.tmp"))
    xr.testing.assert_identical(study().run(folder), dataset)
    assert all(files(folder)[name] == before[name] for name in before if name.suffix == ".npz")


def test_a_result_has_the_same_bytes_whenever_it_is_written_and_a_path(
    folder, dataset, monkeypatch
):
    path, written = folder / "result.nc", []
    original = xr.Dataset.to_netcdf

    def recorded(self: xr.Dataset, place: Any = None, **options: Any) -> Any:
        written.append(place)
        return original(self, place, **options)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", recorded)
    before = path.read_bytes(), (folder / "result.sha256").read_text()
    Store(folder).write_result(dataset)
    # In memory xarray would ask for a lock that processes of dask do not have.
    (place,) = written
    assert isinstance(place, Path)
    assert place.parent == folder
    assert (path.read_bytes(), (folder / "result.sha256").read_text()) == before
    assert before[1].split() == [hashlib.sha256(before[0]).hexdigest(), "result.nc"]


def test_the_room_for_a_result_is_enough_and_not_much_more(tmp_path, dataset):
    texts = np.array(["a" * 1000, "ä", ""] * 200, object)
    small = xr.Dataset({"texts": ("x", texts)}, attrs={"long": "word " * 5000})
    large = xr.Dataset({name: ("x", np.arange(100_000.0)) for name in "abc"})
    for number, each in enumerate((dataset, small, large)):
        path = tmp_path / f"{number}.nc"
        each.to_netcdf(path, engine="h5netcdf")
        size = path.stat().st_size
        assert size <= bytes_at_most(each) <= max(1.1 * size, size + 2**19)


@pytest.mark.parametrize("size", [10_000, 100_000])
def test_a_result_that_has_no_room_is_one_line_and_the_old_one_stays(folder, dataset, size):
    before = files(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(hj.StudyError, match=r"^Cannot save .*result\.nc .*: File too large\.$"):
            Store(folder).write_result(dataset)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(folder) == before
    assert not list(folder.rglob("*.tmp"))


def test_what_hdf5_says_of_a_full_disk_is_one_line(folder, dataset, monkeypatch):
    def full(*_args: Any, **_options: Any) -> None:
        raise RuntimeError(
            "Can't decrement id ref count (unable to extend file properly, errno = 28, error "
            "message = 'No space left on device')"
        )

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    before = files(folder)
    with pytest.raises(hj.StudyError, match=r"^Cannot save .*: No space left on device\.$"):
        Store(folder).write_result(dataset)
    assert files(folder) == before


def test_a_folder_that_cannot_be_made_or_written(tmp_path, folder, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(hj.StudyError, match=f"Cannot make the folder {path}: "):
            study().run(path)
    (folder / "lock").unlink()
    (folder / "lock").mkdir()
    assert_refused(folder, f"Cannot write into the folder {folder}: Is a directory")
    original = Path.open

    def read_only(path, mode="r", *args, **kwargs):
        if mode[0] != "r" and path.is_relative_to(folder):
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))
        return original(path, mode, *args, **kwargs)

    (folder / "lock").rmdir()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        with pytest.raises(hj.StudyError, match=r"Cannot write into .*: Read-only file system\.$"):
            study().run(folder)


@pytest.mark.slow
def test_a_chunk_that_may_not_be_read_is_refused_and_stays(folder, monkeypatch):
    path, original = chunks(folder)[3], Path.read_bytes

    def closed(self):
        if self == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", closed)
        with pytest.raises(hj.StudyError, match=f"Cannot read {path}: Permission denied"):
            study().run(folder)
    assert path.exists()
    assert not (folder / "damaged").exists()


@pytest.mark.slow
def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = tmp_path / "study"
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with (
            pytest.raises(hj.StudyError, match=r"^Cannot write into the folder .*: File too large"),
            Store(folder).locked(),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    study().run(folder)


# Other processes. They are forked from one that has hopjax imported already.


@pytest.fixture(scope="module")
def start():
    """Start a function of `small_study` in a process of its own."""
    with starting("small_study", PYTHONHASHSEED="77") as start:  # another one than here
        yield start


@pytest.mark.slow
def test_a_folder_in_use_is_refused_until_its_holder_is_gone_however_it_ends(
    folder, dataset, start, tmp_path
):
    ready = tmp_path / "ready"
    process = start(small_study.hold, folder, ready)
    wait_for(ready.exists)
    holder = f"process {process.pid} on {socket.gethostname()} since "
    day = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert_refused(folder, f"is in use by {holder}{day}: wait for it, or take another folder")
    assert (folder / "holder").read_text().startswith(holder)
    process.kill()
    assert wait(process) == -signal.SIGKILL
    xr.testing.assert_identical(study().run(folder), dataset)
    assert not (folder / "holder").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_refused(folder, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def no_lock(*_args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    assert_refused(folder, f"on a file system without locks .{os.strerror(number)}.*: take a")


def test_a_folder_is_held_once_in_a_process_too(folder):
    with Store(folder).locked():
        assert_refused(folder, f"is in use by process {os.getpid()} on ")
    with Store(folder).locked():
        pass


# As on Windows: hopjax asks filelock, which has other means there.
WITHOUT_FCNTL = """
    import sys

    import filelock

    filelock.FileLock  # which has its own means, here that of Unix
    sys.modules["fcntl"] = None
    import small_study

    sweep = {"noise": [0.5], "weights": [(6.0, 0.5)], "lost": [0.0]}
    dataset = small_study.study(sweep).run("study")
    print(dataset.sizes["trial"])
"""


@pytest.mark.slow
def test_nothing_but_the_lock_needs_fcntl(tmp_path):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_FCNTL)],
        env=os.environ | {"PYTHONPATH": paths, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "10\n"), result.stderr


@pytest.mark.long
@pytest.mark.parametrize("limit", [2000, 20_000])
def test_the_system_refuses_to_write_a_file(start, folder, tmp_path, dataset, limit):
    if limit < 3000:  # chunks or the result
        shutil.rmtree(next((folder / "chunks").iterdir()))
    (folder / "result.nc").unlink()
    before, output = files(folder), tmp_path / "output"
    process = start(small_study.run, folder, 10, 1, output, 0.0, limit)
    assert wait(process) == 2
    what = r"\.npz|manifest\.json" if limit < 3000 else r"result\.nc"
    assert re.fullmatch(rf"Cannot (save|write) \S*({what})[: ].*\n", output.read_text())
    after = files(folder)
    assert all(after[name][0] == before[name][0] for name in before)
    assert not list(folder.rglob("*.tmp"))
    xr.testing.assert_identical(study().run(folder), dataset)


def kill_and_go_on(start: Any, folder: Path, numbers: list[int]) -> None:
    """Kill the study each time it has so many chunks, at a random moment of the next ones."""
    luck = random.Random(3)
    for number in numbers:
        before = files(folder, "chunks/*/*.npz")
        process = start(small_study.run, folder, 40, 1, folder.with_suffix(".txt"), 0.02)
        wait_for(lambda number=number: len(chunks(folder)) >= number)
        time.sleep(0.03 * luck.random())
        process.kill()
        assert wait(process) == -signal.SIGKILL
        assert not (folder / "result.nc").exists()
        after = files(folder, "chunks/*/*.npz")
        assert number <= len(after) <= 60
        assert all(after[name] == before[name] for name in before)
    last = files(folder, "chunks/*/*.npz")
    found = study(trials=40).run(folder)
    assert all(files(folder)[name] == last[name] for name in last)
    assert not list(folder.rglob("*.tmp"))
    assert len(chunks(folder)) == 60
    # Here two devices, there one; and one that was never interrupted.
    xr.testing.assert_identical(found, study(trials=40).run())
    xr.testing.assert_identical(hj.load_study(folder), found)


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_to_the_same_numbers(start, tmp_path):
    kill_and_go_on(start, tmp_path / "study", [1, 20])


@pytest.mark.long
def test_a_study_that_is_killed_twenty_times_goes_on_to_the_same_numbers(start, tmp_path):
    kill_and_go_on(start, tmp_path / "study", [1 + 50 * i // 19 for i in range(20)])


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_any_number_of_devices_writes_the_same_file(start, tmp_path, saved, devices):
    folder = tmp_path / "study"
    process = start(small_study.run, folder, 10, devices, tmp_path / "output")
    assert wait(process, 120) == 0
    assert (folder / "result.nc").read_bytes() == (saved / "result.nc").read_bytes()
