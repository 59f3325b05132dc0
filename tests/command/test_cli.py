"""The `hopjax` command, in this process where JAX allows it."""

import contextlib
import importlib.resources
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from conftest import ROOT

import hopjax as hj
from hopjax.command import (
    cli,
    cluster,
    picture as _picture,
    read_study,
    read_tuning,
    show as _show,
    trial as _trial,
    tune_file as _tune_file,
)
from hopjax.store import load_result
from hopjax.store.folder import Store
from hopjax.study.study import Estimate
from hopjax.tuning import descent as _descent, summary
from hopjax.tuning.descent import Descent
from hopjax.tuning.tune import Cost

TEXT = """
trials = 4
seed = 3
t1 = 0.4
dt = 0.1
chunk = 2

[criterion]
threshold = 0.5

[trial]
num_neurons = 8
num_memories = 2
law = "two_point"

[sweep]
noise = [0.5, 2.0]
slope = [5.0, 10.0]
"""

TUNE = """
seed = 3
t1 = 0.4
dt = 0.1
trials = 4
chunk = 2
steps = 6
window = 2
verify = 20

[criterion]
threshold = 0.5

[trial]
num_neurons = 16
num_memories = 2
noise = 0.5
slope = 2.0
start = "memory"
start_scale = 0.2

[tune]
strength = { start = 1.5, low = 0.0 }

[[loss]]
kind = "overlap"
goal = 0.9
"""


class Call:
    """Runs the command and keeps what it said."""

    def __init__(self, monkeypatch, capsys):
        self._patch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: Any) -> tuple[int, str, list[str]]:
        """Exit code, standard output, and the lines of standard error."""
        self._patch.setattr(sys, "argv", ["hopjax", *map(str, words)])
        # The number of devices is settled here: the command leaves it alone.
        self._patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
        self._capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # as for users, who call it once
            with pytest.raises(SystemExit) as exit:
                cli.main()
        said, code = self._capsys.readouterr(), exit.value.code or 0
        assert isinstance(code, int)
        return code, said.out, said.err.splitlines()


@pytest.fixture
def call(monkeypatch, capsys):
    return Call(monkeypatch, capsys)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("command") / "study.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def saved(file):
    """A folder that the file's study was saved in; not to be changed."""
    folder = file.with_name("saved")
    read_study(file).run(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "study"))


@pytest.fixture(scope="module")
def tune_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tuning") / "tune.toml"
    path.write_text(TUNE)
    return path


@pytest.fixture(scope="module")
def tuning(tune_file):
    """The file's tuning, saved beside it; not to be changed."""
    trial, parameters, options = read_tuning(tune_file)
    return hj.tune(trial, parameters, **options, folder=tune_file.with_name("saved"))


@pytest.fixture
def tuned(tuning, tune_file, tmp_path):
    return Path(shutil.copytree(tune_file.with_name("saved"), tmp_path / "tuned"))


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_the_example_is_a_study_and_the_packaged_file(call, tmp_path):
    code, text, errors = call("example")
    assert (code, errors) == (0, [])
    packaged = importlib.resources.files("hopjax").joinpath("command", "examples", "noise.toml")
    assert text.encode() == packaged.read_bytes()
    text = text.replace("num_neurons = 1024", "num_neurons = 32")  # which is faster
    (tmp_path / "noise.toml").write_text(text)
    study = read_study(tmp_path / "noise.toml")
    assert study.trials == 400
    assert [cell["noise"] for cell in study.cells][:2] == [0.8, 1.0]
    # What is commented out is right as well.
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("# ") and line[2:].split(" ")[0] in {
            *("static", "chunk", "quantiles", "since", "mixed", "total_weight", "target")
        }:
            lines[number] = line[2:]
    (tmp_path / "noise.toml").write_text("\n".join(lines))
    assert read_study(tmp_path / "noise.toml")._work.quantiles == (0.1, 0.5, 0.9)
    # The other ways to sweep, too: a range, and what follows "Or, instead of".
    head, tail = re.split(r"(?m)^\[sweep\]", text)
    (line,) = re.findall("# (noise = {.*)", tail)
    ways = {"[sweep]\n" + line: 11, re.sub("(?m)^# ?", "", tail[tail.index("# [[") :]): 1}
    for way, cells in ways.items():
        (tmp_path / "noise.toml").write_text(head + way)
        assert len(read_study(tmp_path / "noise.toml").cells) == cells


@pytest.mark.slow
def test_the_example_of_basins_is_a_study(call, tmp_path):
    code, text, errors = call("example", "basins")
    assert (code, errors) == (0, [])
    assert all(len(line) <= 100 for line in text.splitlines())
    # Smaller, which is faster.
    text = re.sub("memory_load = .*", "memory_load = [0.5]", text)
    (tmp_path / "basins.toml").write_text(text.replace("num_neurons = 256", "num_neurons = 8"))
    cells = read_study(tmp_path / "basins.toml").cells
    assert [cell["corruption"] for cell in cells] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.mark.slow
def test_the_example_of_tuning_names_everything_and_is_the_packaged_file(call, tmp_path):
    assert call("example", "study")[1] == call("example")[1]
    code, text, errors = call("example", "tune")
    assert (code, errors) == (0, [])
    packaged = importlib.resources.files("hopjax").joinpath("command", "examples", "tune.toml")
    assert text.encode() == packaged.read_bytes()
    assert all(len(line) <= 100 for line in text.splitlines())
    named = set(re.findall(r"\b(\w+) = ", text))
    options = [inspect.signature(kind).parameters for kind in _tune_file._LOSSES.values()]
    for known in (_tune_file._TOP, _trial.FIELDS, _trial.CRITERION, *options):
        assert set(known) <= named
    path = tmp_path / "tune.toml"

    def read(text: str) -> Any:
        path.write_text(text.replace("num_neurons = 512", "num_neurons = 32"))  # which is faster
        return read_tuning(path)

    trial, parameters, options = read(text)
    assert trial.num_memories == 8
    assert parameters == {"strength": 1.5}
    assert options["bounds"] == {"strength": (0.0, None)}
    assert options["steps"] == 60
    # What is commented out is right as well: one line in the place of another ...
    body, others = text.split("#\n# Other kinds")
    read(body.replace("goal = ", "# goal = ").replace("# at_least", "at_least"))
    swapped = re.sub("(?m)^(noise|background)", r"# \1", body)
    swapped = re.sub(r"(?m)^# (noise = {|background = 0.4 .*without)", r"\1", swapped)
    assert read(swapped)[1] == {"strength": 1.5, "noise": 2.0, "background": 0.4}
    for line in re.findall(r"(?m)^# (\w+ = .*)$", body):
        if not line.startswith(("at_least", "noise", "background")):
            body = body.replace(f"# {line}", line)
    options = read(body)[2]
    assert options["optimiser"] is not None
    assert options["chunk"] == 16
    # ... and what follows "Other kinds".
    assert (
        len(read(body + re.sub("(?m)^# ?", "", others[others.index("# [[") :]))[2]["loss"].losses)
        == 4
    )


def test_info_names_versions_and_devices(call):
    code, text, errors = call("info")
    assert (code, errors) == (0, [])
    assert f"jax {jax.__version__}" in text.splitlines()
    assert f"hopjax {hj.__version__}" in text.splitlines()
    assert text.splitlines()[-1] == "2 x cpu cpu"


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["study", "--help"], ["tune", "--help"], ["show", "-h"], []]
)
def test_help(call, words):
    code, text, errors = call(*words)
    said = text.splitlines() if words else [*text.splitlines(), *errors]
    assert code == 0 or not words
    assert any(line.startswith("Usage: hopjax") for line in said)
    assert len(said) > 5
    if words[:1] in (["study"], ["tune"]):
        assert "--dry-run" in text
        assert "\b" not in text


def test_version(call):
    code, text, _ = call("--version")
    assert code == 0
    assert hj.__version__ in text


@pytest.mark.slow
def test_a_study_is_run_saved_and_printed(call, file, saved, tmp_path):
    folder = tmp_path / "deep" / "study"
    code, text, errors = call("study", file, "--out", folder)
    assert code == 0
    assert errors == [f"4 cells of 4 trials, into {folder}", f"saved {folder / 'result.nc'}"]
    expected = read_study(file).run()
    xr.testing.assert_identical(hj.load_study(folder), expected)
    assert (folder / "result.nc").read_bytes() == (saved / "result.nc").read_bytes()
    lines = text.splitlines()
    assert len(lines) == 6
    assert lines[0].split("  ")[0] == "noise"
    for line, noise, slope in zip(lines[1:5], (0.5, 0.5, 2, 2), (5, 10, 5, 10), strict=True):
        cell = expected.sel(noise=noise, slope=slope)
        assert line.split()[:3] == [f"{noise:g}", f"{slope:g}", f"{cell.retrieved.item():.3f}"]
        assert f"[{cell.retrieved_low.item():.3f}, {cell.retrieved_high.item():.3f}]" in line
        middle = np.sort(cell.passage_time.values)[1]  # of four: half have passed by the second
        assert line.split()[-2:] == [f"{middle:.4g}", "0"]
    assert lines[5] == (
        "4 trials in each cell; target memory 0; retrieved: |m| > 0.5 and the largest, at the end"
    )


@pytest.mark.slow
def test_show_prints_the_table_and_draws_it(call, folder, file):
    code, text, errors = call("show", folder)
    assert (code, errors) == (0, [f"drawn {folder / 'result.png'}"])
    assert text == _show.study_table(hj.load_study(folder)) + "\n"
    image = matplotlib.image.imread(folder / "result.png")
    assert min(image.shape[:2]) > 100
    colours = np.unique((255 * image[..., :3]).astype(int).reshape(-1, 3), axis=0)
    assert (np.ptp(colours, axis=1) > 50).any()  # more than black on white
    drawn = (image[..., :3].min(axis=-1) < 0.9).mean(axis=1)
    assert 0.005 < drawn.mean() < 0.5


@pytest.mark.slow
def test_a_list_of_cells_and_words_can_be_shown(call, tmp_path, file):
    # The program is that of the grid, whose two parameters are here in the cells.
    cells = "".join(f"[[cells]]\nnoise = {n}\nslope = {10 - 5 * (n < 1)}\n" for n in (0.5, 2.0))
    path = tmp_path / "cells.toml"
    path.write_text(TEXT[: TEXT.index("[sweep]")] + cells)
    code, text, _ = call("study", path, "--out", tmp_path / "study")
    assert code == 0
    assert [line.split()[:2] for line in text.splitlines()[1:3]] == [["0.5", "5"], ["2", "10"]]
    assert call("show", tmp_path / "study")[0] == 0
    # Words and lists in the place of numbers.
    worded = hj.load_study(tmp_path / "study").assign_coords(
        noise=("cell", ["[1,2]", "null"]), slope=("cell", ["a", "b"])
    )
    assert _show.study_table(worded).splitlines()[1].split()[:2] == ["[1,2]", "a"]
    _picture.draw_study(worded, tmp_path / "worded.png")
    assert (tmp_path / "worded.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_number_of_trials_can_be_raised_on_the_command_line(call, file, folder):
    before = {path: path.stat().st_ino for path in folder.rglob("*.npz")}
    code, text, errors = call("study", file, "--out", folder, "--trials", "6")
    assert code == 0
    assert errors[0] == f"4 cells of 6 trials, into {folder}"
    assert "6 trials in each cell" in text
    assert hj.load_study(folder).sizes["trial"] == 6
    assert all(path.stat().st_ino == inode for path, inode in before.items())


@pytest.mark.slow
def test_a_dry_run_writes_nothing(call, file, tmp_path, monkeypatch):
    monkeypatch.setattr(
        hj.Study, "estimate", lambda self, devices: Estimate(4, 16, 8, 7200, 2**21, 3000)
    )
    before = names(tmp_path)
    for words in ([], ["--out", tmp_path / "study"]):
        code, text, _ = call("study", file, "--dry-run", *words)
        assert code == 0
        lines = text.splitlines()
        assert lines[0] == "noise = 0.5, slope = 5.0"
        assert lines[4] == "4 cells x 4 trials = 16 trials in 8 chunks of up to 2, on 2 devices"
        assert lines[5:] == ["about 2.0 hours, 2 MiB at work", "about 3 KiB of results"]
    assert names(tmp_path) == before


@pytest.mark.long
@pytest.mark.parametrize("onsets", ["[0.0]", "[0.0, 10.0]"])
def test_an_estimate_is_about_right(call, tmp_path, onsets):
    shown = "[0, 1]" if "10" in onsets else "[0]"
    text = TEXT.replace("t1 = 0.4", "t1 = 40.0").replace("trials = 4", "trials = 200")
    text = text.replace("[trial]", f"[trial]\nonsets = {onsets}\nshown = {shown}")
    (tmp_path / "study.toml").write_text(text)
    study = read_study(tmp_path / "study.toml")
    estimate = study.estimate()
    assert estimate[:3] == (4, 800, 400)
    assert 0.1 < estimate.seconds < 60
    study.run(tmp_path / "study")
    assert estimate.bytes_of_result > 0.1 * (tmp_path / "study" / "result.nc").stat().st_size


@pytest.mark.slow
def test_diverged_trials_are_told(call, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TEXT.replace("noise = [0.5, 2.0]", "noise = [0.5, 1.79e308]"))
    code, text, errors = call("study", path, "--out", tmp_path / "study")
    assert code == 0, errors
    assert len(errors) == 3
    counts = [int(line.split()[-1]) for line in text.splitlines()[1:5]]
    assert counts[:2] == [0, 0]
    assert min(counts[2:]) > 0
    said = f"noise = 1.79e+308, slope = 5: {counts[2]} of 4, the first is trial "
    assert errors[1].startswith(f"hopjax: Trials diverged, and means leave them out: {said}")
    assert text.splitlines()[-1].startswith(f"diverged, and left out of means: {said}")


@pytest.mark.slow
def test_a_sweep_in_a_file_may_grow_at_either_end(call, folder, tmp_path):
    before = {path: path.stat().st_ino for path in folder.rglob("*.npz")}
    path = tmp_path / "study.toml"
    path.write_text(TEXT.replace("noise = [0.5, 2.0]", "noise = [0.25, 0.5, 2.0, 4.0]"))
    code, _, errors = call("study", path, "--out", folder)
    assert code == 0, errors
    assert hj.load_study(folder).noise.values.tolist() == [0.25, 0.5, 2.0, 4.0]
    assert all(path.stat().st_ino == inode for path, inode in before.items())


def test_an_interruption_is_one_line(call, file, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(hj.Study, "run", interrupted)
    code, _, errors = call("study", file, "--out", tmp_path / "study")
    assert code == 130
    assert errors[-1] == "hopjax: interrupted; the same command goes on from there."
    assert len(list(filter(None, errors))) == 2


# Tuning.


@pytest.mark.slow
def test_tuning_is_done_saved_and_printed(call, tune_file, tuning, tmp_path):
    folder = tmp_path / "deep" / "tuned"
    code, text, errors = call("tune", tune_file, "--out", folder)
    assert code == 0
    assert errors == [f"tuning strength, into {folder}", f"saved {folder / 'result.nc'}"]
    assert text == f"{tuning}\n"
    xr.testing.assert_identical(hj.load_tuning(folder), tuning.history)
    with pytest.raises(hj.StudyError, match=r"holds no study, but what .* 'hopjax tuning'"):
        hj.load_study(folder)
    saved = tune_file.with_name("saved") / "result.nc"
    assert (folder / "result.nc").read_bytes() == saved.read_bytes()


@pytest.mark.slow
def test_the_same_command_again_does_no_step_again(call, tune_file, tuning, tuned, monkeypatch):
    differentiate = Descent.differentiate

    def after_the_steps(self, z, key, place):
        assert not place.startswith("step")
        return differentiate(self, z, key, place)

    monkeypatch.setattr(Descent, "differentiate", after_the_steps)
    before = {name: (tuned / name).read_bytes() for name in names(tuned) - {"lock"}}
    code, text, _ = call("tune", tune_file, "--out", tuned)
    assert code == 0
    assert text == f"{tuning}\n"
    assert {name: (tuned / name).read_bytes() for name in before} == before


@pytest.mark.slow
def test_interrupted_tuning_goes_on_to_the_same_numbers(
    call, tune_file, tuning, tmp_path, monkeypatch
):
    differentiate, solved = Descent.differentiate, []

    def interrupted(self, z, key, place):
        solved.append(place)
        if len(solved) == 4:
            raise KeyboardInterrupt
        return differentiate(self, z, key, place)

    monkeypatch.setattr(Descent, "differentiate", interrupted)
    monkeypatch.setattr(_descent, "_SAVE_EVERY", -1.0)  # every step
    folder = tmp_path / "tuned"
    code, text, errors = call("tune", tune_file, "--out", folder)
    assert (code, text) == (130, "")
    assert errors[-1] == "hopjax: interrupted; the same command goes on from there."
    assert len(list(filter(None, errors))) == 2
    assert names(folder) == {"lock", "manifest.json", "steps.npz"}
    code, text, _ = call("tune", tune_file, "--out", folder)
    assert (code, text) == (0, f"{tuning}\n")
    steps = [place for place in solved if place.startswith("step")]
    assert steps == [f"step {number}" for number in (0, 1, 2, 3, 3, 4, 5)]
    saved = tune_file.with_name("saved") / "result.nc"
    assert (folder / "result.nc").read_bytes() == saved.read_bytes()


def test_a_dry_run_of_tuning_writes_nothing(call, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cli, "estimate_tuning", lambda *args, **options: Cost("forward", 4, 344, 7200.0)
    )
    path = tmp_path / "tune.toml"
    path.write_text(
        re.sub("(?m)^(noise|slope) = .*", "", TUNE).replace(
            "[tune]",
            "[tune]\nnoise = 1.5\nslope = { start = 5, low = 1, high = 20 }\ndominant = [2.0, 3.5]",
        )
    )
    before = names(tmp_path)
    for words in ([], ["--out", tmp_path / "tuned"]):
        code, text, errors = call("tune", path, "--dry-run", *words)
        assert (code, errors) == (0, ["measuring ..."])
        assert text.splitlines() == [
            "noise from 1.5",
            "slope from 5, above 1, below 20",
            "dominant from (2.0, 3.5)",
            "strength from 1.5, above 0",
            "numbers to tune: 4, in forward mode; at most 344 solves, on 2 devices",
            "about 2.0 hours at most, without compiling",
        ]
    assert names(tmp_path) == before


@pytest.mark.slow
def test_tuning_is_estimated(call, tune_file):
    code, text, _ = call("tune", tune_file, "--dry-run", "--devices", "1")
    assert code == 0
    start, size, duration = text.splitlines()
    assert start == "strength from 1.5, above 0"
    found = re.fullmatch(
        r"numbers to tune: 1, in forward mode; at most (\d+) solves, on 1 devices", size
    )
    assert found
    assert int(found[1]) > 6 * 4 + 20  # of the steps and of the fresh trials
    assert re.fullmatch(r"about \d+ seconds at most, without compiling", duration)


@pytest.mark.slow
def test_show_prints_what_tuning_found_and_draws_it(call, tuned, tuning):
    code, text, errors = call("show", tuned)
    assert (code, errors) == (0, [f"drawn {tuned / 'result.png'}"])
    assert text == f"{tuning}\n"
    image = matplotlib.image.imread(tuned / "result.png")
    colours = np.unique((255 * image[..., :3]).astype(int).reshape(-1, 3), axis=0)
    assert (np.ptp(colours, axis=1) > 50).any()  # more than black on white
    drawn = (image[..., :3].min(axis=-1) < 0.9).mean(axis=1)
    assert 0.005 < drawn.mean() < 0.5


@pytest.mark.slow
def test_many_tuned_numbers_and_gaps_can_be_shown(tuning, tmp_path):
    steps = tuning.history.sizes["step"]
    many = {"inputs_values": np.zeros((steps, 20)), **{f"p{n}": np.ones(steps) for n in range(8)}}
    variables = {}
    for name, path in many.items():
        dims = ("n",) * (path.ndim - 1)
        variables[name] = (("step", *dims), path)
        variables |= {f"{name}{end}": (dims, path[-1]) for end in ("_tuned", "_low", "_high")}
    dataset = tuning.history.assign(variables)
    dataset.attrs |= {"parameters": ", ".join(many).replace("_", "."), "skipped": 1}
    dataset.loss[2] = np.nan
    lines = summary(dataset).splitlines()
    assert lines[1].startswith("  inputs.values = 0 [0, 0], 0 [0, 0], ")
    assert lines[1].endswith(", ... (20 in all)")
    assert lines[2] == "  p0 = 1 [1, 1]"
    assert lines[-1].endswith(": 1 skipped, 0 trials diverged")
    _picture.draw_tuning(dataset, tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 1000


# Every failure is one line and exit code 2.

FAILURES: dict[str, tuple[list[str], str]] = {
    "unknown command": (["stdy"], "No such command 'stdy'"),
    "unknown option": (["study", "{file}", "--output", "x"], "No such option.*--output"),
    "no file": (["study"], "Missing argument 'FILE'"),
    "file that is not there": (
        ["study", "none.toml", "--out", "{new}"],
        "none.toml: cannot be rea",
    ),
    "folder for a file": (["study", "{folder}", "--out", "{new}"], "cannot be read: Is a direct"),
    "bad file": (["study", "{bad}", "--out", "{new}"], r"bad.toml:1: trials: must be an integer"),
    "bad file, dry": (["study", "{bad}", "--dry-run"], r"bad.toml:1: trials: must be an integer"),
    "no folder": (["study", "{file}"], "Option --out must be given"),
    "no trials": (["study", "{file}", "--out", "{new}", "--trials", "0"], "--trials.*0 is not in"),
    "trials text": (["study", "{file}", "--out", "{new}", "--trials", "many"], "--trials.*'many'"),
    "too many devices": (
        ["study", "{file}", "--out", "{new}", "--devices", "99"],
        "at most 2 here",
    ),
    "no devices": (["study", "{file}", "--out", "{new}", "--devices", "0"], "--devices.*0 is not"),
    "file for a cache": (
        ["study", "{file}", "--out", "{new}", "--cache", "{file}"],
        "--cache.*is a file",
    ),
    "scheduler and workers": (
        ["study", "{file}", "--out", "{new}", "--scheduler", "a:1", "--workers", "2"],
        "--scheduler and --workers exclude each other",
    ),
    "no workers": (
        ["study", "{file}", "--out", "{new}", "--workers", "0"],
        "--workers.*0 is not in",
    ),
    "file for a folder": (["study", "{file}", "--out", "{file}"], "Cannot make the folder"),
    "no resume": (["study", "{file}", "--out", "{folder}", "--no-resume"], "resume is off"),
    "another study": (["study", "{other}", "--out", "{folder}"], "differs in trial.num_neurons"),
    "fewer cells": (["study", "{fewer}", "--out", "{folder}"], "is not in this sweep"),
    "nothing to show": (["show", "{new}"], r"new/result\.nc does not exist: run the study"),
    "show a file": (["show", "{file}"], r"result\.nc"),
    "show a foreign file": (["show", "{foreign}"], r"result\.nc"),
    "show a damaged file": (["show", "{damaged}"], r"result\.nc"),
    "show another file": (["show", "{dataset}"], r"result\.nc is not the result of a study or tun"),
    "a page and a picture": (
        ["show", "{folder}", "--html", "--format", "pdf"],
        "--format and --html exclude each other",
    ),
    "a page of a tuning": (["show", "{tuned}", "--html"], "--html is for studies, and this folder"),
    "no such example": (["example", "tuning"], "'tuning' is not one of 'study', 'tune', 'basins'"),
    "tune nothing": (["tune"], "Missing argument 'FILE'"),
    "tune by no file": (
        ["tune", "none.toml", "--out", "{new}"],
        "none.toml: cannot be read: No su",
    ),
    "tune without a folder": (["tune", "{tune}"], "Option --out must be given: a folder for"),
    "tune by both": (
        ["tune", "{tune}", "--dry-run", "--scheduler", "a:1", "--workers", "2"],
        "--scheduler and --workers exclude each other",
    ),
    "tune too many devices": (
        ["tune", "{tune}", "--out", "{new}", "--devices", "99"],
        "at most 2 here, got 99",
    ),
    "tune badly": (
        ["tune", "{bad_tune}", "--out", "{new}"],
        r"tune.toml:1: trials: must be an int",
    ),
    "tune badly, dry": (
        ["tune", "{bad_tune}", "--dry-run"],
        r"tune.toml:1: trials: must be an int",
    ),
    "tune by a study": (["tune", "{file}", "--out", "{new}"], r"study.toml:\d+: sweep: is no key"),
    "study by a tuning": (
        ["study", "{tune}", "--out", "{new}"],
        r"tune.toml:\d+: steps: is no key",
    ),
    "tune from the end": (
        ["tune", "{silent}", "--out", "{new}"],
        r"The loss at the start \(strength = 1\.5\) is zero: nothing is left to tune\.",
    ),
    "tune, no resume": (
        ["tune", "{tune}", "--out", "{tuned}", "--no-resume"],
        "resume is off: take another folder",
    ),
    "another tuning": (
        ["tune", "{other_tune}", "--out", "{tuned}"],
        "holds another tuning, which differs in .*noise",
    ),
    "tune in the folder of a study": (
        ["tune", "{tune}", "--out", "{folder}"],
        "holds a study: take another folder",
    ),
    "study in the folder of a tuning": (
        ["study", "{file}", "--out", "{tuned}"],
        "holds a tuning: take another folder",
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_line(call, file, folder, tune_file, tuned, tmp_path, name):
    places = {"file": file, "folder": folder, "new": tmp_path / "new"}
    places |= {"tune": tune_file, "tuned": tuned}
    for place, text in {
        "bad": "trials = 1.5\n" + TEXT.replace("trials = 4", ""),
        "other": TEXT.replace("num_neurons = 8", "num_neurons = 9"),
        "fewer": TEXT.replace("[5.0, 10.0]", "[5.0]"),
        "bad_tune": "trials = 1.5\n" + TUNE.replace("trials = 4", ""),
        "other_tune": TUNE.replace("noise = 0.5", "noise = 0.6"),
        "silent": TUNE.replace("goal = 0.9", "at_least = 0.0"),
    }.items():
        places[place] = tmp_path / f"{place}.toml"
        places[place].write_text(text)
    for place in ("foreign", "damaged", "dataset"):
        places[place] = tmp_path / place
        places[place].mkdir()
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "foreign" / "result.nc", engine="h5netcdf")
    foreign = xr.load_dataset(tmp_path / "foreign" / "result.nc", engine="h5netcdf")
    Store(tmp_path / "dataset").write_result(foreign)
    (tmp_path / "damaged" / "result.nc").write_bytes((folder / "result.nc").read_bytes()[:9000])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    words, match = FAILURES[name]
    code, text, errors = call(*(word.format(**places) for word in words))
    assert code == 2
    assert text == ""
    begun = re.compile(r"\d cells of 4 trials, into |tuning strength, into ")
    assert [line for line in errors if not begun.match(line)] == [errors[-1]]
    assert errors[-1].startswith("hopjax: ")
    assert re.search(match, errors[-1]), errors[-1]
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ours = {"lock"} if name != "tune from the end" else {"lock", "manifest.json"}
    assert {path for path in after if path.name not in ours} == {
        path for path in before if path.name not in ours
    }
    assert all(after[path] == before[path] for path in before if path.name != "lock")


@pytest.mark.slow
def test_an_interrupted_study_is_shown_as_unfinished(call, saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "study"))
    (folder / "result.nc").unlink()
    shutil.rmtree(sorted((folder / "chunks").iterdir())[2])
    code, text, errors = call("show", folder)
    assert (code, errors) == (0, [f"drawn {folder / 'unfinished.png'}"])
    first, head, *lines = text.splitlines()
    assert first == "unfinished: 12 of 16 trials are done"
    assert head.split()[:3] == ["noise", "slope", "trials"]
    assert sorted(line.split()[2] for line in lines[:4]) == ["0", "4", "4", "4"]
    assert (folder / "unfinished.png").stat().st_size > 1000
    assert not (folder / "result.png").exists()
    assert call("show", folder, "--format", "svg")[::2] == (
        *(0, [f"drawn {folder / 'unfinished.svg'}"]),
    )
    shutil.rmtree(folder / "chunks")
    code, text, errors = call("show", folder)
    assert (code, text) == (2, "")
    assert errors == [f"hopjax: No chunk of the study in {folder} is finished yet."]


@pytest.mark.slow
def test_an_interrupted_tuning_is_shown_as_unfinished(call, tuned):
    (tuned / "result.nc").unlink()
    code, text, errors = call("show", tuned)
    assert (code, errors) == (0, [f"drawn {tuned / 'unfinished.png'}"])
    first, strength, *_ = text.splitlines()
    assert re.match(
        "unfinished: (\\d+) of at most \\d+ steps are done; what they led to is not", first
    )
    assert re.fullmatch(r"  strength = 1\.5 at the start, [\d.]+ at the last step", strength)
    assert (tuned / "unfinished.png").stat().st_size > 1000
    (tuned / "steps.npz").unlink()
    code, text, errors = call("show", tuned)
    assert (code, text) == (2, "")
    assert errors == [f"hopjax: No step of the tuning in {tuned} is saved yet."]


@pytest.mark.slow
def test_a_study_is_shown_as_a_page(call, saved, tmp_path):
    for module in ("altair", "vl_convert"):
        pytest.importorskip(module, reason="a page needs Altair and vl-convert")
    folder = Path(shutil.copytree(saved, tmp_path / "study"))
    code, text, errors = call("show", folder, "--html")
    assert (code, errors) == (0, [f"drawn {folder / 'result.html'}"])
    assert text == _show.study_table(hj.load_study(saved)) + "\n"
    assert "<h1>Retrieval by noise σ and slope" in (folder / "result.html").read_text("utf-8")
    assert not (folder / "result.png").exists()
    (folder / "result.nc").unlink()
    shutil.rmtree(sorted((folder / "chunks").iterdir())[2])
    assert call("show", folder, "--html")[::2] == (0, [f"drawn {folder / 'unfinished.html'}"])
    page = (folder / "unfinished.html").read_text("utf-8")
    assert "Unfinished: 12 of 16 trials are done." in page
    # Where the numbers come from, as the manifest has it.
    for name in ("hopjax", "jax", "python version", "device", "key", "definition"):
        assert re.search(rf"<th>{name}</th><td>[^<]", page), name


def test_a_page_without_altair_is_refused_in_one_line(call, saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    code, text, errors = call("show", saved, "--html")
    assert (code, text) == (2, "")
    assert errors == ["hopjax: A page needs Altair and vl-convert: pip install 'hopjax[report]'."]


def test_a_parameter_called_as_a_row_is_shown(saved, tmp_path):
    dataset = hj.load_study(saved)
    found, known = (
        [line.split() for line in _show.study_table(each).splitlines()]
        for each in (dataset.rename(noise="row"), dataset)
    )
    assert found == [["row", *known[0][1:]], *known[1:]]
    _picture.draw_study(dataset.rename(noise="row"), tmp_path / "row.png")
    assert (tmp_path / "row.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_study_without_quantiles_is_saved_and_shown(call, file, saved, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(f"quantiles = []\n{TEXT}")
    assert call("study", path, "--out", tmp_path / "study")[0] == 0
    code, text, _ = call("show", tmp_path / "study")
    assert (code, text) == (0, _show.study_table(hj.load_study(saved)) + "\n")
    dataset = hj.load_study(tmp_path / "study")
    assert dataset.overlap_quantile.shape == (2, 2, 0, 5)
    assert dataset.drop_dims("quantile_level").equals(
        hj.load_study(saved).drop_dims("quantile_level")
    )


LOST = {
    "trials": ("folder", lambda dataset: dataset.attrs.pop("trials")),
    "diverged": ("folder", lambda dataset: dataset.attrs.pop("diverged")),
    "retrieved": ("folder", lambda dataset: dataset.drop_vars("retrieved")),
    "passage_time": ("folder", lambda dataset: dataset.drop_vars("passage_time")),
    "diverged of outcomes": ("folder", lambda dataset: dataset.isel(outcome_name=[0, 1])),
    "words for numbers": (
        "folder",
        lambda dataset: dataset.assign(retrieved=dataset.retrieved.astype(str)),
    ),
    "parameters": ("tuned", lambda dataset: dataset.attrs.pop("parameters")),
    "another parameter": ("tuned", lambda dataset: dataset.attrs.update(parameters="slope")),
    "no number": ("tuned", lambda dataset: dataset.attrs.update(verified_diverged="none")),
    "loss": ("tuned", lambda dataset: dataset.drop_vars("loss")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOST)
def test_a_result_edited_by_hand_is_one_line(call, request, name):
    place, edit = LOST[name]
    folder = request.getfixturevalue(place)
    dataset = load_result(folder, "study")
    edited = edit(dataset)
    dataset = edited if isinstance(edited, xr.Dataset) else dataset
    Store(folder).write_result(dataset)
    code, _, errors = call("show", folder)
    assert (code, len(errors)) == (2, 1)
    assert re.match(r"hopjax: \S+result\.nc was changed after it was written \(", errors[0]), errors


@contextlib.contextmanager
def as_nobody():
    """As a user who may not read everything, as the superuser may."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


CLOSED = {  # what is closed how, and what is said
    "the folder": (".", 0, "Cannot (write into the folder|read) "),
    "the list of the folder": (".", 0o400, "Cannot (write into the folder|read) "),
    "the chunks": ("chunks", 0, r"Cannot \w+ \S+chunks/\S+: Permission denied"),
    "the names of chunks": ("chunks", 0o400, r"Cannot \w+ \S+chunks/\S+: Permission denied"),
    "the manifest": ("manifest.json", 0, r"Cannot read \S+manifest\.json: Permission denied"),
    "the lock": ("lock", 0, "Cannot write into the folder .*: Permission denied"),
    "the result": ("result.nc", 0, r"Cannot read \S+result\.nc: Permission denied"),
    "its checksum": ("result.sha256", 0, r"Cannot read \S+result\.nc: Permission denied"),
}


@pytest.fixture
def open_place(file, saved):
    """The file and its folder where every user can find them, as that user's own."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copy(file, place / "study.toml")
        shutil.copytree(saved, place / "saved")
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
            if os.geteuid() == 0:
                os.chown(path, 65534, -1)
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSED)
def test_a_folder_that_may_not_be_read_is_one_line(call, open_place, name):
    part, mode, match = CLOSED[name]
    file, folder = open_place / "study.toml", open_place / "saved"
    reading = part in (".", "result.nc", "result.sha256")
    writing = part not in ("result.nc", "result.sha256")
    kept = (folder / part).stat().st_mode
    (folder / part).chmod(mode)
    try:
        for words in [("show", folder)] * reading + [("study", file, "--out", folder)] * writing:
            with as_nobody():
                code, text, errors = call(*words)
            assert (code, text) == (2, "")
            assert re.match(f"hopjax: {match}", errors[-1]), errors
            assert all(re.match(r"\d cells of 4 trials, into ", line) for line in errors[:-1])
    finally:
        (folder / part).chmod(kept)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7 TiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nMore"),
    ],
    ids=["none", "NumPy", "JAX"],
)
def test_too_little_memory_is_one_line(call, file, tmp_path, monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(cli.Study, "run", fail)
    code, text, errors = call("study", file, "--out", tmp_path / "new")
    assert (code, text, len(errors)) == (2, "", 2)
    assert errors[1].startswith("hopjax: Not enough memory: a smaller `chunk` needs less")
    assert str(error).split("\n")[0] in errors[1]


# In processes of their own.


def start(
    *words: Any, script: str = "from hopjax.command.cli import main; main()"
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_ENABLE_X64": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> list[tuple[int, str, list[str]]]:
    said = [process.communicate(timeout=120) for process in processes]
    return [
        (process.returncode, output, errors.splitlines())
        for process, (output, errors) in zip(processes, said, strict=True)
    ]


@pytest.mark.long
def test_the_command_on_its_own(file, saved, tmp_path):
    for devices in ("1", "3"):
        folder = tmp_path / devices
        ((code, text, errors),) = finish(
            start("study", file, "--out", folder, "--devices", devices)
        )
        assert code == 0
        assert text.startswith("noise  slope  retrieved")
        assert errors == [f"4 cells of 4 trials, into {folder}", f"saved {folder / 'result.nc'}"]
        assert (folder / "result.nc").read_bytes() == (saved / "result.nc").read_bytes()


@pytest.mark.long
def test_the_command_with_workers(file, saved, tune_file, tuning, tmp_path):
    folder = tmp_path / "study"
    ((code, _, errors),) = finish(start("study", file, "--out", folder, "--workers", "2"))
    assert code == 0
    assert errors[0] == f"4 cells of 4 trials, into {folder}"
    assert errors[-1] == f"saved {folder / 'result.nc'}"
    assert (folder / "result.nc").read_bytes() == (saved / "result.nc").read_bytes()
    ((code, text, _),) = finish(
        start("tune", tune_file, "--out", tmp_path / "tuned", "--workers", "1")
    )
    assert (code, text) == (0, f"{tuning}\n")


def test_without_dask_there_are_no_workers(call, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, text, (line,) = call("study", file, "--out", tmp_path / "new", "--workers", "2")
    assert (code, text) == (2, "")
    assert re.match(r"hopjax: .*need dask\.distributed: pip install 'hopjax\[dask\]'", line)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_scheduler_that_is_not_there_is_one_line(call, file, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_REACHED", "1s")
    monkeypatch.setattr(cluster, "_APPEARS", 0.1)
    for scheduler, match in (
        ("tcp://127.0.0.1:1", "Cannot reach the scheduler tcp://127.0.0.1:1: "),
        (tmp_path / "none.json", "Option --scheduler must be HOST:PORT, or a file that"),
    ):
        words = ("study", file, "--out", tmp_path / "new", "--scheduler", scheduler)
        code, text, errors = call(*words)
        assert (code, text) == (2, "")
        assert errors[-1].startswith(f"hopjax: {match}")
        assert not (tmp_path / "new").exists()


@pytest.mark.long
def test_a_cache_keeps_compiled_programs(file, saved, tmp_path):
    kept = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        ((code, _, _),) = finish(
            start("study", file, "--out", folder, "--cache", tmp_path / "cache", "--devices", "2")
        )
        assert code == 0
        assert (folder / "result.nc").read_bytes() == (saved / "result.nc").read_bytes()
        kept.append({path.name for path in (tmp_path / "cache").glob("*-cache")})
    assert kept[0] == kept[1] != set()


@pytest.mark.long
def test_tuning_on_its_own(tune_file, tuning, tmp_path):
    for devices in ("1", "3"):
        folder = tmp_path / devices
        ((code, text, errors),) = finish(
            start("tune", tune_file, "--out", folder, "--devices", devices)
        )
        assert (code, text) == (0, f"{tuning}\n")
        assert errors == [f"tuning strength, into {folder}", f"saved {folder / 'result.nc'}"]
        saved = tune_file.with_name("saved") / "result.nc"
        assert (folder / "result.nc").read_bytes() == saved.read_bytes()


@pytest.mark.long
def test_tuning_that_is_killed_goes_on_to_the_same_numbers(call, tmp_path):
    path, folder = tmp_path / "tune.toml", tmp_path / "tuned"
    path.write_text(TUNE.replace("steps = 6", "steps = 150\nfresh = false\ntolerance = 1e-9"))
    script = "from hopjax import _descent, cli; _descent._SAVE_EVERY = -1; cli.main()"
    with start("tune", path, "--out", folder, script=script) as process:
        while not (folder / "steps.npz").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (folder / "result.nc").exists()
    for out in (folder, tmp_path / "alone"):
        assert call("tune", path, "--out", out)[0] == 0
    found, expected = ((out / "result.nc").read_bytes() for out in (folder, tmp_path / "alone"))
    assert found == expected


@pytest.mark.long
def test_a_pipe_may_close_early():
    with start("example") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) in (0, 1)
