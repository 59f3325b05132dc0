"""A look at a study that is running, or was interrupted."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import small_study
import xarray as xr
from processes import looks_until_it_ends, starting
from small_study import study

import hopjax as hj
from hopjax.command.show import study_table
from hopjax.statistics import wilson_interval
from hopjax.store import Store


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A finished study; not to be changed."""
    folder = tmp_path_factory.mktemp("unfinished") / "study"
    study().run(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """The same before it was merged."""
    folder = Path(shutil.copytree(saved, tmp_path / "study"))
    (folder / "result.nc").unlink()
    return folder


def chunks(folder: Path) -> list[Path]:
    """Cell by cell, in the order of the study."""
    return [
        path
        for cell in study()._work.cells
        for path in sorted((folder / "chunks" / cell.name).glob("*.npz"))
    ]


@pytest.mark.slow
def test_what_is_whole_but_for_its_merge_is_the_dataset_without_own_reductions(folder, saved):
    found, whole = hj.load_study(folder, unfinished=True), hj.load_study(saved)
    assert found.attrs.pop("unfinished") == "60 of 60 trials are done"
    assert (found.trials_done == 10).all()
    own = [name for name in whole.data_vars if str(name).startswith(("state_", "raw_"))]
    assert own
    xr.testing.assert_equal(found.drop_vars("trials_done"), whole.drop_vars(own))
    assert found.attrs == whole.attrs
    assert found.retrieved.sel(weights=(6.0, 0.5)).dims == ("noise", "lost")
    # And where it is finished it is the result.
    xr.testing.assert_identical(hj.load_study(saved, unfinished=True), whole)


@pytest.mark.slow
def test_what_is_missing_is_nan_and_the_rest_is_that_of_these_trials(folder, saved):
    whole = hj.load_study(saved)
    there = chunks(folder)
    for place in (1, 3, 4, 5):  # the second of three of a cell, and all of the next
        there[place].unlink()
    found = hj.load_study(folder, unfinished=True)
    assert found.attrs["unfinished"] == "46 of 60 trials are done"
    rows = found.stack(row=found.retrieved.dims, create_index=False)
    known = whole.stack(row=found.retrieved.dims, create_index=False)
    assert rows.trials_done.to_numpy().tolist() == [6, 0, 10, 10, 10, 10]
    done = np.array([0, 1, 2, 3, 8, 9])  # chunks of four
    for name in ("outcome", "final_overlap", "passage_time", "memory"):
        first = rows[name].isel(row=0).to_numpy()
        np.testing.assert_array_equal(first[done], known[name].isel(row=0).to_numpy()[done])
        assert np.isnan(np.delete(first, done)).all()
        assert np.isnan(rows[name].isel(row=1)).all()
    outcome = known.outcome.isel(row=0).to_numpy()[done]
    interval = wilson_interval(int((outcome == 0).sum()), len(done))
    names = ("retrieved", "retrieved_low", "retrieved_high")
    for name, end in zip(names, interval, strict=True):
        assert rows[name].isel(row=0).item() == pytest.approx(float(end))
        assert np.isnan(rows[name].isel(row=1).item())
    assert rows.outcome_count.isel(row=1).sum() == 0
    for place in range(2, 6):
        for name in ("retrieved", "overlap_mean", "overlap_quantile", "passage_quantile"):
            np.testing.assert_array_equal(rows[name].isel(row=place), known[name].isel(row=place))
    lines = study_table(found).splitlines()
    assert lines[0] == "unfinished: 46 of 60 trials are done"
    assert lines[1].split()[:4] == ["noise", "weights", "lost", "trials"]
    assert lines[2].split()[3] == "6"
    assert lines[3].split()[-5:] == ["0", "-", "-", "-", "-"]


@pytest.mark.slow
def test_looking_changes_nothing_and_takes_no_lock(folder):
    chunks(folder)[0].unlink()

    def files() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}

    before = files()
    with Store(folder).locked():
        hj.load_study(folder, unfinished=True)
    hj.load_study(folder, unfinished=True)
    assert files() == {path: entry for path, entry in before.items() if path.name != "lock"} | {
        folder / "lock": files()[folder / "lock"]
    }


@pytest.mark.slow
def test_a_damaged_chunk_is_named_left_out_and_left_where_it_is(folder):
    path = chunks(folder)[0]
    path.write_bytes(b"garbage")
    with pytest.warns(UserWarning, match=f"{path} is damaged .* and left out"):
        found = hj.load_study(folder, unfinished=True)
    assert found.attrs["unfinished"] == "56 of 60 trials are done"
    assert path.read_bytes() == b"garbage"


@pytest.mark.slow
def test_more_trials_than_were_merged_are_unfinished(folder, saved, monkeypatch):
    shutil.copy(saved / "result.nc", folder)
    assert "unfinished" not in hj.load_study(folder, unfinished=True).attrs

    def stop(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hopjax.study.work.OnDevices", stop)
        with pytest.raises(KeyboardInterrupt):
            study(trials=16).run(folder)
    found = hj.load_study(folder, unfinished=True)
    assert found.sizes["trial"] == 16
    assert found.attrs["unfinished"] == "48 of 96 trials are done"  # whole chunks only
    assert hj.load_study(folder).sizes["trial"] == 10


@pytest.mark.slow
def test_there_may_be_nothing_to_look_at(folder, tmp_path):
    for path in chunks(folder):
        path.unlink()
    refused = {
        folder: "No chunk of the study in .* is finished yet",
        tmp_path / "nothing": r"result\.nc does not exist",
    }
    for place, match in refused.items():
        with pytest.raises(hj.StudyError, match=match):
            hj.load_study(place, unfinished=True)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"threshold"', '"least"'))
    with pytest.raises(hj.StudyError, match=r"manifest\.json was changed after it was written"):
        hj.load_study(folder, unfinished=True)


@pytest.mark.slow
def test_a_list_of_cells_with_times_of_their_own_is_looked_at_too(tmp_path):
    cells = [{"noise": 0.5, "t1": 0.5}, {"noise": 1.0, "t1": 1.0}]

    def trial(key, noise):
        return small_study.trial(key, noise, (6.0, 0.5), 0.0)

    made = hj.Study(trial, cells, trials=6, key=jax.random.key(2), dt=0.1, chunk=4)
    whole = made.run(tmp_path)
    (tmp_path / "result.nc").unlink()
    found = hj.load_study(tmp_path, unfinished=True)
    xr.testing.assert_equal(found.drop_vars("trials_done"), whole)
    shutil.rmtree(tmp_path / "chunks" / made._work.cells[0].name)
    found = hj.load_study(tmp_path, unfinished=True)
    assert found.trials_done.to_numpy().tolist() == [0, 6]
    xr.testing.assert_equal(found.time, whole.time)
    xr.testing.assert_equal(found.overlap_mean[1], whole.overlap_mean[1])


@pytest.mark.slow
def test_a_study_is_looked_at_while_it_runs_and_ends_as_ever(tmp_path, saved):
    folder, output = tmp_path / "study", tmp_path / "output"
    with starting("small_study") as start:
        process = start(small_study.run, folder, 10, 1, output, 0.1)
        seen, refused = looks_until_it_ends(process, folder, hj.load_study, output)
    assert len(seen) > 2
    assert refused <= {f"No chunk of the study in {folder} is finished yet."}
    assert (folder / "result.nc").read_bytes() == (saved / "result.nc").read_bytes()
