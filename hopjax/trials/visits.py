"""Which memories a network visits one after the other, for how long, and whether in order."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Real

from hopjax._checks import check_array, check_count, check_number
from hopjax._errors import ArgumentError, names_keywords
from hopjax.solving import Trajectory
from hopjax.trials.trial import Trial


class _Seen(NamedTuple):
    """What is known up to a saved time."""

    current: Int[Array, ""]  # the memory that is active, −1 for none
    last: Int[Array, ""]  # the one that was visited last
    count: Int[Array, ""]
    left: Float[Array, ""]  # when the last visit ended, without another one since
    order: Int[Array, " V"]
    start: Float[Array, " V"]
    right: Int[Array, ""]
    skipped: Int[Array, ""]
    repeated: Int[Array, ""]
    disordered: Int[Array, ""]
    run: Int[Array, ""]


class Visits(eqx.Module):
    """The visits of a trajectory to its memories, from the overlaps at the saved times.

    A visit to a memory begins when its overlap is the largest in magnitude and above `enter`. It
    ends when a visit to another one begins, or the overlap falls below `leave`. Save often enough:
    what happens between two saved times is not seen.

    Called with a trial and its trajectory, as by `PerTrial(Visits())`, or by `of` with arrays, it
    gives a dict:

    - `order`: the memories, −1 where there were no more visits;
    - `start`: when each visit began, infinite where there were no more;
    - `dwell`: the time from there to the beginning of the next visit; for the last one to its end,
      or to the last saved time where it has not ended; NaN where there were no more;
    - `ended`: whether the visit ended: where not, its `dwell` is censored;
    - `count`: the number of visits, also of those that there was no room for in `order`;
    - `right`, `skipped`, `repeated`, `disordered`: how many times the next memory was one that A
      has follow; one that follows the one that is left out; the same memory again, after it was
      left for none; any other;
    - `run`: how many of the first changes were all right;
    - `collapse`: from when on no memory was visited up to the end; infinite where one was active
      then. A trajectory that diverges visits none from there on.

    In the dataset of a study the first four share an axis, so that `dataset.visits_dwell.where(
    dataset.visits_order == 2)` are the dwell times of memory 2.
    """

    max_visits: int = eqx.field(static=True)
    enter: float = eqx.field(static=True)
    leave: float = eqx.field(static=True)
    transitions: Float[Array, "P P"] | None
    # What there is of each visit, for `PerTrial`.
    axes: ClassVar = dict.fromkeys(("order", "start", "dwell", "ended"), ("visit",))

    @names_keywords
    def __init__(
        self,
        *,
        max_visits: int = 32,
        enter: float = 0.7,
        leave: float = 0.3,
        transitions: Real[ArrayLike, "P P"] | None = None,
    ):
        """Store the numbers.

        Args:
            max_visits: how many visits are kept of each trial, the first ones.
            enter: see the class; from 0 to 1.
            leave: see the class; from 0 to `enter`.
            transitions: A, of which A[ν, μ] is above zero where memory ν may follow memory μ; by
                default that of the model.

        Raises:
            TypeError, ValueError: for numbers out of range.
        """
        self.max_visits = check_count(max_visits, "max_visits")
        self.enter, self.leave = check_number(enter, "enter"), check_number(leave, "leave")
        if not 0 < self.enter < 1:
            raise ArgumentError("enter", "between 0 and 1", f"{self.enter:g}")
        if not 0 < self.leave <= self.enter:
            right = f"positive and at most enter = {self.enter:g}"
            raise ArgumentError("leave", right, f"{self.leave:g}", fits=("enter",))
        self.transitions = None
        if transitions is not None:
            self.transitions = check_array(transitions, "transitions", ("P", "P"))

    def __call__(self, trial: Trial, trajectory: Trajectory) -> dict[str, Array]:
        """The visits of a trial."""
        transitions = self.transitions
        if transitions is None:
            transitions = getattr(trial.model, "transition_matrix", None)
        if transitions is None:
            raise ArgumentError(
                "transitions", f"given for {type(trial.model).__name__}, which has none", None
            )
        return self.of(trajectory.ts, trajectory.overlaps, transitions)

    def of(
        self,
        ts: Real[ArrayLike, " T"],
        overlaps: Real[ArrayLike, "T P"],
        transitions: Real[ArrayLike, "P P"],
    ) -> dict[str, Array]:
        """The visits of one trajectory.

        Args:
            ts: the saved times.
            overlaps: those at these times.
            transitions: A.

        Raises:
            TypeError, ValueError: for arrays that do not fit together.
        """
        overlaps = check_array(overlaps, "overlaps", ("T", "P"), finite=False)
        num_times, num_memories = overlaps.shape
        ts = check_array(ts, "ts", (num_times,)).astype(overlaps.dtype)
        matrix = check_array(transitions, "transitions", (num_memories, num_memories))
        follows = matrix > 0
        # No matter how many ways lead there.
        skips = jnp.any(follows[:, :, None] & follows[None], axis=1)
        none, zero = jnp.int32(-1), jnp.int32(0)
        seen = _Seen(
            *(none, none, zero, ts[0]),
            jnp.full(self.max_visits, none),
            jnp.full(self.max_visits, jnp.inf, ts.dtype),
            *[zero] * 5,
        )

        def step(seen: _Seen, now: Any) -> tuple[_Seen, None]:
            t, sizes = now
            return self._next(seen, t, sizes, follows, skips), None

        seen, _ = jax.lax.scan(step, seen, (ts, jnp.abs(overlaps)))
        place = jnp.arange(self.max_visits, dtype=jnp.int32)
        active = seen.current >= 0
        end = jnp.where(active, ts[-1], seen.left)
        following = jnp.append(seen.start[1:], jnp.inf)
        is_last = place == seen.count - 1
        # The last one that there is room for need not be the last one.
        full = (place == self.max_visits - 1) & ~is_last
        known = (place < seen.count) & ~full
        until = jnp.where(is_last, end, following)
        return {
            "order": seen.order,
            "start": seen.start,
            "dwell": jnp.where(known, until - seen.start, jnp.nan),
            "ended": (place < seen.count) & ~(is_last & active),
            **{name: getattr(seen, name) for name in ("count", "right", "skipped", "repeated")},
            **{name: getattr(seen, name) for name in ("disordered", "run")},
            "collapse": jnp.where(active, jnp.inf, seen.left),
        }

    def _next(
        self,
        seen: _Seen,
        t: Float[Array, ""],
        sizes: Float[Array, " P"],
        follows: Bool[Array, "P P"],
        skips: Bool[Array, "P P"],
    ) -> _Seen:
        """With one more saved time."""
        best = jnp.argmax(sizes).astype(jnp.int32)
        enters = (sizes[best] > self.enter) & (best != seen.current)
        leaves = ~enters & (seen.current >= 0) & ~(sizes[seen.current] >= self.leave)
        changes = enters & (seen.count > 0)
        kinds = {
            "right": follows[best, seen.last],
            "repeated": best == seen.last,
            "skipped": skips[best, seen.last],
        }
        found, rest = {}, changes
        for name, holds in kinds.items():
            found[name], rest = rest & holds, rest & ~holds
        found["disordered"] = rest
        found["run"] = found["right"] & (seen.right == seen.count - 1)  # all so far were right
        slot = jnp.where(
            enters, seen.count, jnp.int32(self.max_visits)
        )  # beyond the end: nothing is kept
        return _Seen(
            current=jnp.where(enters, best, jnp.where(leaves, -1, seen.current)),
            last=jnp.where(enters, best, seen.last),
            count=seen.count + enters.astype(jnp.int32),
            left=jnp.where(leaves, t, seen.left),
            order=seen.order.at[slot].set(best, mode="drop"),
            start=seen.start.at[slot].set(t, mode="drop"),
            **{
                name: getattr(seen, name) + holds.astype(jnp.int32) for name, holds in found.items()
            },
        )
