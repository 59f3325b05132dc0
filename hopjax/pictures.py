"""Memories that can be seen: glyphs and pictures as patterns of ±1, one neuron for each pixel.

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

from hopjax._checks import check_count, check_number
from hopjax.memories import float_dtype

_DETAIL = 8  # a glyph is drawn this many times larger, then averaged


def glyph_memories(
    text: str, *, size: int = 32, font: str = "DejaVu Sans", dtype: DTypeLike | None = None
) -> Float[Array, "P N"]:
    """The characters of a text as memories: bright on dark, bold, each in a square of its own.

    Glyphs share their margins, so they are strongly correlated: an overlap of ½ between two is
    common. `DecorrelatedHopfield` is made for such memories.

    Args:
        text: one character for each memory.
        size: pixels along a side: N = size².
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
            raise TypeError(f"Argument `{name}` must be a string, got {value!r}.")
    if not text:
        raise ValueError("Argument `text` must have a character for each memory, got none.")
    size, dtype = check_count(size, "size"), float_dtype(dtype)
    try:
        path = findfont(FontProperties(family=font, weight="bold"), fallback_to_default=False)
    except ValueError:
        right = 'a family that Matplotlib finds, such as "DejaVu Sans"'
        raise ValueError(f"Argument `font` must be {right}, got {font!r}.") from None
    known, side = get_font(path).get_charmap(), size * _DETAIL
    face = ImageFont.truetype(path, round(0.85 * side))  # the widest letters just fit
    patterns = []
    for character in text:
        image = Image.new("L", (side, side))
        ImageDraw.Draw(image).text((side / 2, side / 2), character, 255, face, anchor="mm")
        bright = np.asarray(image.resize((size, size), Image.Resampling.BOX)) > 127
        if ord(character) not in known or not bright.any():
            raise ValueError(
                f"Argument `text` must have characters that {font} can draw at size {size}, got "
                f"{character!r}."
            )
        patterns.append(np.where(bright, 1, -1).ravel())
    return jnp.asarray(np.stack(patterns).astype(dtype))


def picture_memories(
    pictures: Sequence[Any],
    *,
    size: int = 32,
    threshold: float | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "P N"]:
    """Pictures as memories: cut to the square in their middle, scaled, and made black and white.

    Args:
        pictures: files that Pillow reads (PNG, JPEG, ...), or arrays of shape (height, width) or
            (height, width, 3 or 4), of integers up to 255 or of real numbers from 0 to 1.
        size: pixels along a side: N = size².
        threshold: brightness, from 0 to 1, above which a pixel becomes +1; by default the median
            of each picture, which makes half of its pixels bright where there are enough greys.
        dtype: float32 or float64; JAX's default float if not given.

    Raises:
        FileNotFoundError: for a file that does not exist.
        TypeError, ValueError: for anything else that is no picture, or one that becomes uniform.
    """
    size, dtype = check_count(size, "size"), float_dtype(dtype)
    if threshold is not None and not 0 < check_number(threshold, "threshold") < 1:
        raise ValueError(f"Argument `threshold` must be between 0 and 1, got {threshold:g}.")
    right = "a list of files or arrays, one for each memory"
    if isinstance(pictures, (str, os.PathLike)) or not hasattr(pictures, "__len__"):
        raise TypeError(f"Argument `pictures` must be {right}, got {pictures!r}.")
    if not len(pictures):
        raise ValueError(f"Argument `pictures` must be {right}, got none.")
    patterns = []
    for number, picture in enumerate(pictures):
        brightness = _brightness(picture, f"pictures[{number}]", size)
        middle = np.median(brightness) if threshold is None else threshold
        bright = brightness > middle
        if threshold is None and not bright.any():  # dark on a white ground
            bright = brightness >= middle
        if bright.all() or not bright.any():
            raise ValueError(
                f"Argument `pictures[{number}]` must have pixels on both sides of the threshold, "
                f"got brightness from {brightness.min():.3g} to {brightness.max():.3g}."
            )
        patterns.append(np.where(bright, 1, -1).ravel())
    return jnp.asarray(np.stack(patterns).astype(dtype))


def _brightness(picture: Any, name: str, size: int) -> Float[np.ndarray, "size size"]:
    """Brightness from 0 to 1 of the scaled square in the middle."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(picture, (str, os.PathLike)):
        if not Path(picture).is_file():
            raise FileNotFoundError(f"Argument `{name}` must be a file, got {os.fspath(picture)}.")
        try:
            with Image.open(picture) as opened:
                deep = opened.mode.startswith("I")  # 16 bits, which conversion would clip
                image = opened.convert("F") if deep else opened.convert("RGB").convert("F")
        except (UnidentifiedImageError, OSError) as error:
            right = "a picture that Pillow can read"
            raise ValueError(f"Argument `{name}` must be {right}: {error}.") from None
        largest = 65535.0 if deep else 255.0
    else:
        try:
            values = np.asarray(picture)
        except ValueError:  # rows of different lengths
            values = np.array(None)
        kinds = (np.integer, np.floating, np.bool_)
        if not any(np.issubdtype(values.dtype, kind) for kind in kinds):
            right = "a file or an array of real numbers"
            raise TypeError(f"Argument `{name}` must be {right}, got {type(picture).__name__}.")
        if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,), (4,)) or not values.size:
            right = "of shape (height, width) or (height, width, 3 or 4)"
            raise ValueError(f"Argument `{name}` must be {right}, got {values.shape}.")
        largest = 255.0 if np.issubdtype(values.dtype, np.integer) else 1.0
        values = values.astype(np.float32)
        if not ((values >= 0) & (values <= largest)).all():
            raise ValueError(
                f"Argument `{name}` must have values from 0 to {largest:g}, got some from "
                f"{values.min():g} to {values.max():g}."
            )
        if values.ndim == 3:  # the weights of red, green and blue that Pillow has
            values = values[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
        image = Image.fromarray(values)
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BOX)) / largest
