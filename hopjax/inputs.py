"""What the network is shown over time."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Real

from hopjax._checks import ON_GRID, check_array, check_number, check_values, is_bad, is_traced


class Schedule(eqx.Module):
    """A piecewise constant input: `values[s]` from `onsets[s]` until the next onset.

    Covers constant inputs, sequences, glitches (a short window between two others) and, by
    `pulsed`, inputs that are on for the first part of each window only. The last value stays. With
    fixed steps onsets become whole numbers of steps, so the derivative by an onset is zero.

    Example:
        ```python
        hj.Schedule(onsets=[0.0, 10.0, 20.0], values=hj.mixture(memories, weights))
        ```
    """

    onsets: Float[Array, " S"]
    values: Float[Array, "S N"]

    def __init__(
        self, onsets: Real[ArrayLike, " S"] | Sequence[float], values: Real[ArrayLike, "S N"]
    ):
        """Store onsets and values.

        Args:
            onsets: times at which each value begins, in units of the neuron's time constant;
                the first is 0 and they increase. `solve` needs them on step boundaries.
            values: the inputs u in rows.

        Raises:
            ValueError: for a wrong shape, an entry that is not finite, or onsets out of order.
        """
        onsets = check_array(onsets, "onsets", ("S",))
        values = check_array(values, "values", (onsets.shape[0], "N"), hint="one row per onset")
        if onsets.shape[0] == 0:
            raise ValueError("Argument `onsets` must have at least one entry, got none.")
        is_first = np.arange(onsets.shape[0]) == 0
        onsets = check_values(
            onsets,
            is_bad(onsets, lambda o: (o == 0) | ~is_first),
            "onsets",
            "0 in its first entry (the network is shown something from the start)",
        )
        self.onsets = check_values(
            onsets,
            is_bad(onsets, lambda o: (o > jnp.roll(o, 1)) | is_first),
            "onsets",
            "increasing",
        )
        self.values = values

    def pulsed(self, duration: float) -> "Schedule":
        """The same inputs, each on for the first `duration` of its window only, then zero.

        Raises:
            ValueError: if `duration` is not positive or not shorter than every window.
        """
        duration = check_number(duration, "duration", positive=True)
        windows = jnp.append(jnp.diff(self.onsets), jnp.inf)  # the last one has no end
        durations = check_values(
            jnp.full_like(self.onsets, duration),
            is_bad(windows, lambda w: w > duration),
            "duration",
            "shorter than every window",
        )
        return Schedule(
            jnp.stack([self.onsets, self.onsets + durations], axis=1).ravel(),
            jnp.stack([self.values, jnp.zeros_like(self.values)], axis=1).reshape(
                -1, self.values.shape[1]
            ),
        )

    def onset_steps(self, dt: float) -> Int[Array, " S"]:
        """The step at which each value begins, `round(onset / dt)`.

        Raises:
            ValueError: if an onset misses its step boundary by more than a thousandth of a step
                (and by more than the rounding of its dtype explains).
        """
        dt = check_number(dt, "dt", positive=True)
        traced = is_traced(self.onsets)
        exact = self.onsets / dt if traced else np.asarray(self.onsets, float) / dt
        steps = exact.round()
        slack = ON_GRID + 4 * np.finfo(self.onsets.dtype).eps * exact
        onsets = check_values(
            self.onsets, abs(exact - steps) > slack, "onsets", f"whole multiples of dt = {dt}"
        )
        gaps = (jnp if traced else np).diff(steps, prepend=-1.0)
        onsets = check_values(onsets, gaps < 1, "onsets", f"at least one step of dt = {dt} apart")
        return jnp.asarray(jnp.round(onsets / dt) if traced else steps, jnp.int32)
