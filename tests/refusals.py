"""Wrong calls, one a row: each is refused early, in one line that names the argument."""

import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hopjax as hj

MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]], float)
RATES = (MEMORIES + 1) / 2
ONES = np.ones(8)
KEY = jax.random.key(0)
INF, NAN = float("inf"), float("nan")

# The call, whether the kind is wrong or the value, the argument, and what the message says of it.
Row = tuple[Callable[[], Any], type[Exception], str, str]


def each(*rows: Row) -> Any:
    """One test for each row."""
    return pytest.mark.parametrize(
        "row", [pytest.param(row, id=f"{row[2]} {row[3]}") for row in rows]
    )


def assert_refused(row: Row) -> None:
    call, error, argument, says = row
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"Argument `{argument}` must ")  # what is right comes first
    assert says in message
    assert isinstance(caught.value, TypeError) == (error is TypeError)
    assert "\n" not in message


# A function of an array, a right and a wrong one, and the beginning of the message.
TracedRow = tuple[Callable[[Any], Any], Any, Any, str]


def assert_refused_at_run_time(*rows: TracedRow) -> None:
    """One wrong trial of a batch is enough. What a check returns has to be used: it is compiled."""

    @eqx.filter_jit
    @jax.vmap
    def run(given):
        return [function(value) for (function, *_), value in zip(rows, given, strict=True)]

    right = [jnp.stack([jnp.asarray(right)] * 2) for _, right, *_ in rows]
    jax.block_until_ready(run(right))
    for place, (_, _, wrong, says) in enumerate(rows):
        given = [*right]
        given[place] = given[place].at[1].set(jnp.asarray(wrong))
        with pytest.raises(eqx.EquinoxRuntimeError, match=re.escape(f"Argument {says}")):
            run(given)


def with_entry(array: np.ndarray, value: Any) -> np.ndarray:
    """A copy with another last entry."""
    array = np.array(array, float)
    array[(-1,) * array.ndim] = value
    return array


def schedule(onsets: Any, values: Any = None) -> hj.Schedule:
    return hj.Schedule(onsets, np.ones((len(onsets), 8)) if values is None else values)


def trial(**changes: Any) -> hj.Trial:
    """A correct trial, but for the changes."""
    right: dict[str, Any] = {
        "model": hj.IDPHopfield(MEMORIES),
        "inputs": MEMORIES[0],
        "x0": ONES,
        "noise": hj.AdditiveNoise(0.5),
    }
    return hj.Trial(**(right | changes))
