"""Memories made of glyphs and pictures: upright, square, bright is +1, refused where nothing is."""

import itertools
import string
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from hopjax import glyph_memories, picture_memories


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


# Pictures.

# A bright corner in the dark, at the upper right: it tells rows from columns, and their ends.
CORNER = np.zeros((8, 8), np.uint8)
CORNER[:4, 4:] = 200
EXPECTED = np.where(CORNER, 1, -1).ravel()


def colours(*channels: float) -> np.ndarray:
    """The corner in a colour."""
    return (CORNER[..., None] > 0) * np.array(channels)


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
        np.dstack([colours(200, 180, 190), np.arange(64).reshape(8, 8)]).astype(np.uint8),
    ],
    ids=lambda picture: f"{type(picture).__name__}-{np.asarray(picture).dtype}",
)
def test_arrays_of_every_kind(picture):
    for threshold in (None, 0.5):
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


def test_brightness_of_a_file_of_sixteen_bits(tmp_path):
    # Grays between, which an image cut at 255 would not have.
    path = tmp_path / "ramp.png"
    ramp = np.tile(np.linspace(0, 65535, 16), (16, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(path)
    for threshold in (0.2, 0.8):
        bright = np.asarray(picture_memories([path], size=16, threshold=threshold)) > 0
        assert_array_equal(bright[0], (ramp > threshold * 65535).ravel())


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
