"""Memories made of glyphs and pictures: upright, bright is +1, refused where nothing is."""

import itertools
import string
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import stats

from hopjax import DynamicAttention, glyph_memories, mixture, picture_memories
from hopjax.solving import solve


def drawn(character: str) -> np.ndarray:
    """A glyph as a picture, True where it is bright."""
    return np.asarray(glyph_memories(character)).reshape(32, 32) > 0


# Glyphs.


@pytest.mark.parametrize("size", [8, 32, 33])
def test_glyphs_are_patterns_of_plus_and_minus_one(size):
    memories = glyph_memories("Ab7", size=size)
    assert memories.shape == (3, size**2)
    assert memories.dtype == jnp.float64
    assert set(np.unique(memories)) == {-1, 1}
    assert glyph_memories("A", size=size, dtype="float32").dtype == jnp.float32


def test_each_character_is_a_memory_of_its_own_in_its_place():
    together = glyph_memories("HIH", size=16)
    for row, character in zip(together, "HIH", strict=True):
        assert_array_equal(row, glyph_memories(character, size=16)[0])


def test_glyphs_are_bright_on_dark():
    # Even the boldest letter covers less than half of its square.
    for row in np.asarray(glyph_memories(string.ascii_uppercase)):
        assert 0.05 < np.mean(row > 0) < 0.5


def test_glyphs_are_upright():
    bar = drawn("T")
    rows = np.flatnonzero(bar.any(axis=1))
    widths = bar.sum(axis=1)
    assert widths[rows[0]] > 2 * widths[rows[len(rows) // 2 :]].max()
    assert_array_equal(bar, bar[:, ::-1])  # its stem is in the middle
    # And not mirrored: an L has its stem on the left and its bar at the bottom.
    corner = drawn("L")
    heights, widths = corner.sum(axis=0), corner.sum(axis=1)
    columns, rows = np.flatnonzero(heights), np.flatnonzero(widths)
    assert heights[columns[0]] > 2 * heights[columns[-1]]
    assert widths[rows[-1]] > 2 * widths[rows[0]]


def test_glyphs_are_large_and_in_the_middle():
    rows, columns = (np.flatnonzero(drawn("H").any(axis=axis)) for axis in (1, 0))
    for lines in (rows, columns):
        assert len(lines) > 16  # more than half of the square
        assert abs(lines[0] + lines[-1] - 31) <= 4


def test_different_characters_are_different_memories():
    characters = string.ascii_letters + string.digits
    memories = np.asarray(glyph_memories(characters))
    assert len({row.tobytes() for row in memories}) == len(characters)


def test_every_capital_letter_fits():
    for letter in string.ascii_uppercase:
        glyph = drawn(letter)
        for border in (glyph[0], glyph[-1], glyph[:, 0], glyph[:, -1]):
            assert not border.any(), letter


def test_glyphs_resemble_each_other_and_are_still_independent():
    # As the docstring has it: correlated, yet a decorrelated network can tell them apart.
    memories = np.asarray(glyph_memories(string.ascii_uppercase))
    overlaps = memories @ memories.T / memories.shape[1]
    mutual = [overlaps[i, j] for i, j in itertools.combinations(range(26), 2)]
    assert 0.3 < np.median(mutual) < 0.7
    eigenvalues = np.linalg.eigvalsh(overlaps)
    assert eigenvalues[0] > 1e-3 * eigenvalues[-1]


def test_glyphs_are_the_same_every_time_and_another_font_is_another_glyph():
    first, again = glyph_memories("Qg"), glyph_memories("Qg")
    assert_array_equal(first, again)
    assert not np.array_equal(first, glyph_memories("Qg", font="DejaVu Serif"))


@pytest.mark.parametrize(("rows", "columns"), [(14, 9), (25, 50), (20, 9)])
def test_glyphs_in_the_middle_of_another_shape(rows, columns):
    memories = np.asarray(glyph_memories("Hg", size=(rows, columns)))
    assert memories.shape == (2, rows * columns)
    bright = memories[0].reshape(rows, columns) > 0
    for axis, length in ((1, rows), (0, columns)):
        lines = np.flatnonzero(bright.any(axis=axis))
        assert abs(lines[0] + lines[-1] - (length - 1)) <= 2
    # As large as in a square of the shorter side.
    side = min(rows, columns)
    square = np.asarray(glyph_memories("H", size=side)) > 0
    assert abs(bright.sum() - square.sum()) <= 0.15 * square.sum()


# Pictures.

# A bright corner in the dark, at the upper right: it tells rows from columns, and their ends.
CORNER = np.zeros((8, 8), np.uint8)
CORNER[:4, 4:] = 200
EXPECTED = np.where(CORNER, 1, -1).ravel()


def colours(*channels: float) -> np.ndarray:
    """The corner in a colour, with a fourth channel opaque."""
    picture = (CORNER[..., None] > 0) * np.array(channels)
    picture[..., 3:] = np.max(channels[3:], initial=0)
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        CORNER,
        CORNER.astype(np.int64),
        CORNER / 255,
        (CORNER / 255).astype(np.float32),
        CORNER > 0,
        jnp.asarray(CORNER),
        CORNER.tolist(),
        colours(0.9, 0.8, 0.7),
        colours(200, 180, 190).astype(np.uint8),
        colours(0.9, 0.8, 0.7, 1.0),
        colours(200, 180, 190, 255).astype(np.uint8),
        (257 * CORNER.astype(int)).astype(np.uint16),
        CORNER.astype(np.uint64),
        (CORNER // 2).astype(np.int8) + 20 * (CORNER > 0).astype(np.int8),
    ],
    ids=lambda picture: f"{type(picture).__name__}-{np.asarray(picture).dtype}",
)
def test_arrays_of_every_kind(picture):
    for threshold in (None, 0.45):
        memories = picture_memories([picture], size=8, threshold=threshold)
        assert memories.dtype == jnp.float64
        assert_array_equal(memories, EXPECTED[None])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_files_of_every_kind(tmp_path, mode):
    path = tmp_path / "corner.png"
    if mode == "I;16":
        Image.fromarray((CORNER > 0) * np.uint16(65535)).save(path)
    else:
        Image.fromarray((CORNER > 0) * np.uint8(255)).convert(mode).save(path)
    for file in (path, str(path)):
        for threshold in (None, 0.5):
            memories = picture_memories([file], size=8, threshold=threshold)
            assert_array_equal(memories, EXPECTED[None])


def test_brightness_of_sixteen_bits_in_a_file_and_in_an_array(tmp_path):
    # Greys between, which an image cut at 255 would not have.
    path = tmp_path / "ramp.png"
    ramp = np.tile(np.linspace(0, 65535, 16), (16, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(path)
    for threshold in (0.2, 0.8):
        of_file, of_array = np.asarray(
            picture_memories([path, ramp], size=16, threshold=threshold) > 0
        )
        assert_array_equal(of_file, (ramp > threshold * 65535).ravel())
        assert_array_equal(of_array, of_file)
    for grey in (False, True):
        of_file, of_array = np.asarray(picture_memories([path, ramp], size=16, grey=grey))
        assert_array_equal(of_array, of_file)
    # The dtype says the scale, not the values: these are all but black.
    dark = (ramp // 257).astype(np.uint16)
    with pytest.raises(ValueError, match=r"both sides of the threshold, got .* 0 to 0\.00389"):
        picture_memories([dark], size=16, threshold=0.5)


def test_a_file_of_real_numbers_is_an_array_of_them(tmp_path):
    path = tmp_path / "real.tif"
    values = np.random.default_rng(0).uniform(size=(8, 8)).astype(np.float32)
    Image.fromarray(values).save(path)
    of_file, of_array = picture_memories([path, values], size=8, threshold=0.3)
    assert_array_equal(of_file, of_array)
    Image.fromarray(2 * values).save(path)
    with pytest.raises(ValueError, match=r"`pictures\[0\]` must have values from 0 to 1 "):
        picture_memories([path], size=8)


def transparent(mode: str) -> Image.Image:
    """The corner in black, where it is not transparent, on black that nobody sees."""
    opacity = np.where(CORNER, 0, 255).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(np.where(CORNER, 3, 5).astype(np.uint8)).convert("P")
        image.putpalette([0] * 768)  # all of it black
        return image
    if mode in ("L", "RGB"):
        return Image.fromarray(np.where(CORNER, 3, 5).astype(np.uint8)).convert(mode)
    if mode == "I;16":
        return Image.fromarray(np.where(CORNER, 3, 5).astype(np.uint16))
    image = Image.new(mode, (8, 8), 0)
    image.putalpha(Image.fromarray(opacity))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "I;16"])
def test_transparent_pixels_of_a_file_are_white(tmp_path, mode):
    path = tmp_path / "corner.png"
    clear = {"P": 3, "L": 3, "RGB": (3, 3, 3), "I;16": 3}
    options = {"transparency": clear[mode]} if mode in clear else {}
    transparent(mode).save(path, **options)
    for threshold in (None, 0.5):
        assert_array_equal(picture_memories([path], size=8, threshold=threshold)[0], EXPECTED)


@pytest.mark.parametrize("largest", [1.0, 255, 65535])
def test_transparent_pixels_of_an_array_are_white(largest):
    kind = {1.0: float, 255: np.uint8, 65535: np.uint16}[largest]
    # Columns of ever less opacity in black, dark and bright: 1 − opacity + opacity · brightness.
    opacity = np.linspace(1, 0, 6)
    brightness = np.array([0.0, 0.2, 0.8])
    picture = np.empty((3, 6, 4))
    picture[..., :3], picture[..., 3] = brightness[:, None, None], opacity
    picture = np.rint(picture * largest).astype(kind) if largest > 1 else picture
    seen = 1 - opacity + opacity * brightness[:, None]
    for threshold in (0.15, 0.5, 0.9):
        found = picture_memories([picture], size=(3, 6), threshold=threshold)
        assert_array_equal(found[0].reshape(3, 6) > 0, seen > threshold)


def test_files_and_arrays_are_one_picture_each_in_their_order(tmp_path):
    path = tmp_path / "corner.png"
    Image.fromarray(CORNER).save(path)
    pictures = [CORNER.T, path, 1 - CORNER / 255]
    memories = picture_memories(pictures, size=8, threshold=0.5, dtype="float32")
    assert memories.dtype == jnp.float32
    expected = np.where(CORNER.T, 1, -1).ravel()
    assert_array_equal(memories, np.stack([expected, EXPECTED, -EXPECTED]))


def test_colours_count_by_how_bright_they_look():
    red, green, blue = np.eye(3)
    stripes = np.stack([red, green, blue, 0 * red])[None].repeat(4, axis=0)
    for threshold, bright in ((0.05, "rgb"), (0.2, "rg"), (0.4, "g")):
        expected = [1 if colour in bright else -1 for colour in "rgb-"]
        found = picture_memories([stripes], size=4, threshold=threshold)
        assert_array_equal(found[0].reshape(4, 4), np.tile(expected, (4, 1)))


@pytest.mark.parametrize("length", [12, 16])
def test_of_a_picture_that_is_not_square_the_middle_is_kept(length):
    margin = (length - 8) // 2
    wide = np.ones((8, length))  # white at both ends
    wide[:, margin:-margin] = CORNER / 255
    assert_array_equal(picture_memories([wide], size=8, threshold=0.5)[0], EXPECTED)
    tall = np.ones((length, 8))
    tall[margin:-margin] = CORNER / 255
    assert_array_equal(picture_memories([tall], size=8, threshold=0.5)[0], EXPECTED)


@pytest.mark.parametrize(("rows", "columns"), [(14, 9), (25, 50)])
def test_pictures_of_other_shapes_than_squares(rows, columns):
    rng = np.random.default_rng(0)
    picture = rng.uniform(size=(rows, columns))
    found = picture_memories([picture], size=(rows, columns), threshold=0.5)
    assert_array_equal(found[0], np.where(picture > 0.5, 1, -1).ravel())
    # Of more, the largest part of that shape in the middle; blocks become their means.
    larger = np.kron(picture, np.ones((2, 2)))
    for margins in ((0, 4), (6, 0)):
        padded = np.pad(larger, [(margin, margin) for margin in margins], constant_values=1.0)
        found = picture_memories([padded], size=(rows, columns), threshold=0.5)
        assert_array_equal(found[0], np.where(picture > 0.5, 1, -1).ravel())
    found = picture_memories([picture], size=[rows, columns], threshold=0.5)  # pyright: ignore[reportArgumentType]
    assert found.shape == (1, rows * columns)


def test_pixels_are_means_over_blocks():
    large = np.random.default_rng(0).uniform(size=(24, 24))
    means = large.reshape(8, 3, 8, 3).mean(axis=(1, 3))
    for threshold in (None, 0.45):
        limit = np.median(means) if threshold is None else threshold
        found = picture_memories([large], size=8, threshold=threshold)
        assert_array_equal(found[0], np.where(means > limit, 1, -1).ravel())


def test_small_pictures_are_enlarged():
    found = picture_memories([np.eye(2)], size=6)
    assert_array_equal(found[0].reshape(6, 6), np.kron(2 * np.eye(2) - 1, np.ones((3, 3))))


def test_a_picture_on_a_ground_of_its_median_stays_a_picture():
    picture = np.full((32, 32), 254, np.uint8)
    picture[8:20, 8:20] = 0
    picture[0, 0] = 255
    found = np.asarray(picture_memories([picture]))[0].reshape(32, 32)
    assert_array_equal(found > 0, picture > 0)
    # And its negative, where the ground is dark.
    found = np.asarray(picture_memories([255 - picture]))[0].reshape(32, 32)
    assert_array_equal(found > 0, picture == 0)


def test_the_share_of_bright_pixels_is_as_near_to_half_as_it_can_be():
    rng = np.random.default_rng(0)
    for _ in range(50):
        levels = rng.choice(256, size=rng.integers(2, 7), replace=False)
        picture = rng.choice(levels, size=(8, 8), p=rng.dirichlet(np.ones(len(levels))))
        picture[0, :2] = levels[:2]  # not uniform
        picture[1:5] = picture[4:0:-1]
        shares = [np.mean(picture > level) for level in np.unique(picture)[:-1]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            share = np.mean(np.asarray(picture_memories([picture], size=8)) > 0)
        assert abs(share - 0.5) == min(abs(np.array(shares) - 0.5))


@pytest.mark.parametrize("length", [7, 16, 33])
def test_a_coloured_ground_is_one_grey(length):
    # Were its brightness rounded differently here and there, half of it would be made bright.
    picture = np.tile([0.1, 0.7, 0.3], (length, length, 1))
    picture[2:4, 2:4] = 0.2, 0.2, 0.3
    for size in (length, 2 * length):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = np.asarray(picture_memories([picture], size=size))[0]
        assert np.mean(found < 0) == 4 / length**2


def test_pictures_that_become_all_but_uniform_are_named_in_one_warning():
    dot = np.zeros((8, 8))
    dot[3, 3] = 1
    with pytest.warns(UserWarning, match="all but uniform") as record:
        memories = picture_memories([dot, CORNER, 1 - dot], size=8)
    assert np.asarray(memories).sum(axis=1).tolist() == [-62, -32, 62]
    (warning,) = record
    assert str(warning.message) == (
        "Pictures are all but uniform as memories where less than 5% or more than 95% of the "
        "pixels are bright: 1.56% in pictures[0], 98.4% in pictures[2]."
    )
    assert warning.filename == __file__
    # A threshold of the user's own can do it too; greys have no share.
    with pytest.warns(UserWarning, match=r"1\.56% in pictures\[0\]\.$"):
        picture_memories([np.arange(64).reshape(8, 8) / 64], size=8, threshold=0.97)
    picture_memories([dot], size=8, grey=True)


def test_by_default_half_of_the_pixels_are_bright():
    pictures = np.random.default_rng(0).uniform(0.2, 0.4, size=(3, 16, 16))
    assert_array_equal(picture_memories(list(pictures), size=16).sum(axis=1), np.zeros(3))
    # An array of pictures is as good as a list of them.
    assert_array_equal(
        picture_memories(pictures, size=16),  # pyright: ignore[reportArgumentType]
        picture_memories(list(pictures), size=16),
    )


def test_a_threshold_is_a_brightness():
    ramp = np.tile(np.arange(8) / 8 + 1 / 16, (8, 1))
    for threshold in (0.25, 0.5, 0.75):
        found = picture_memories([ramp], size=8, threshold=threshold)
        assert_array_equal(found[0].reshape(8, 8) > 0, ramp > threshold)


# Greys, for attention.


def smooth_pictures(seed: int, count: int, side: int = 16) -> np.ndarray:
    """Random pictures of a few waves, each from black to white."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:side, :side] / side
    pictures = []
    for _ in range(count):
        picture = np.zeros((side, side))
        for waves in itertools.product(range(3), repeat=2):
            if any(waves):
                turns = waves[0] * down + waves[1] * across + rng.uniform()
                picture += rng.normal() * np.cos(2 * np.pi * turns)
        picture -= picture.min()
        pictures.append(picture / picture.max())
    return np.stack(pictures)


def test_greys_are_standardised():
    pictures = smooth_pictures(0, 3)
    memories = np.asarray(picture_memories(list(pictures), size=16, grey=True))
    assert memories.dtype == np.float64
    rows = pictures.reshape(3, -1)
    expected = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    assert_allclose(memories, expected, atol=2e-6)  # brightness has 24 bits
    assert_allclose(memories.mean(axis=1), 0, atol=1e-14)
    assert_allclose((memories**2).mean(axis=1), 1, rtol=1e-14)
    # Neither the scale nor the contrast of a picture counts.
    fainter = np.rint(255 * 200 * (0.2 + 0.3 * pictures)).astype(np.uint16)
    found = picture_memories(list(fainter), size=16, grey=True, dtype="float32")
    assert found.dtype == jnp.float32
    assert_allclose(found, expected, atol=3e-4)


@pytest.mark.slow
def test_attention_tells_standardised_pictures_apart_and_raw_ones_much_worse():
    """As the docstring of `picture_memories` has it, with the reason that it gives.

    The input is one picture, the others at random weights below .3, and noise on every pixel; the
    network starts in another picture. Both kinds get the same noise in units of their own size,
    and the same β |ξ|².
    """
    count, trials = 8, 160
    pictures = smooth_pictures(0, count)
    kinds = {
        "raw": jnp.asarray(pictures.reshape(count, -1)),
        "standardised": picture_memories(list(pictures), size=16, grey=True),
    }
    targets = jnp.arange(trials) % count

    @jax.jit
    def run(memories, product):
        sizes = jnp.mean(jnp.sum(memories**2, axis=1))
        model = DynamicAttention(memories, product / sizes)

        def trial(key, target):
            noise_key, weight_key = jax.random.split(key)
            weights = jax.random.uniform(weight_key, (count,), maxval=0.3).at[target].set(1)
            pixels = jax.random.normal(noise_key, (256,)) * jnp.sqrt(sizes / 256)
            shown = mixture(memories, weights) + 0.3 * pixels
            start = memories[(target + 1) % count]
            flow = solve(model, 2 * shown, start, t1=10.0, dt=0.1)
            return jnp.argmax(flow.overlaps[-1]) == target

        return jnp.sum(jax.vmap(trial)(jax.random.split(jax.random.key(0), trials), targets))

    products = (1.0, 3.0, 10.0)
    right = {
        kind: np.array([int(run(memories, product)) for product in products])
        for kind, memories in kinds.items()
    }
    for raw, standardised in zip(right["raw"], right["standardised"], strict=True):
        table = [[raw, trials - raw], [standardised, trials - standardised]]
        assert stats.fisher_exact(table, alternative="less")[1] < 1e-6
    assert right["standardised"].max() >= 0.99 * trials
    assert right["raw"].max() <= 0.9 * trials

    # Why: raw pictures share most of their inner products, which are those of the means.
    def cosines(memories):
        rows = np.asarray(memories)
        norms = np.linalg.norm(rows, axis=1)
        return (rows @ rows.T / np.outer(norms, norms))[np.triu_indices(count, 1)]

    raw = pictures.reshape(count, -1)
    means = np.outer(raw.mean(axis=1), raw.mean(axis=1)) * 256
    assert (means > 0.7 * raw @ raw.T).all()
    assert cosines(raw).min() > 0.7
    assert abs(np.mean(cosines(kinds["standardised"]))) < 0.1


# What is refused; more of it stands with all other wrong input.


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "missing.png"
    with pytest.raises(FileNotFoundError) as caught:
        picture_memories([CORNER, path])
    assert str(caught.value) == f"Argument `pictures[1]` must be a file, got {path}."


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^Argument `pictures\[0\]` must be a file, got"):
        picture_memories([tmp_path])


def broken_files(folder: Any) -> dict[str, Any]:
    """Files that are no pictures, each in its way."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    contents = {
        "empty": b"",
        "text": b"no picture",
        "cut": whole[: len(whole) // 2],
        "garbled": whole[:200] + bytes(len(whole) - 200),
    }
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content)
    return {name: folder / f"{name}.png" for name in contents}


@pytest.mark.parametrize("name", ["empty", "text", "cut", "garbled"])
def test_a_broken_file_is_named_in_one_line(tmp_path, name):
    path = broken_files(tmp_path)[name]
    with pytest.raises(ValueError, match="picture that Pillow can read") as caught:
        picture_memories([path])
    message = str(caught.value)
    assert message.startswith("Argument `pictures[0]` must be ")
    assert "\n" not in message
