"""The benchmark compares like with like: everyone solves the same problem."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT

from experiments import benchmark, competitors
from experiments.competitors import Problem

SMALL = partial(Problem, 64, 4, steps=20)


@pytest.fixture(autouse=True)
def single_precision():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("law", [None, "two_point", "gaussian"])
def test_the_loop_by_hand_is_the_same_solve(law):
    mine, by_hand = competitors.hopjax(SMALL(law))(), competitors.scan(SMALL(law))()
    assert mine.shape == (4, 3, competitors.NUM_MEMORIES)
    np.testing.assert_allclose(mine, by_hand, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("law", [None, "binomial"])
def test_exponential_steps_by_hand_are_the_same_solve(law):
    problem = SMALL(law)
    mine, by_hand = competitors.exponential(problem)(), competitors.exponential_scan(problem)()
    np.testing.assert_allclose(mine, by_hand, atol=1e-4)


@pytest.mark.parametrize("make", [competitors.numpy, competitors.dense])
def test_without_noise_all_others_are_the_same_too(make):
    problem = SMALL(None)
    np.testing.assert_allclose(make(problem)(), competitors.scan(problem)(), atol=1e-4)


@pytest.mark.parametrize("law", ["two_point", "gaussian"])
def test_numpy_agrees_and_something_else_is_noticed(law):
    problem = Problem(64, 512, law, 100)
    reference = competitors.scan(problem)()
    other = benchmark.built("NumPy", competitors.numpy, problem)
    benchmark.agree(other, reference)
    with pytest.raises(SystemExit, match="does not agree"):
        benchmark.agree(other._replace(solve=lambda: other.solve() * 0.8), reference)


def test_a_bar_is_missed_only_beyond_the_whole_interval():
    ratios = np.array([0.9, 1.0, 1.0, 1.0, 1.1, 1.1, 1.1, 1.2, 1.2])
    found = benchmark.at_most("", ratios, 1.05)
    assert found["low"] <= 1.05 < found["ratio"] <= found["high"]
    assert found["holds"]
    assert not benchmark.at_most("", ratios, 0.5)["holds"]
    assert benchmark.at_least("", ratios, 1.1)["holds"]
    assert not benchmark.at_least("", ratios, 1.5)["holds"]
    assert benchmark.reported("", ratios)["holds"] is None


def test_rounds_are_counted_per_thousand_steps(monkeypatch):
    clock = iter(np.arange(0.0, 100.0, 0.5))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    calls = []
    one = benchmark.Timed("one", SMALL(None), lambda: calls.append("one"))
    two = benchmark.Timed("two", Problem(64, 4, None, steps=1000), lambda: calls.append("two"))
    found = benchmark.in_turn(one, two, rounds=3)
    np.testing.assert_allclose(found["one"], 500 / (4 * 20 / 1000))
    np.testing.assert_allclose(found["two"], 500 / 4)
    assert calls == ["one", "two", "one", "two", "two", "one", "one", "two"]  # warm, then in turn


def test_the_figure_has_the_saved_numbers():
    rows = json.loads((ROOT / "figures" / "benchmark.json").read_text())["rows"]
    left, right = benchmark.draw(rows).axes
    for ax, name, where in ((left, "n", {"batch": 512}), (right, "batch", {"n": 1024})):
        containers: Any = ax.containers
        drawn = {bars.get_label(): bars.lines[0].get_xydata() for bars in containers}
        assert set(drawn) == set(benchmark.LABELS.values())
        for program, label in benchmark.LABELS.items():
            wanted = where | {"name": program, "stride": 10}
            first: dict[int, float] = {}
            for row in rows:
                if wanted.items() <= row.items():
                    first.setdefault(row[name], row["ms"])
            np.testing.assert_array_equal(drawn[label], sorted(first.items()))
    plt.close("all")


@pytest.mark.slow
def test_the_figure_is_drawn_again_without_measuring(monkeypatch, tmp_path):
    path = Path(shutil.copy(ROOT / "figures" / "benchmark.json", tmp_path))
    kept = path.read_bytes()
    monkeypatch.setattr(benchmark, "SECTIONS", {})
    arguments = ["--redraw", "--json", str(path), "--format", "svg"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    benchmark.main()
    assert path.read_bytes() == kept
    assert {each.suffix for each in tmp_path.iterdir()} == {".json", ".png", ".svg"}


@pytest.mark.slow
def test_a_merge_is_timed():
    seconds, files, _, size = benchmark.merge_seconds(50)
    assert seconds > 0
    assert files == 50
    assert size * 2**20 > 8 * 50 * benchmark.MERGED_TRIALS
