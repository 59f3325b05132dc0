"""Statistics of retrieval. Reads arrays only, knows nothing of models or solvers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from hopjax._checks import check_array, check_values, is_bad


class Interval(NamedTuple):
    """A proportion with its confidence interval."""

    estimate: Float[Array, "..."]
    low: Float[Array, "..."]
    high: Float[Array, "..."]


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
    trials = check_array(trials, "trials")
    trials = check_values(trials, is_bad(trials, lambda n: n >= 1), "trials", "at least 1")
    successes = check_array(successes, "successes")
    successes = check_values(
        successes, is_bad(successes, lambda k: k >= 0), "successes", "at least 0"
    )
    counts = jnp.broadcast_to(successes, jnp.broadcast_shapes(successes.shape, trials.shape))
    counts = check_values(counts, counts > trials, "successes", "at most the number of trials")
    level = check_array(confidence, "confidence", ())
    level = check_values(
        level, is_bad(level, lambda c: (c > 0) & (c < 1)), "confidence", "between 0 and 1"
    )
    return _wilson_interval(counts, trials, level)


@jax.jit
def _wilson_interval(counts, trials, level) -> Interval:
    z = jax.scipy.stats.norm.ppf((1 + level) / 2)
    estimate = counts / trials
    centre = estimate + z**2 / (2 * trials)
    spread = z * jnp.sqrt((estimate * (1 - estimate) + z**2 / (4 * trials)) / trials)
    scale = 1 + z**2 / trials
    low = jnp.where(counts == 0, 0, (centre - spread) / scale)
    high = jnp.where(counts == trials, 1, (centre + spread) / scale)
    return Interval(estimate, low, high)


def first_passage_time(
    ts: Float[ArrayLike, " T"], reached: Bool[ArrayLike, "... T"]
) -> Float[Array, "..."]:
    """The first of the saved times at which `reached` holds; infinite where it never does.

    Infinite times are censored observations: leave them in when taking a median.

    Args:
        ts: increasing times.
        reached: a condition at these times, such as `abs(overlaps[..., 0]) > 0.9`.
    """
    return jnp.min(jnp.where(reached, ts, jnp.inf), axis=-1)
