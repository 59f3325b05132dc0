"""Memories that can be seen: glyphs and pictures, one neuron for each pixel.

Pixels lie row by row; bright is +1. Nothing is downloaded: glyphs are those of the fonts that
Matplotlib ships.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from hopjax._checks import check_flag, check_number, check_sides
from hopjax._errors import ArgumentError, ArgumentTypeError, names_keywords, warn
from hopjax.memories import float_dtype

_DETAIL = 8  # a glyph is drawn this many times larger, then averaged
_BALANCED = 0.05, 0.95  # share of bright pixels outside of which a picture is all but uniform
_WEIGHTS = 0.299, 0.587, 0.114  # of red, green and blue in what looks bright
_DEEP = 65535.0  # the brightest of 16 bits


@names_keywords
def glyph_memories(
    text: str,
    *,
    size: int | tuple[int, int] = 32,
    font: str = "DejaVu Sans",
    dtype: DTypeLike | None = None,
) -> Float[Array, "P N"]:
    """The characters of a text as memories: bright on dark, bold, each in the middle of its own.

    Glyphs share their margins, so they are strongly correlated: an overlap of ½ between two is
    common. `DecorrelatedHopfield` is made for such memories.

    Example:
        ```python
        letters = hj.glyph_memories("AEF", size=16)  # (3, 256)
        hj.plotting.plot_picture(letters[0])
        ```

    Args:
        text: one character for each memory.
        size: pixels along a side, N = size²; or (rows, columns) with N = rows · columns, where
            glyphs are as large as the shorter side allows.
        font: a family that Matplotlib finds; "DejaVu Sans" and "DejaVu Serif" are always there.
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        TypeError, ValueError: for a wrong size or font, a text without characters, or a character
            that the font does not have or that leaves no pixel bright.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from PIL import Image, ImageDraw, ImageFont

    for value, name in ((text, "text"), (font, "font")):
        if not isinstance(value, str):
            raise ArgumentTypeError(name, "a string", repr(value))
    if not text:
        raise ArgumentError("text", "a character for each memory", "none", must="have")
    (rows, columns), dtype = check_sides(size, "size"), float_dtype(dtype)
    try:
        path = findfont(FontProperties(family=font, weight="bold"), fallback_to_default=False)
    except ValueError:
        right = 'a family that Matplotlib finds, such as "DejaVu Sans"'
        raise ArgumentError("font", right, repr(font)) from None
    known, width, height = get_font(path).get_charmap(), columns * _DETAIL, rows * _DETAIL
    # The widest letters just fit.
    face = ImageFont.truetype(path, round(0.85 * min(width, height)))
    patterns = []
    for character in text:
        image = Image.new("L", (width, height))
        ImageDraw.Draw(image).text((width / 2, height / 2), character, 255, face, anchor="mm")
        bright = np.asarray(image.resize((columns, rows), Image.Resampling.BOX)) > 127
        if ord(character) not in known or not bright.any():
            raise ArgumentError(
                "text",
                f"characters that {font} can draw at size {size}",
                repr(character),
                must="have",
            )
        patterns.append(np.where(bright, 1, -1).ravel())
    return jnp.asarray(np.stack(patterns).astype(dtype))


@names_keywords
def picture_memories(
    pictures: Sequence[Any],
    *,
    size: int | tuple[int, int] = 32,
    threshold: float | None = None,
    grey: bool = False,
    dtype: DTypeLike | None = None,
) -> Float[Array, "P N"]:
    """Pictures as memories: cut to their middle, scaled, and made black and white or grey.

    Memories of ±1 are what the bipolar networks hold. By default a picture becomes as balanced as
    its greys allow: the threshold lies between the two levels that make the share of bright
    pixels the nearest to ½. Where that share is below 5% or above 95% a warning says so: such a
    memory is all but uniform, and any two of them are alike.

    With `grey=True` memories are real numbers, for `DynamicAttention`: from each picture its mean
    over the pixels is taken off, and what remains is divided by its standard deviation, so that
    ξ·ξ = N. Raw pictures, from 0 to 1, fail there where an input shows more than one of them.
    Attention compares inner products, and those of numbers that are all positive consist mostly
    of the product of the two means, which is much the same for any two pictures: saliencies and
    scores are nearly equal, so that the input hardly says which picture it shows, and the network
    stays where it is or rests in a mixture. (Of eight smooth random pictures, shown with others at
    weights up to .3 and with noise, from a start in another one: raw, 81% are found at the best of
    three β and 24% at the worst; standardised, 99% and 51%.)

    Args:
        pictures: files that Pillow reads (PNG, JPEG, ...), or arrays of shape (height, width) or
            (height, width, 3 or 4). The dtype of an array says its scale: real numbers and
            booleans reach from 0 to 1, uint16 from 0 to 65535, every other integer from 0 to 255.
            Transparent pixels (a fourth channel is opacity) show a white ground.
        size: pixels along a side, N = size²; or (rows, columns) with N = rows · columns. The
            largest part of that shape in the middle of each picture is kept.
        threshold: brightness, from 0 to 1, above which a pixel becomes +1; by default that of
            each picture which makes nearest to half of its pixels bright.
        grey: whether to keep the greys, standardised, in place of ±1.
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        FileNotFoundError: for a file that does not exist.
        TypeError, ValueError: for anything else that is no picture, or one that becomes uniform.
    """
    sides, dtype, grey = check_sides(size, "size"), float_dtype(dtype), check_flag(grey, "grey")
    if threshold is not None and not 0 < check_number(threshold, "threshold") < 1:
        raise ArgumentError("threshold", "between 0 and 1", f"{threshold:g}")
    if threshold is not None and grey:
        raise ArgumentError("threshold", "left out for greys", f"{threshold:g}")
    right = "a list of files or arrays, one for each memory"
    if isinstance(pictures, (str, os.PathLike)) or not hasattr(pictures, "__len__"):
        raise ArgumentTypeError("pictures", right, repr(pictures))
    if not len(pictures):
        raise ArgumentError("pictures", right, "none")
    patterns, unbalanced = [], []
    for number, picture in enumerate(pictures):
        name = f"pictures[{number}]"
        brightness = _brightness(picture, name, sides)
        low, high = brightness.min(), brightness.max()
        if grey and low < high:
            greys = brightness.astype(np.float64).ravel()
            patterns.append((greys - greys.mean()) / greys.std())
            continue
        bright = brightness > (_balancing_level(brightness) if threshold is None else threshold)
        if bright.all() or not bright.any():
            right = "more than one grey" if grey else "pixels on both sides of the threshold"
            raise ArgumentError(
                name, right, f"brightness from {low:.3g} to {high:.3g}", must="have"
            )
        patterns.append(np.where(bright, 1, -1).ravel())
        if not _BALANCED[0] <= bright.mean() <= _BALANCED[1]:
            unbalanced.append(f"{100 * bright.mean():.3g}% in {name}")
    if unbalanced:
        least, most = (f"{100 * share:g}%" for share in _BALANCED)
        warn(
            f"Pictures are all but uniform as memories where less than {least} or more than {most} "
            f"of the pixels are bright: {', '.join(unbalanced)}.",
        )
    return jnp.asarray(np.stack(patterns).astype(dtype))


def _balancing_level(brightness: Float[np.ndarray, "rows columns"]) -> float:
    """The grey level above which the share of pixels is nearest to ½; the brighter of two."""
    levels, counts = np.unique(brightness, return_counts=True)
    above = brightness.size - np.cumsum(counts)
    return float(levels[::-1][np.argmin(abs(2 * above[::-1] - brightness.size))])


def _brightness(
    picture: Any, name: str, sides: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """Brightness from 0 to 1 of the scaled part in the middle."""
    from PIL import Image, ImageOps

    is_file = isinstance(picture, (str, os.PathLike))
    values, largest = (_of_file if is_file else _of_array)(picture, name)
    if not ((values >= 0) & (values <= largest)).all():
        raise ArgumentError(
            name,
            f"values from 0 to {largest:g} (dtype {values.dtype})",
            f"some from {values.min():g} to {values.max():g}",
            must="have",
        )
    # Sums entry by entry: a matrix product may round the same colour differently in two places.
    values = values / largest
    if values.ndim == 3:
        seen = sum(w * values[..., k] for k, w in enumerate(_WEIGHTS))
        opacity = values[..., 3] if values.shape[2] == 4 else 1.0
        values = opacity * seen + (1 - opacity)
    image = Image.fromarray(np.asarray(values, np.float32))
    rows, columns = sides
    return np.asarray(ImageOps.fit(image, (columns, rows), Image.Resampling.BOX))


def _of_file(picture: Any, name: str) -> tuple[np.ndarray, float]:
    """The pixels of a file, and what the brightest would have."""
    from PIL import Image, UnidentifiedImageError

    if not Path(picture).is_file():
        raise FileNotFoundError(f"Argument `{name}` must be a file, got {os.fspath(picture)}.")
    try:
        with Image.open(picture) as opened:
            if opened.mode == "F":
                return np.asarray(opened), 1.0
            if opened.mode.startswith("I"):  # 16 bits, which conversion would clip
                values = np.array(opened)
                if "transparency" in opened.info:  # one grey that stands for none
                    values[values == opened.info["transparency"]] = _DEEP
                return values, _DEEP
            mode = "RGBA" if opened.has_transparency_data else "RGB"
            return np.asarray(opened.convert(mode)), 255.0
    except (UnidentifiedImageError, OSError) as error:
        right = "a picture that Pillow can read"
        raise ArgumentError(name, right, hint=error) from None


def _of_array(picture: Any, name: str) -> tuple[np.ndarray, float]:
    """The pixels of an array, and what the brightest would have."""
    try:
        values = np.asarray(picture)
    except ValueError:  # rows of different lengths
        values = np.array(None)
    kinds = (np.integer, np.floating, np.bool_)
    if not any(np.issubdtype(values.dtype, kind) for kind in kinds):
        right = "a file or an array of real numbers"
        raise ArgumentTypeError(name, right, type(picture).__name__)
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,), (4,)) or not values.size:
        right = "of shape (height, width) or (height, width, 3 or 4)"
        raise ArgumentError(name, right, values.shape)
    if not np.issubdtype(values.dtype, np.integer):
        return values, 1.0
    return values, _DEEP if values.dtype == np.uint16 else 255.0
