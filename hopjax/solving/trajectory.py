"""What a solve gives, and the steps that it took."""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from hopjax._checks import is_traced
from hopjax._steps import first_step, last_step


class DivergenceError(RuntimeError):
    """The state stopped being finite."""


class Grid(NamedTuple):
    """The steps of a solve, which are counted in integers on the host.

    Attributes:
        dt: the length of a step.
        num_steps: how many there are up to t1.
        stride: how many lie between saved times.
    """

    dt: float
    num_steps: int
    stride: int

    @property
    def t1(self) -> float:
        """The end."""
        return self.num_steps * self.dt

    @property
    def save_steps(self) -> Int[np.ndarray, " T"]:
        """The steps after which something is saved, from 0."""
        return np.arange(0, self.num_steps + 1, self.stride)

    @property
    def save_times(self) -> Float[np.ndarray, " T"]:
        """Their times."""
        return self.save_steps * self.dt

    def first_step(self, t: float) -> int:
        """The first step at a time or after it."""
        return first_step(t, self.dt)

    def last_step(self, t: float) -> int:
        """The last step at a time or before it."""
        return last_step(t, self.dt)

    def reaches(self, t: float) -> bool:
        """Whether a time is in [0, t1]."""
        return 0 <= t and self.first_step(t) <= self.num_steps

    def late(self, settle: float) -> Bool[np.ndarray, " T"]:
        """Which saved times are in the closed interval [t1 − settle, t1]; at least the last is."""
        first = self.num_steps - self.last_step(settle)
        return self.save_steps >= min(first, self.save_steps[-1])

    def times(self, steps: Int[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
        """The times of steps, infinite where one is −1 for never."""
        return np.where(steps < 0, np.inf, steps * self.dt)

    def times_since(self, steps: Int[np.ndarray, "*S"], since: float) -> Float[np.ndarray, "*S"]:
        """How long after `since` steps are that are not before it: 0 for its own step."""
        first = self.first_step(since)
        if first == self.last_step(since):
            return self.times(np.where(steps < 0, -1, steps - first))
        return self.times(steps) - since


class Trajectory(eqx.Module):
    """One noisy retrieval, as `solve` returns it (under vmap: every array with a batch axis).

    Attributes:
        ts: the saved times, from 0 in steps of `save_every`, in the dtype of the memories;
            `grid.save_times` has them in float64.
        overlaps: the overlap with each memory at `ts`; NaN from the moment the state diverged.
        final_state: the state at t1.
        ok: whether the state stayed finite, judged on the state and not on the overlaps (a
            saturating activation makes those of a blown-up state look perfect).
        diverged_step: the number of the first step of those saved (or of the last) without a finite
            state; −1 if there is none. Adaptive steps that were given up count as well.
        grid: the steps that were solved, the same for a whole batch.
        saved: what `save_fn` returned at `ts`, stacked; None without one.
        passage: the number of the first step, from `passage_since` on, at which `passage_fn` was
            positive; −1 if it never was (in a trajectory that diverged: not up to the last saved
            time with a finite state). Adaptive steps have no numbers: their time, infinite for
            never. None without a `passage_fn`.
        amplitudes: how far the state reached along each memory at `ts`, in units of that memory;
            None unless a `Criterion` asks for a least amplitude in a `Trial`.
    """

    ts: Float[Array, " T"]
    overlaps: Float[Array, "T P"]
    final_state: Float[Array, " state"]
    ok: Bool[Array, ""]
    diverged_step: Int[Array, ""]
    grid: Grid = eqx.field(static=True)
    saved: PyTree[Array] = None
    passage: Int[Array, ""] | Float[Array, ""] | None = None
    amplitudes: Float[Array, "T P"] | None = None

    @property
    def diverged_at(self) -> Float[Array | np.ndarray, ""]:
        """The time of `diverged_step`, infinite if there is none; exact as `passage_time` is."""
        return self._time(self.diverged_step)

    @property
    def passage_step(self) -> Int[Array, ""] | None:
        """The number of the step of the first passage, −1 for none.

        None with adaptive steps, and without a `passage_fn`.
        """
        passage = self.passage
        if passage is None or not jnp.issubdtype(passage.dtype, jnp.integer):
            return None
        return passage

    @property
    def passage_time(self) -> Float[Array | np.ndarray, ""] | None:
        """The time of the first passage, infinite for none; None without a `passage_fn`.

        It is the number of the step times dt, in float64 on the host. Inside jit, vmap or grad it
        has the dtype of the memories, which in float32 does not tell all steps apart beyond some
        10⁶: take `passage_step`, which is exact. With adaptive steps it has that dtype always.
        """
        return self.passage if self.passage_step is None else self._time(self.passage_step)

    def _time(self, step: Int[Array, ""]) -> Float[Array | np.ndarray, ""]:
        """Of a step, infinite for −1."""
        if is_traced(step):
            time = self.grid.dt * step.astype(self.overlaps.dtype)
            return jnp.where(step < 0, jnp.inf, time)
        return self.grid.times(np.asarray(step))[()]

    def __repr__(self) -> str:
        """A summary of what was solved and how it ended."""
        if is_traced(self) or not eqx.is_array(self.ts):
            return eqx.tree_pformat(self)
        *batch, num_times, num_memories = self.overlaps.shape
        ts = np.asarray(self.ts).reshape(-1, num_times)[0]
        head = (
            f"{num_times} saved times from 0 to {ts[-1]:g}, {num_memories} memories, "
            f"{self.final_state.shape[-1]} state entries"
        )
        if batch:
            ok, total = int(np.sum(self.ok)), math.prod(batch)
            return f"Trajectory: {'x'.join(map(str, batch))} trials ({ok} of {total} ok), {head}"
        lines = [f"Trajectory: {head}"]
        if not self.ok:
            lines.append(f"  diverged: state not finite at t = {float(self.diverged_at):g}")
        overlaps = np.asarray(self.overlaps)
        for row in np.unique(np.linspace(0, num_times - 1, 7).round().astype(int)):
            if num_memories and np.isfinite(overlaps[row]).all():
                best = _strongest(overlaps[row])
                lines.append(
                    f"  t = {ts[row]:<6g} strongest overlap {overlaps[row, best]:+.3f} "
                    f"with memories[{best}]"
                )
        return "\n".join(lines)


def _strongest(overlaps: Float[np.ndarray, " P"]) -> int:
    """The memory of the largest |m|; where several tie but for rounding, of the largest m."""
    strength = np.abs(overlaps)
    slack = 1e3 * np.finfo(overlaps.dtype).eps * strength.max()
    return int(np.argmax(np.where(strength >= strength.max() - slack, overlaps, -np.inf)))
