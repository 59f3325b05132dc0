"""The pictures of `hopjax show`: what is drawn is what the dataset holds."""

from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import xarray as xr
from made_up import OUTCOMES, a_study

import hopjax as hj
from hopjax.command import picture, show


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What a dataset's picture has: its axes by their letters."""
    figures = []
    original = matplotlib.figure.Figure.savefig

    def recorded(self, *args, **options):
        figures.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", recorded)

    def draw(dataset: xr.Dataset, how=picture.draw_study):
        how(dataset, tmp_path / "result.png")
        figure = figures[-1]
        assert (tmp_path / "result.png").stat().st_size > 1000
        return figure, {ax.get_title(loc="left"): ax for ax in figure.axes}

    return draw


def test_two_swept_parameters_are_a_heat_map(drawn):
    dataset = a_study(6, 5)
    dataset.retrieved[2, 3] = np.nan  # a cell without trials
    _, axes = drawn(dataset)
    ax = axes["a"]
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array().filled(np.nan), dataset.retrieved.T)
    assert image.origin == "lower"
    assert [each.get_text() for each in ax.get_xticklabels()] == [
        "0",
        "0.5",
        "1",
        "1.5",
        "2",
        "2.5",
    ]
    assert [each.get_text() for each in ax.get_yticklabels()] == ["10", "20", "30", "40", "50"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == (r"noise $\sigma$", "slope of the activation $d$")
    numbers = {each.get_position(): each.get_text() for each in ax.texts}
    assert len(numbers) == 29
    assert numbers[4, 1] == f"{dataset.retrieved[4, 1].item():.2f}"
    assert ax.get_title(loc="right") == "95% intervals reach up to ±0.10"


def test_a_few_lines_have_intervals(drawn):
    dataset = a_study(6, 3)
    _, axes = drawn(dataset)
    assert not axes["a"].images
    assert len(axes["a"].containers) == 3
    for number, bars in enumerate(axes["a"].containers):
        line, _, (intervals,) = bars
        np.testing.assert_allclose(line.get_ydata(), dataset.retrieved[:, number])
        ends = np.array(intervals.get_segments())[:, :, 1]
        np.testing.assert_allclose(ends[:, 0], dataset.retrieved_low[:, number])
        np.testing.assert_allclose(ends[:, 1], dataset.retrieved_high[:, number])
    labels = [each.get_text() for each in axes["a"].get_legend().get_texts()]
    assert labels == ["slope = 10", "slope = 20", "slope = 30"]


def test_outcomes_are_shares_of_every_cell(drawn):
    dataset = a_study(2, 3)
    dataset.outcome_count[1, 1] = 0
    _, axes = drawn(dataset)
    counts = dataset.outcome_count.to_numpy().reshape(6, -1)
    total = counts.sum(axis=1)
    for name, bars, count in zip(OUTCOMES, axes["b"].containers, counts.T, strict=True):
        assert bars.get_label() == name
        widths = [bar.get_width() for bar in bars]
        np.testing.assert_allclose(widths, count / np.maximum(total, 1))
    ends = [bar.get_x() + bar.get_width() for bar in axes["b"].containers[-1]]
    np.testing.assert_allclose(ends, total > 0)
    first = axes["b"].get_yticklabels()[0].get_text()
    assert first == "noise = 0, slope = 10"


def test_six_cells_have_their_courses_and_passages_drawn(drawn):
    dataset = a_study(5, 5)
    dataset.retrieved[0, 0] = np.nan
    figure, axes = drawn(dataset)
    rows = dataset.stack(row=["noise", "slope"], create_index=False)
    chosen = [1, 6, 10, 15, 19, 24]
    for letter, name in (("c", "overlap_mean"), ("d", "passed")):
        lines = axes[letter].lines
        assert len(lines) == len(chosen)
        for line, place in zip(lines, chosen, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), rows[name].isel(row=place))
            np.testing.assert_array_equal(line.get_xdata(), dataset.time)
    (legend,) = figure.subfigs[1].legends
    assert legend.get_title().get_text() == "6 of 24 cells"


def with_visits(dataset: xr.Dataset) -> xr.Dataset:
    """Three visits in each trial, the last one of unknown length, and numbers of them."""
    trials = dataset.sizes["trial"]
    shape = (dataset.sizes["noise"], dataset.sizes["slope"], trials, 3)
    start = np.random.default_rng(1).uniform(0, 0.3, shape).cumsum(axis=-1)
    dwell = np.append(np.diff(start), np.full((*shape[:-1], 1), np.nan), axis=-1)
    values = {"order": np.broadcast_to([0, 2, 1], shape), "start": start, "dwell": dwell}
    dims = ("noise", "slope", "trial")
    numbers = {"run": np.full(shape[:-1], 2), "collapse": np.full(shape[:-1], np.inf)}
    return dataset.assign(
        {f"visits_{name}": ((*dims, "visits_visit"), each) for name, each in values.items()}
        | {f"visits_{name}": (dims, each) for name, each in numbers.items()}
    )


def test_visits_of_the_first_trials_of_three_cells(drawn):
    dataset = with_visits(a_study(2, 2))
    _, axes = drawn(dataset)
    rows = dataset.stack(row=["noise", "slope"], create_index=False)
    for letter, place in zip("efg", (0, 2, 3), strict=True):
        ax, cell = axes[letter], rows.isel(row=place)
        assert [bars.get_label() for bars in ax.collections] == ["memory 1", "memory 3"]
        for bars, visit in zip(ax.collections, (0, 1), strict=True):
            left = [path.vertices[0, 0] for path in bars.get_paths()]
            np.testing.assert_array_equal(left, cell.visits_start[:24, visit])
        assert ax.get_title() == f"noise = {cell.noise.item():g}, slope = {cell.slope.item():g}"
        assert ax.get_xlim() == (0, 2)


def test_a_table_of_a_study_with_visits_says_how_sequences_went():
    dataset = with_visits(a_study(1, 2))
    dataset.visits_run[0, 1, 1:] = 5
    dataset.visits_collapse[0, 1, :3] = 1.0
    head, *lines = show.study_table(dataset).splitlines()
    assert head.endswith("median run  collapsed")
    assert [line.split()[-2:] for line in lines[:2]] == [["2", "0"], ["5", "3"]]
    assert lines[-1].startswith("run: changes to the memory that follows")
    assert "run" not in show.study_table(a_study(1, 2))


def test_parameters_of_a_users_function_have_their_own_names(drawn):
    _, axes = drawn(a_study(4, 1, kind="mine"))
    assert axes["a"].get_xlabel() == "noise"


def test_words_are_of_parameters_that_there_are():
    fields = set(hj.Retrieval.__dataclass_fields__) | {"t1", "dt"}
    assert fields >= picture._WORDS.keys()


def test_what_is_unfinished_says_so(drawn):
    figure, _ = drawn(a_study(2, 2).assign_attrs(unfinished="3 of 8 trials are done"))
    assert figure.get_suptitle() == "unfinished: 3 of 8 trials are done"


@pytest.mark.slow
@pytest.mark.parametrize("ending", picture.FORMATS)
def test_a_picture_has_the_same_bytes_again(tmp_path: Path, ending):
    paths = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for path in paths:
        picture.draw_study(a_study(2, 2), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first[:20].lstrip()[:4] in (b"\x89PNG", b"%PDF", b"<?xm")


def test_a_band_on_a_logarithmic_axis_stays_on_it(drawn):
    loss, half = np.array([1.0, 0.1, 0.01]), np.array([0.1, 0.2, 0.02])
    ends = {"": loss, "_low": loss - half, "_high": loss + half}
    dataset = xr.Dataset(
        {
            **{f"loss{end}": ("step", values) for end, values in ends.items()},
            **{f"tuned_loss{end}": values[-1] for end, values in ends.items()},
            "x": ("step", loss),
            **{f"x{end}": 1.0 for end in ("_tuned", "_low", "_high")},
        },
        {"step": np.arange(3)},
        {"parameters": "x"},
    )
    figure, _ = drawn(dataset, picture.draw_tuning)
    above = figure.axes[0]
    assert above.get_yscale() == "log"
    (band, interval) = above.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.01 * np.exp(-2))
    np.testing.assert_allclose(heights.max(), np.exp(0.1))
    ((_, low), (_, high)) = interval.get_segments()[0]
    np.testing.assert_allclose([low, high], 0.01 * np.exp([-2, 2]))
