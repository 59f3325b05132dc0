"""One trial of an ensemble, and when its memory counts as retrieved."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PRNGKeyArray, Real

from hopjax._checks import (
    check_array,
    check_flag,
    check_index,
    check_instance,
    check_key,
    check_number,
    check_values,
    is_bad,
    is_traced,
)
from hopjax.inputs import Schedule
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.solve import Input, Trajectory

OUTCOMES = ("right", "mirror", "wrong", "mixture", "none", "diverged")


class Trial(eqx.Module):
    """One retrieval to be solved: who, shown what, from where, under which noise.

    Attributes:
        model: the network.
        inputs: what it is shown, as for `solve`.
        x0: features at time 0. A trial whose x0 is not finite counts as diverged at time 0.
        noise: as for `solve`; None for none.
        target: the memory that should be retrieved, an index into `model.memories`.
        key: decides the noise; None for a noise of its own in each trial of an ensemble.
    """

    model: AbstractHopfield
    inputs: Any
    x0: Float[Array, " N"]
    noise: AbstractNoise | None
    target: Int[Array, ""]
    key: Key[Array, ""] | None

    def __init__(
        self,
        model: AbstractHopfield,
        inputs: Input,
        x0: Real[ArrayLike, " N"],
        noise: AbstractNoise | None = None,
        *,
        target: int | Int[Array, ""] = 0,
        key: PRNGKeyArray | None = None,
    ):
        """Store everything; see the class.

        Raises:
            TypeError, ValueError: for an argument of a wrong kind or shape.
        """
        check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
        if noise is not None:
            right = "noise such as AdditiveNoise(8.0), or None"
            check_instance(noise, AbstractNoise, "noise", right)
        self.model = model
        if isinstance(inputs, Schedule) or callable(inputs):
            self.inputs = inputs
        else:
            self.inputs = check_array(inputs, "inputs", ("N",), finite=not is_traced(inputs))
        hint = "one trial; a function of the key makes many"
        shape = ("P", "N")
        memories = check_array(model.memories, "model.memories", shape, hint=hint, finite=False)
        self.x0 = check_array(x0, "x0", (memories.shape[1],), hint=hint, finite=False)
        self.noise = noise
        self.target = _check_target(target, memories.shape[0])
        self.key = None if key is None else check_key(key)

    def input_at(self, t: Real[ArrayLike, ""]) -> Float[Array, " N"]:
        """u(t)."""
        if isinstance(self.inputs, Schedule):
            return self.inputs.values[jnp.sum(self.inputs.onsets <= t) - 1]
        if callable(self.inputs):
            return jnp.asarray(self.inputs(jnp.asarray(t, self.model.memories.dtype)))
        return self.inputs


def _check_target(target: Any, num_memories: int) -> Int[Array, ""]:
    if not is_traced(target):
        target = check_index(target, "target", num_memories, "memories")
        return jnp.asarray(target, jnp.int32)
    if target.shape != () or not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError(
            f"Argument `target` must be one integer, got dtype {target.dtype} and shape "
            f"{target.shape}."
        )
    right = f"from 0 to {num_memories - 1}, as there are {num_memories} memories"
    bad = is_bad(target, lambda index: (index >= 0) & (index < num_memories))
    return check_values(target, bad, "target", right).astype(jnp.int32)


def late(ts: Float[Array, " T"], settle: float) -> Bool[Array, " T"]:
    """Which saved times are in the last interval of length `settle`, (t − settle, t]."""
    # Their rounding is far below a saved interval.
    slack = 1e-3 * (ts[-1] - ts[0]) / max(len(ts) - 1, 1)
    return ts > ts[-1] - settle + jnp.minimum(slack, settle / 2)


class Criterion(eqx.Module):
    """When a memory counts as retrieved, and what else a trial can end in.

    The overlaps m that are judged are those at the end, or their means over the last `settle`
    units of time that are saved. A trial ends in the

    - right memory: m_target > threshold;
    - mirror image of it: m_target < −threshold;
    - wrong memory: |m| of another one is above the threshold (and above |m_target|);
    - mixture: none is, but |m| > `mixed` for two or more;
    - none: anything else;

    or has diverged. The mirror image is as good as the memory unless `mirror` is False.
    """

    threshold: float = eqx.field(static=True)
    mixed: float = eqx.field(static=True)
    settle: float = eqx.field(static=True)
    since: float = eqx.field(static=True)
    mirror: bool = eqx.field(static=True)

    def __init__(
        self,
        threshold: float = 0.9,
        *,
        mixed: float = 0.3,
        settle: float = 0.0,
        since: float = 0.0,
        mirror: bool = True,
    ):
        """Store the numbers, all static.

        Args:
            threshold: overlap above which a memory is retrieved.
            mixed: overlap above which a memory is part of a mixture; at most the threshold.
            settle: length of the interval before the end over which overlaps are averaged.
            since: time from which on a first passage counts, say the last change of the input;
                passage times are measured from there.
            mirror: whether −ξ is as good as ξ, as for every odd network; the statistics of the
                overlap over time are then those of |m|.

        Raises:
            TypeError, ValueError: for what is not a number in its range.
        """
        self.threshold = check_number(threshold, "threshold", positive=True)
        self.mixed = check_number(mixed, "mixed", positive=True)
        if self.mixed > self.threshold:
            raise ValueError(
                f"Argument `mixed` must be at most the threshold {self.threshold:g}, got {mixed:g}."
            )
        self.settle, self.since = check_number(settle, "settle"), check_number(since, "since")
        for value, name in ((self.settle, "settle"), (self.since, "since")):
            if value < 0:
                raise ValueError(f"Argument `{name}` must be zero or positive, got {value:g}.")
        self.mirror = check_flag(mirror, "mirror")

    def strength(self, overlap: Float[Array, "..."]) -> Float[Array, "..."]:
        """What is compared with the threshold."""
        return jnp.abs(overlap) if self.mirror else overlap

    def passed(self, overlaps: Float[Array, " P"], target: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether the target is above the threshold."""
        return self.strength(overlaps[target]) > self.threshold

    def judged(self, trial: "Trial", trajectory: Trajectory) -> Float[Array, " P"]:
        """The overlaps that decide."""
        if self.settle == 0:
            overlaps = trial.model.overlaps(trajectory.final_state)
            return jnp.where(trajectory.ok, overlaps, jnp.nan)
        counts = late(trajectory.ts, self.settle)
        return jnp.mean(trajectory.overlaps, axis=0, where=counts[:, None])

    def outcome(
        self, overlaps: Float[Array, " P"], target: Int[Array, ""], ok: Bool[Array, ""]
    ) -> Int[Array, ""]:
        """An index into `OUTCOMES`."""
        strength, signed = jnp.abs(overlaps), overlaps[target]
        best = strength[target] >= jnp.max(strength)
        above, parts = jnp.any(strength > self.threshold), jnp.sum(strength > self.mixed)
        conditions = [
            ~ok,
            best & (signed > self.threshold),
            best & (signed < -self.threshold),
            above,
            parts >= 2,
        ]
        names = ["diverged", "right", "mirror", "wrong", "mixture"]
        codes = [jnp.asarray(OUTCOMES.index(name), jnp.int8) for name in names]
        return jnp.select(conditions, codes, jnp.asarray(OUTCOMES.index("none"), jnp.int8))
