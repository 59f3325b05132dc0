"""Statistics of retrieval. Reads arrays only, knows nothing of models or solvers."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from scipy import special

from hopjax._checks import check_array, check_host_array, check_values, is_bad, is_traced
from hopjax._errors import ArgumentError, names_keywords


class Interval(NamedTuple):
    """A proportion with its confidence interval."""

    estimate: Float[Array | np.ndarray, "..."]
    low: Float[Array | np.ndarray, "..."]
    high: Float[Array | np.ndarray, "..."]


@names_keywords
def wilson_interval(
    successes: Int[ArrayLike, "..."], trials: Int[ArrayLike, "..."], *, confidence: float = 0.95
) -> Interval:
    """Wilson's score interval for a probability estimated by counting.

    The p with |p̂ − p| ≤ z √(p (1 − p) / n), p̂ = successes / n: inside [0, 1] and not empty even
    at 0 or n successes (E. B. Wilson, J. Am. Stat. Assoc. 22, 209, 1927).

    Args:
        successes: counts, between 0 and `trials`.
        trials: n, at least 1; broadcasts against `successes`.
        confidence: coverage aimed at, between 0 and 1.

    Returns:
        Estimate and ends of the interval.

    Raises:
        ValueError: for counts or a confidence out of range.
    """
    traced = is_traced((successes, trials, confidence))
    # On the host in float64, whatever JAX's default float is.
    check = check_array if traced else check_host_array
    trials = check(trials, "trials")
    trials = check_values(trials, is_bad(trials, lambda n: n >= 1), "trials", "at least 1")
    successes = check(successes, "successes")
    successes = check_values(
        successes, is_bad(successes, lambda k: k >= 0), "successes", "at least 0"
    )
    xp = jnp if traced else np
    counts = xp.broadcast_to(successes, np.broadcast_shapes(successes.shape, trials.shape))
    counts = check_values(counts, counts > trials, "successes", "at most the number of trials")
    level = _between_0_and_1(check(confidence, "confidence", ()), "confidence")
    return _wilson_interval(
        xp, jax.scipy.special.ndtri if traced else special.ndtri, counts, trials, level
    )


def _between_0_and_1(level, name: str):
    return check_values(level, is_bad(level, lambda c: (c > 0) & (c < 1)), name, "between 0 and 1")


def _wilson_interval(xp, ndtri, counts, trials, level) -> Interval:
    z = ndtri((1 + level) / 2)
    estimate = counts / trials
    centre = estimate + z**2 / (2 * trials)
    spread = z * xp.sqrt((estimate * (1 - estimate) + z**2 / (4 * trials)) / trials)
    scale = 1 + z**2 / trials
    low = xp.where(counts == 0, 0, (centre - spread) / scale)
    high = xp.where(counts == trials, 1, (centre + spread) / scale)
    return Interval(estimate, low, high)


@names_keywords
def mean_share(shares: Float[ArrayLike, " n"], *, confidence: float = 0.95) -> Interval:
    """The mean of shares between 0 and 1, one of each trial, with its confidence interval.

    The interval is that of a mean by Student's distribution, from the scatter over trials, within
    [0, 1]. Where all trials have the same share, or there is only one, there is no scatter:
    it is Wilson's for trials that succeed with that share, which is wider than needed.

    Args:
        shares: one per trial; times within a trial are not independent, trials are.
        confidence: coverage aimed at, between 0 and 1.

    Returns:
        Estimate and ends of the interval.

    Raises:
        ValueError: for a share or a confidence out of range, or no trials.
    """
    shares = check_host_array(shares, "shares", ("n",), finite=False)
    right = "from 0 to 1, one for each trial"
    check_values(shares, ~((shares >= 0) & (shares <= 1)), "shares", right)
    if shares.size == 0:
        raise ArgumentError("shares", "one number for each trial", "none")
    confidence = float(
        _between_0_and_1(check_host_array(confidence, "confidence", ()), "confidence")
    )
    total, mean, size = shares.sum(), shares.mean(), shares.size
    if np.ptp(shares) == 0:
        return _wilson_interval(np, special.ndtri, total, size, confidence)
    half = special.stdtrit(size - 1, (1 + confidence) / 2) * shares.std(ddof=1) / np.sqrt(size)
    return Interval(mean, np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0))


def first_passage_time(
    ts: Float[ArrayLike, " T"], reached: Bool[ArrayLike, "... T"]
) -> Float[Array, "..."]:
    """The first of the saved times at which `reached` holds; infinite where it never does.

    Infinite times are censored observations: leave them in when taking a median.

    Args:
        ts: increasing times.
        reached: a condition at these times, such as `abs(overlaps[..., 0]) > 0.9`.
    """
    ts = check_array(ts, "ts", ("T",), finite=False)
    return jnp.min(jnp.where(reached, ts, jnp.inf), axis=-1)


def censored_quantiles(
    times: Float[ArrayLike, " n"], q: Sequence[float] | Float[ArrayLike, " Q"]
) -> Float[np.ndarray, " Q"]:
    """Quantiles of first-passage times in which infinite ones are censored observations.

    The smallest time by which a share q of all trials has passed: infinite where the share that
    passed at all is less. NaN without trials.

    Args:
        times: one per trial, infinite for "not within the time that was looked at".
        q: levels between 0 and 1.

    Raises:
        ValueError: for a level out of range.
    """
    levels = _levels(q)
    times = check_host_array(times, "times", ("n",), finite=False)
    if times.size == 0:
        return np.full(levels.shape, np.nan)
    # q n may be a whole number but for its rounding.
    ranks = np.ceil(levels * times.size * (1 - 1e-12)).astype(int)
    return np.sort(times)[np.maximum(ranks, 1) - 1]


def histogram_quantiles(
    counts: Int[np.ndarray, "*S bins"],
    edges: Float[np.ndarray, " bins+1"],
    q: Sequence[float] | Float[ArrayLike, " Q"],
) -> Float[np.ndarray, "Q *S"]:
    """Quantiles from counts in bins of equal width: exact to one width.

    Args:
        counts: per bin, along the last axis.
        edges: the ends of the bins.
        q: levels between 0 and 1.

    Returns:
        The levels first; inside a bin it is linear. NaN where nothing was counted.

    Raises:
        ValueError: for a level out of range.
    """
    levels = _levels(q)
    counts = np.asarray(counts)
    cumulative = np.cumsum(counts, axis=-1)
    total = cumulative[..., -1]
    quantiles = np.empty((len(levels), *total.shape))
    for place, level in enumerate(levels):
        # At least one observation lies at or below the quantile, at level 0 too.
        wanted = np.maximum(level * total, np.minimum(total, 1))
        bins = np.minimum(np.sum(cumulative < wanted[..., None], axis=-1), counts.shape[-1] - 1)
        inside = np.take_along_axis(counts, bins[..., None], axis=-1)[..., 0]
        before = np.take_along_axis(cumulative, bins[..., None], axis=-1)[..., 0] - inside
        share = (level * total - before) / np.maximum(inside, 1)
        value = edges[bins] + np.clip(share, 0, 1) * (edges[1] - edges[0])
        quantiles[place] = np.where(total > 0, value, np.nan)
    return quantiles


def _levels(q) -> Float[np.ndarray, " Q"]:
    levels = check_host_array(q, "q", ("Q",))
    for level in levels[~((levels >= 0) & (levels <= 1))]:
        raise ArgumentError("q", "between 0 and 1", level)
    return levels
