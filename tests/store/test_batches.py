"""Chunk files in batches: fewer files, and no chunk lost on the way."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_study import study

from hopjax.store import batches
from hopjax.store.batches import batch_size
from hopjax.store.files import Damaged
from hopjax.store.folder import Store

ROW = 4


def opened(folder: Path, batch: int = ROW) -> Store:
    store = Store(folder)
    store.use("study", "place", batch)
    return store


def parts(cell: str, index: int) -> dict[str, dict[str, np.ndarray]]:
    numbers = np.random.default_rng([index, *cell.encode()]).normal(size=5)
    return {"ending": {"passage": numbers, "outcome": np.arange(index)}}


def place(store: Store, cell: str, index: int) -> Path:
    return store.chunk_path(cell, index, 8, 8)


def write(store: Store, cell: str, *indices: int) -> None:
    for index in indices:
        store.write_chunk(place(store, cell, index), parts(cell, index), "program")


def names(folder: Path) -> list[str]:
    return sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("chunks/*/*"))


def assert_there(store: Store, cell: str, *indices: int) -> None:
    for index in indices:
        path = place(store, cell, index)
        assert store.has(path)
        assert store.origin(path) == ("program", "place")
        found, right = store.read_chunk(path, ["program"]), parts(cell, index)
        assert found.keys() == right.keys()
        for name, values in right["ending"].items():
            np.testing.assert_array_equal(found["ending"][name], values)


@pytest.mark.parametrize(
    ("chunks", "size"), [(1, 1), (4096, 1), (4097, 4), (8192, 4), (8193, 8), (100_000, 64)]
)
def test_files_are_some_thousands_at_most(chunks, size):
    assert batch_size(chunks) == size
    assert chunks / size <= 4096
    assert size == 1 or chunks / size > 1000


def test_a_row_is_gathered_once_it_is_whole_in_whatever_order(tmp_path):
    store = opened(tmp_path)
    write(store, "a", 6, 0, 2, 1)
    assert names(tmp_path) == [f"a/{i:06d}.npz" for i in (0, 1, 2, 6)]
    write(store, "a", 3)
    assert names(tmp_path) == ["a/000000-000003.zip", "a/000006.npz"]
    write(store, "b", 3)
    store.gather()
    assert names(tmp_path) == ["a/000000-000003.zip", "a/000006.npz", "b/000003.npz"]
    for each in (store, opened(tmp_path)):
        assert_there(each, "a", 0, 1, 2, 3, 6)
        assert not each.has(place(each, "a", 4))
        assert not each.has(place(each, "b", 0))
        with pytest.raises(Damaged):
            each.read_chunk(place(each, "a", 4))


def test_what_others_put_there_stays_where_it_is(tmp_path):
    store = opened(tmp_path)
    write(store, "a", 0, 1, 2)
    foreign = [tmp_path / "chunks" / "a" / name for name in ("0 notes.npz", "mine.npz", "1-2.zip")]
    for path in foreign:
        path.write_text("no chunk")
    write(store, "a", 3)
    store.gather()
    assert all(path.read_text() == "no chunk" for path in foreign)
    assert_there(opened(tmp_path), "a", *range(ROW))


def test_what_is_in_a_batch_is_byte_for_byte_what_was_saved(tmp_path):
    single, store = opened(tmp_path / "single", 1), opened(tmp_path / "batches")
    for each in (single, store):
        write(each, "a", *range(ROW))
    with zipfile.ZipFile(tmp_path / "batches" / "chunks" / "a" / "000000-000003.zip") as archive:
        for path in single.files_of("a"):
            assert archive.read(path.name) == path.read_bytes()


def test_what_is_left_over_is_gathered_at_the_end_and_grows(tmp_path):
    store = opened(tmp_path)
    write(store, "a", *range(6))
    last = store.chunk_path("a", 6, 3, 8)
    store.write_chunk(last, parts("a", 6), "program")
    store.gather()
    assert names(tmp_path) == ["a/000000-000003.zip", "a/000004-000006.zip"]
    # More trials later: the partial chunk stays for whoever asks for fewer again.
    store = opened(tmp_path)
    write(store, "a", 6, 7)
    store.gather()
    assert names(tmp_path) == ["a/000000-000003.zip", "a/000004-000007.zip"]
    assert store.has(last)
    assert [path.name for path in store.chunks_in(store.files_of("a")[1])] == [
        *("000004.npz", "000005.npz", "000006-of-3.npz", "000006.npz", "000007.npz")
    ]
    # A study of more chunks has larger rows, one of fewer takes them as they are.
    write(store, "a", 8)
    larger = opened(tmp_path, 16)
    larger.gather()
    assert names(tmp_path) == ["a/000000-000008.zip"]
    smaller = opened(tmp_path, 2)
    write(smaller, "a", 9)
    smaller.gather()
    assert names(tmp_path) == ["a/000000-000008.zip", "a/000009.npz"]
    assert_there(smaller, "a", *range(10))


def test_a_run_that_is_killed_between_batch_and_singles_leaves_what_the_next_one_tidies(tmp_path):
    store = opened(tmp_path)
    write(store, "a", 0, 1, 2)
    shutil.copytree(tmp_path / "chunks" / "a", tmp_path / "kept")
    write(store, "a", 3)
    shutil.copytree(tmp_path / "kept", tmp_path / "chunks" / "a", dirs_exist_ok=True)
    store = opened(tmp_path)
    assert_there(store, "a", *range(4))
    store.gather()
    assert names(tmp_path) == ["a/000000-000003.zip"]
    assert_there(store, "a", *range(4))


def test_a_reader_follows_chunks_that_are_gathered_meanwhile(tmp_path):
    store, reader = opened(tmp_path), opened(tmp_path)
    write(store, "a", 0, 1, 2)
    assert_there(reader, "a", 0, 1, 2)
    assert not reader.has(place(reader, "a", 3))
    write(store, "a", 3)
    assert reader.read_chunk(place(reader, "a", 3))
    assert_there(reader, "a", *range(ROW))
    assert reader.chunks_of("b") == set()


def test_what_is_there_is_what_is_there_now(tmp_path):
    store, reader = opened(tmp_path), opened(tmp_path)
    for number in range(ROW + 1):
        write(store, "a", number)
        assert reader.chunks_of("a") == {f"{index:06d}.npz" for index in range(number + 1)}


def damage(batch: Path, name: str) -> None:
    """Change a byte in the middle of a member."""
    with zipfile.ZipFile(batch) as archive:
        member = archive.getinfo(name)
    content = bytearray(batch.read_bytes())
    content[member.header_offset + 30 + len(name) + member.compress_size // 2] ^= 0xFF
    batch.write_bytes(bytes(content))


def test_of_a_damaged_chunk_in_a_batch_the_others_are_saved(tmp_path):
    store = opened(tmp_path)
    write(store, "a", *range(ROW))
    (batch,) = store.files_of("a")
    damage(batch, "000002.npz")
    store = opened(tmp_path)
    with pytest.raises(Damaged, match=r"000000-000003\.zip"):
        store.read_chunk(place(store, "a", 2))
    bad = batch.read_bytes()
    aside = store.set_aside(place(store, "a", 2))
    assert aside == tmp_path / "damaged" / "a-000000-000003.zip"
    assert aside.read_bytes() == bad
    assert names(tmp_path) == [f"a/{i:06d}.npz" for i in (0, 1, 3)]
    write(store, "a", 2)
    store.gather()
    assert names(tmp_path) == ["a/000000-000003.zip"]
    assert_there(store, "a", *range(ROW))


def test_a_damaged_batch_is_not_gathered_into_another_and_stays(tmp_path):
    store = opened(tmp_path)
    write(store, "a", *range(ROW))
    (batch,) = store.files_of("a")
    damage(batch, "000002.npz")
    larger = opened(tmp_path, 8)
    write(larger, "a", 4)
    larger.gather()
    assert names(tmp_path) == ["a/000000-000003.zip", "a/000004.npz"]
    assert not list(tmp_path.rglob("*.tmp"))


# In a study.


@pytest.fixture
def few(monkeypatch):
    """As if a dozen files were many."""
    monkeypatch.setattr(batches, "MOST_FILES", 12)


@pytest.mark.slow
def test_a_study_in_batches_is_the_same_study(few, tmp_path):
    folder = tmp_path / "study"
    found = study().run(folder)  # three chunks in each of six cells, in rows of four
    assert {path.name for path in folder.glob("chunks/*/*")} == {"000000-000002.zip"}
    xr.testing.assert_identical(found, study().run())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = study().run(folder)  # nothing is solved, nothing moved
    xr.testing.assert_identical(again, found)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    xr.testing.assert_identical(study(trials=18).run(folder), study(trials=18).run())
    assert {path.name for path in folder.glob("chunks/*/*")} == {"000000-000004.zip"}
    xr.testing.assert_identical(study().run(folder), found)


@pytest.mark.slow
def test_damage_in_batches_is_named_and_computed_again(few, tmp_path):
    folder = tmp_path / "study"
    found = study().run(folder)
    one, other, *_ = sorted(folder.glob("chunks/*/*.zip"))
    damage(one, "000001.npz")
    other.write_bytes(other.read_bytes()[:-30])
    with pytest.warns(UserWarning, match="damaged") as record:
        xr.testing.assert_identical(study().run(folder), found)
    assert sorted(str(each.message).split(" is damaged")[0] for each in record) == [
        f"The batch {other}",
        f"The chunk {one.with_name('000001.npz')}",
    ]
    assert len(list((folder / "damaged").iterdir())) == 2
    assert {path.suffix for path in folder.glob("chunks/*/*")} == {".zip"}
