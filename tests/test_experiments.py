"""Experiments: numbers written beside pictures, redrawn without solving, claims read from them."""

import dataclasses
import inspect
import json
import re
import shutil
import sys
from typing import ClassVar

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.animation import PillowWriter
from PIL import Image

from experiments import common, mixture_weights, prose, protocols, sequence
from experiments.claims import (
    Measured,
    above,
    agrees,
    below,
    claim,
    every,
    measured,
    near,
    print_claims,
    show,
    within,
)
from experiments.common import Experiment, Sized
from experiments.numbers import constants, proportion, rounded
from experiments.reproduce import find_experiments

EXPERIMENTS = find_experiments()
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


FAST = ("mixture_weights",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(each, id=each.name, marks=() if each.name in FAST else pytest.mark.long)
        for each in EXPERIMENTS
    ],
)
def test_experiment_runs_and_redraws_from_its_numbers_alone(
    experiment, folder, monkeypatch, as_users_run
):
    module = sys.modules[f"experiments.{experiment.name}"]
    if hasattr(module, "TRIALS"):
        monkeypatch.setattr(module, "TRIALS", module.TRIALS._replace(quick=3))
    claims = experiment.run(full=False)
    path = folder / f"{experiment.name}.json"
    numbers = json.loads(path.read_text())
    assert numbers["full"] is False
    assert {"jax", "diffrax", "hopjax", "device"} <= set(numbers["versions"])
    pictures = [folder / name for name in experiment.files]
    drawn = [picture.read_bytes() for picture in pictures]
    for picture in pictures:
        picture.unlink()

    def solve_again(full):
        raise AssertionError("solved again")

    redrawn = dataclasses.replace(experiment, compute=solve_again)
    assert redrawn.run(full=False, redraw=True) == claims
    assert [picture.read_bytes() for picture in pictures] == drawn


def test_redraw_without_numbers_says_what_to_do(folder):
    with pytest.raises(SystemExit, match="run without --redraw first"):
        sequence.EXPERIMENT.run(full=False, redraw=True)


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_pictures_are_drawn_in_another_format_too(folder, monkeypatch, ending):
    def draw(numbers):
        figure, ax = plt.subplots(figsize=(1, 1))
        ax.plot(numbers["values"])
        return figure

    experiment = Experiment("made_up", lambda full: {"values": [1, 2]}, draw, lambda numbers: [])
    monkeypatch.setattr(sys, "argv", ["made_up", "--format", ending])
    experiment.main()
    pictures = sorted(folder.glob("made_up.[ps]*"))
    assert [path.suffix for path in pictures] == sorted({".png", f".{ending}"})
    kept = [path.read_bytes() for path in pictures]
    monkeypatch.setattr(sys, "argv", ["made_up", "--redraw", "--format", ending])
    experiment.main()
    assert [path.read_bytes() for path in pictures] == kept


class ThreeFrames(PillowWriter):
    """Of a film the first, the middle and the last frame: drawing the others takes longest."""

    wanted: ClassVar[list[int]] = []

    def setup(self, fig, outfile, dpi=None):
        super().setup(fig, outfile, dpi)
        fig.canvas.draw_idle = lambda *_: None
        self.place = 0

    def grab_frame(self, **options):
        if self.place in self.wanted:
            super().grab_frame(**options)
        self.place += 1


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_committed_figures_are_drawn_from_committed_numbers(experiment, folder, monkeypatch):
    committed = ROOT / "figures"
    numbers = committed / f"{experiment.name}.json"
    assert json.loads(numbers.read_text())["full"] is True
    shutil.copy(numbers, folder.parent)
    for name in experiment.animate:
        monkeypatch.setattr(ThreeFrames, "wanted", wanted(committed / f"{name}.gif"))
        monkeypatch.setattr("hopjax.plotting.animations.PillowWriter", ThreeFrames)
    assert [each for each in experiment.run(full=True, redraw=True) if not each.holds] == []
    for name in experiment.files:
        redrawn = frames(folder.parent / name, range(3) if name.endswith("gif") else [0])
        kept = frames(committed / name, wanted(committed / name))
        assert redrawn.shape == kept.shape
        assert apart(redrawn, kept) < 0.1  # fonts are rendered a little differently


def wanted(path) -> list[int]:
    """The first, the middle and the last frame, if there are several."""
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
    return sorted({0, count // 2, count - 1})


def frames(path, places) -> np.ndarray:
    """Some pictures of a file, with values between 0 and 1."""
    with Image.open(path) as image:
        pictures = []
        for place in places:
            image.seek(place)
            pictures.append(np.asarray(image.convert("RGB"), float) / 255)
    return np.stack(pictures)


def apart(redrawn: np.ndarray, kept: np.ndarray, cell: int = 8) -> float:
    """How much ink is elsewhere, as a share of all ink, by the mean of small squares."""
    rows, columns = (size // cell * cell for size in kept.shape[1:3])
    ink = [
        (1 - picture[:, :rows, :columns])
        .reshape(len(picture), rows // cell, cell, columns // cell, cell, 3)
        .mean(axis=(2, 4))
        for picture in (redrawn, kept)
    ]
    return float(np.abs(ink[0] - ink[1]).sum() / ink[1].sum())


@pytest.mark.parametrize("name", ["sequence_ensemble.png", "continual.png", "pictures_film.gif"])
def test_pictures_with_something_erased_are_apart(name):
    kept = frames(ROOT / "figures" / name, [0])
    assert apart(kept, kept) == 0
    erased = kept.copy()
    erased[:, :, : kept.shape[2] // 3] = 1
    assert apart(erased, kept) > 0.1


@pytest.mark.slow
def test_weights_follow_the_protocol():
    keys = jax.random.split(jax.random.key(1), 500)
    weights = np.asarray(jax.vmap(mixture_weights.draw_weights)(keys))
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


def test_every_file_with_an_experiment_is_found_and_named_after_it():
    files = {
        path.stem
        for path in (ROOT / "experiments").glob("*.py")
        if "EXPERIMENT.main()" in path.read_text()
    }
    assert {experiment.name for experiment in EXPERIMENTS} == files
    assert len(files) == len(EXPERIMENTS) >= 23


def test_a_size_is_chosen_by_whether_it_is_full():
    sizes = Sized(quick=3, full=300)
    assert (sizes[False], sizes[True]) == (3, 300)
    assert constants({"NUM_NEURONS": 7, "DT": 0.1, "x": 1}, "DT NUM_NEURONS") == {
        "dt": 0.1,
        "num_neurons": 7,
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_constants_that_are_written_down_are_there(experiment):
    module = sys.modules[f"experiments.{experiment.name}"]
    text = inspect.getsource(module)
    for names in re.findall(r'constants\(\s*globals\(\), "([^"]+)"', text):
        assert set(names.split()) <= set(vars(module))
    assert text.count("constants(") == len(re.findall(r"constants\(\s*globals", text))


def test_what_json_holds_becomes_a_number_with_its_interval():
    assert measured({"p": 0.5, "low": 0.4, "high": 0.6, "count": 1}) == (0.5, 0.4, 0.6)
    assert measured({"mean": 2.0, "half_width": 0.5}) == (2.0, 1.5, 2.5)
    assert measured([1.0, 0.5, 1.5]) == (1.0, 0.5, 1.5)
    assert measured(3) == (3, 3, 3)
    assert np.isnan(measured(None).value)
    assert show([1.0, 0.5, 1.5], 3) == "1.000 [0.500, 1.500], 3.000"
    assert f"{Measured(-0.5, -0.75, -0.25).times(-2, 1):+.1f}" == "+2.0 [+1.5, +2.5]"
    assert Measured(2.0, 1.0, 4.0).over(Measured(2.0, 1.0, 4.0)) == (1.0, 0.25, 4.0)


SURE, HALF, NEVER = (0.95, 0.92, 0.97), (0.5, 0.4, 0.6), (0.01, 0.0, 0.02)


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (above(SURE, 0.9), "yes"),
        (above(SURE, 0.94), "open"),  # the estimate is above, the interval is not
        (above(SURE, 0.97), "NO"),
        (above(HALF, NEVER), "yes"),
        (above(HALF, (0.45, 0.39, 0.51)), "open"),
        (above(NEVER, HALF), "NO"),
        (above([SURE, HALF], 0.3), "yes"),
        (above([SURE, HALF], 0.9), "NO"),
        (above(None, 0.9), "open"),  # nothing finite was measured
        (above([SURE, None], 0.9), "open"),
        (below([None, NEVER], 0.9), "open"),
        (below(2.0, (np.inf, np.inf, np.inf)), "yes"),
        (below(NEVER, 0.05), "yes"),
        (below(NEVER, 0.015), "open"),
        (below(HALF, 0.05), "NO"),
        (below([NEVER, HALF], SURE), "yes"),
        (below(3, 3), "NO"),
        (within(HALF, 0.4, 0.6), "yes"),
        (within(HALF, 0.45, 0.6), "open"),
        (within([HALF, SURE], 0.4, 0.6), "NO"),
        (near(HALF, 0.55, 0.2, "{}"), "yes"),
        (near(HALF, (0.55, 0.5, 0.6), 0.15, "{}"), "open"),
        (near(HALF, SURE, 0.1, "{}"), "NO"),
        (agrees(HALF, 0.6, "{}"), "yes"),
        (agrees(HALF, SURE, "{}"), "NO"),
        (every(3, 3), "yes"),
        (every(2, 3), "NO"),
    ],
)
def test_a_check_goes_by_the_interval(check, verdict):
    assert claim("it is so", check).verdict == verdict
    assert claim("it is so", check, every(1, 1)).verdict == verdict
    assert not (check.holds and check.fails)


def test_a_claim_says_its_bounds_and_what_was_measured():
    made = claim("mostly ({}), hardly ever ({})", above([SURE, HALF], 0.3), below(NEVER, 0.05))
    assert made.statement == "mostly (P > .3), hardly ever (P < .05)"
    assert made.measured == "P ≥ 0.500 [0.400, 0.600]; P = 0.010 [0.000, 0.020]"
    compared = claim("more", above(SURE, HALF, "P = {:.2f}, without {:.1f}"))
    assert compared.statement == "more"
    assert compared.measured == "P = 0.95 [0.92, 0.97], without 0.5 [0.4, 0.6]"
    assert within(HALF, -0.5, 12).wanted == "−.5 to 12"
    assert near(HALF, 10, 10.25, "{} of {:g}").measured == "0.500 [0.400, 0.600] of 10"


def test_claims_are_printed_as_a_table(capsys):
    print_claims([claim("it rains", above(SURE, 0.5)), claim("it pours", above(NEVER, 0.5))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(" | ") == [
        "claim of the paper",
        "measured here, with 95% interval",
        "holds?",
    ]
    assert [line.split(" | ")[-1].strip() for line in lines[2:]] == ["yes", "NO"]
    assert len({line.index("|") for line in (lines[0], *lines[2:])}) == 1


def test_prose_is_filled_and_tables_are_not():
    sentence = "It falls to -0.5 of that at N = 10-20. " * 4
    lines = prose.filled(sentence).splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= prose.WIDTH
    assert " ".join(lines) == sentence.strip().replace("-0.5", "−0.5")
    table = prose.table(["|m|", "P"], [["1", "a" * 200], ["", "-1"]])
    assert table.splitlines()[:2] == ["| \\|m\\| | P |", "|---|---|"]
    assert prose.filled(table) == table
    listed = prose.listed([1, 2, [3.0, 2.5, 3.5]], form=".1f")
    assert listed == "1.0, 2.0 and 3.0 [2.5, 3.5]"
