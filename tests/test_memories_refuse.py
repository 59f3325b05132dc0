"""What makes memories refuses what it cannot make them of."""

# pyright: reportArgumentType=false

from typing import Any

import jax
import numpy as np
from refusals import INF, KEY, MEMORIES, NAN, assert_refused, each, with_entry

import hopjax as hj

GRAY = np.linspace(0, 1, 16).reshape(4, 4)
DARK = np.zeros((4, 4))


def correlated(**changes: Any) -> jax.Array:
    """A correct call, but for the changes."""
    right = {"key": KEY, "num_memories": 2, "num_neurons": 8, "correlation": 0.5}
    return hj.correlated_memories(**(right | changes))


def sparse(**changes: Any) -> jax.Array:
    right = {"key": KEY, "num_memories": 2, "num_neurons": 8, "density": 0.5}
    return hj.sparse_memories(**(right | changes))


def glyphs(text: Any = "A", **options: Any) -> jax.Array:
    return hj.glyph_memories(text, **options)


def pictures(*each: Any, **options: Any) -> jax.Array:
    return hj.picture_memories(list(each) or [GRAY], **options)


@each(
    (lambda: correlated(correlation=-0.1), ValueError, "correlation", "from 0 to 1, got -0.1"),
    (lambda: correlated(correlation=2), ValueError, "correlation", "from 0 to 1, got 2.0"),
    (lambda: correlated(correlation=[0.1, 0.2]), ValueError, "correlation", "shape (2,)"),
    (lambda: sparse(density=0), ValueError, "density", "between 0 and 1, got 0.0"),
    (lambda: sparse(density=1.0), ValueError, "density", "between 0 and 1, got 1.0"),
    (lambda: sparse(density=NAN), ValueError, "density", "between 0 and 1, got nan"),
    (lambda: sparse(density=np.full(8, 0.5)), ValueError, "density", "one number, got shape (8,)"),
    (lambda: sparse(density=None), TypeError, "density", "got None for both"),
    (lambda: sparse(active=2), ValueError, "density", "left out with `active`, got 0.5"),
    (lambda: sparse(density=None, active=0), ValueError, "active", "at least 1, got 0"),
    (lambda: sparse(density=None, active=8), ValueError, "active", "num_neurons = 8, got 8"),
    (lambda: sparse(num_neurons=1), ValueError, "num_neurons", "at least 2, got 1"),
)
def test_wrong_memories(row):
    assert_refused(row)


@each(
    (lambda: glyphs(""), ValueError, "text", "got none"),
    (lambda: glyphs("A漢"), ValueError, "text", "got '漢'"),
    (lambda: glyphs("A B"), ValueError, "text", "got ' '"),
    (lambda: glyphs("A\n"), ValueError, "text", r"got '\n'"),
    (lambda: glyphs("i", size=2), ValueError, "text", "got 'i'"),
    (lambda: glyphs(font="No Such Font"), ValueError, "font", "got 'No Such Font'"),
    (lambda: hj.picture_memories("a.png"), TypeError, "pictures", "got 'a.png'"),
    (lambda: hj.picture_memories([]), ValueError, "pictures", "got none"),
    (lambda: hj.picture_memories(GRAY), ValueError, "pictures[0]", "got (4,)"),
    (lambda: pictures(GRAY, 0.5), ValueError, "pictures[1]", "got ()"),
    (lambda: pictures(np.ones((4, 4, 2))), ValueError, "pictures[0]", "got (4, 4, 2)"),
    (lambda: pictures(np.ones((0, 4))), ValueError, "pictures[0]", "got (0, 4)"),
    (lambda: pictures(GRAY, None), TypeError, "pictures[1]", "got NoneType"),
    (lambda: pictures(GRAY + 0j), TypeError, "pictures[0]", "got ndarray"),
    (lambda: pictures([[0, 1], [1]]), TypeError, "pictures[0]", "got list"),
    (lambda: pictures(2 * GRAY), ValueError, "pictures[0]", "from 0 to 2"),
    (lambda: pictures(MEMORIES), ValueError, "pictures[0]", "from -1 to 1"),
    (lambda: pictures(np.array([[0, 256]])), ValueError, "pictures[0]", "from 0 to 256"),
    (lambda: pictures(np.array([[0, 65535]])), ValueError, "pictures[0]", "from 0 to 65535"),
    (lambda: pictures(with_entry(GRAY, NAN)), ValueError, "pictures[0]", "nan"),
    (lambda: pictures(with_entry(GRAY, INF)), ValueError, "pictures[0]", "inf"),
    (lambda: pictures(GRAY, 1 + DARK), ValueError, "pictures[1]", "from 1 to 1"),
    (lambda: pictures(GRAY, DARK, size=4, grey=True), ValueError, "pictures[1]", "from 0 to 0"),
    (lambda: pictures(GRAY / 2, threshold=0.9), ValueError, "pictures[0]", "from 0 to 0.5"),
    (lambda: pictures(grey=True, threshold=0.5), ValueError, "threshold", "for greys, got 0.5"),
    (lambda: pictures(threshold=0.0), ValueError, "threshold", "between 0 and 1, got 0"),
    (lambda: pictures(threshold=128), ValueError, "threshold", "between 0 and 1, got 128"),
)
def test_wrong_pictures(row):
    assert_refused(row)
