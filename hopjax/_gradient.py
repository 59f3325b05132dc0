"""The gradient of a loss by the parameters of its trials, in chunks over devices.

A chunk of trials is solved and differentiated on one device, and gives the sums of what the loss
measured and of its derivatives. They are added up on the host, in order and in float64: a gradient
is the same to the bit on any number of devices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Key, PyTree

from hopjax._checks import cast_floats, collect_bad_values
from hopjax._parameters import Range, Tuned, Values, values_of
from hopjax.ensemble import Device, Plan, check_trial
from hopjax.losses import AbstractLoss
from hopjax.solve import Problem, Trajectory, solve
from hopjax.trials import Trial

CHUNK = 32  # trials at a time on a device: enough for a CPU, and a reverse pass fits into memory


class Job(eqx.Module):
    """What is differentiated."""

    make: Tuned
    ranges: dict[str, Range]
    loss: AbstractLoss
    plan: Plan
    forward: bool = eqx.field(static=True)


class Found(NamedTuple):
    """A loss and its gradient, on the host."""

    loss: float
    error: float  # its standard error, from the scatter over trials; NaN for a single one
    gradient: dict[str, Float[np.ndarray, "..."]]  # by the free coordinates
    diverged: int  # trials
    means: list[float]  # of what was measured, and in forward mode their derivatives
    slopes: list[dict[str, Float[np.ndarray, "..."]]]

    @property
    def norm(self) -> float:
        """The length of the gradient."""
        return float(np.sqrt(sum(np.sum(part**2) for part in self.gradient.values())))


class _Solved(NamedTuple):
    """Chunks of trials, a row of arrays for each."""

    measured: list[Float[Array, "chunks n"]]  # what the loss measures, number by number
    ok: Bool[Array, "chunks n"]
    bad: Bool[Array, "chunks n checks"]
    # For every number the derivatives of its sum over the chunk, {parameter: array}; in reverse
    # mode those of the weighted sum of all.
    slopes: list[Values] | Values | None


@eqx.filter_jit
def _solve_chunks(
    job: Job,
    z: Values,
    weights: list[Float[Array, ""]] | None,
    keys: Array,
    counted: Bool[Array, "chunks n"],
) -> tuple[_Solved, tuple[str, ...]]:
    """Solve the trials with these keys; without weights nothing is differentiated.

    And what is wrong where `bad` says so, one message for each check.
    """
    messages: list[str] = []

    def measure(values: Values, key_data: Array):
        key = jax.random.wrap_key_data(key_data, impl="threefry2x32")
        setting_key, noise_key = jax.random.split(key)
        with collect_bad_values() as found:
            trial = job.make(setting_key, values)
            check_trial(trial)
            trial = cast_floats(trial, trial.model.memories.dtype)
            trajectory = solve(
                trial.model,
                trial.inputs,
                trial.x0,
                t1=job.plan.t1,
                dt=job.plan.dt,
                noise=trial.noise,
                key=noise_key if trial.key is None else trial.key,
                save_every=job.plan.save_every,
                solver=job.plan.solver,
                adjoint=dfx.ForwardMode() if job.forward else None,
                throw=False,
            )
            measured = jax.tree.leaves(job.loss.measure(trial, trajectory))
        messages[:] = found.messages
        bad = jnp.array(found.bad, bool).reshape(len(found.bad))
        return measured, trajectory.ok, bad

    def solve_chunk(keys: Array, counted: Bool[Array, " n"]) -> _Solved:
        def sums(z: Values):
            values = values_of(z, job.ranges)
            measured, ok, bad = jax.vmap(measure, in_axes=(None, 0))(values, keys)
            return [jnp.sum(each, where=counted) for each in measured], (measured, ok, bad)

        if weights is None:
            _, (measured, ok, bad) = sums(z)
            return _Solved(measured, ok, bad, None)
        if job.forward:
            slopes, (measured, ok, bad) = jax.jacfwd(sums, has_aux=True)(z)
        else:
            _, pull_back, (measured, ok, bad) = jax.vjp(sums, z, has_aux=True)
            (slopes,) = pull_back(weights)
        return _Solved(measured, ok, bad, slopes)

    return jax.vmap(solve_chunk)(keys, counted), tuple(messages)


@eqx.filter_jit
def _evaluate(loss: AbstractLoss, means: PyTree[Array]) -> tuple[Array, PyTree[Array]]:
    return jax.value_and_grad(loss.value)(means)


def weighted_sum(
    weights: Sequence[float], slopes: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The gradient, from the slopes of the means and the slope of the loss by each of them."""
    return {
        name: np.sum([by * each[name] for by, each in zip(weights, slopes, strict=True)], axis=0)
        for name in slopes[0]
    }


@dataclass(frozen=True)
class Gradients:
    """The gradient of the loss of some trials, as a function of free coordinates and a key."""

    job: Job
    structure: Any  # of what the loss measures: scalars
    dtypes: list[Any]
    trials: int
    chunk: int
    mesh: Mesh

    @classmethod
    def over(
        cls,
        job: Job,
        trial: Trial,
        problem: Problem,
        trials: int,
        chunk: int,
        devices: list[Device],
    ) -> "Gradients":
        """On as many of the devices as there are chunks.

        Raises:
            TypeError: for a loss that does not measure numbers of such a trial.
        """
        devices = devices[: -(-trials // chunk)]
        mesh = jax.make_mesh(
            (len(devices),), ("chunks",), axis_types=(AxisType.Auto,), devices=devices
        )
        measured = _measured(job.loss, trial, problem)
        leaves, structure = jax.tree.flatten(measured)
        job = eqx.filter_shard(job, NamedSharding(mesh, PartitionSpec()))
        return cls(job, structure, [leaf.dtype for leaf in leaves], trials, chunk, mesh)

    def forward(self) -> "Gradients":
        """The same in forward mode."""
        return replace(self, job=replace(self.job, forward=True))

    def __call__(self, z: Values, key: Key[Array, ""], label: str) -> Found:
        """Of the trials with the keys `fold_in(key, j)`.

        Raises:
            ValueError: if parameters of a trial are out of their range, naming the trial.
        """
        weights = [jnp.ones((), dtype) for dtype in self.dtypes]
        alone = len(weights) == 1
        if not (self.job.forward or alone):
            # How much each number counts depends on the means: they come before the reverse pass.
            measured, _, _ = self._solve(z, key, None, label)
            _, by_mean = self.evaluate([float(each.mean()) for each in measured])
            weights = [
                jnp.asarray(by, dtype) for by, dtype in zip(by_mean, self.dtypes, strict=True)
            ]
        measured, ok, slopes = self._solve(z, key, weights, label)
        loss, by_mean = self.evaluate([float(each.mean()) for each in measured])
        slopes = jax.tree.map(lambda each: np.asarray(each) / self.trials, slopes)
        if self.job.forward:
            gradient = weighted_sum(by_mean, slopes)
        else:
            gradient = weighted_sum([by_mean[0] if alone else 1.0], [slopes])
        # The delta method: what a trial adds to the loss, by the slope of the loss there.
        shares = sum(by * each for by, each in zip(by_mean, measured, strict=True))
        error = np.std(shares, ddof=1) / np.sqrt(self.trials) if self.trials > 1 else np.nan
        return Found(
            loss=loss,
            error=float(error),
            gradient=gradient,
            diverged=int(np.sum(~ok)),
            means=[float(each.mean()) for each in measured],
            slopes=slopes if self.job.forward else [],
        )

    def evaluate(self, means: Sequence[float]) -> tuple[float, list[float]]:
        """The loss for some means of what is measured, and its slope by each of them."""
        leaves = [jnp.asarray(mean, dtype) for mean, dtype in zip(means, self.dtypes, strict=True)]
        loss, slopes = _evaluate(self.job.loss, jax.tree.unflatten(self.structure, leaves))
        return float(loss), [float(slope) for slope in jax.tree.leaves(slopes)]

    def _solve(
        self, z: Values, key: Key[Array, ""], weights: list[Array] | None, label: str
    ) -> tuple[list[np.ndarray], np.ndarray, Any]:
        """What was measured in each trial, which trials are ok, and the sums of the slopes."""
        width = self.mesh.size
        count = -(-self.trials // self.chunk)
        rounds = -(-count // width)
        # The last chunk, and the last round, are filled up with what is there already.
        numbers = np.arange(rounds * width * self.chunk).reshape(rounds, width, self.chunk)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.trials))
        data = np.asarray(jax.random.key_data(keys))
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        z, weights = eqx.filter_shard((z, weights), everywhere)
        parts, messages = [], ()
        for places in numbers:
            rows = jax.device_put(
                (data[places % self.trials], places < self.trials),
                NamedSharding(self.mesh, PartitionSpec("chunks")),
            )
            solved, messages = _solve_chunks(self.job, z, weights, *rows)
            parts.append(jax.tree.map(np.asarray, solved))
        solved: _Solved = jax.tree.map(lambda *each: np.concatenate(each), *parts)
        measured, ok, bad = jax.tree.map(
            lambda each: each.reshape(-1, *each.shape[2:])[: self.trials],
            (solved.measured, solved.ok, solved.bad),
        )
        for number, check in np.argwhere(bad)[:1]:
            raise ValueError(f"{messages[check][:-1]}, which it is not in trial {number} {label}.")
        slopes = jax.tree.map(lambda each: np.sum(each, axis=0, dtype=float), solved.slopes)
        return [np.asarray(each, float) for each in measured], ok, slopes


def _measured(loss: AbstractLoss, trial: Trial, problem: Problem) -> PyTree[jax.ShapeDtypeStruct]:
    """What a loss measures, from the shapes of a solution."""
    dtype, (num_memories, _) = trial.model.memories.dtype, trial.model.memories.shape
    ts = jnp.asarray(problem.grid.save_times, dtype)

    def evaluate(trial: Trial, state: Float[Array, " state"]):
        trajectory = Trajectory(
            ts=ts,
            overlaps=jnp.zeros((len(ts), num_memories), dtype),
            final_state=state,
            ok=jnp.array(True),
            diverged_at=jnp.asarray(np.inf, dtype),
        )
        measured = loss.measure(cast_floats(trial, dtype), trajectory)
        return measured, loss.value(measured)

    state = jnp.zeros(trial.model.state_size, dtype)
    measured, value = eqx.filter_eval_shape(evaluate, trial, state)
    for what, tree in (("measure", measured), ("value", value)):
        right = [
            leaf.shape == () and jnp.issubdtype(leaf.dtype, jnp.floating)
            for leaf in jax.tree.leaves(tree)
        ]
        if not right or not all(right):
            got = eqx.tree_pformat(tree).replace("\n", " ")
            raise TypeError(f"Argument `loss` must have a `{what}` of real numbers, got {got}.")
    return measured
