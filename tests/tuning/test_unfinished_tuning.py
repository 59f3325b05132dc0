"""A look at a tuning that is running, or was interrupted."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import small_tuning
import xarray as xr
from processes import looks_until_it_ends, starting

import hopjax as hj
from hopjax.store import Store, digest
from hopjax.tuning import summary

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A finished tuning; not to be changed."""
    folder = tmp_path_factory.mktemp("unfinished") / "tuning"
    small_tuning.tune(folder=folder, bounds={"strength": (0.1, None)})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """The same before it came to its end."""
    folder = Path(shutil.copytree(saved, tmp_path / "tuning"))
    (folder / "result.nc").unlink()
    return folder


def cut(folder: Path, steps: int) -> None:
    """As if it had been interrupted after so many steps."""
    store, path = Store(folder), folder / "steps.npz"
    manifest = store.read_manifest()
    assert manifest is not None
    program, place = store.origin(path)
    store.use(digest(manifest["definition"]), place)
    parts = store.read_chunk(path)
    parts["steps"] = {name: values[:steps] for name, values in parts["steps"].items()}
    parts["about"]["reason"] = np.array("")
    store.write_chunk(path, parts, program)


@pytest.mark.parametrize("steps", [24, 7])
def test_the_steps_are_those_of_the_whole(folder, saved, steps):
    whole = hj.load_tuning(saved)
    assert whole.sizes["step"] == 24
    if steps < 24:
        cut(folder, steps)
    found = hj.load_tuning(folder, unfinished=True)
    for name in found.variables:
        xr.testing.assert_identical(
            found[name], whole[name].isel(step=slice(steps), missing_dims="ignore")
        )
    assert {"loss", "loss_high", "term_loss", "gradient_norm", "strength"} < {*found.data_vars}
    assert not [name for name in found.variables if "tuned" in str(name)]
    own = {"unfinished", "skipped", "definition"}
    assert {n: v for n, v in found.attrs.items() if n not in own}.items() <= whole.attrs.items()
    ended = "; what they led to is not verified yet" if steps == 24 else ""
    assert found.attrs["unfinished"] == f"{steps} of at most 24 steps are done{ended}"
    first, last = (f"{found.strength[end].item():.4g}" for end in (0, -1))
    lines = summary(found).splitlines()
    assert lines[0] == f"unfinished: {found.attrs['unfinished']}"
    assert lines[1] == f"  strength = {first} at the start, {last} at the last step"
    assert lines[3].startswith(f"  {steps} steps of 12 trials in forward mode: 0 skipped")
    # And where it is finished it is the result.
    xr.testing.assert_identical(hj.load_tuning(saved, unfinished=True), whole)


def test_looking_changes_nothing_and_takes_no_lock(folder):
    def files() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}

    with Store(folder).locked():
        before = files()
        hj.load_tuning(folder, unfinished=True)
        assert files() == before


def test_what_cannot_be_looked_at_is_one_line(folder, tmp_path):
    def refused(folder: Path) -> str:
        with pytest.raises(hj.StudyError) as error:
            hj.load_tuning(folder, unfinished=True)
        return str(error.value)

    assert "result.nc does not exist" in refused(tmp_path)
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"terms"', '"words"'))
    assert "manifest.json was changed after it was written" in refused(folder)
    manifest.write_text(text)
    (folder / "steps.npz").write_bytes(b"garbage")
    assert "steps.npz is damaged (it is incomplete or overwritten)" in refused(folder)
    (folder / "steps.npz").unlink()
    assert refused(folder) == f"No step of the tuning in {folder} is saved yet."
    with pytest.raises(hj.ArgumentError, match="`unfinished` must be"):
        hj.load_tuning(folder, unfinished=1)  # type: ignore[arg-type]


def test_a_tuning_is_looked_at_while_it_runs_and_ends_as_ever(tmp_path):
    folder, output = tmp_path / "tuning", tmp_path / "output"
    with starting("small_tuning") as start:
        process = start(small_tuning.run, folder, 1, output, 0.05)
        seen, refused = looks_until_it_ends(process, folder, hj.load_tuning, output)
    assert len(seen) > 2
    assert refused <= {f"No step of the tuning in {folder} is saved yet."}
    xr.testing.assert_identical(hj.load_tuning(folder), small_tuning.tune(folder=folder).history)
