"""Plots show the numbers they were given, on the Axes they were given."""

from collections.abc import Callable
from typing import Any, ClassVar

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from hopjax import plotting
from hopjax.plotting import animations
from hopjax.plotting.look import look_of

TS = np.linspace(0, 3, 31)
OVERLAPS = np.stack([np.sin(TS + phase) for phase in range(5)], axis=1)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def test_plot_overlaps_draws_every_memory_and_names_the_highlighted(ax):
    assert plotting.plot_overlaps(TS, OVERLAPS, highlight=[3, 1], ax=ax) is ax
    lines = ax.get_lines()
    assert len(lines) == 5
    for memory, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_ydata(), OVERLAPS[:, memory])
    assert lines[3].get_color() == plotting.COLOURS[0]
    assert lines[0].get_color() == plotting.OTHERS_COLOUR
    labels = ax.get_legend_handles_labels()[1]
    assert sorted(labels) == ["memory 2", "memory 4", "other memories"]
    assert "time" in ax.get_xlabel()
    assert "overlap" in ax.get_ylabel()


def test_functions_make_axes_of_their_own():
    for draw in (
        lambda: plotting.plot_overlaps(TS, OVERLAPS),
        lambda: plotting.plot_band(TS, TS, TS - 1, TS + 1),
        lambda: plotting.plot_shown([0.0, 1.0], [0, 1], 3.0),
        lambda: plotting.plot_weights(np.array([1.0, 2.0])),
        lambda: plotting.plot_proportions(TS, TS / 3, TS / 4, TS / 2),
        lambda: plotting.plot_descent(np.arange(31), TS),
        lambda: plotting.plot_saliencies(TS, OVERLAPS),
        lambda: plotting.plot_visits(ORDER, START, DWELL),
    ):
        assert isinstance(draw(), Axes)
    assert len(plt.get_fignums()) == 8


def test_plot_saliencies_draws_every_memory_and_the_threshold(ax):
    assert plotting.plot_saliencies(TS, 3 * OVERLAPS, threshold=1.5, highlight=[1], ax=ax) is ax
    *lines, threshold = ax.get_lines()
    assert len(lines) == 5
    for memory, line in enumerate(lines):
        np.testing.assert_array_equal(line.get_ydata(), 3 * OVERLAPS[:, memory])
    assert lines[1].get_color() == plotting.COLOURS[0]
    assert [*threshold.get_ydata()] == [1.5, 1.5]
    assert ax.get_ylim()[1] > 2.9
    assert "saliency" in ax.get_ylabel()
    plain = plotting.plot_saliencies(TS, OVERLAPS, ax=plt.subplots()[1])
    assert len(plain.get_lines()) == 5


ORDER = np.array([[0, 7, 0, -1], [3, 0, 7, 3]])
START = np.array([[0.0, 2.0, 3.5, np.inf], [0.5, 1.0, 2.0, 4.0]])
DWELL = np.array([[2.0, 1.5, 0.5, np.nan], [0.5, 1.0, 2.0, np.nan]])


def bars_of(ax: Axes) -> dict[str, np.ndarray]:
    """The left, right, bottom and top of the bars by their name."""
    bars = {}
    for each in ax.collections:
        corners = np.array([np.asarray(path.vertices)[:4] for path in each.get_paths()])
        bars[str(each.get_label())] = corners[:, [0, 2, 0, 1], [0, 0, 1, 1]]
    return bars


def test_plot_visits_has_a_row_for_each_trial_and_a_colour_for_each_memory(ax):
    assert plotting.plot_visits(ORDER, START, DWELL, ax=ax) is ax
    bars = bars_of(ax)
    assert [*bars] == ["memory 1", "memory 4", "memory 8"]
    expected = {
        "memory 1": [(0.0, 2.0, 0.6, 1.4), (3.5, 4.0, 0.6, 1.4), (1.0, 2.0, 1.6, 2.4)],
        "memory 4": [(0.5, 1.0, 1.6, 2.4)],  # not the last one, whose end is unknown
        "memory 8": [(2.0, 3.5, 0.6, 1.4), (2.0, 4.0, 1.6, 2.4)],
    }
    for name, places in expected.items():
        np.testing.assert_allclose(bars[name], places)
    first, _, last = ax.collections
    assert to_hex(first.get_facecolor()[0]) == plotting.COLOURS[0].lower()
    assert to_hex(last.get_facecolor()[0]) == plotting.COLOURS[1].lower()
    assert (first.get_hatch(), last.get_hatch()) == (None, "/////")  # its colour is used again
    assert ax.get_ylim() == (2.5, 0.5)
    assert ax.get_xlim()[1] >= 4


def test_plot_visits_of_one_trajectory_and_of_none(ax):
    plotting.plot_visits(ORDER[0], START[0], DWELL[0], ax=ax)
    assert sum(map(len, bars_of(ax).values())) == 3
    assert ax.get_ylim() == (1.5, 0.5)
    nowhere = plotting.plot_visits(np.full(2, -1), np.full(2, np.inf), np.full(2, np.nan))
    assert not nowhere.collections


def test_visits_of_different_shapes_are_refused():
    message = r"^Argument `dwell` must have shape \(2, 4\), got shape \(4,\)"
    with pytest.raises(ValueError, match=message):
        plotting.plot_visits(ORDER, START, DWELL[0])
    with pytest.raises(ValueError, match=r"^Argument `order` must have shape \(V,\) or \(R, V\)"):
        plotting.plot_visits(0, 0.0, 1.0)


def test_plot_band_spans_low_to_high(ax):
    plotting.plot_band(TS, 0 * TS, TS - 4, TS + 4, place=1, label="m", ax=ax)
    vertices = ax.collections[0].get_paths()[0].vertices
    assert vertices[:, 1].min() == -4
    assert vertices[:, 1].max() == 7
    assert ax.get_lines()[0].get_color() == plotting.COLOURS[1]


def test_plot_proportions_draws_estimates_and_their_intervals(ax):
    x, p = np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.4, 1.0])
    low, high = np.array([0.0, 0.3, 0.8]), np.array([0.2, 0.6, 1.0])
    assert plotting.plot_proportions(x, p, low, high, place=2, label="IDP", ax=ax) is ax
    (drawn,) = ax.containers
    np.testing.assert_array_equal(drawn.lines[0].get_xydata(), np.stack([x, p], axis=1))
    ends = np.array(drawn.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, np.stack([low, high], axis=1))
    assert drawn.lines[0].get_color() == plotting.COLOURS[2]
    assert ax.get_legend_handles_labels()[1] == ["IDP"]


def test_plot_descent_draws_the_steps_a_band_and_what_was_found(ax):
    steps, loss = np.arange(4), np.array([1.0, 0.5, np.nan, 0.25])
    drawn = plotting.plot_descent(
        *(steps, loss, loss - 0.4, loss + 0.5), tuned=(0.2, 0.1, 0.4), place=1, label="loss", ax=ax
    )
    assert drawn is ax
    line, *_ = ax.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), steps)
    np.testing.assert_array_equal(line.get_ydata(), loss)
    assert line.get_color() == plotting.COLOURS[1]
    assert ax.get_legend_handles_labels()[1] == ["loss"]
    band = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [-0.15, 1.5])
    (found,) = ax.containers
    ((x, y),) = found.lines[0].get_xydata()
    assert y == 0.2
    assert 3 < x < 4
    np.testing.assert_allclose(found.lines[2][0].get_segments()[0][:, 1], [0.1, 0.4])
    assert ax.get_yscale() == "linear"
    assert ax.get_xlabel() == "step"


def test_plot_descent_of_several_numbers_without_intervals(ax):
    values = np.arange(8.0).reshape(4, 2)
    nothing = np.full(2, np.nan)
    end = np.array([6.5, 7.5])
    plotting.plot_descent(np.arange(4), values, tuned=(end, nothing, nothing), ax=ax)
    for line, column in zip(ax.get_lines(), values.T, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), column)
        assert line.get_color() == plotting.COLOURS[0]
    (found,) = ax.containers
    np.testing.assert_array_equal(found.lines[0].get_ydata(), end)
    ax.figure.canvas.draw()  # what is not there is no error


def test_a_logarithmic_plot_descent_has_the_range_of_its_values(ax):
    loss = np.array([1.0, 0.1, 1e-3])
    plotting.plot_descent(
        np.arange(3), loss, loss - 0.5, 100 * loss, tuned=(1e-4, -1.0, 1.0), log=True, ax=ax
    )
    assert ax.get_yscale() == "log"
    low, high = ax.get_ylim()
    assert 1e-5 < low < 1e-4
    assert 1 < high < 10


LOSS, HALF = np.array([1.0, 0.1, 0.01]), np.array([0.1, 0.2, 0.02])


def test_bands_of_a_logarithmic_plot_descent_do_not_fall_to_its_floor(ax):
    ends = LOSS - HALF, LOSS + HALF
    plotting.plot_descent(np.arange(3), LOSS, *ends, tuned=(0.01, -0.01, 0.03), log=True, ax=ax)
    band, interval = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [0.01 * np.exp(-2), np.exp(0.1)])
    ((_, low), (_, high)) = interval.get_segments()[0]
    np.testing.assert_allclose([low, high], 0.01 * np.exp([-2, 2]))


def test_positive_bands_of_a_logarithmic_plot_descent_are_drawn_as_they_are(ax):
    ends = LOSS / 3, 2 * LOSS
    plotting.plot_descent(np.arange(3), LOSS, *ends, tuned=(0.01, 0.002, 0.03), log=True, ax=ax)
    band, interval = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [0.01 / 3, 2])
    ((_, low), (_, high)) = interval.get_segments()[0]
    np.testing.assert_allclose([low, high], [0.002, 0.03])


def test_plot_descent_of_a_single_step(ax):
    one = np.array([2.0])
    plotting.plot_descent(
        np.arange(1), one, one - 0.5, one + 0.5, tuned=(2.0, 1.0, 3.0), log=True, ax=ax
    )
    ax.figure.canvas.draw()
    assert ax.get_xlim()[1] - ax.get_xlim()[0] < 2


def test_plot_shown_marks_each_window(ax):
    plotting.plot_shown([0.0, 1.0, 2.5], [0, 1, 0], 3.0, ax=ax)
    spans = [patch.get_extents().transformed(ax.transData.inverted()) for patch in ax.patches]
    np.testing.assert_allclose([s.x0 for s in spans], [0.0, 1.0, 2.5], atol=1e-9)
    np.testing.assert_allclose([s.x1 for s in spans], [1.0, 2.5, 3.0], atol=1e-9)
    assert [text.get_text() for text in ax.texts] == ["1", "2", "1"]


def test_plot_weights_counts_from_one(ax):
    plotting.plot_weights(np.array([3.0, 1.0]), ax=ax)
    assert [bar.get_height() for bar in ax.patches] == [3.0, 1.0]
    assert list(ax.get_xticks()) == [1, 2]


def test_style_is_left_behind():
    before = mpl.rcParams["font.size"]
    with plotting.style():
        assert mpl.rcParams["font.size"] == 7
    assert mpl.rcParams["font.size"] == before


def test_a_film_has_its_pictures_in_a_row_and_their_times_below():
    states = np.stack([np.full(16, value) for value in (-1.0, 0.0, 1.0)])
    states[1, :4] = 1  # the first row of the second picture
    axes = plotting.plot_film(np.array([0, 2.5, 5]), states)
    strip = np.asarray(axes.images[0].get_array())
    assert strip.shape == (4, 14)  # with gaps of one
    np.testing.assert_array_equal(strip[0, 5:9], 1)
    np.testing.assert_array_equal(strip[1:, 5:9], 0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "2.5", "5"]
    assert axes.get_xticks().tolist() == [1.5, 6.5, 11.5]  # their middles


def test_pictures_that_are_no_squares(ax):
    state = np.arange(126)
    plotting.plot_picture(state, size=(14, 9), ax=ax)
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_array_equal(shown, state.reshape(14, 9))
    # A square number of neurons need not be a square.
    axes = plotting.plot_picture(np.arange(16), size=(2, 8))
    assert np.asarray(axes.images[0].get_array()).shape == (2, 8)
    # One integer is a square, as for the memories themselves.
    axes = plotting.plot_picture(np.arange(16), size=4)
    assert np.asarray(axes.images[0].get_array()).shape == (4, 4)


@pytest.mark.parametrize(("rows", "columns"), [(14, 9), (25, 50), (1, 3), (3, 1)])
def test_a_film_of_pictures_that_are_no_squares(rows, columns):
    states = np.arange(3 * rows * columns).reshape(3, -1) / 1000
    axes = plotting.plot_film(np.arange(3), states, size=(rows, columns))
    strip = np.asarray(axes.images[0].get_array(), float)
    gap = max(1, columns // 16)
    assert strip.shape == (rows, 3 * columns + 2 * gap)
    for place, state in enumerate(states):
        left = place * (columns + gap)
        np.testing.assert_array_equal(strip[:, left : left + columns], state.reshape(rows, columns))
        # The time stands below the middle.
        assert axes.get_xticks()[place] == left + (columns - 1) / 2


@pytest.mark.parametrize("number", [1, 3, 12])
@pytest.mark.parametrize(("rows", "columns"), [(14, 9), (25, 50), (30, 3)])
def test_a_film_without_axes_fills_its_figure(rows, columns, number):
    axes = plotting.plot_film(
        np.arange(number), np.ones((number, rows * columns)), size=(rows, columns)
    )
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()  # lays it out
    strip, whole = axes.get_window_extent(), figure.bbox
    assert strip.width > 0.8 * whole.width
    line = 1.2 * mpl.rcParams["font.size"] / 72 * figure.dpi
    assert line < whole.height - strip.height < 4 * line  # the times below, and margins
    assert max(figure.get_size_inches() / mpl.rcParams["figure.figsize"]) < 1.1


def test_pictures_whose_shape_does_not_fit_are_refused():
    asked = r"`size` must be \(rows, columns\) for 5 neurons, which make no square, got None"
    with pytest.raises(ValueError, match=asked):
        plotting.plot_picture(np.zeros(5))
    with pytest.raises(ValueError, match=asked):
        plotting.plot_film(np.arange(2), np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"each of the 16 neurons, got 3 rows of 5"):
        plotting.plot_picture(np.zeros(16), size=(3, 5))
    with pytest.raises(ValueError, match=r"each of the 16 neurons, got 5 rows of 5"):
        plotting.plot_film(np.arange(2), np.zeros((2, 16)), size=5)
    with pytest.raises(ValueError, match=r"`size` must be one count or \(rows, columns\)"):
        plotting.plot_picture(np.zeros(8), size=(2, 2, 2))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"`size\[1\]` must be an integer"):
        plotting.plot_picture(np.zeros(8), size=(2, 4.0))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`state` must be one state .* got shape \(2, 4\)"):
        plotting.plot_picture(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"`states` must be states .* got shape \(4,\)"):
        plotting.plot_film(np.arange(2), np.zeros(4))
    with pytest.raises(ValueError, match=r"one time for each of the 2 states, got shape \(3,\)"):
        plotting.plot_film(np.arange(3), np.zeros((2, 4)))


class Frames(AbstractMovieWriter):
    """Looks at a figure, frame by frame, where others would draw it."""

    seen: ClassVar[list[Any]] = []
    look: ClassVar[list[Callable[[], Any]]] = []

    @classmethod
    def isAvailable(cls):
        return True

    def setup(self, fig, outfile, dpi=None):
        pass

    def grab_frame(self, **options):
        self.seen.append(self.look[0]())

    def finish(self):
        pass


@pytest.fixture
def frames(monkeypatch, tmp_path):
    """What is to be seen in every frame of what is saved."""
    monkeypatch.setattr(animations, "PillowWriter", Frames)

    def saved(animation, look):
        monkeypatch.setattr(Frames, "seen", [])
        monkeypatch.setattr(Frames, "look", [look])
        plotting.save_animation(animation, tmp_path / "moving.gif")
        return Frames.seen

    return saved


def test_overlaps_come_frame_by_frame(ax, frames):
    animation = plotting.animate_overlaps(TS, OVERLAPS, highlight=[3], ax=ax)
    found = frames(animation, lambda: [line.get_xydata().copy() for line in ax.get_lines()])
    assert len(found) == len(TS)
    for number, lines in enumerate(found, start=1):
        for memory, line in enumerate(lines):
            right = np.stack([TS[:number], OVERLAPS[:number, memory]], axis=1)
            np.testing.assert_array_equal(line, right)
    assert ax.get_xlim() == (0, 3)  # from the beginning
    assert ax.get_lines()[3].get_color() == plotting.COLOURS[0]


FILMS = np.random.default_rng(0).uniform(-1, 1, (2, 3, 6))


def test_films_run_side_by_side_with_their_captions(frames):
    animation = plotting.animate_film(
        np.array([0, 2.5, 5]), {"IDP": FILMS[0], "classic": FILMS[1]}, size=(2, 3)
    )
    figure = plt.gcf()
    left, right = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["IDP", "classic"]

    def look():
        pictures = [np.array(ax.images[0].get_array()) for ax in (left, right)]
        return pictures, figure.get_supxlabel()

    found = frames(animation, look)
    assert [caption for _, caption in found] == ["$t$ = 0", "$t$ = 2.5", "$t$ = 5"]
    for number, (pictures, _) in enumerate(found):
        np.testing.assert_array_equal(pictures, FILMS[:, number].reshape(2, 2, 3))
    assert left.images[0].get_clim() == (-1, 1)


def test_several_animations_of_one_figure_move_together(frames):
    figure, (left, right) = plt.subplots(1, 2)
    film = plotting.animate_film(np.arange(3), FILMS[0], size=(2, 3), captions=[], ax=left)
    overlaps = plotting.animate_overlaps(np.arange(3), FILMS[1], ax=right)
    found = frames(
        [film, overlaps],
        lambda: (np.array(left.images[0].get_array()).ravel(), len(right.lines[0].get_xdata())),
    )
    assert [number for _, number in found] == [1, 2, 3]
    np.testing.assert_array_equal([picture for picture, _ in found], FILMS[0])
    assert figure.get_supxlabel() == ""


def test_own_captions_and_axes(frames):
    figure, axes = plt.subplots(1, 2)
    films = dict(zip("ab", FILMS, strict=True))
    animation = plotting.animate_film(
        np.arange(3), films, size=(2, 3), captions=["one", "two", "three"], ax=axes, cmap="viridis"
    )
    assert frames(animation, figure.get_supxlabel) == ["one", "two", "three"]
    assert axes[1].images[0].get_cmap().name == "viridis"


def test_a_gif_has_its_frames_and_their_time(tmp_path):
    path = tmp_path / "film.gif"
    animation = plotting.animate_film(np.arange(3), FILMS[0], size=(2, 3))
    plotting.save_animation(animation, path, frames_per_second=5, dpi=30)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
        assert image.info["duration"] == 200
        assert image.width == pytest.approx(30 * plt.gcf().get_figwidth(), abs=1)


@pytest.mark.slow
def test_where_ffmpeg_is_a_film_is_mp4(tmp_path):
    if not FFMpegWriter.isAvailable():
        pytest.skip("no ffmpeg here")
    animation = plotting.animate_film(np.arange(3), FILMS[0], size=(2, 3))
    plotting.save_animation(animation, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes()[4:8] == b"ftyp"


def test_animations_that_do_not_fit_are_refused(monkeypatch):
    film = plotting.animate_film(np.arange(3), FILMS[0], size=(2, 3))
    plt.gcf().canvas.draw()  # one that is never drawn warns
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    told = r"^Argument `path` must end in \.gif where there is no ffmpeg, which writes \.mp4, got"
    with pytest.raises(ValueError, match=told):
        plotting.save_animation(film, "film.mp4")
    with pytest.raises(ValueError, match=r"`path` must end in \.gif or \.mp4, got 'film\.avi'\."):
        plotting.save_animation(film, "film.avi")
    with pytest.raises(ValueError, match="`animation` must be of one figure, got 0 animations"):
        plotting.save_animation([], "film.gif")
    other = plotting.animate_overlaps(TS, OVERLAPS)
    plt.gcf().canvas.draw()
    with pytest.raises(ValueError, match="`animation` must be of one figure, got 2 animations"):
        plotting.save_animation([film, other], "film.gif")
    with pytest.raises(TypeError, match="`animation` must be an animation of Matplotlib, or"):
        plotting.save_animation("film", "film.gif")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match="`frames_per_second` must be an integer of at least 1, got 0"
    ):
        plotting.save_animation(film, "film.gif", frames_per_second=0)
    with pytest.raises(ValueError, match=r"one time for each of the 31 rows of overlaps, got"):
        plotting.animate_overlaps(TS[1:], OVERLAPS)
    with pytest.raises(ValueError, match=r"`overlaps` must have shape \(T, P\), got shape \(31,\)"):
        plotting.animate_overlaps(TS, TS)
    with pytest.raises(ValueError, match=r"one time for each of the 2 states, got shape \(3,\)"):
        plotting.animate_film(np.arange(3), {"a": FILMS[0], "b": FILMS[0, :2]}, size=(2, 3))
    with pytest.raises(ValueError, match="`states` must have at least one film, got none"):
        plotting.animate_film(np.arange(3), {})
    with pytest.raises(ValueError, match="caption for each of the 3 times, or none, got 2"):
        plotting.animate_film(np.arange(3), FILMS[0], size=(2, 3), captions=["a", "b"])
    with pytest.raises(ValueError, match="one Axes for each of the 1 films, got 2"):
        plotting.animate_film(np.arange(3), FILMS[0], size=(2, 3), ax=plt.subplots(1, 2)[1])


def test_places_are_told_apart_without_colours_too():
    looks = [look_of(place) for place in range(12)]
    assert len({(look.line, look.marker) for look in looks}) == 12
    assert [look.colour for look in looks[6:]] == [*plotting.COLOURS]
    assert looks[3] == (plotting.COLOURS[3], plotting.LINE_STYLES[3], plotting.MARKERS[3])
