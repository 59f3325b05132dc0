"""The paper's experiments against reference counts, and the two laws of noise against each other.

The references are counts of 2000 trials from an independent implementation; here 300 fresh trials
are compared with them by Fisher's exact test. All keys are fixed.
"""

import functools
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

import hopjax as hj
from experiments.glitch import events
from experiments.protocols import (
    DT,
    GLITCH,
    MODELS,
    NOISE,
    RETRIEVED,
    SEQUENCE,
    at,
    passages,
    run_trial,
)

TRIALS, REFERENCE_TRIALS = 300, 2000
# One process runs all of these: every trial uses all cores anyway, and some share a run.
pytestmark = pytest.mark.usefixtures("optimised")
FAMILY_WISE = 1e-3  # false alarm of all comparisons of a family together
COMPARISONS = 9 + 9 + 1 + 6  # with reference numbers: counts of A and of B, means of B and of A


@functools.cache
def overlaps_of(protocol, kind, *, seed=77, trials=TRIALS, law="gaussian", dt=DT):
    trial = partial(run_trial, protocol=protocol, model=kind, noise=NOISE, law=law, dt=dt)
    result = hj.map_trials(trial, key=jax.random.key(seed), trials=trials)
    assert result["ok"].all()
    return np.abs(result["overlaps"])


def sequence_of_idp():
    """The run that two tests share; trial j is the same whatever their number."""
    return overlaps_of(SEQUENCE, "idp", trials=800)


def p_value(successes, reference):
    """Two-sample exact test of a count of TRIALS against a proportion of the reference."""
    expected = round(reference * REFERENCE_TRIALS)
    table = [[successes, TRIALS - successes], [expected, REFERENCE_TRIALS - expected]]
    return stats.fisher_exact(table)[1]


def agree(counts, references):
    """Whether all counts fit, and their p-values."""
    p_values = [p_value(int(c), r) for c, r in zip(counts, references, strict=True)]
    return min(p_values) > FAMILY_WISE / COMPARISONS, p_values


def means_agree(sample, reference, *, rounding, reference_error=0.0):
    """Two-sided z-test of a mean against a reference known to `rounding`."""
    standard_error = np.hypot(sample.std(ddof=1) / np.sqrt(len(sample)), reference_error)
    z = max(abs(sample.mean() - reference) - rounding, 0) / standard_error
    assert 2 * stats.norm.sf(z) > FAMILY_WISE / COMPARISONS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "references"),
    [
        ("idp", [0.992, 0.976, 0.972]),
        pytest.param("classic", [0.0, 0.0, 0.0], marks=pytest.mark.long),
        pytest.param("classic_pulsed", [0.0, 0.0, 0.0], marks=pytest.mark.long),
    ],
)
def test_sequence_against_reference_counts(kind, references):
    # The classic network is as far from retrieving under the cheaper two-point noise.
    idp = kind == "idp"
    strength = sequence_of_idp()[:TRIALS] if idp else overlaps_of(SEQUENCE, kind, law="two_point")
    hits = [(strength[:, at(10.0 * (j + 1)), j] > RETRIEVED).sum() for j in range(3)]
    assert agree(hits, references)[0], agree(hits, references)
    if kind == "idp":
        for window, reference in enumerate([2.3, 3.7, 3.7]):
            inside = slice(at(10.0 * window), at(10.0 * (window + 1)) + 1)
            passage = passages(strength[:, inside, window])
            # A median of 300 has a standard error of about .06, the reference is rounded to .1.
            assert np.median(passage) == pytest.approx(reference, abs=0.3)
    elif kind == "classic":
        for j, reference in enumerate([0.54, 0.58, 0.58]):
            means_agree(strength[:, at(10.0 * (j + 1)), j], reference, rounding=0.005)
    else:
        for j in range(3):
            means_agree(strength[:, at(10.0 * (j + 1)), j], 0.025, rounding=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "references"),
    [
        ("idp", [0.987, None, 0.980, 0.648, 0.911]),
        pytest.param("classic", [0.0] * 5, marks=pytest.mark.long),
    ],
)
def test_glitch_against_reference_counts(kind, references):
    strength = overlaps_of(GLITCH, kind, law="gaussian" if kind == "idp" else "two_point")
    hits = [hit.sum() for hit in events(strength).values()]
    known = [(hit, r) for hit, r in zip(hits, references, strict=True) if r is not None]
    assert agree(*zip(*known, strict=True))[0], agree(*zip(*known, strict=True))
    if kind == "idp":
        eroded = strength[:, at(10.0), 0]
        means_agree(eroded, 0.582, rounding=0.0005, reference_error=0.007 / 1.96)


@pytest.mark.long
@pytest.mark.parametrize("dt", [0.01, 0.005])
def test_two_point_noise_gives_the_statistics_of_gaussian_noise(dt):
    times = (0.5, 2.0, 5.0, 12.0, 25.0)
    p_values = []
    two_point = overlaps_of(
        replace(SEQUENCE, t1=25.0), "idp", seed=1, trials=800, law="two_point", dt=dt
    )
    gaussian = sequence_of_idp() if dt == DT else overlaps_of(SEQUENCE, "idp", trials=800, dt=dt)
    for time in times:
        shown = SEQUENCE.shown[int(time // 10)]
        samples = (overlaps[:, at(time), shown] for overlaps in (two_point, gaussian))
        p_values.append(stats.ks_2samp(*samples).pvalue)
    assert min(p_values) > FAMILY_WISE / len(times), p_values


@pytest.mark.long
@pytest.mark.parametrize("kind", MODELS)
def test_a_finer_step_gives_the_same_statistics(kind):
    coarse = overlaps_of(SEQUENCE, kind, seed=3, trials=200)
    fine = overlaps_of(SEQUENCE, kind, seed=4, trials=200, dt=0.0025)
    for time in (2.0, 10.0, 12.0, 20.0, 30.0):
        for memory in range(3):
            samples = (overlaps[:, at(time), memory] for overlaps in (coarse, fine))
            assert stats.ks_2samp(*samples).pvalue > FAMILY_WISE / 45
