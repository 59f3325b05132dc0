"""One trial of an ensemble, and how it is solved."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, PRNGKeyArray, Real

from hopjax._checks import check_array, check_instance, check_key, is_traced
from hopjax.criterion import Criterion, Margin, check_target
from hopjax.inputs import Schedule, input_at
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.solve import Input, PassageFunction, Problem, SaveFunction, Trajectory, solve


class Trial(eqx.Module):
    """One retrieval to be solved: who, shown what, from where, under which noise.

    Attributes:
        model: the network.
        inputs: what it is shown, as for `solve`.
        x0: features at time 0. A trial whose x0 is not finite counts as diverged at time 0.
        noise: as for `solve`; None for none.
        target: the right memories, indices into `model.memories`: one of them should be
            retrieved. None of them counts more than once.
        key: decides the noise; None for a noise of its own in each trial of an ensemble.
    """

    model: AbstractHopfield
    inputs: Any
    x0: Float[Array, " N"]
    noise: AbstractNoise | None
    target: Int[Array, " R"]
    key: Key[Array, ""] | None

    def __init__(
        self,
        model: AbstractHopfield,
        inputs: Input,
        x0: Real[ArrayLike, " N"],
        noise: AbstractNoise | None = None,
        *,
        target: int | Sequence[int] | Int[ArrayLike, "*R"] = 0,
        key: PRNGKeyArray | None = None,
    ):
        """Store everything; see the class. A `target` is one memory's number or a list of them.

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
        self.target = check_target(target, memories.shape[0])
        self.key = None if key is None else check_key(key)

    def on_grid(self, dt: float) -> "Trial":
        """The same with the onsets of its schedule as numbers of steps; see `Schedule.on_grid`."""
        if not isinstance(self.inputs, Schedule):
            return self
        return eqx.tree_at(lambda trial: trial.inputs, self, self.inputs.on_grid(dt))

    def input_at(self, t: float) -> Float[Array, " N"]:
        """u(t) at a static time; of a schedule as `Schedule.at`."""
        return input_at(self.inputs, t, self.model.memories.dtype)


def blank_trajectory(trial: Trial, problem: Problem, criterion: Criterion) -> Trajectory:
    """Of the shapes that the solution of a trial has; its numbers mean nothing."""
    dtype, (num_memories, _) = problem.model.memories.dtype, problem.model.memories.shape
    ts, state = problem.grid.save_times, np.zeros(problem.model.state_size)
    saved = None
    if problem.save_fn is not None:
        zero, state_like = (jax.ShapeDtypeStruct(each.shape, dtype) for each in (ts[0], state))
        shapes = jax.eval_shape(problem.save_fn, zero, state_like)
        saved = jax.tree.map(lambda leaf: jnp.zeros((len(ts), *leaf.shape), leaf.dtype), shapes)
    zeros = np.zeros((len(ts), trial.target.size))
    return Trajectory(
        ts=jnp.asarray(ts, dtype),
        overlaps=jnp.asarray(np.zeros((len(ts), num_memories)), dtype),
        final_state=jnp.asarray(state, dtype),
        ok=jnp.asarray(True),
        diverged_step=jnp.asarray(-1, int),
        grid=problem.grid,
        saved=saved,
        passage=jnp.asarray(0, dtype if problem.method.adaptive else int),
        amplitudes=None if criterion.amplitude is None else jnp.asarray(zeros, dtype),
    )


class _Observed(eqx.Module):
    """What the user saves, and the amplitudes."""

    save_fn: SaveFunction | None
    margin: Margin

    def __call__(self, t: Float[Array, ""], state: Float[Array, " state"]) -> tuple[Any, Any]:
        saved = None if self.save_fn is None else self.save_fn(t, state)
        return saved, self.margin.amplitudes(state)


def solve_trial(
    trial: Trial,
    key: Key[Array, ""],
    criterion: Criterion,
    *,
    passages: bool,
    save_fn: SaveFunction | None = None,
    passage_fn: PassageFunction | None = None,
    **options: Any,
) -> Trajectory:
    """The solution of a trial; one that diverged at once where x0 is not finite.

    Args:
        trial: all of one dtype.
        key: of its noise, unless it has its own.
        criterion: whose amplitudes are saved where it asks for them.
        passages: whether first passages are noted.
        save_fn: as for `solve`.
        passage_fn: what is positive at a passage; None for the criterion's margin.
        options: further ones of `solve`.
    """
    margin = criterion.of(trial.model, trial.target)
    if passages:
        passage_fn = margin if passage_fn is None else passage_fn
        options |= {"passage_fn": passage_fn, "passage_since": criterion.since}
    observed = criterion.amplitude is not None
    well = jnp.all(jnp.isfinite(trial.x0))
    trajectory = solve(
        trial.model,
        trial.inputs,
        jnp.where(well, trial.x0, jnp.zeros_like(trial.x0)),
        noise=trial.noise,
        key=key if trial.key is None else trial.key,
        save_fn=_Observed(save_fn, margin) if observed else save_fn,
        throw=False,
        **options,
    )
    changes: dict[str, Any] = {
        "ok": trajectory.ok & well,
        "overlaps": jnp.where(well, trajectory.overlaps, jnp.nan),
        "diverged_step": jnp.where(well, trajectory.diverged_step, 0),
    }
    if trajectory.passage is not None:
        never = jnp.inf if trajectory.passage_step is None else -1
        changes["passage"] = jnp.where(well, trajectory.passage, never)
    if observed:
        saved, amplitudes = trajectory.saved
        # As the overlaps are from the moment of divergence on.
        lost = jnp.any(jnp.isnan(changes["overlaps"]), axis=1, keepdims=True)
        changes |= {"saved": saved, "amplitudes": jnp.where(lost, jnp.nan, amplitudes)}
    return dataclasses.replace(trajectory, **changes)
