"""One retrieval: a model, its input over time and its noise, solved by Diffrax."""

import diffrax as dfx
from jaxtyping import ArrayLike, PRNGKeyArray, Real

from hopjax._checks import check_flag
from hopjax._errors import names_keywords
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.solving.door import Input, PassageFunction, SaveFunction, check_problem
from hopjax.solving.trajectory import Carried, Remembered, Trajectory, trajectory_of


@names_keywords
def solve(
    model: AbstractHopfield,
    inputs: Input,
    x0: Real[ArrayLike, " N"] | None = None,
    *,
    t1: float,
    dt: float,
    noise: AbstractNoise | None = None,
    key: PRNGKeyArray | None = None,
    save_every: float | None = None,
    save_fn: SaveFunction | None = None,
    passage_fn: PassageFunction | None = None,
    passage_since: float = 0.0,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    throw: bool = True,
    t0: float = 0.0,
    state0: Real[ArrayLike, " state"] | None = None,
    resumable: bool = False,
    capacity: int | None = None,
) -> Trajectory:
    """Solve dx = drift(t, x; u(t)) dt + σ dB from t0 = 0 to t1 for one network.

    Use `jax.vmap` over any of model, inputs, x0, noise and key for many; it works under `jit`
    and reverse-mode differentiation too. The first call compiles; another σ, key, input or set
    of memories of the same shapes does not. All runs in the dtype of `model.memories`.

    Example:
        ```python
        memories = hj.random_memories(jax.random.key(0), num_memories=10, num_neurons=256)
        u = hj.mixture(memories, jnp.ones(10).at[0].set(3.0))  # mostly the first memory
        trajectory = hj.solve(
            hj.IDPHopfield(memories),
            u,
            jax.random.normal(jax.random.key(1), (256,)),
            t1=10.0,
            dt=0.01,
            noise=hj.AdditiveNoise(1.0),
            key=jax.random.key(2),
        )
        print(f"overlap with it at the end: {trajectory.overlaps[-1, 0]:.2f}")
        ```

        ```text
        overlap with it at the end: 1.00
        ```

    Args:
        model: the network.
        inputs: a `Schedule`, one vector (a constant input), or a callable u(t) -> (N,), best an
            Equinox Module; a `NoisyInput` puts noise on any of them. A schedule's onsets must lie
            on step boundaries; every stage of a step sees the input of that step, so a solver keeps
            its order across a switch.
        x0: features at time t0; None where `state0` is given.
        t1: end, a static multiple of `dt`, in units of the neuron's time constant (like all
            times).
        dt: step, static. With adaptive steps: the first step, and the unit of `save_every`.
        noise: `AdditiveNoise(strength)`, `MultiplicativeNoise(function)`, or None for none.
        key: decides the noise, on the state and on the input. With a law on the grid ("gaussian",
            "two_point") step i of a key has the same increment whatever surrounds it. May be None
            only without noise.
        save_every: interval between saved times, a static multiple of `dt`; by default about a
            hundred times are saved. The state at t1 is always in `final_state`.
        save_fn: further quantities to save, `save_fn(t, state)` -> arrays, found in `saved`. A
            function defined once: a lambda made anew per call compiles anew per call.
        passage_fn: `passage_fn(t, state, overlaps)` -> a real number that is looked at after every
            step, saved or not: in the first step at whose end it is positive there is a passage
            (`passage_step`), where a line through its values at both ends crosses zero
            (`passage_time`). With Euler steps the overlaps cost next to nothing: the drift computes
            the same products.
        passage_since: time from which on a passage counts, static, from 0 to t1: from the first
            step n with n·dt ≥ `passage_since`. Where the two differ by less than 10⁻⁷ of the
            time, which is what typing it as a decimal makes of it, they are the same.
        solver: any Diffrax solver that suits the noise; Euler by default, and with adaptive
            steps Tsit5 (no noise) or SPaRK (additive noise).
        stepsize_controller: None for fixed steps, or an adaptive controller such as
            `diffrax.PIDController`, which needs noise with `law="tree"` (or none).
        adjoint: how to differentiate: by default `diffrax.RecursiveCheckpointAdjoint`, for
            reverse mode, which keeps the states of all steps where those of one trajectory take
            at most 4 MiB (1024 neurons, 1000 steps), and otherwise some of them, from which it
            solves again (half as slow again; `checkpoints` is their number). For forward mode
            (`jax.jvp`, `jax.jacfwd`; cheapest for a few parameters) pass
            `diffrax.ForwardMode()`, for both `diffrax.DirectAdjoint()`. With fixed steps onsets
            are whole numbers of steps: the derivative by an onset is zero.
        throw: raise `DivergenceError` when the state diverges. Inside jit, vmap or grad nothing
            is raised: look at `ok`.
        t0: start, a static multiple of `dt` before t1, on the same clock as all times: onsets,
            saved times and passages count from 0, and step i of a key has its own increment
            wherever the solve starts. To go on from a trajectory see `Trajectory.resume`.
        state0: the full state at time t0 in place of `x0`: that of memory neurons too.
        resumable: whether the trajectory can be resumed even where it has left the `jit`, `vmap` or
            `grad` that it was solved in: model, inputs, noise, key and the solver's state are then
            a part of it, a copy for each trial of a `vmap`.
        capacity: static, the number of memories that the compiled program has room for, so that a
            network which learns and forgets is solved without compiling anew as long as it has no
            more; None for as many as it has. Numbers are those of a solve without it but for
            rounding, which depends on it, and the noise is the same. Only the program knows:
            `overlaps` and `final_state` are those of the memories that there are. `save_fn` and
            `passage_fn` run inside: they are given as many overlaps as there is room for, and
            entries of the state for as many memory neurons; those of absent memories are the last,
            and 0. A function that has the network's memories in it is another one for each number
            of them, and compiles anew. Trials of ensembles, studies and tunings have no capacity.

    Returns:
        A `Trajectory`.

    Raises:
        ValueError: for a wrong shape or value, or a combination that would give wrong answers.
        TypeError: for an argument of the wrong kind.
        DivergenceError: if the state stopped being finite and `throw` is set.
    """
    throw, resumable = check_flag(throw, "throw"), check_flag(resumable, "resumable")
    problem = check_problem(
        model,
        inputs,
        x0,
        t1=t1,
        dt=dt,
        noise=noise,
        key=key,
        save_every=save_every,
        save_fn=save_fn,
        passage_fn=passage_fn,
        passage_since=passage_since,
        solver=solver,
        stepsize_controller=stepsize_controller,
        adjoint=adjoint,
        t0=t0,
        state0=state0,
        capacity=capacity,
    )
    return trajectory_of(problem, Carried if resumable else Remembered, throw=throw)
