"""When a memory counts as retrieved: one number decides, in steps, at the end and in losses."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from hopjax._checks import (
    check_array,
    check_choice,
    check_flag,
    check_index,
    check_instance,
    check_number,
    check_values,
    is_bad,
    is_traced,
)
from hopjax._errors import ArgumentError, ArgumentTypeError, names_keywords
from hopjax.models import AbstractHopfield
from hopjax.models.base import project
from hopjax.solving import Grid, Trajectory

# The least size of a state along a memory, relative to it, that is asked for where the overlap is
# a cosine. Dynamic attention at the end, with a cosine above 0.9, was found at its gate:
# 0.9 to 3.2 where a mixture is shown with a dominant weight of 1 to 3 (β N = 13, N = 1024, P = 10;
# β = 0.1 to 0.4, N = 64, P = 32), 0.2 to 0.4 where a memory is shown that weakly and nonetheless
# retrieved, and 0.98 to 1.02 without an input. Where the softmax tells no memories apart it is 1/P
# of that: 0.002 to 0.021 for 0.1 to 0.4 of a memory (N = 64 or 128, P = N/2, β = 0.5 or β N = 0.5).
LEAST_AMPLITUDE = 0.1

OUTCOMES = ("right", "mirror", "wrong", "mixture", "none", "diverged")
JUDGES = ("mean", "instants")


def check_target(target: Any, num_memories: int) -> Int[Array, " R"]:
    """The numbers of the right memories, on one axis; from one number or several."""
    if isinstance(target, (list, tuple)) and is_traced(target):
        target = [
            each if is_traced(each) else check_index(each, "target", num_memories, "memories")
            for each in target
        ]
        target = jnp.stack([jnp.asarray(each) for each in target])
    if not isinstance(target, (np.ndarray, jax.Array)):
        numbers = target if isinstance(target, (list, tuple)) else [target]
        if not numbers:
            raise ArgumentError("target", "at least one memory's number", "none", must="have")
        indices = [check_index(each, "target", num_memories, "memories") for each in numbers]
        return jnp.asarray(indices, jnp.int32)
    if target.ndim > 1 or target.size == 0 or not jnp.issubdtype(target.dtype, jnp.integer):
        raise ArgumentTypeError(
            "target",
            "an integer or a list of integers",
            f"dtype {target.dtype} and shape {target.shape}",
        )
    if not is_traced(target):
        return check_target(target.tolist(), num_memories)
    right = f"from 0 to {num_memories - 1}, as there are {num_memories} memories"
    target = jnp.atleast_1d(target)
    bad = is_bad(target, lambda index: (index >= 0) & (index < num_memories))
    return check_values(target, bad, "target", right).astype(jnp.int32)


class Criterion(eqx.Module):
    """When a memory counts as retrieved, and what else a trial can end in.

    One number decides, the `margin` of a state with the overlaps m: the least of

    - |m| of the right memory minus the threshold;
    - |m| of the right memory minus the largest |m| of the others, its rivals;
    - where a least `amplitude` is asked for: how far the state reaches along the memory, ξ·x/|ξ|²
      of its features x, in magnitude, minus that. It is asked for by default where the overlap does
      not measure the size of a state, as in `DynamicAttention`, whose overlap is a cosine.

    A memory is retrieved where the margin is positive. Where a trial has several right memories
    it is the largest over them, and they are no rivals of each other. A copy of a right memory,
    or its exact negative, is the same memory and no rival. Without `mirror` it is m itself of the
    right memory that counts, and its amplitude with its sign.

    What is judged is the state at the end, or the times that are saved in the last `settle` units
    of time. A trial ends in the

    - right memory: the margin of the mean overlaps (and amplitudes) of these times is positive;
    - mirror image of it: so is it, but m < 0; without `mirror`: it would be, were all reversed;
    - wrong memory: |m| of a rival is above the threshold, and not below that of the right one;
    - mixture: none is above the threshold, but |m| > `mixed` for two or more;
    - none: anything else;

    or has diverged. A memory that the state does not reach along far enough is neither a wrong
    memory nor part of a mixture.

    Example:
        ```python
        criterion = hj.Criterion(0.8, settle=2.0)  # the mean over the last two time constants
        ensemble = hj.solve_ensemble(
            trial, trials=100, key=key, t1=10.0, dt=0.02, criterion=criterion
        )
        ```
    """

    threshold: float = eqx.field(static=True)
    mixed: float = eqx.field(static=True)
    settle: float = eqx.field(static=True)
    since: float = eqx.field(static=True)
    mirror: bool = eqx.field(static=True)
    judge: str = eqx.field(static=True)
    amplitude: float | None = eqx.field(static=True)

    @names_keywords
    def __init__(
        self,
        threshold: float = 0.9,
        *,
        mixed: float | None = None,
        settle: float = 0.0,
        since: float = 0.0,
        mirror: bool = True,
        judge: str = "mean",
        amplitude: float | None = None,
    ):
        """Store the numbers, all static.

        Args:
            threshold: overlap above which a memory is retrieved, below 1: no overlap is larger.
            mixed: overlap above which a memory is part of a mixture; at most the threshold. By
                default 0.3, or the threshold where that is lower.
            settle: length of the interval before the end that is judged, at the times that are
                saved from t1 − `settle` to t1, both included; at least the last of them. The times
                from 5 to 10 are `settle` = 5 with t1 = 10. With 0 the state at t1 is judged, saved
                or not.
            since: time from which on a passage counts, say the last change of the input; passage
                times are measured from there. The first step that counts is the first one not
                before it: any time above 0 leaves out the start.
            mirror: whether −ξ is as good as ξ, as for every odd network; the statistics of the
                overlap over time are then those of |m|.
            judge: "mean" to judge each trial once, by the mean overlaps (and amplitudes) of the
                times in `settle`; "instants" to judge every one of these times: the probability
                of retrieval is then the mean over trials of the share of times at which the margin
                is positive. How a trial ended is said by the mean overlaps in both cases.
            amplitude: the least size of the state along the memory, relative to the memory; 0 to
                ask for none. By default that of `hopjax.criterion.LEAST_AMPLITUDE`, 0.1, for models
                whose overlap does not measure the size of a state (`overlap_measures_size`), and
                none for others. An activation of slope d makes the overlap of states perfect that
                are a few times 1/d large: at d = 10 a state with m > 0.9 has at least 0.15 of the
                memory, but if d is much larger ask for an amplitude.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.threshold = check_number(threshold, "threshold", positive=True)
        if self.threshold >= 1:
            raise ArgumentError(
                "threshold", "below 1, the overlap of a perfect copy", f"{self.threshold:g}"
            )
        mixed = min(0.3, self.threshold) if mixed is None else mixed
        self.mixed = check_number(mixed, "mixed", positive=True)
        if self.mixed > self.threshold:
            raise ArgumentError(
                "mixed",
                f"at most the threshold {self.threshold:g}",
                f"{mixed:g}",
                fits=("threshold",),
            )
        self.settle, self.since = check_number(settle, "settle"), check_number(since, "since")
        self.amplitude = None if amplitude is None else check_number(amplitude, "amplitude")
        for name in ("settle", "since", "amplitude"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ArgumentError(name, "zero or positive", f"{value:g}")
        self.mirror = check_flag(mirror, "mirror")
        self.judge = check_choice(judge, "judge", JUDGES)

    @property
    def sign(self) -> str:
        """What statistics of the overlap are of, to print."""
        return "|m|" if self.mirror else "m"

    @property
    def in_words(self) -> str:
        """When a memory is retrieved, to print; see `in_effect`."""
        what = f"{self.sign} > {self.threshold:g} and the largest"
        if self.amplitude != 0:
            least = LEAST_AMPLITUDE if self.amplitude is None else self.amplitude
            what = f"{self.sign} > {self.threshold:g}, the largest, amplitude > {least:g}"
        if self.amplitude is None:
            what += " where overlaps do not measure size"
        if self.judge == "instants" and self.settle:
            return f"{what}, at the saved times of the last {self.settle:g}"
        settle = f", averaged over the last {self.settle:g}" if self.settle else ""
        return f"{what}, at the end{settle}"

    @property
    def attributes(self) -> dict[str, float | int | str]:
        """All of it, for a dataset; no amplitude where none is asked for, see `in_effect`."""
        numbers = {"amplitude": self.amplitude} if self.amplitude else {}
        return numbers | {
            **{"criterion": self.in_words, "threshold": self.threshold, "mixed": self.mixed},
            **{"settle": self.settle, "since": self.since, "mirror": int(self.mirror)},
            "judge": self.judge,
        }

    def in_effect(self, model: AbstractHopfield) -> "Criterion":
        """The same with the least amplitude that it asks for of this model, 0 for none."""
        if self.amplitude is not None:
            return self
        amplitude = 0.0 if model.overlap_measures_size else LEAST_AMPLITUDE
        return dataclasses.replace(self, amplitude=amplitude)

    def margin(
        self,
        model: AbstractHopfield,
        state: Float[Array, " state"],
        overlaps: Float[Array, " P"],
        target: int | Sequence[int] | Int[ArrayLike, "*R"],
    ) -> Float[Array, ""]:
        """How far a state is beyond what counts as retrieved; negative where it is not.

        Args:
            model: the network.
            state: its state; what decides is its size, where a least amplitude is asked for.
            overlaps: the overlaps of the state, or mean ones.
            target: the right memory, or several.

        Raises:
            TypeError, ValueError: for a target that is no memory of the model, or a state or
                overlaps of another shape.
        """
        right = "a model such as IDPHopfield(memories)"
        check_instance(model, AbstractHopfield, "model", right)
        hint = "one state; use jax.vmap for many"
        state = check_array(state, "state", (model.state_size,), hint=hint, finite=False)
        shape = (model.memories.shape[0],)
        overlaps = check_array(overlaps, "overlaps", shape, hint=hint, finite=False)
        right = check_target(target, model.memories.shape[0])
        return Margin(self, model, right)(jnp.zeros(()), state, overlaps)

    def check_times(self, grid: Grid) -> None:
        """Refuse times that a solve does not reach.

        Raises:
            ValueError: naming `settle` or `since`.
        """
        if not grid.reaches(self.settle):
            raise ArgumentError(
                "settle", f"at most t1 = {grid.t1:g}", f"{self.settle:g}", fits=("t1",)
            )
        if not grid.reaches(self.since) or grid.last_step(self.since) == grid.num_steps:
            raise ArgumentError("since", f"below t1 = {grid.t1:g}", f"{self.since:g}", fits=("t1",))

    def judged_times(self, grid: Grid) -> int:
        """At how many times a trial is judged: 1, or with "instants" those in `settle`."""
        if self.judge == "mean" or self.settle == 0:
            return 1
        return int(np.sum(grid.late(self.settle)))

    def of(self, model: AbstractHopfield, target: Int[Array, " R"]) -> "Margin":
        """The margin of the states of a trial with this model and these right memories."""
        return Margin(self, model, target)


class Late(NamedTuple):
    """What is judged of a trial: the state at t1, or those at the late saved times."""

    overlaps: Float[Array, "L P"]
    amplitudes: Float[Array, "L P"] | None


class Ending(NamedTuple):
    """How a trial ended.

    Attributes:
        outcome: an index into `OUTCOMES`, by the mean late overlaps.
        memory: the memory with the strongest of them; −1 if the trial diverged.
        overlap: the mean late overlap with the strongest right memory, with its sign.
        positive: at how many of the judged times the margin was positive.
    """

    outcome: Int[Array, ""]
    memory: Int[Array, ""]
    overlap: Float[Array, ""]
    positive: Int[Array, ""]


class Margin(eqx.Module):
    """A criterion applied to a trial; as a `passage_fn` it is the margin of each step.

    What is the same in all steps, such as which memories are rivals, is found once.
    """

    criterion: Criterion  # as it is in effect
    model: AbstractHopfield
    target: Int[Array, " R"]
    rivals: Bool[Array, " P"]
    squares: Float[Array, " P"] | None  # |ξ|² of the memories, where amplitudes count

    def __init__(self, criterion: Criterion, model: AbstractHopfield, target: Int[Array, " R"]):
        """Find the rivals of the right memories."""
        self.criterion, self.model, self.target = criterion.in_effect(model), model, target
        right = model.memories[target]
        rows, columns = model.memories[:, None], right[None]
        same = jnp.all(rows == columns, axis=-1) | jnp.all(rows == -columns, axis=-1)
        self.rivals = ~jnp.any(same, axis=1)
        self.squares = None
        if self.criterion.amplitude:
            self.squares = jnp.sum(model.memories**2, axis=1)

    def __call__(
        self, t: Float[Array, ""], state: Float[Array, " state"], overlaps: Float[Array, " P"]
    ) -> Float[Array, ""]:
        """The margin of a state."""
        del t
        return self.of(overlaps, self.amplitudes(state))

    def amplitudes(self, state: Float[Array, " state"]) -> Float[Array, " P"] | None:
        """How far a state reaches along each memory; None where that does not count."""
        if self.squares is None:
            return None
        return project(self.model.memories, self.model.features(state)) / self.squares

    def of(
        self, overlaps: Float[Array, " P"], amplitudes: Float[Array, " P"] | None = None
    ) -> Float[Array, ""]:
        """The margin of overlaps, and of amplitudes where these count."""
        least = jnp.maximum(self._rival(overlaps), self.criterion.threshold)
        margins = self._size(overlaps[self.target]) - least
        if self.criterion.amplitude and amplitudes is not None:
            reached = self._size(amplitudes[self.target])
            margins = jnp.minimum(margins, reached - self.criterion.amplitude)
        return jnp.max(margins)

    def strength(self, overlaps: Float[Array, "*T P"]) -> Float[Array, "*T"]:
        """|m| of the strongest right memory; without `mirror` its m."""
        return jnp.max(self._size(overlaps[..., self.target]), axis=-1)

    def over_time(self, trajectory: Trajectory) -> Float[Array, " T"]:
        """The margin at each saved time.

        Raises:
            ValueError: for a trajectory without amplitudes where these count.
        """
        return jax.vmap(self.of)(trajectory.overlaps, self._saved_amplitudes(trajectory))

    def late(self, trajectory: Trajectory) -> Late:
        """What is judged; NaN where the trial diverged.

        Raises:
            ValueError: as `over_time`.
        """
        if self.criterion.settle > 0:
            count = int(np.sum(trajectory.grid.late(self.criterion.settle)))
            saved = Late(trajectory.overlaps, self._saved_amplitudes(trajectory))
            return jax.tree.map(lambda each: each[-count:], saved)
        state = trajectory.final_state
        final = Late(self.model.overlaps(state), self.amplitudes(state))
        return jax.tree.map(lambda each: jnp.where(trajectory.ok, each, jnp.nan)[None], final)

    def decisive(self, trajectory: Trajectory) -> Float[Array, " D"]:
        """The margins that decide: that of the means, or those at all late times.

        Raises:
            ValueError: as `over_time`.
        """
        late = self.late(trajectory)
        if self.criterion.judge == "instants":
            return jax.vmap(self.of)(*late)
        return self.of(*_mean(late))[None]

    def ending(self, trajectory: Trajectory) -> Ending:
        """How the trial ended.

        Raises:
            ValueError: as `over_time`.
        """
        overlaps, amplitudes = _mean(self.late(trajectory))
        threshold, mixed = self.criterion.threshold, self.criterion.mixed
        strength, rival = jnp.abs(overlaps), self._rival(overlaps)
        best = self.target[jnp.argmax(strength[self.target])]
        right = self.of(overlaps, amplitudes) > 0
        if not self.criterion.mirror:  # of two memories the right one may be the weaker
            best = jnp.where(right, self.target[jnp.argmax(overlaps[self.target])], best)
        if self.criterion.mirror:
            right, mirrored = right & (overlaps[best] > 0), right & (overlaps[best] < 0)
        else:
            reverse = None if amplitudes is None else -amplitudes
            mirrored = self.of(-overlaps, reverse) > 0
        beaten = rival >= jnp.max(strength[self.target])
        far = jnp.ones_like(self.rivals)  # along which memories the state reaches far enough
        if self.criterion.amplitude and amplitudes is not None:
            far = jnp.abs(amplitudes) > self.criterion.amplitude
        first = jnp.argmax(jnp.where(self.rivals, strength, -1)).astype(best.dtype)
        # A copy of a right memory is no second part.
        counted = self.rivals.at[self.target].set(True) & far
        conditions = {
            "diverged": ~trajectory.ok,
            "right": right,
            "mirror": mirrored,
            "wrong": beaten & (rival > threshold) & far[first],
            "none": jnp.any(strength > threshold),
            "mixture": jnp.sum(counted & (strength > mixed)) >= 2,
        }
        codes = [jnp.asarray(OUTCOMES.index(name), jnp.int8) for name in (*conditions, "none")]
        return Ending(
            outcome=jnp.select(list(conditions.values()), codes[:-1], codes[-1]),
            memory=jnp.where(trajectory.ok, jnp.where(beaten, first, best), -1),
            overlap=overlaps[best],
            positive=jnp.sum(trajectory.ok & (self.decisive(trajectory) > 0), dtype=jnp.int32),
        )

    def _size(self, overlaps: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """What is compared with the threshold."""
        return jnp.abs(overlaps) if self.criterion.mirror else overlaps

    def _rival(self, overlaps: Float[Array, " P"]) -> Float[Array, ""]:
        """The largest |m| of the rivals; −1 if there are none."""
        return jnp.max(jnp.where(self.rivals, jnp.abs(overlaps), -1))

    def _saved_amplitudes(self, trajectory: Trajectory) -> Float[Array, "T P"] | None:
        if self.squares is None:
            return None
        if trajectory.amplitudes is None:
            raise ArgumentError(
                "trajectory",
                "the amplitudes that the criterion asks for, as in ensembles, studies and tuning",
                "none",
                must="have",
            )
        return trajectory.amplitudes


def _mean(late: Late) -> Late:
    return jax.tree.map(lambda each: jnp.mean(each, axis=0), late)
