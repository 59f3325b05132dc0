"""Trials and criteria refuse what does not belong together."""

# pyright: reportArgumentType=false

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import (
    KEY,
    MEMORIES,
    ONES,
    assert_refused,
    assert_refused_at_run_time,
    each,
    schedule,
    trial,
)

import hopjax as hj

OTHER = schedule([0.0], np.ones((1, 9)))
BATCHED = jax.vmap(hj.IDPHopfield)(np.stack(3 * [MEMORIES]))


def margin(
    model: Any = None, state: Any = ONES, overlaps: Any = (0.0, 0.0), target: Any = 0
) -> Any:
    """A correct call, but for the changes."""
    model = hj.IDPHopfield(MEMORIES) if model is None else model
    return hj.Criterion().margin(model, state, overlaps, target)


def solved(t1: float = 0.2, save_every: float | None = None, **criterion: Any) -> Any:
    """An ensemble that is refused before it is solved."""
    times = {"t1": t1, "dt": 0.1, "save_every": save_every}
    return hj.solve_ensemble(
        trial(), trials=2, key=KEY, criterion=hj.Criterion(**criterion), **times
    )


@each(
    (lambda: trial(model=BATCHED), ValueError, "model.memories", "got shape (3, 2, 8)"),
    (lambda: trial(inputs=np.ones(7)), ValueError, "inputs", "got shape (7,)"),
    (lambda: trial(inputs=OTHER), ValueError, "inputs", "got (1, 9)"),
    (lambda: trial(inputs=np.ones((3, 8))), ValueError, "inputs", "got shape (3, 8)"),
    (lambda: trial(x0=np.ones(7)), ValueError, "x0", "got shape (7,)"),
    (lambda: trial(x0=np.ones((3, 8))), ValueError, "x0", "got shape (3, 8)"),
    (lambda: trial(target=2), ValueError, "target", "of memories, 2, got 2"),
    (lambda: trial(target=0.0), TypeError, "target", "got 0.0"),
    (lambda: trial(target=MEMORIES[0]), TypeError, "target", "got dtype float64 and shape (8,)"),
    (lambda: trial(target=[]), ValueError, "target", "got none"),
    (lambda: trial(target=np.zeros(0, int)), TypeError, "target", "and shape (0,)"),
    (lambda: trial(target=np.zeros((1, 1), int)), TypeError, "target", "and shape (1, 1)"),
    (lambda: trial(target=[0, 2]), ValueError, "target", "got 2"),
    (lambda: trial(target=np.array([0, 2])), ValueError, "target", "got 2"),
    (lambda: trial(target=(0, 1.5)), TypeError, "target", "got 1.5"),
    (lambda: trial(target=[[0], [1]]), TypeError, "target", "got [0]"),
    # the margin of a state
    (lambda: margin(target=5), ValueError, "target", "got 5"),
    (lambda: margin(hj.IDPHopfield), TypeError, "model", "the class IDPHopfield"),
    (lambda: margin(state=np.ones(7)), ValueError, "state", "of shape (8,), got shape (7,)"),
    (
        lambda: margin(hj.TwoLayerHopfield(MEMORIES)),
        *(ValueError, "state", "must be of shape (10,), got shape (8,)"),
    ),
    (lambda: margin(overlaps=jnp.zeros((3, 2))), ValueError, "overlaps", "got shape (3, 2)"),
    (lambda: margin(overlaps="high"), TypeError, "overlaps", "got 'high'"),
    # criteria
    (lambda: hj.Criterion(0.0), ValueError, "threshold", "positive number, got 0.0"),
    (lambda: hj.Criterion(1.0), ValueError, "threshold", "below 1, the overlap of a perfect copy"),
    (lambda: hj.Criterion(mixed=-0.3), ValueError, "mixed", "positive number, got -0.3"),
    (lambda: hj.Criterion(0.5, mixed=0.6), ValueError, "mixed", "the threshold 0.5, got 0.6"),
    (lambda: hj.Criterion(settle=-1), ValueError, "settle", "zero or positive, got -1"),
    (lambda: hj.Criterion(since=-0.1), ValueError, "since", "zero or positive, got -0.1"),
    (lambda: hj.Criterion(amplitude=-0.1), ValueError, "amplitude", "zero or positive, got -0.1"),
    (lambda: hj.Criterion(judge="median"), ValueError, "judge", "got 'median'"),
)
def test_wrong_trials(row):
    assert_refused(row)


@pytest.mark.parametrize(
    ("call", "name", "fits"),
    [
        (lambda: hj.Criterion(0.5, mixed=0.6), "mixed", "threshold"),
        (lambda: solved(settle=0.3), "settle", "t1"),
        (lambda: solved(since=0.2), "since", "t1"),
        (lambda: solved(t1=0.25), "t1", "dt"),
        (lambda: solved(save_every=0.3), "save_every", "t1"),
        (lambda: schedule([0.0, 0.25]).onset_steps(0.1), "onsets", "dt"),
        (lambda: schedule([0.0, 0.2]).pulsed(0.3), "duration", "onsets"),
        (lambda: hj.Retrieval(onsets=(0.0, 1.0)), "onsets", "shown"),
    ],
)
def test_an_error_names_what_may_be_wrong_instead(call, name, fits):
    with pytest.raises(hj.ArgumentError) as caught:
        call()
    assert (caught.value.name, caught.value.fits) == (name, (fits,))


def test_wrong_targets_under_a_trace():
    assert_refused_at_run_time(
        (lambda target: trial(target=target).target, 1, 2, "`target` must be"),
        (lambda target: trial(target=[0, target]).target, 1, -1, "`target` must be"),
    )
