"""Experiments: numbers written beside pictures, redrawn without solving, claims read from them."""

import dataclasses
import json
import shutil

import jax
import matplotlib as mpl
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from experiments import (
    attention,
    capacity,
    common,
    continual,
    escape,
    firing_rate,
    flow_error,
    glitch,
    glitch_duration,
    hierarchy,
    landscape,
    mixture_weights,
    noise_window,
    phase_diagram,
    pictures,
    protocols,
    pulse,
    retrieval_time,
    robustness,
    separation,
    sequence,
    storage,
    tuned_strength,
    two_layer,
    unscaled,
)
from experiments.common import Claim, print_claims, proportion, rounded, run_trials
from experiments.reproduce import EXPERIMENTS

mpl.use("Agg")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "FIGURES", tmp_path)
    monkeypatch.setattr(common, "QUICK", tmp_path / "quick")
    return tmp_path / "quick"


@pytest.fixture
def as_users_run():
    """JAX's own settings, in every thread."""
    settings = {  # there, and in the other tests
        "jax_enable_x64": (False, True),
        "jax_numpy_dtype_promotion": ("standard", "strict"),
        "jax_numpy_rank_promotion": ("allow", "raise"),
        "jax_disable_most_optimizations": (False, True),
    }
    for name, (there, _) in settings.items():
        jax.config.update(name, there)
    yield
    for name, (_, here) in settings.items():
        jax.config.update(name, here)


SLOW = (
    *(sequence, glitch, hierarchy, landscape, phase_diagram, noise_window, escape, flow_error),
    *(robustness, retrieval_time, unscaled, glitch_duration, capacity),
    *(attention, firing_rate, two_layer, storage, continual, pictures),
    *(tuned_strength, pulse, separation),
)


@pytest.mark.parametrize(
    "module", [mixture_weights, *(pytest.param(module, marks=pytest.mark.slow) for module in SLOW)]
)
def test_experiment_runs_and_redraws_from_its_numbers_alone(
    module, folder, monkeypatch, as_users_run
):
    if hasattr(module, "QUICK_TRIALS"):
        monkeypatch.setattr(module, "QUICK_TRIALS", 3)
    claims = module.EXPERIMENT.run(full=False)
    path = folder / f"{module.EXPERIMENT.name}.json"
    numbers = json.loads(path.read_text())
    assert numbers["full"] is False
    assert {"jax", "diffrax", "hopjax", "device"} <= set(numbers["versions"])
    pictures = [folder / name for name in module.EXPERIMENT.files]
    drawn = [picture.read_bytes() for picture in pictures]
    for picture in pictures:
        picture.unlink()

    def solve_again(full):
        raise AssertionError("solved again")

    redrawn = dataclasses.replace(module.EXPERIMENT, compute=solve_again)
    assert redrawn.run(full=False, redraw=True) == claims
    assert [picture.read_bytes() for picture in pictures] == drawn


def test_redraw_without_numbers_says_what_to_do(folder):
    with pytest.raises(SystemExit, match="run without --redraw first"):
        sequence.EXPERIMENT.run(full=False, redraw=True)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_committed_figures_are_drawn_from_committed_numbers(experiment, folder):
    committed = ROOT / "figures"
    numbers = committed / f"{experiment.name}.json"
    assert json.loads(numbers.read_text())["full"] is True
    shutil.copy(numbers, folder.parent)
    assert all(claim.holds for claim in experiment.run(full=True, redraw=True))
    for name in experiment.files:
        redrawn, kept = (frames(where / name) for where in (folder.parent, committed))
        assert redrawn.shape == kept.shape
        assert np.mean(np.abs(redrawn - kept)) < 0.02  # fonts are rendered a little differently


def frames(path) -> np.ndarray:
    """Some pictures of a file, with values between 0 and 1."""
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
        pictures = []
        for frame in sorted({0, count // 2, count - 1}):
            image.seek(frame)
            pictures.append(np.asarray(image.convert("RGB"), float) / 255)
    return np.stack(pictures)


def test_trials_depend_on_their_number_only():
    key = jax.random.key(0)
    many = run_trials(jax.random.normal, key, 300, "many")
    few = run_trials(jax.random.normal, key, 7, "few")
    np.testing.assert_array_equal(many[:7], few)
    assert many.shape == (300,)
    assert len(np.unique(many)) == 300


def test_cells_have_their_own_parameters_and_keys():
    key = jax.random.key(0)

    def trial(key, cell):
        return cell[0] + cell[1].sum() + jax.random.normal(key)

    cells = (np.array([0.0, 100.0, 200.0]), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    many = run_trials(trial, key, 50, "many", cells)
    few = run_trials(trial, key, 3, "few", jax.tree.map(lambda leaf: leaf[:2], cells))
    assert many.shape == (3, 50)
    np.testing.assert_array_equal(many[:2, :3], few)
    noise = many - np.array([[3.0], [107.0], [211.0]])
    assert np.abs(noise).max() < 5
    assert len(np.unique(noise.round(9))) == 150


def test_weights_follow_the_protocol():
    keys = jax.random.split(jax.random.key(1), 500)
    weights = np.asarray(jax.vmap(protocols.draw_weights)(keys))
    np.testing.assert_allclose(weights.sum(axis=2), np.sqrt(10 * 1024), rtol=1e-5)
    # The scaling keeps ratios: a dominant weight against the mean background one.
    background = weights[:, :, 3:].mean(axis=2)
    for row in range(3):
        ratio = weights[:, row, row] / background[:, row]
        assert ratio.min() > 2 / 1.5
        assert ratio.max() < 3.5 / 0.8
    for row in (1, 2):
        assert (weights[:, row, row - 1] / background[:, row]).max() < 0.6 / 0.8


def test_summary_counts_outcomes():
    overlaps = np.zeros((5, 301, 10), np.float32)
    overlaps[0, :, 0] = -0.95  # right in window 1, up to sign
    overlaps[1, :, 4] = 0.95  # wrong
    overlaps[2, 50:, 0] = 0.95  # right, from t = 5 on
    overlaps[3] = np.nan  # diverged
    window = protocols.summarise(protocols.SEQUENCE, overlaps)["windows"][0]
    assert [window[name]["count"] for name in ("right", "wrong", "neither")] == [2, 1, 2]
    assert window["right"]["trials"] == 5
    assert window["largest"]["count"] == 3  # the trial of zeros too, the diverged one not
    assert protocols.summarise(protocols.SEQUENCE, overlaps)["diverged"] == 1
    # In order: 0, 5, never, never, never.
    assert window["time_to_retrieve"] == [0.0, None, None]


def test_numbers_become_json():
    assert rounded(np.array([1.23456, np.nan, np.inf])) == [1.2346, None, None]
    assert rounded(np.float32(2.0)) == 2.0
    assert proportion(np.array([True, False, True]))["count"] == 2


def test_claims_are_printed_as_a_table(capsys):
    print_claims([Claim("it rains", "P = .5", True), Claim("it pours", "P = .1", False)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(" | ") == [
        "claim of the paper",
        "measured here, with 95% interval",
        "holds?",
    ]
    assert [line.split(" | ")[-1].strip() for line in lines[2:]] == ["yes", "NO"]
    assert len({line.index("|") for line in (lines[0], *lines[2:])}) == 1
