"""The theory refuses saliencies, noise and states that it does not hold for."""

# pyright: reportArgumentType=false

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import (
    INF,
    MEMORIES,
    NAN,
    ONES,
    assert_refused,
    assert_refused_at_run_time,
    each,
    schedule,
)

import hopjax as hj
from hopjax import theory

IDP, U, TANH = hj.IDPHopfield(MEMORIES), MEMORIES[0], hj.Tanh()
PAIRS = np.ones((2, 3))
FOUND, ABSENT = (
    theory.Equilibrium(*map(jnp.asarray, (U, np.ones(2), -1.0, 0.0, found)))
    for found in (True, False)
)


def crosstalk(alpha: Any = (3.0,), noise: Any = 1.0, **changes: Any) -> Any:
    """A correct call, but for the changes."""
    return theory.crosstalk_noise(alpha, noise, TANH, **({"memory": 0, "num_neurons": 8} | changes))


def spectrum(alpha: Any = (3.0, 1.0), **changes: Any) -> Any:
    return theory.jacobian_spectrum(alpha, TANH, **({"memory": 0, "num_neurons": 8} | changes))


def report(model: Any = IDP, u: Any = U, **changes: Any) -> theory.Report:
    return theory.report(model, u, **changes)


def eigenvalues(state: Any = ONES, u: Any = U, **changes: Any) -> Any:
    return theory.leading_eigenvalues(IDP, state, u, **changes)


@each(
    (lambda: theory.largest_rate_density(0), ValueError, "slope", "positive, got 0.0"),
    (lambda: theory.least_rate_saliency(0, 0.2), ValueError, "slope", "positive, got 0.0"),
    (lambda: theory.least_rate_saliency(10, 0), ValueError, "density", "got 0.0"),
    (lambda: theory.least_rate_saliency(10, [0.5, 1.0]), ValueError, "density", "at index [1]"),
    # saliencies
    (lambda: theory.noisy_overlap([1.0, INF], 1.0, TANH), ValueError, "alpha", "inf at index [1]"),
    (lambda: theory.effective_saliency(3.0, 8), ValueError, "alpha", "got shape ()"),
    (lambda: spectrum(PAIRS), ValueError, "alpha", "got shape (2, 3)"),
    (lambda: crosstalk(3.0), ValueError, "alpha", "got shape ()"),
    (lambda: theory.largest_coupling(MEMORIES, np.ones(3)), ValueError, "alpha", "got shape (3,)"),
    (lambda: theory.largest_coupling(U, [1.0]), ValueError, "memories", "got shape (8,)"),
    # noise, overlaps and steps
    (lambda: theory.NoisyActivation(TANH, -1.0), ValueError, "noise", "at least 0, got -1.0"),
    (
        lambda: theory.NoisyActivation(TANH, np.ones((8, 8))),
        ValueError,
        "noise",
        "got shape (8, 8)",
    ),
    (lambda: theory.noisy_overlap(3.0, [1, -2], TANH), ValueError, "noise", "-2.0 at index [1]"),
    (lambda: theory.escape_rate(1.5, 3.0, -1, TANH), ValueError, "noise", "got -1.0"),
    (
        lambda: theory.escape_time(1.5, 3.0, -1, TANH, num_neurons=8),
        *(ValueError, "noise", "got -1.0"),
    ),
    (lambda: crosstalk(noise=-1.0), ValueError, "noise", "got -1.0"),
    (lambda: theory.effective_noise(-1.0, 0.01), ValueError, "noise", "got -1.0"),
    (lambda: report(noise=-1.0), ValueError, "noise", "got -1.0"),
    (lambda: report(noise=np.ones(5)), ValueError, "noise", "got shape (5,)"),
    (lambda: theory.noise_at_overlap(3.0, 0.0, TANH), ValueError, "overlap", "and 1, got 0.0"),
    (lambda: theory.noise_at_overlap(3.0, 90, TANH), ValueError, "overlap", "and 1, got 90.0"),
    (lambda: theory.effective_noise(1.0, 0), ValueError, "dt", "positive, got 0.0"),
    (lambda: theory.effective_noise(1.0, 2), ValueError, "dt", "at most 1, got 2.0"),
    (lambda: report(dt=1.5), ValueError, "dt", "below 1, got 1.5"),
    # memories by their numbers
    (lambda: spectrum(memory=2), ValueError, "memory", "of memories, 2, got 2"),
    (lambda: crosstalk(memory=1), ValueError, "memory", "of memories, 1, got 1"),
    (lambda: theory.find_memory(IDP, U, 2), ValueError, "memory", "of memories, 2, got 2"),
    (lambda: theory.classify(IDP, U, FOUND, memory=2), ValueError, "memory", "got 2"),
    (lambda: theory.classify(IDP, U, ABSENT, memory=2), ValueError, "memory", "got 2"),
    # any model
    (lambda: report(u=np.ones(7)), ValueError, "u", "(8,), got shape (7,)"),
    (lambda: theory.find_memory(IDP, schedule([0.0]), 0), TypeError, "u", "Schedule"),
    (lambda: theory.find_memory(IDP, np.ones((2, 8)), 0), ValueError, "u", "got shape (2, 8)"),
    (lambda: eigenvalues(u=1.0), ValueError, "u", "got shape ()"),
    (lambda: report(u=schedule([0.0])), ValueError, "at", "got None"),
    (lambda: report(u=jnp.sin), ValueError, "at", "got None"),
    (lambda: report(u=jnp.sin, at=1), ValueError, "u", "got shape ()"),
    (lambda: report(at=1.0), ValueError, "at", "None for a constant input"),
    (lambda: report(u=schedule([0.0]), at=-0.5), ValueError, "at", "at least 0, got -0.5"),
    (lambda: report(u=schedule([0.0]), at="end"), TypeError, "at", "got 'end'"),
    (lambda: report(u=schedule([0.0]), at=INF), ValueError, "at", "got inf"),
    (lambda: theory.find_equilibrium(IDP, U, np.ones(9)), ValueError, "start", "got shape (9,)"),
    (lambda: eigenvalues(np.ones(7)), ValueError, "state", "(8,), got shape (7,)"),
    (lambda: eigenvalues(FOUND), TypeError, "state", "Equilibrium"),
    (lambda: eigenvalues(count=9), ValueError, "count", "of the state 8, got 9"),
)
def test_wrong_theory(row):
    assert_refused(row)


def test_wrong_theory_under_a_trace():
    assert_refused_at_run_time(
        (lambda s: theory.effective_noise(s, 0.01), 1.0, -1.0, "`noise` must be at least 0"),
        (
            lambda m: theory.noise_at_overlap(3.0, m, TANH),
            *(0.9, 1.1, "`overlap` must be between 0 and 1"),
        ),
        (lambda a: theory.critical_noise(a, TANH), 1.0, NAN, "`alpha` must be finite"),
    )


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda a, b: theory.noisy_overlap(a, b, TANH), ("alpha", "noise")),
        (lambda a, b: theory.escape_noise(a, b, TANH), ("alpha", "alpha_max")),
        (lambda a, b: theory.noise_at_overlap(a, b, TANH), ("alpha", "overlap")),
        (theory.effective_noise, ("noise", "dt")),
    ],
)
def test_arguments_that_do_not_broadcast_are_named(function, names):
    with pytest.raises(ValueError, match=r"^Arguments .* must .* \(3,\) and \(2,\)\.$") as caught:
        function(np.full(3, 0.5), np.full(2, 0.5))
    assert all(f"`{name}`" in str(caught.value) for name in names)
