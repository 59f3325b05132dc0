"""One trial of an ensemble, and how it is solved."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key, PRNGKeyArray, Real

from hopjax._checks import (
    check_array,
    check_instance,
    check_key,
    check_number,
    check_values,
    is_traced,
)
from hopjax._errors import ArgumentError, names_keywords
from hopjax.inputs import NoisyInput, Schedule, as_input
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.solving import (
    Input,
    PassageFunction,
    Problem,
    SaveFunction,
    Trajectory,
    check_inputs,
    solve,
)
from hopjax.trials.criterion import Criterion, Margin, check_target

# Saliencies that differ by less are equal but for rounding; in units of it, relative to the largest
# saliency or to what a memory of the size of the input would have. Those of equal shares were found
# to differ by 1.4 units at most for orthogonal memories (up to 512 of 4096 neurons), and by some 15
# by least squares where memories overlap by half; where they overlap by more a tie may escape. In
# single precision two of ten weights drawn uniformly are a tie by chance in one trial of 10 000.
TIE = 32


class Trial(eqx.Module):
    """One retrieval to be solved: who, shown what, from where, under which noise.

    Attributes:
        model: the network.
        inputs: what it is shown, as for `solve`.
        x0: features at time 0. A trial whose x0 is not finite counts as diverged at time 0.
        noise: as for `solve`; None for none.
        target: the right memories, indices into `model.memories`: one of them should be
            retrieved. None of them counts more than once. It is decided when the trial is made:
            what replaces the inputs later leaves it as it is.
        key: decides the noise; None for a noise of its own in each trial of an ensemble.
    """

    model: AbstractHopfield
    inputs: Any
    x0: Float[Array, " N"]
    noise: AbstractNoise | None
    target: Int[Array, " R"]
    key: Key[Array, ""] | None

    @names_keywords
    def __init__(
        self,
        model: AbstractHopfield,
        inputs: Input,
        x0: Real[ArrayLike, " N"],
        noise: AbstractNoise | None = None,
        *,
        target: int | Sequence[int] | Int[ArrayLike, "*R"] | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """Store everything; see the class.

        Args:
            model: see the class.
            inputs: see the class.
            x0: see the class.
            noise: see the class.
            target: one memory's number or a list of them. By default the memory that is most
                salient, by `model.saliency`, in a constant input or in the last value of a
                schedule that is not zero. It has to be given for a function of time, for an input
                that is zero throughout, and where, but for rounding, two memories are the most
                salient ones (copies of each other are one memory) or none has a positive saliency.
            key: see the class.

        Raises:
            TypeError, ValueError: for an argument of a wrong kind or shape, or without a `target`
                where it has to be given; under a trace such an input fails when it runs.
        """
        check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
        if noise is not None:
            right = "noise such as AdditiveNoise(8.0), or None"
            check_instance(noise, AbstractNoise, "noise", right)
        self.model = model
        hint = "one trial; a function of the key makes many"
        shape = ("P", "N")
        memories = check_array(model.memories, "model.memories", shape, hint=hint, finite=False)
        num_memories, num_neurons = memories.shape
        finite = target is None or not is_traced(inputs)
        self.inputs = check_inputs(inputs, num_neurons, finite=finite)
        self.x0 = check_array(x0, "x0", (num_neurons,), hint=hint, finite=False)
        self.noise = noise
        given = _DEFAULT_TARGET.get() if target is None else check_target(target, num_memories)
        self.target = _most_salient(model, self.inputs) if given is None else given
        self.key = None if key is None else check_key(key)

    def on_grid(self, dt: float) -> "Trial":
        """The same with the onsets of its schedule as numbers of steps; see `Schedule.on_grid`."""
        dt = check_number(dt, "dt", positive=True)
        if not isinstance(self.inputs, (Schedule, NoisyInput)):
            return self
        return eqx.tree_at(lambda trial: trial.inputs, self, self.inputs.on_grid(dt))

    def input_at(self, t: float) -> Float[Array, " N"]:
        """u(t) at a static time; of a schedule as `Schedule.at`."""
        return as_input(self.inputs, self.model.memories.dtype).at(t)


_DEFAULT_TARGET: ContextVar[Int[Array, " R"] | None] = ContextVar("default_target", default=None)


@contextmanager
def default_target(target: Int[Array, " R"]) -> Iterator[None]:
    """Trials that name no target get this one, whatever their inputs."""
    token = _DEFAULT_TARGET.set(target)
    try:
        yield
    finally:
        _DEFAULT_TARGET.reset(token)


def _most_salient(model: AbstractHopfield, inputs: Schedule | Input) -> Int[Array, "1"]:
    """The memory of the largest saliency in the last input that is not zero.

    Raises:
        ValueError: where there is none, or more than one.
    """
    segments = as_input(inputs, model.memories.dtype).segments(None)
    if segments is None:
        raise ArgumentError(
            "target",
            "given where the input is a function of time",
            hint="the number of the right memory, or several",
        )
    _, values = segments
    values, memories = jax.lax.stop_gradient((values, model.memories))
    xp = jnp if is_traced(values) else np
    shown = xp.any(xp.asarray(values) != 0, axis=1)
    if xp is np and not shown.any():
        raise ArgumentError(
            "target",
            "given where the input is zero throughout",
            hint="the number of the right memory, or several",
        )
    last = values[len(shown) - 1 - xp.argmax(shown[::-1])].astype(memories.dtype)
    alpha = jax.lax.stop_gradient(model.saliency(last))
    alpha = check_array(alpha, "model.saliency", (memories.shape[0],), finite=False)
    traced = is_traced((alpha, memories))
    xp = jnp if traced else np
    if not traced:
        alpha, memories, last = (np.asarray(each) for each in (alpha, memories, last))
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused below
        best, size = alpha.max(), abs(last).mean() / abs(memories[alpha.argmax()]).mean()
        slack = TIE * np.finfo(alpha.dtype).eps * xp.maximum(abs(alpha).max(), size)
        near = alpha >= best - slack
        first = xp.argmax(near)
        rivals = near & ~xp.all(memories == memories[first][None], axis=1)
        # An infinite one is none either.
        without, tie = ~((best > slack) & (best < np.inf)), rivals.any()
    if not traced and without:
        raise ArgumentError(
            "target",
            "given where no memory has a positive and finite saliency in the input",
            f"{best:.4g} at most",
        )
    if not traced and tie:
        raise ArgumentError(
            "target",
            "given where two memories are the most salient ones in the input",
            f"{best:.4g} for memories[{first}] and memories[{np.argmax(rivals)}]",
        )
    target = jnp.atleast_1d(jnp.asarray(first, jnp.int32))
    right = "given where no memory has a positive and finite saliency in the input"
    target = check_values(target, without, "target", right)
    right = "given where two memories are the most salient ones in the input"
    return check_values(target, tie, "target", right)


def blank_trajectory(trial: Trial, problem: Problem, criterion: Criterion) -> Trajectory:
    """Of the shapes that the solution of a trial has; its numbers mean nothing."""
    dtype, (num_memories, _) = problem.model.memories.dtype, problem.model.memories.shape
    ts, state = problem.grid.save_times, np.zeros(problem.model.state_size)
    saved = None
    if problem.save_fn is not None:
        zero, state_like = (jax.ShapeDtypeStruct(each.shape, dtype) for each in (ts[0], state))
        shapes = jax.eval_shape(problem.save_fn, zero, state_like)
        saved = jax.tree.map(lambda leaf: jnp.zeros((len(ts), *leaf.shape), leaf.dtype), shapes)
    overlaps = jnp.asarray(np.zeros((len(ts), num_memories)), dtype)
    return Trajectory(
        ts=jnp.asarray(ts, dtype),
        overlaps=overlaps,
        final_state=jnp.asarray(state, dtype),
        ok=jnp.asarray(True),
        diverged_step=jnp.asarray(-1, int),
        grid=problem.grid,
        saved=saved,
        passage=jnp.asarray(0, dtype if problem.method.adaptive else int),
        passage_ahead=jnp.asarray(0, dtype),
        amplitudes=overlaps if criterion.in_effect(trial.model).amplitude else None,
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
    observed = bool(margin.criterion.amplitude)
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
        "end": None,
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
