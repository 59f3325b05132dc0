"""What a solve gives, and how it goes on."""

import math
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from hopjax._checks import check_flag, is_traced
from hopjax._errors import ArgumentError, names_keywords
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.program import is_array
from hopjax.solving.door import (
    Before,
    Input,
    Passage,
    PassageFunction,
    Problem,
    SaveFunction,
    check_resumed,
)
from hopjax.solving.grid import Grid
from hopjax.solving.run import MAX_STEPS_PER_DT, run


class DivergenceError(RuntimeError):
    """The state stopped being finite."""


class Origin(NamedTuple):
    """What a solve leaves to the one that goes on from its end."""

    problem: Problem
    solver_state: PyTree
    passage: Passage
    z: Float[Array, " N"] | None  # of the noise on the input


class Carried(eqx.Module):
    """An origin as a PyTree of arrays, which goes wherever the trajectory does."""

    arrays: PyTree[Array]
    rest: Any = eqx.field(static=True)

    def __init__(self, origin: Origin):
        self.arrays, rest = eqx.partition(origin, is_array)
        leaves, structure = jax.tree.flatten(rest)
        self.rest = structure, tuple(leaves)

    @property
    def origin(self) -> Origin:
        """The same, whole again."""
        structure, leaves = self.rest
        return eqx.combine(self.arrays, jax.tree.unflatten(structure, leaves))


@jax.tree_util.register_pytree_node_class
class Remembered:
    """An origin that JAX does not see: it costs nothing, and stays with the very object."""

    def __init__(self, origin: Origin | None):
        self.origin = origin

    def tree_flatten(self) -> tuple[tuple[()], None]:
        """No leaves."""
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[()]) -> "Remembered":
        """Without the origin."""
        del aux, children
        return cls(None)


class Trajectory(eqx.Module):
    """One noisy retrieval, as `solve` returns it (under vmap: every array with a batch axis).

    Attributes:
        ts: the saved times, which are the start and all later multiples of `save_every`, in the
            dtype of the memories; `grid.save_times` has them in float64.
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
            time with a finite state). Adaptive steps have no numbers: the time, infinite for
            never. None without a `passage_fn`.
        passage_ahead: by what part of a step the passage was before the end of this step, from 0
            to 1: where a line through the values of `passage_fn` at both ends crosses zero. 0 where
            the step before did not count yet, for a step that ends where the input changes, and
            with adaptive steps, whose time has it taken off. None without a `passage_fn`.
        amplitudes: how far the state reached along each memory at `ts`, in units of that memory;
            None unless a `Criterion` asks for a least amplitude in a `Trial`.
        end: what `resume` goes on from; None in a trial of an ensemble.
    """

    ts: Float[Array, " T"]
    overlaps: Float[Array, "T P"]
    final_state: Float[Array, " state"]
    ok: Bool[Array, ""]
    diverged_step: Int[Array, ""]
    grid: Grid = eqx.field(static=True)
    saved: PyTree[Array] = None
    passage: Int[Array, ""] | Float[Array, ""] | None = None
    passage_ahead: Float[Array, ""] | None = None
    amplitudes: Float[Array, "T P"] | None = None
    end: Remembered | Carried | None = None

    @names_keywords
    def resume(
        self,
        *,
        t1: float,
        model: AbstractHopfield | None = None,
        inputs: Input | None = None,
        noise: AbstractNoise | None = None,
        save_every: float | None = None,
        save_fn: SaveFunction | None = None,
        passage_fn: PassageFunction | None = None,
        passage_since: float | None = None,
        throw: bool = True,
    ) -> "Trajectory":
        """Go on from the end of this trajectory up to a later `t1`.

        To the bit, the two parts are what one solve up to the later `t1` would have given (where
        XLA optimises, as it does unless told otherwise): the new one starts with the full state and
        the solver's own, under the same key, and its times, onsets and steps are on the clock that
        began at 0. A changed model, input or noise acts from the join on, where the solver then
        forgets its past as at an input's switch.

        Only a trajectory as `solve` or `resume` returned it knows how to go on: one that has left
        `jit`, `vmap` or `grad`, or went through `jax.tree.map`, has to be solved with
        `resumable=True`. Parts of the same length compile once, and with a `capacity`, which stays,
        networks of other numbers of memories too.

        Example:
            ```python
            first = hj.solve(model, u, x0, t1=10.0, dt=0.01)
            second = first.resume(t1=20.0)
            learnt = second.resume(t1=30.0, model=model.with_memory(pattern))
            ```

        Args:
            t1: the new end, later than the old one, as for `solve`.
            model: another network with as many neurons and state entries; None for the same.
            inputs: what is shown from now on, as for `solve`; a schedule begins at time 0 all the
                same. None for the same.
            noise: other noise, of a law on the grid, with the increments of the same key; None for
                the same.
            save_every: as for `solve`; None for the same.
            save_fn: as for `solve`; None for the same.
            passage_fn: as for `solve`, for passages from now on; None for the same, of which the
                first passage stays the first.
            passage_since: as for `solve`; given, passages are counted anew from now on.
            throw: as for `solve`.

        Returns:
            The new part: its first saved time is the join, which the first part may have saved too.

        Raises:
            ValueError: for adaptive steps, for noise of the law "tree", whose path depends on t1,
                for a trajectory that has lost what it knew, and as `solve`.
            TypeError: for an argument of the wrong kind.
            DivergenceError: as `solve`.
        """
        throw = check_flag(throw, "throw")
        end = self.end
        origin = None if end is None else end.origin
        if end is None or origin is None:
            raise ArgumentError(
                "resumable",
                "True in the solve of a trajectory that is resumed after it has left jit, vmap or "
                "grad, or went through jax.tree.map",
            )
        before = Before(origin.solver_state, None, self.diverged_step, origin.passage, origin.z)
        problem = check_resumed(
            origin.problem,
            self.final_state,
            before,
            t1=t1,
            model=model,
            inputs=inputs,
            noise=noise,
            save_every=save_every,
            save_fn=save_fn,
            passage_fn=passage_fn,
            passage_since=passage_since,
        )
        return trajectory_of(problem, type(end), throw=throw)

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

        It is (`passage_step` − `passage_ahead`) dt, in float64 on the host. Inside jit, vmap or
        grad it has the dtype of the memories, which in float32 does not tell all steps apart beyond
        some 10⁶: take the two themselves. With adaptive steps it has that dtype always.

        What lies between the looks is not seen: noise may carry a trajectory across and back.
        """
        if self.passage_step is None or self.passage_ahead is None:
            return self.passage
        return self._time(self.passage_step, self.passage_ahead)

    def _time(
        self, step: Int[Array, ""], ahead: Float[Array, ""] | float = 0.0
    ) -> Float[Array | np.ndarray, ""]:
        """Of a part of a step before the end of one, infinite for −1."""
        if is_traced((step, ahead)):
            time = self.grid.dt * (step.astype(self.overlaps.dtype) - ahead)
            return jnp.where(step < 0, jnp.inf, time)
        return self.grid.times(np.asarray(step), np.asarray(ahead, float))[()]

    def __repr__(self) -> str:
        """A summary of what was solved and how it ended."""
        if is_traced(self) or not eqx.is_array(self.ts):
            return eqx.tree_pformat(self)
        *batch, num_times, num_memories = self.overlaps.shape
        ts = np.asarray(self.ts).reshape(-1, num_times)[0]
        head = (
            f"{num_times} saved times from {ts[0]:g} to {ts[-1]:g}, {num_memories} memories, "
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


def trajectory_of(problem: Problem, end: type[Remembered | Carried], *, throw: bool) -> Trajectory:
    """The solution of a problem, with what it leaves to the next one.

    Raises:
        DivergenceError: if the state stopped being finite and `throw` is set.
    """
    grid, method = problem.grid, problem.method
    try:
        solved = run(problem)
    except TypeError as error:
        reverse_only = isinstance(method.adjoint, (type(None), dfx.RecursiveCheckpointAdjoint))
        if not reverse_only or "forward-mode" not in str(error):
            raise
        raise ArgumentError(
            "adjoint",
            "diffrax.ForwardMode() or diffrax.DirectAdjoint() under forward-mode "
            "differentiation (jvp, jacfwd, hessian)",
            hint="the default, RecursiveCheckpointAdjoint(), is for reverse mode",
        ) from error
    left = problem._replace(x0=None, state0=None, before=None)
    origin = Origin(left, solved.solver_state, solved.last_passage, solved.z)
    trajectory = Trajectory(
        ts=solved.ts,
        overlaps=solved.overlaps,
        final_state=solved.final_state,
        ok=solved.ok,
        diverged_step=solved.diverged_step,
        grid=grid,
        saved=solved.saved,
        passage=solved.passage,
        passage_ahead=solved.passage_ahead,
        end=end(origin),
    )
    if throw and not is_traced(trajectory) and not trajectory.ok:
        what, remedy = "The state stopped being finite", f"a smaller dt than {grid.dt:g}"
        if method.adaptive:
            what += f", or {MAX_STEPS_PER_DT} adaptive steps per dt were not enough,"
            remedy = "looser tolerances"
        raise DivergenceError(
            f"{what} by t = {float(trajectory.diverged_at):g} (looked at every "
            f"{grid.stride * grid.dt:g}): use {remedy}, or throw=False to get the trajectory with "
            "ok=False."
        )
    return trajectory
