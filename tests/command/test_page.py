"""The page of a study: its numbers are those of the dataset, and it works in a browser."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import xarray as xr
from made_up import OUTCOMES, a_study
from scipy import stats

from hopjax.command import save_page
from hopjax.command.cells import axes_of, cells_of
from hopjax.command.show import rows_of


def data_of(dataset: xr.Dataset) -> tuple[dict, list[dict[str, Any]]]:
    rows = rows_of(dataset)
    axes = axes_of(dataset, rows)
    return axes, cells_of(rows, axes)


def spec_of(page: Path) -> dict[str, Any]:
    """What the page draws."""
    found = re.search(r"^const spec = (.*);$", page.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return json.loads(found.group(1))


def test_the_numbers_of_every_cell_are_those_of_the_dataset():
    dataset = a_study(4, 3)
    axes, cells = data_of(dataset)
    assert [(axis.field, axis.words) for axis in axes.values()] == [
        ("x", "noise σ"),
        ("y", "slope of the activation d"),
    ]
    assert [*axes["noise"].values.values()] == ["0", "0.5", "1", "1.5"]
    assert [(cell["x"], cell["y"]) for cell in cells[:4]] == [
        *(("0", "10"), ("0", "20"), ("0", "30"), ("0.5", "10")),
    ]
    right = dataset.sel(noise=0.5, slope=20)
    (cell,) = (cell for cell in cells if (cell["x"], cell["y"]) == ("0.5", "20"))
    close: dict[str, Any] = {"rtol": 6e-4, "atol": 1e-9}  # four digits
    for field, name in (("p", "retrieved"), ("p_low", "retrieved_low"), ("time", "time")):
        np.testing.assert_allclose(cell[field], right[name], **close)
    np.testing.assert_allclose(cell["mean"], right.overlap_mean, **close)
    np.testing.assert_allclose(cell["low"], right.overlap_quantile.sel(quantile_level=0.1), **close)
    np.testing.assert_allclose(
        cell["high"], right.overlap_quantile.sel(quantile_level=0.9), **close
    )
    counts = right.outcome_count.to_numpy()
    assert (cell["outcome"], cell["count"]) == ([*OUTCOMES], counts.tolist())
    assert cell["trials"] == counts.sum()
    np.testing.assert_allclose(cell["share"], counts / counts.sum(), **close)


def test_intervals_are_of_95_percent():
    dataset = a_study(4, 3)
    counts = dataset.outcome_count.sum("outcome_name")
    dataset["passed"] = (dataset.passed * counts).round() / counts  # whole trials
    cell, right = data_of(dataset)[1][0], dataset.isel(noise=0, slope=0)
    counts = right.outcome_count.to_numpy()
    trials = int(counts.sum())
    for place, count in enumerate(counts.tolist()):
        ends = stats.binomtest(count, trials).proportion_ci(method="wilson")
        np.testing.assert_allclose(cell["share_low"][place], ends.low, atol=1e-4)
        np.testing.assert_allclose(cell["share_high"][place], ends.high, atol=1e-4)
    for place, share in enumerate(right.passed.to_numpy().tolist()):
        ends = stats.binomtest(round(share * trials), trials).proportion_ci(method="wilson")
        np.testing.assert_allclose(cell["passed_low"][place], ends.low, atol=1e-4)
    # Trials that diverged have no mean.
    solved = trials - counts[OUTCOMES.index("diverged")]
    error = np.sqrt(right.overlap_variance.to_numpy() / solved)
    mean = right.overlap_mean.to_numpy()
    np.testing.assert_allclose(cell["mean_high"], mean + stats.norm.ppf(0.975) * error, rtol=1e-3)


def test_values_are_in_their_order_and_apart():
    dataset = a_study(3, 2).assign_coords(noise=[2.0, 0.5, 0.50000001])
    axes, _ = data_of(dataset)
    assert [*axes["noise"].values.values()] == ["0.5", "0.50000001", "2.0"]
    words = a_study(3, 2).assign_coords(noise=["b", "a", "null"])
    axes, cells = data_of(words)
    # What is no number goes along y.
    assert (axes["slope"].field, axes["noise"].field) == ("x", "y")
    assert [*axes["noise"].values.values()] == ["b", "a", "null"]
    assert cells[0]["number"] == 10


def test_cells_without_trials_and_long_courses():
    dataset = a_study(2, 2)
    dataset.outcome_count[0, 1] = 0
    dataset["overlap_mean"][0, 0, 3] = np.nan
    _, cells = data_of(dataset)
    assert [(cell["x"], cell["y"]) for cell in cells] == [("0", "10"), ("0.5", "10"), ("0.5", "20")]
    assert cells[0]["mean"][3] is None
    long = a_study(2, 2).isel(time=np.arange(7).repeat(100))
    _, cells = data_of(long.assign_coords(time=np.arange(700)))
    assert len(cells[0]["time"]) == len(cells[0]["passed"]) == 200
    assert (cells[0]["time"][0], cells[0]["time"][-1]) == (0, 699)
    assert max(np.diff(cells[0]["time"])) == 4


def test_cells_with_other_saved_times_keep_theirs():
    dataset = a_study(2, 1).rename(time="saved").drop_vars("saved")
    times = np.array([[[0, 1, 2, 3, 4, 5, 6]], [[0, 2, 4, np.nan, np.nan, np.nan, np.nan]]])
    dataset = dataset.assign_coords(time=(("noise", "slope", "saved"), times))
    _, (first, second) = data_of(dataset)
    assert first["time"] == [0, 1, 2, 3, 4, 5, 6]
    assert second["time"] == [0, 2, 4]
    assert len(second["mean"]) == len(second["passed"]) == 3


def saved(dataset: xr.Dataset, folder: Path) -> Path:
    pytest.importorskip("altair", reason="a page needs Altair")
    pytest.importorskip("vl_convert", reason="a page needs vl-convert")
    path = folder / "page.html"
    save_page(dataset, path)
    return path


@pytest.mark.slow
def test_a_page_is_one_file_and_the_same_again(tmp_path):
    dataset = a_study(3, 2).assign_attrs({"git commit": "</script><b>&", "key": "[0,1]"})
    page = saved(dataset, tmp_path)
    text = page.read_text("utf-8")
    assert "<h1>Retrieval by noise σ and slope of the activation d</h1>" in text
    assert "<td>&lt;/script&gt;&lt;b&gt;&amp;</td>" in text
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)
    assert 5e5 < len(text) < 3e6
    assert spec_of(page)["datasets"]["cells"] == data_of(dataset)[1]
    assert saved(dataset, tmp_path).read_text("utf-8") == text
    unfinished = dataset.assign_attrs(unfinished="3 of 8 trials are done")
    unfinished["trials_done"] = dataset.outcome_count.sum("outcome_name")
    unfinished = saved(unfinished, tmp_path)
    assert '<p class="unfinished">Unfinished: 3 of 8 trials' in unfinished.read_text("utf-8")


@pytest.mark.slow
def test_what_is_no_study_has_no_page(tmp_path):
    with pytest.raises(ValueError, match=r"`dataset` must be that of a study, got one entitled"):
        saved(a_study(2, 2).assign_attrs(title="hopjax tuning"), tmp_path)


@pytest.mark.parametrize("missing", ["altair", "vl_convert"])
def test_without_altair_the_extra_is_named(monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ImportError, match=r"^A page needs Altair .*: pip install 'hopjax\[report\]"
    ):
        save_page(a_study(2, 2), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.fixture
def page():
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium here")
    with browser.page() as found:
        yield found
    assert found.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in found.asked)


# A mark tells in words what it stands for, for those who cannot see it.
MARKS = """
    Array.from(document.querySelectorAll("#study [aria-roledescription='KIND']"), mark => {
        const box = mark.getBoundingClientRect();
        return [mark.getAttribute("aria-label"), box.x + box.width / 2, box.y + box.height / 2];
    })
"""
DRAWN = "shown.then(found => found.view.runAsync()).then(() => true)"


def marks(page: browser.Page, kind: str) -> list[tuple[dict[str, str], float, float]]:
    """What is drawn, each by its fields, and where its middle is."""
    found = []
    for label, x, y in page.run(MARKS.replace("KIND", kind)):
        fields = dict(part.split(": ", 1) for part in label.split("; "))
        found.append((fields, x, y))
    return found


def shares(page: browser.Page) -> dict[str, float]:
    """The outcomes that are drawn, from the panel itself."""
    return {
        fields["ended in"]: float(fields["share"])
        for fields, *_ in marks(page, "bar")
        if "ended in" in fields
    }


def right_shares(cell: xr.Dataset) -> dict[str, Any]:
    counts = cell.outcome_count.to_numpy()
    found = dict(zip(OUTCOMES, counts / counts.sum(), strict=True))
    return {name: pytest.approx(share, abs=6e-4) for name, share in found.items()}


def title(page: browser.Page) -> str:
    """What stands above the panels of one cell."""
    lines = "document.querySelector('#study .role-title-text text').childNodes"
    return page.run(f"Array.from({lines}, line => line.textContent).join('; ')")


@pytest.mark.slow
def test_a_click_on_the_map_shows_that_cell(page, tmp_path):
    dataset = a_study(4, 3)
    page.open(saved(dataset, tmp_path), 1200)
    assert page.run(DRAWN)
    assert shares(page) == right_shares(dataset.isel(noise=0, slope=0))
    assert title(page) == "noise σ: 0; slope of the activation d: 10"
    cells = [(each, x, y) for each, x, y in marks(page, "rect mark") if "P(retrieved)" in each]
    assert len(cells) >= 12
    ((told, x, y),) = (
        (told, x, y)
        for told, x, y in cells
        if (told["noise σ"], told["slope of the activation d"]) == ("1", "30")
    )
    right = dataset.sel(noise=1, slope=30)
    assert float(told["P(retrieved)"]) == pytest.approx(right.retrieved.item(), abs=6e-4)
    page.click(x, y)
    assert page.run(DRAWN)
    assert title(page) == "noise σ: 1; slope of the activation d: 30"
    assert shares(page) == right_shares(right)
    points = [each for each, *_ in marks(page, "circle") if "mean overlap" in each]
    drawn = [float(each["mean overlap"]) for each in points]
    np.testing.assert_allclose(drawn, right.overlap_mean, atol=6e-4)
    page.point(x, y)
    told = page.run("document.querySelector('#vg-tooltip-element').textContent")
    low, high = right.retrieved_low.item(), right.retrieved_high.item()
    assert f"95% interval[{low:.3f}, {high:.3f}]" in told


@pytest.mark.slow
def test_a_click_beside_the_cells_changes_nothing(page, tmp_path):
    dataset = a_study(3, 3)
    dataset.outcome_count[1, 1] = 0
    page.open(saved(dataset, tmp_path), 1200)
    assert page.run(DRAWN)
    (_, x, _), (_, _, y) = (
        next(
            each
            for each in marks(page, "rect mark")
            if (each[0].get("noise σ"), each[0].get("slope of the activation d")) == at
        )
        for at in (("0.5", "10"), ("0", "20"))
    )
    page.click(x, y)  # the cell without trials
    assert page.run(DRAWN)
    assert shares(page) == right_shares(dataset.isel(noise=0, slope=0))
    assert page.complaints == []


@pytest.mark.slow
def test_one_parameter_is_a_line_of_points(page, tmp_path):
    dataset = a_study(5, 1)
    path = saved(dataset, tmp_path)
    page.open(path, 390)
    assert page.run(DRAWN)
    assert page.run("document.documentElement.scrollWidth") <= 390  # a phone
    points = [each for each in marks(page, "circle") if "P(retrieved)" in each[0]]
    assert len(points) == 5
    page.click(*next((x, y) for told, x, y in points if told["noise σ"] == "1.5"))
    assert page.run(DRAWN)
    assert shares(page) == right_shares(dataset.sel(noise=1.5).isel(slope=0))


@pytest.mark.slow
def test_a_third_parameter_is_chosen_from_a_list(page, tmp_path):
    both = a_study(3, 6)
    first, second = both.isel(slope=slice(3)), both.isel(slope=slice(3, 6))
    dataset = xr.concat([first, second.assign_coords(slope=first.slope)], "strength")
    dataset = dataset.assign_coords(strength=[1.0, 2.0])
    dataset = dataset.transpose("noise", "slope", "strength", ...)
    dataset.outcome_count[1, 1, 0] = 0

    def choose(place: int) -> None:
        page.run(
            "(() => { const list = document.querySelector('#lists select');"
            f"list.selectedIndex = {place}; list.dispatchEvent(new Event('change')); }})()"
        )
        assert page.run(DRAWN)

    page.open(saved(dataset, tmp_path), 1200)
    assert page.run(DRAWN)
    assert shares(page) == right_shares(dataset.isel(noise=0, slope=0, strength=0))
    assert page.run("document.querySelector('#lists select').options.length") == 2
    choose(1)
    assert shares(page) == right_shares(dataset.isel(noise=0, slope=0, strength=1))
    assert title(page).endswith("strength of the input: 2")
    ((x, y),) = (
        (x, y)
        for told, x, y in marks(page, "rect mark")
        if (told["noise σ"], told["slope of the activation d"]) == ("0.5", "20")
    )
    page.click(x, y)
    choose(0)
    assert shares(page) == {}  # the other cell has no trials
    page.open(tmp_path / "page.html", 390)
    assert page.run(DRAWN)
    assert page.run("document.documentElement.scrollWidth") <= 390
