"""Studies: every cell against `solve_ensemble` and keys made here, folders against fresh runs."""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from conftest import EXACT
from jaxtyping import Array, Float
from passages import crossing
from small_study import CRITERION, GRID, MEMORIES, REDUCTIONS, raw, study, trial

import hopjax as hj
from hopjax.ensemble import RESERVED
from hopjax.program import PACKAGES, environment, version_of
from hopjax.store import labels
from hopjax.store.identity import canonical, describe
from hopjax.store.labels import with_labels

WEIGHTS = GRID["weights"]


def not_found(package: str) -> str:
    raise importlib.metadata.PackageNotFoundError(package)


def without_a_version(package: str) -> str:
    raise KeyError("Version")


@pytest.fixture
def asked_anew():
    """Versions are asked for once in a process."""
    version_of.cache_clear()
    yield
    version_of.cache_clear()


@pytest.mark.parametrize("version", [not_found, without_a_version, lambda package: None])
def test_packages_without_metadata_have_an_unknown_version(version, monkeypatch, asked_anew):
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert {environment()[package] for package in PACKAGES} == {"unknown"}


@pytest.mark.slow
def test_packages_without_metadata_cost_no_study(monkeypatch, asked_anew):
    real = importlib.metadata.version
    monkeypatch.setattr(  # not of tqdm, which asks for its own
        importlib.metadata,
        "version",
        lambda package: (without_a_version if package in PACKAGES else real)(package),
    )
    dataset = study({"noise": [0.5], "weights": [WEIGHTS[0]], "lost": [0.0]}, trials=4).run()
    assert dataset.attrs["hopjax"] == "unknown"


def key_of(text: str):
    """A cell's key, from the canonical text of its parameters."""
    key = jax.random.key(5)
    for word in np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], ">u4"):
        key = jax.random.fold_in(key, word)
    return key


class Cell(eqx.Module):
    """One cell's trials, for `solve_ensemble`."""

    noise: Float[Array, ""]
    weights: Float[Array, " P"]
    lost: Float[Array, ""]

    def __call__(self, key):
        return trial(key, self.noise, self.weights, self.lost)


def ensemble(text: str, noise: float, weights: tuple[float, float]) -> hj.Ensemble:
    return hj.solve_ensemble(
        Cell(jnp.asarray(noise), jnp.asarray(weights), jnp.asarray(0.0)),
        trials=10,
        key=key_of(text),
        t1=1.0,
        dt=0.1,
        criterion=CRITERION,
        reductions=REDUCTIONS,
        chunk=4,
    )


def assert_is_ensemble(cell: xr.Dataset, expected: hj.Ensemble) -> None:
    np.testing.assert_array_equal(cell.raw_start, expected.reduced["raw"]["start"])
    np.testing.assert_array_equal(cell.outcome, expected.outcome)
    np.testing.assert_array_equal(cell.outcome_count, list(expected.counts.values()))
    np.testing.assert_array_equal(cell.time, expected.ts)
    for name, value in {
        "raw_overlaps": expected.reduced["raw"]["overlaps"],
        "state_mean": expected.reduced["state"]["mean"],
        "state_variance": expected.reduced["state"]["variance"],
        "overlap_mean": expected.overlap_mean,
        "overlap_variance": expected.overlap_variance,
        "overlap_quantile": expected.overlap_quantiles([0.1, 0.5, 0.9]),
        "passage_quantile": expected.passage_quantiles([0.1, 0.5, 0.9]),
        "passage_time": expected.passage_time,
        "passed": expected.passed,
        "final_overlap": expected.final_overlap,
        "final_energy": expected.final_energy,
        "diverged_at": expected.diverged_at,
        "retrieved": expected.retrieved[0],
        "retrieved_low": expected.retrieved[1],
        "retrieved_high": expected.retrieved[2],
    }.items():
        np.testing.assert_allclose(cell[name], value, rtol=EXACT, atol=EXACT, err_msg=name)


def same_values(one: xr.Dataset, other: xr.Dataset) -> None:
    """Bit for bit, whatever their attributes say."""
    xr.testing.assert_equal(one, other)
    assert set(one.variables) == set(other.variables)


@pytest.fixture(scope="module")
def dataset():
    return study().run()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the same study; not to be changed."""
    folder = tmp_path_factory.mktemp("studies") / "saved"
    study().run(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(saved, tmp_path / "study"))


def files(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What is in a folder, and which files these are; without the lock."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


# Every cell.


@pytest.mark.slow
def test_every_cell_is_the_ensemble_of_its_key(dataset):
    for noise in (0.5, 1.0, 2.0):
        for place, weights in enumerate(WEIGHTS):
            first, second = weights
            text = f'{{"lost":0,"noise":{noise:g},"weights":[{first:g},{second:g}]}}'
            cell = dataset.sel(noise=noise, lost=0).isel(weights=place)
            assert_is_ensemble(cell, ensemble(text, noise, weights))


@pytest.mark.slow
def test_paired_parameters_leave_the_key_alone(dataset):
    paired = study(paired=["noise", "lost"]).run()
    for noise in (0.5, 2.0):
        cell = paired.sel(noise=noise, lost=0).isel(weights=1)
        assert_is_ensemble(cell, ensemble('{"weights":[0.5,1.5]}', noise, WEIGHTS[1]))
    # So the starts are the same for all noises, and new for other weights; unpaired, all are new.
    starts = paired.raw_start.isel(lost=0).to_numpy()
    assert (starts == starts[:1]).all()
    assert not (starts[:, 0] == starts[:, 1]).any()
    unpaired = dataset.raw_start.isel(lost=0).to_numpy().reshape(6, -1)
    assert len(np.unique(unpaired)) == unpaired.size
    assert paired.attrs["paired"] == "noise, lost"


@pytest.mark.slow
def test_a_noise_beside_others_is_traced_and_reaches_the_function(dataset):
    assert (dataset.raw_strength == dataset.noise).all()


def test_dimensions_and_coordinates(dataset):
    assert dataset.retrieved.dims == ("noise", "weights", "lost")
    assert dataset.overlap_quantile.dims == ("noise", "weights", "lost", "quantile_level", "time")
    assert dataset.passage_time.dims == ("noise", "weights", "lost", "trial")
    assert dataset.outcome_count.dims == ("noise", "weights", "lost", "outcome_name")
    assert dict(dataset.sizes) | {"raw_overlaps_2": 2, "state_mean_0": 8} == dict(dataset.sizes)
    assert dataset.raw_start.dims == ("noise", "weights", "lost", "trial", "raw_start_1")
    assert dataset.sizes["trial"] == 10
    assert dataset.noise.values.tolist() == [0.5, 1.0, 2.0]
    assert dataset.weights.values.tolist() == ["[6,0.5]", "[0.5,1.5]"]
    assert dataset.quantile_level.values.tolist() == [0.1, 0.5, 0.9]
    assert dataset.outcome_name.values.tolist() == list(hj.Ensemble.OUTCOMES)
    np.testing.assert_allclose(dataset.time, np.arange(11) / 10, rtol=1e-15)
    about = dataset.attrs
    assert (about["trials"], about["chunk_size"], about["threshold"], about["mirror"]) == (
        10,
        4,
        0.6,
        0,
    )
    assert (about["settle"], about["since"], about["diverged"]) == (0.2, 0.3, "none")
    assert about["jax"] == jax.__version__
    assert json.loads(about["key"]) == {"key": [0, 5]}
    assert json.loads(about["definition"])["t1"] == 1


def assert_statistics(cell: xr.Dataset, since: float, settle: float) -> None:
    """The statistics of a cell against its own raw trials, in NumPy."""
    ok = cell.raw_ok.values.astype(bool)
    ts = cell.time.values[np.isfinite(cell.time.values)]
    both = cell.raw_overlaps.values[:, : len(ts)]
    overlaps = both[..., 0]
    trials, fine = len(ok), overlaps[ok]

    def of(name):
        return cell[name].values[..., : len(ts)]

    np.testing.assert_allclose(of("overlap_mean"), fine.mean(axis=0), rtol=EXACT)
    np.testing.assert_allclose(of("overlap_variance"), fine.var(axis=0, ddof=1), rtol=1e-8)
    for level, values in zip(cell.quantile_level.values, of("overlap_quantile"), strict=True):
        # Any value between the two trials next to the level is a quantile.
        low = np.quantile(fine, level, axis=0, method="lower")
        high = np.quantile(fine, level, axis=0, method="higher")
        assert ((values >= low - 0.01) & (values <= high + 0.01)).all()

    late = ts > ts[-1] - settle - 1e-6
    judged, rival = both[:, late].mean(axis=1).T[:2]  # a third memory is a copy of the first
    np.testing.assert_allclose(cell.final_overlap, np.where(ok, judged, np.nan), rtol=EXACT)
    right = ok & (judged > 0.6) & (judged > abs(rival))
    np.testing.assert_array_equal(cell.share, right)
    np.testing.assert_array_equal(cell.memory, np.where(ok, abs(judged) <= abs(rival), -1))
    assert cell.outcome_count.sel(outcome_name="right") == right.sum() == (cell.outcome == 0).sum()
    assert cell.outcome_count.sel(outcome_name="diverged") == (~ok).sum()
    assert cell.outcome_count.sum() == trials
    assert cell.retrieved == right.mean()  # `mirror` is False
    assert cell.retrieved_low <= cell.retrieved <= cell.retrieved_high
    assert cell.retrieved_low < cell.retrieved_high

    # Every step is saved.
    counts = ts >= since - 1e-6
    margin = (overlaps - np.maximum(0.6, abs(both[..., 1])))[:, counts]
    passage = ts[counts][0] - since + np.array([crossing(row) for row in margin]) * (ts[1] - ts[0])
    np.testing.assert_allclose(cell.passage_time, passage, atol=1e-12)
    by_then = (passage[:, None] <= ts - since + 1e-9).mean(axis=0)
    np.testing.assert_allclose(of("passed"), by_then, rtol=1e-12)
    ranked = np.sort(passage)
    for level, value in zip(cell.quantile_level.values, cell.passage_quantile.values, strict=True):
        share = (ranked <= value + 1e-9).mean()
        assert share >= level - 1e-9
        assert np.isinf(value) or (ranked < value - 1e-9).mean() <= level


def test_statistics_are_those_of_the_trials(dataset):
    censored = []
    for place in np.ndindex(3, 2):
        cell = dataset.isel(noise=place[0], weights=place[1], lost=0)
        assert_statistics(cell, since=0.3, settle=0.2)
        censored.append(np.isinf(cell.passage_time).mean().item())
    assert min(censored) < 0.5 < max(censored)  # some medians are infinite
    assert np.isinf(dataset.passage_quantile).any()


# Neither order nor company nor spelling matters.

TURNED = {"lost": [0.0], "weights": WEIGHTS[::-1], "noise": [2.0, 0.5, 1.0]}
MORE = GRID | {"noise": [0.25, 0.5, 1.0, 2.0], "lost": [0.0, 1e-6]}
LIST = [{"lost": 0.0, "weights": WEIGHTS[1], "noise": noise} for noise in (2.0, 0.5)]


@pytest.mark.parametrize("sweep", [TURNED, MORE, LIST], ids=["turned", "more", "list"])
def test_order_and_company_of_cells_change_no_bit(dataset, sweep):
    other = study(sweep).run()
    number = 0
    for place in np.ndindex(*other.retrieved.shape):
        theirs = other.isel(dict(zip(other.retrieved.dims, place, strict=True)))
        where = {name: theirs[name].item() for name in GRID}
        if where["noise"] not in GRID["noise"] or where["lost"] != 0:
            continue
        number += 1
        names = [*GRID, "cell"]
        same_values(
            theirs.drop_vars(names, errors="ignore"), dataset.sel(where).drop_vars(names[:-1])
        )
    assert number == (2 if isinstance(sweep, list) else 6)


def test_a_list_of_cells_has_their_parameters_along_it():
    listed = study(LIST).run()
    assert listed.retrieved.dims == ("cell",)
    assert listed.noise.dims == listed.weights.dims == ("cell",)
    assert listed.noise.values.tolist() == [2.0, 0.5]
    assert listed.weights.values.tolist() == ["[0.5,1.5]"] * 2


@pytest.mark.parametrize(
    "sweep",
    [
        {
            "noise": np.array([0.5, 1, 2], np.float32),
            "weights": [[6, 0.5], np.array([0.5, 1.5])],
            "lost": jnp.zeros(1),
        },
        {"noise": [0.5, 1, np.int64(2)], "weights": np.array(WEIGHTS), "lost": (-0.0,)},
    ],
)
def test_numbers_of_any_kind_are_the_same_cells(dataset, sweep):
    same_values(study(sweep).run(), dataset)


@pytest.mark.slow
def test_whole_numbers_stay_so_unless_declared_fractional(saved):
    def declared(key, noise: float, weights, lost: "float"):
        return trial(key, noise, weights, lost)

    whole = {"noise": [1, 2], "weights": [(1, 0)], "lost": [0]}
    for function, kind in ((trial, int), (declared, float)):
        (one, two) = study(whole, trial=function).cells
        assert type(one["noise"]) is type(two["noise"]) is type(one["lost"]) is kind
    # And either way they are the same cell as the fraction.
    assert canonical(one) == '{"lost":0,"noise":1,"weights":[1,0]}'
    assert canonical({"noise": 0.1 + 0.2}) == '{"noise":0.3}'
    assert canonical([True, None, "1", 1, 1e300]) == '[true,null,"1",1,1e+300]'


# Sweeping other things than numbers.


def kinds(key, *, label, flag, nothing, number):
    """Takes what it gets at its word."""
    assert isinstance(label, str)
    assert isinstance(flag, bool)
    assert isinstance(number, int)
    assert nothing is None
    start = (-2 if label == "turned" else 2) * jax.random.uniform(key, (8,), minval=-0.5)
    memories = jnp.asarray(MEMORIES)[jnp.arange(number) % 2] * (-1.0 if flag else 1.0)
    return hj.Trial(hj.IDPHopfield(memories), memories[0], start, hj.AdditiveNoise(0.5))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Cells that differ in everything."""
    folder = tmp_path_factory.mktemp("mixed") / "study"
    cells = [
        {"label": "plain", "flag": True, "number": 3, "nothing": None, "t1": 1.0, "dt": 0.1},
        {"label": "turned", "flag": False, "number": 2, "nothing": None, "t1": 0.6, "dt": 0.05},
    ]
    settings: dict[str, Any] = {"trial": kinds, "t1": None, "dt": None, "paired": list(cells[0])}
    settings["static"] = ["number"]
    mixed = study(cells, **settings).run(folder)
    alone = study(cells[1:], **settings).run()
    xr.testing.assert_identical(hj.load_study(folder), mixed)
    return mixed, alone


@pytest.mark.slow
def test_times_and_steps_can_be_swept(mixed):
    long, alone = mixed
    assert long.overlap_mean.dims == ("cell", "saved")
    assert long.time.dims == ("cell", "saved")
    np.testing.assert_allclose(long.time[0, :11], np.arange(11) / 10, rtol=1e-14)
    np.testing.assert_allclose(long.time[1], np.arange(13) / 20, rtol=1e-14)
    for name in ("time", "overlap_mean", "overlap_variance", "passed"):
        assert np.isfinite(long[name][0, :11]).all(), name
        assert np.isnan(long[name][0, 11:]).all(), name
        assert np.isfinite(long[name][1]).all(), name
    for cell in (0, 1):
        assert_statistics(long.isel(cell=cell), since=0.3, settle=0.2)
    assert long.t1.values.tolist() == [1.0, 0.6]
    assert long.dt.values.tolist() == [0.1, 0.05]
    # The axis of one cell alone is that cell's.
    assert alone.overlap_mean.dims == ("cell", "time")
    np.testing.assert_array_equal(alone.overlap_mean[0], long.overlap_mean[1])
    names = [name for name, var in alone.data_vars.items() if var.dims == ("cell", "trial")]
    assert "passage_time" in names
    same_values(alone[names], long[names].isel(cell=[1]))


@pytest.mark.slow
def test_strings_truth_values_none_and_static_numbers_reach_the_function_as_they_are(mixed):
    found, _ = mixed
    starts = found.raw_start.values
    np.testing.assert_array_equal(starts[0], -starts[1])  # all parameters are paired
    # m = Σ ξ tanh(10 x) / N of the first memory, all −1 or all +1; two or three of them.
    first = np.tanh(10 * starts).mean(axis=-1) * [[-1], [1]]
    np.testing.assert_allclose(found.raw_overlaps[:, :, 0, 0], first, rtol=EXACT)
    assert found.raw_overlaps.sizes["raw_overlaps_2"] == 3
    assert np.isfinite(found.raw_overlaps[0, :, 0]).all()
    assert np.isnan(found.raw_overlaps[1, :, :, 2]).all()
    assert found.label.values.tolist() == ["plain", "turned"]
    assert found.flag.values.tolist() == [True, False]
    assert found.nothing.values.tolist() == ["null", "null"]
    assert found.number.values.tolist() == [3, 2]


# What was swept finds its cell, in memory and after loading.

ANYTHING: dict[str, list[Any]] = {
    "flag": [True, False],
    "nothing": [None, 0.25],
    "pair": [(6.0, 0.5), (0.5, 1.5)],
}


def anything(key, *, flag, nothing, pair):
    """A start that says which cell it is."""
    places = [
        ANYTHING["flag"].index(flag),
        int(nothing is not None),
        jnp.argmax(jnp.asarray(pair)),  # traced
    ]
    x0 = jnp.stack([jnp.asarray(place, float) for place in (*places, *places, 0, 0)])
    return hj.Trial(hj.IDPHopfield(jnp.asarray(MEMORIES)), jnp.asarray(MEMORIES[0]), x0)


@pytest.fixture(scope="module")
def anywhere(tmp_path_factory):
    """A grid of anything in memory and loaded, and the same as a list."""
    folder = tmp_path_factory.mktemp("anything") / "study"
    settings: dict[str, Any] = {"trial": anything, "trials": 1, "t1": 0.4, "reductions": ONLY_START}
    grid = study(ANYTHING, **settings)
    found = grid.run(folder)
    loaded = hj.load_study(folder)
    xr.testing.assert_identical(loaded, found)
    return found, loaded, study(grid.cells, **settings).run()


ONLY_START = {"raw": hj.PerTrial(lambda trial, trajectory: {"start": trial.x0})}


@pytest.mark.slow
def test_a_cell_of_a_grid_is_found_by_the_values_that_were_swept(anywhere):
    for dataset in anywhere[:2]:
        assert dataset.raw_start.dims[:3] == tuple(ANYTHING)
        for place in np.ndindex(2, 2, 2):
            values = [values[i] for values, i in zip(ANYTHING.values(), place, strict=True)]
            found = dataset.sel(dict(zip(ANYTHING, values, strict=True)))
            assert found.raw_start.dims[0] == "trial"
            assert found.raw_start[0, :3].values.tolist() == list(place)
        assert dataset.sel(flag=np.True_).flag.item() is True
        assert dataset.sel(nothing=jnp.asarray(0.25)).raw_start.dims[:2] == ("flag", "pair")
        for pair in ((6, 0.5), (np.float32(6), np.float64(0.5)), tuple(np.array([6, 0.5]))):
            assert (dataset.sel(pair=pair).raw_start[..., 2] == 0).all()
        # Several values keep the axis, in the order asked for.
        assert dataset.sel(flag=[False, True]).flag.values.tolist() == [False, True]
        assert dataset.sel(flag=[False]).raw_start.dims[0] == "flag"
        two = dataset.sel(nothing=[0.25, None], pair=[(0.5, 1.5)])
        assert (two.sizes["nothing"], two.sizes["pair"]) == (2, 1)
        assert (two.sel(nothing=None).raw_start[..., 1] == 0).all()
        # So do labels, which are what the coordinate shows, and what is left of an axis.
        assert dataset.nothing.values.tolist() == ["null", "0.25"]
        assert dataset.pair.values.tolist() == ["[6,0.5]", "[0.5,1.5]"]
        assert dataset.sel(pair="[6,0.5]").identical(dataset.sel(pair=(6.0, 0.5)))
        assert (dataset.isel(pair=slice(1, 2)).sel(pair=(0.5, 1.5)).raw_start[..., 2] == 1).all()
        assert (dataset.sel(pair=dataset.pair[1]).raw_start[..., 2] == 1).all()


@pytest.mark.slow
def test_cells_of_a_list_are_found_one_value_after_the_other(anywhere):
    _, loaded, listed = anywhere
    assert listed.sizes["cell"] == 8
    some = listed.sel(flag=True).sel(nothing=0.25).sel(pair=(0.5, 1.5))
    assert some.sizes["cell"] == 1
    np.testing.assert_array_equal(some.raw_start[0, 0, :3], [0, 1, 1])
    assert listed.sel(pair=[(0.5, 1.5), (6, 0.5)]).sizes["cell"] == 8
    np.testing.assert_array_equal(
        listed.sel(flag=False).raw_start, loaded.sel(flag=False).raw_start.values.reshape(4, 1, 8)
    )
    assert listed.isel(cell=~listed.flag).identical(listed.sel(flag=False))


def test_values_of_any_kind_beside_each_other_are_told_apart():
    values = ["plain", None, True, 1, 0.5, (1, None)]
    shown = labels(values)
    assert shown == ["plain", "null", "true", "1", "0.5", "[1,null]"]
    raw = xr.Dataset({"retrieved": ("kind", np.arange(6.0))}, {"kind": shown})
    dataset = with_labels(raw)
    assert [dataset.sel(kind=value).retrieved.item() for value in values] == list(range(6))
    assert dataset.sel(kind=1.0).retrieved.item() == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("nothing", False, "null, 0.25"),
        ("nothing", 0.2501, "null, 0.25"),
        ("pair", [6.0, 0.5], r"\[6,0.5\], \[0.5,1.5\] \(a list asks for several values; "),
        ("pair", (6.0, 0.6), r"\[6,0.5\]"),
        ("flag", None, "true, false"),
        ("flag", "yes", "true, false"),
    ],
)
def test_a_value_that_was_not_swept_is_refused_with_those_that_were(anywhere, name, value, known):
    for dataset in anywhere:
        with pytest.raises(KeyError, match=f"`{name}` has no value .*, but {known}"):
            dataset.sel({name: value})


@pytest.mark.slow
def test_an_in_memory_dataset_can_be_written_by_xarray_itself(anywhere, tmp_path):
    found = anywhere[0]
    found.to_netcdf(tmp_path / "own.nc", engine="h5netcdf")
    plain = xr.load_dataset(tmp_path / "own.nc", engine="h5netcdf")
    assert plain.equals(found)
    assert plain.attrs == found.attrs
    assert plain.sel(flag=True, nothing="null").equals(found.sel(flag=True, nothing=None))


def test_a_text_that_is_the_label_of_another_value_is_refused():
    for values in ([None, "null"], ["[1,2]", (1, 2)], [True, "true"], ["0.5", 0.5]):
        with pytest.raises(ValueError, match=r"`sweep\['pair'\]` must not have a text that is"):
            study(ANYTHING | {"pair": values}, trial=anything)


# Names of xarray's.


@pytest.mark.slow
def test_none_of_our_names_hides_behind_one_of_xarray(dataset, mixed):
    taken = {*dir(xr.Dataset), *dir(xr.DataArray)}
    # `dt` is what a step is called everywhere; only a single variable has something else there.
    assert "dt" not in dir(xr.Dataset)
    for found in (dataset, mixed[0]):
        names = {*found.variables, *found.dims, *found.attrs} - {"dt"}
        assert len(names) > 40
        assert not names & taken
    assert not {*RESERVED} & taken
    assert not {field.name for field in dataclasses.fields(hj.Retrieval)} & taken


@pytest.mark.slow
@pytest.mark.parametrize("name", ["count", "T"])
def test_a_swept_parameter_with_a_name_of_xarray_is_accepted_with_one_warning(name):
    def flexible(key, **parameters):
        return trial(key, parameters[name], (1.0, 0.5), 0.0)

    short = study({name: [0.5, 1.0]}, trial=flexible, trials=2)
    right = f'attributes of their own that are called {name}: write dataset\\["{name}"\\] for'
    with pytest.warns(UserWarning, match=right) as caught:
        found = short.run()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found[name].values.tolist() == [0.5, 1.0]
    assert found.sel({name: 1.0}).raw_strength.values.tolist() == [1.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["name", "function", "right", "args", "self", "value", "parameters"]
)
def test_parameters_may_have_any_name(name):
    def flexible(key, **parameters):
        return trial(key, parameters[name], (1.0, 0.5), 0.0)

    assert study({name: [0.5]}, trial=flexible).cells == [{name: 0.5}]


@pytest.mark.parametrize(
    "name", ["outcome_count", "retrieved", "outcome", "passed", "saved", "time"]
)
def test_parameters_in_the_way_of_results_are_refused_before_any_work(name):
    def flexible(key, **parameters):
        return trial(key, parameters[name], (1.0, 0.5), 0.0)

    with pytest.raises(ValueError, match=f"`sweep`.*got '{name}'"):
        study({name: [0.5]}, trial=flexible)


# Trials that go wrong.


def test_diverging_trials_are_counted_and_named_and_the_others_stand():
    sweep = {"noise": [0.5, 1.0], "weights": WEIGHTS[:1], "lost": [0.0, 0.07]}
    with pytest.warns(UserWarning, match="Trials diverged") as record:
        found = study(sweep, trials=60).run()
    (warning,) = record
    labels = []
    for noise in sweep["noise"]:
        # Which ones is known from their keys alone.
        key = key_of(f'{{"lost":0.07,"noise":{noise:g},"weights":[6,0.5]}}')
        settings = jax.vmap(lambda j, key=key: jax.random.split(jax.random.fold_in(key, j))[0])(
            jnp.arange(60)
        )
        lost = np.flatnonzero(jax.vmap(lambda k: jax.random.uniform(k, (9,))[0])(settings) < 0.07)
        assert 0 < len(lost) < 10
        cell = found.sel(noise=noise, lost=0.07).isel(weights=0)
        assert np.flatnonzero(cell.outcome == 5).tolist() == lost.tolist()
        assert cell.outcome_count.sel(outcome_name="diverged") == len(lost)
        assert (cell.diverged_at[lost] == 0).all()
        assert np.isinf(cell.diverged_at).sum() == 60 - len(lost)
        assert_statistics(cell, since=0.3, settle=0.2)
        assert cell.state_count == 60 - len(lost)
        label = f"noise = {noise:g}, weights = (6.0, 0.5), lost = 0.07"
        labels.append(f"{label}: {len(lost)} of 60, the first is trial {lost[0]}")
        assert (
            found.sel(noise=noise, lost=0.0).outcome_count.sel(outcome_name="diverged") == 0
        ).all()
    assert str(warning.message) == (
        f"Trials diverged, and means leave them out: {'; '.join(labels)}."
    )
    assert found.attrs["diverged"] == "; ".join(labels)


# In a folder.


@pytest.mark.slow
def test_in_memory_in_a_folder_and_from_the_file_it_is_the_same_dataset(dataset, saved):
    loaded = hj.load_study(saved)
    again = study().run(saved)  # nothing is left to do
    for other in (loaded, again):
        xr.testing.assert_identical(other, dataset)
        assert {name: var.dims for name, var in other.variables.items()} == {
            name: var.dims for name, var in dataset.variables.items()
        }
        for name in dataset.data_vars:
            assert other[name].dtype == dataset[name].dtype, name
    names = {path.name for path in saved.iterdir()}
    assert names >= {"chunks", "lock", "manifest.json", "result.nc"}
    assert "damaged" not in names
    assert not list(saved.rglob("*.tmp"))
    assert len(list(saved.glob("chunks/*/*.npz"))) == 6 * 3


@pytest.mark.slow
def test_more_trials_go_on_from_whole_chunks(folder):
    before = files(folder)
    more = study(trials=18, chunk=None)  # the folder's chunk, not 18
    found = more.run(folder)
    assert found.attrs["chunk_size"] == 4
    xr.testing.assert_identical(found, study(trials=18).run())
    after = files(folder)
    chunks = [name for name in before if name.startswith("chunks")]
    assert len(chunks) == 18
    assert all(after[name] == before[name] for name in chunks)
    # Whole ones anew: the third, of which two trials were known, the fourth, and the rest.
    new = {Path(name).name for name in after.keys() - before.keys()}
    assert new == {"000002.npz", "000003.npz", "000004-of-2.npz"}
    # Fewer again: nothing is lost, nothing is solved.
    xr.testing.assert_identical(study().run(folder), study().run())
    known = {name: entry for name, entry in after.items() if name.startswith("chunks")}
    assert {n: e for n, e in files(folder).items() if n.startswith("chunks")} == known


@pytest.mark.slow
def test_a_sweep_may_grow_in_its_folder_but_not_shrink(folder):
    before = files(folder)
    larger = GRID | {"noise": [4.0, *GRID["noise"]]}
    found = study(larger).run(folder)
    xr.testing.assert_identical(found, study(larger).run())
    after = files(folder)
    assert all(after[name] == before[name] for name in before if name.startswith("chunks"))
    with pytest.raises(hj.StudyError, match=r'cell {"lost":0,"noise":4.*} is not in this sweep'):
        study().run(folder)
    # As a list of the same cells it is the same study.
    cells = study(larger).cells[::-1]
    listed = study(cells).run(folder)
    assert {n: e for n, e in files(folder).items() if n.startswith("chunks")} == {
        n: e for n, e in after.items() if n.startswith("chunks")
    }
    np.testing.assert_array_equal(
        listed.raw_start[::-1].values.reshape(4, 2, 1, 10, 8), found.raw_start
    )


def saved_size(t, state):
    return jnp.mean(state**2)


def beyond_three(t, state, overlaps):
    return jnp.mean(state**2) - 3.0


def kept(trial, trajectory):
    return trajectory.saved


@pytest.mark.slow
def test_functions_of_the_users_own_in_memory_and_resumed_in_a_folder(tmp_path):
    sweep = [{"noise": 0.5, "weights": (6.0, 0.5), "lost": 0.0}]
    options: dict[str, Any] = {"save_fn": saved_size, "passage_fn": beyond_three}
    options["reductions"] = {"size": hj.PerTrial(kept)}
    in_memory = study(sweep, **options).run()
    less, more = study(sweep, trials=4, **options), study(sweep, **options)
    head = "over noise (1), weights (1), lost (1)"
    assert repr(more) == f"Study: 1 cells of 10 trials, {head}\n  3 chunks of up to 4 to solve"
    less.run(tmp_path / "study")
    found = more.run(tmp_path / "study")
    there = f"chunks are done in {tmp_path / 'study'}"
    assert repr(less) == f"Study: 1 cells of 4 trials, {head}\n  1 of 1 {there}"
    assert repr(more) == f"Study: 1 cells of 10 trials, {head}\n  3 of 3 {there}"
    xr.testing.assert_equal(found, in_memory)
    cell = found.isel(cell=0)
    for size, time in zip(cell.size_values.values, cell.passage_time.values, strict=True):
        assert time == pytest.approx((crossing(size - 3.0, 3) - 3) * 0.1)
    assert len({*cell.passage_time.values}) > 2


OTHERS = {
    "key": {"key": jax.random.key(6)},
    "dt": {"dt": 0.05},
    "t1": {"t1": 2.0},
    "save_every": {"save_every": 0.2},
    "save_fn": {"save_fn": saved_size},
    "passage_fn": {"passage_fn": beyond_three},
    "criterion.threshold": {"criterion": hj.Criterion(0.7, settle=0.2, since=0.3, mirror=False)},
    "reductions.state": {"reductions": REDUCTIONS | {"state": hj.PerTrial(raw)}},
    "reductions": {"reductions": None},
    "paired": {"paired": ["noise"]},
    "static": {"static": ["lost"]},
    "chunk": {"chunk": 5},
    "solver": {"solver": dfx.Heun()},
    "stepsize_controller": {"stepsize_controller": dfx.ConstantStepSize()},
    "parameters": {"sweep": [{"noise": 0.5, "weights": WEIGHTS[0], "lost": 0.0, "t1": 1.0}]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_another_study_is_refused_by_what_differs_and_nothing_is_touched(saved, name):
    changes = OTHERS[name]
    if "sweep" in changes:
        changes = changes | {"t1": None}
    other = study(**changes)
    before = files(saved)
    with pytest.raises(hj.StudyError, match="holds another study, which differs in ") as error:
        other.run(saved)
    first = str(error.value).split("differs in ")[1].split(":")[0].split("; ")
    assert any(found.split(" ")[0].startswith(name) for found in first), first
    assert files(saved) == before


@pytest.mark.slow
def test_a_study_that_may_not_go_on_is_refused(saved):
    before = files(saved)
    with pytest.raises(hj.StudyError, match="holds a study already, and resume is off"):
        study().run(saved, resume=False)
    assert files(saved) == before


@pytest.mark.slow
def test_another_machine_must_be_allowed(folder, dataset):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["environment"] |= {"jaxlib": "0.1", "device": "NVIDIA H100"}
    path.write_text(json.dumps(manifest))
    shutil.rmtree(next((folder / "chunks").iterdir()))
    before = files(folder)
    with pytest.raises(hj.StudyError, match=r"jaxlib .*; device .*elsewhere=True") as error:
        study().run(folder)
    assert '("NVIDIA H100" there, "cpu" here)' in str(error.value)
    assert files(folder) == before
    found = study().run(folder, elsewhere=True)
    same_values(found, dataset)
    assert found.attrs["jaxlib"] == "0.1"  # where it was begun


@pytest.mark.slow
def test_quantiles_are_for_the_reader(folder, dataset):
    found = study(quantiles=[0.25]).run(folder)
    assert found.quantile_level.values.tolist() == [0.25]
    none = study(quantiles=[]).run(folder)
    assert none.sizes.get("quantile_level", 0) == 0
    xr.testing.assert_identical(hj.load_study(folder), none)
    xr.testing.assert_equal(none.overlap_mean, dataset.overlap_mean)


# What a study is, as data.


class Module(eqx.Module):
    value: Any
    static: Any = eqx.field(static=True, default=None)


THINGS = {
    "numbers": [0, 1, 0.5, True, None, "1", [1], [1, 2], {"a": 1}, {"b": 1}],
    "arrays": [np.ones(2), np.ones(3), np.zeros(2), np.ones((2, 1)), np.ones(2, np.float32)],
    "keys": [jax.random.key(0), jax.random.key(1)],
    "modules": [Module(1.0), Module(2.0), Module(1.0, "a"), hj.Tanh(2.0), hj.Erf(2.0)],
    "nested": [Module(Module(1.0)), Module(np.ones(3)), Module([1, 2]), Module(raw), Module(None)],
}


@pytest.mark.parametrize("kind", THINGS)
def test_descriptions_tell_things_apart(kind):
    texts = [canonical(describe(thing)) for thing in THINGS[kind]]
    assert len(set(texts)) == len(texts)
    assert texts == [canonical(describe(thing)) for thing in THINGS[kind]]


def test_descriptions_of_equal_things_are_equal():
    pairs = [
        (Module(np.ones(2)), Module(jnp.ones(2))),
        (Module(1.0), Module(np.float64(1.0))),
        (hj.Tanh(2), hj.Tanh(2.0)),
        ((1, 2), [1, 2]),
        (raw, kept),  # what functions compute is told by the program
    ]
    for one, other in pairs:
        assert canonical(describe(one)) == canonical(describe(other))


# Wrong arguments.


@pytest.mark.parametrize(
    ("sweep", "changes", "match"),
    [
        ({}, {}, "`sweep` must have at least one parameter"),
        ([], {}, "`sweep` must have at least one parameter"),
        ("noise", {}, "`sweep` must be a grid"),
        (3, {}, "`sweep` must be a grid"),
        ([1], {}, "`sweep` must be a grid"),
        (GRID | {"noise": []}, {}, r"`sweep\['noise'\]` must have at least one value"),
        (GRID | {"noise": 0.5}, {}, r"`sweep\['noise'\]` must be a sequence of values, got 0.5"),
        (GRID | {"noise": "ab"}, {}, r"`sweep\['noise'\]` must be a sequence"),
        (GRID | {"noise": [1, 1.0]}, {}, r"`sweep\['noise'\]` must have no value twice"),
        (GRID | {"noise": [np.nan]}, {}, r"`sweep\['noise'\]` must be finite, got nan"),
        (GRID | {"noise": [0.5, 10**400]}, {}, r"`sweep\['noise'\]` must be finite"),
        (GRID | {"noise": [1j]}, {}, r"`sweep\['noise'\]` must be numbers.* got complex"),
        (GRID | {"noise": [-1.0]}, {}, r"`strength`.* got -1.0.*\(In the cell noise = -1, "),
        (GRID | {"time": [1.0]}, {}, "`sweep` must have names .* got 'time'"),
        (GRID | {"a b": [1.0]}, {}, "`sweep` must have names .* got 'a b'"),
        (GRID | {"other": [1.0]}, {}, "`trial` must take .*other"),
        ({"noise": [0.5]}, {}, "`trial` must take .*weights"),
        (GRID | {"dt": [0.1]}, {}, "`dt` must not be given where it is swept"),
        (GRID, {"dt": None}, "`dt` must be given, or swept"),
        (GRID, {"dt": 0.3}, r"`t1` .*dt = 0.3.*\(In the cell noise = 0.5, "),
        ([{"noise": 1.0}, {"dt": 1.0}], {}, "`sweep` must have the same parameters"),
        ([*LIST, LIST[0]], {}, "`sweep` must have no cell twice"),
        (GRID, {"paired": ["nose"]}, "`paired` must name swept parameters .* got 'nose'"),
        (GRID, {"paired": "noise"}, "`paired` must be a sequence of names"),
        (GRID, {"static": ["nose"]}, "`static` must name swept parameters"),
        (GRID, {"quantiles": [0.5, 0.1]}, "`quantiles` must be increasing numbers"),
        (GRID, {"quantiles": [2]}, "`quantiles`"),
        (GRID, {"quantiles": 0.5}, "`quantiles`"),
        (GRID, {"trials": 0}, "`trials`"),
        (GRID, {"trials": 2**32 + 1}, "`trials`"),  # the keys of trials would come round again
        (GRID, {"chunk": 0}, "`chunk`"),
        (GRID, {"key": 5}, "`key`"),
        (GRID, {"trial": 5}, "`trial` must be a function"),
        (GRID, {"criterion": 0.9}, "`criterion`"),
    ],
)
def test_wrong_arguments_are_refused_by_name(sweep, changes, match):
    with pytest.raises((TypeError, ValueError), match=match) as error:
        study(sweep, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["resume", "elsewhere", "progress"])
def test_flags_are_flags(flag, tmp_path):
    wrong: dict[str, Any] = {flag: 1}
    with pytest.raises(TypeError, match=f"`{flag}` must be True or False"):
        study().run(tmp_path / "study", **wrong)
    assert not (tmp_path / "study").exists()
