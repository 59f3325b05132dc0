"""What a noisy network does on average: a flow without noise, for any memories.

Additive noise turns every neuron into a mean h plus an Ornstein-Uhlenbeck process of its own, and
what a network feels of its neurons are sums over many of them. So for N → ∞ the means obey the
equation without noise in which ψ is replaced by ψ_σ(t), σ(t)² = σ² (1 − exp(−2t)) after a start
without noise, whatever the memories are. What is left out are the fluctuations of such sums, of
order 1/√N: they free states in time that the flow would keep for ever, and they decide where a
state goes that the flow leaves on a ridge between two others.
"""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Real

from hopjax._checks import check_instance, check_values, is_traced
from hopjax._errors import ArgumentError, names_keywords
from hopjax.activations import AbstractActivation
from hopjax.inputs import refuse_noisy
from hopjax.models import AbstractHopfield
from hopjax.models.base import is_feature
from hopjax.noise import AbstractNoise, AdditiveNoise
from hopjax.solving import Input, Trajectory, solve
from hopjax.theory.averaging import NoisyActivation
from hopjax.theory.common import check_noise
from hopjax.theory.steps import step_response
from hopjax.theory.witness import averages_out, why_not

Noise = AbstractNoise | Real[ArrayLike, ""] | Real[ArrayLike, " N"]


def noisy_model(model: AbstractHopfield, noise: Noise) -> AbstractHopfield:
    """The network without noise that the mean of a noisy one follows: the same with ψ_σ for ψ.

    Its equilibria are the mean states in which the noisy network rests, for N → ∞ and any
    memories: `find_equilibrium`, `leading_eigenvalues` and `solve` take it as any other model.

    Args:
        model: a network of neurons with an `activation` that enters its drift only, as −x plus
            something of Ψ(x) in which many neurons are summed up: all those of ±1 memories, in
            one layer or two, and your own.
        noise: σ of the features, one number or one for each neuron, or `AdditiveNoise`.

    Raises:
        TypeError, ValueError: for noise that does not average out so, and models in which the
            means do not obey such an equation; the message has the reason.
    """
    sigma = feature_noise(model, noise)
    return _smoothed(model, sigma)


def _smoothed(model: Any, sigma: Float[Array, "..."]) -> Any:
    noisy = NoisyActivation(model.activation, sigma.astype(model.memories.dtype))
    return eqx.tree_at(lambda model: model.activation, model, noisy)


def feature_noise(model: Any, noise: Any) -> Float[Array, ""] | Float[Array, " N"]:
    """σ of the features; refuses what does not average out, with the reason."""
    check_instance(model, AbstractHopfield, "model", "a model such as IDPHopfield(memories)")
    num_neurons = model.memories.shape[1]
    reason = why_not(model)
    if reason is not None:
        raise ArgumentError(
            "model",
            "one whose noise averages out in an activation",
            type(model).__name__,
            hint=reason,
        )
    strength = _averaged(model, noise, num_neurons).astype(model.memories.dtype)
    if is_traced(model):
        right = "one whose noise averages out in sums of its activities Ψ(x)"
        strength = check_values(strength, ~averages_out(model), "model", right)
    return strength


def _averaged(model: Any, noise: Any, num_neurons: int) -> Float[Array, ""] | Float[Array, " N"]:
    """σ of the features, of noise that acts on them alone."""
    if not isinstance(noise, AbstractNoise):
        return check_noise(noise, (), (num_neurons,))
    if not isinstance(noise, AdditiveNoise):
        raise ArgumentError(
            "noise",
            "additive, a number or AdditiveNoise",
            type(noise).__name__,
            hint="under noise that depends on the state neurons are not normally "
            "distributed about their mean",
        )
    strength = check_noise(noise.strength, (), (model.state_size,))
    if model.state_size == num_neurons or strength.ndim == 0:  # one strength is of the features
        return strength
    outside = jnp.any(~is_feature(model) & (strength > 0))
    return check_values(
        model.features(strength),
        outside if is_traced(outside) else bool(outside),
        "noise",
        "zero on memory neurons and all else that is no feature, as from "
        "model.noise_strength(features=2.0): each of them is one for all features, so its noise "
        "does not average out",
    )


class Spread(eqx.Module):
    """How the noise of a neuron builds up from nothing: σ(t)² = `total`² (1 − exp(−2 `rate` t)).

    The variance of the neuron is half of that. The exact equation has σ itself and the rate 1;
    steps of a solver have a little more or less of both.
    """

    total: Float[Array, ""] | Float[Array, " N"]
    rate: Float[Array, ""]

    def __init__(self, total: Float[Array, ""] | Float[Array, " N"], rate: float):
        """One program serves the steps of all solvers: both are data."""
        self.total, self.rate = total, jnp.asarray(rate, total.dtype)

    def at(self, t: Float[Array, ""]) -> Float[Array, ""] | Float[Array, " N"]:
        """σ(t)."""
        return self.total * jnp.sqrt(-jnp.expm1(-2 * self.rate * t)).astype(self.total.dtype)


class Flow(AbstractHopfield):
    """The flow of a network, or of its mean under noise that builds up after a start without any.

    It may begin in any state rather than in those that features make.
    """

    model: Any  # an AbstractHopfield
    spread: Spread | None  # of the noise
    elapsed: Float[Array, ""]  # how long there has been noise at time 0
    start: Float[Array, " state"] | None

    def __init__(self, model: Any, spread: Spread | None = None):
        """From features, and with noise that has yet to build up."""
        self.model, self.spread, self.start = model, spread, None
        self.elapsed = jnp.zeros((), model.memories.dtype)

    def at(self, t: Any) -> Any:
        """The noiseless network whose flow it follows at a time."""
        if self.spread is None:
            return self.model
        return _smoothed(self.model, self.spread.at(t + self.elapsed))

    def restarted(self, state: Float[Array, " state"] | None, elapsed: Any) -> "Flow":
        """From a whole state, with noise since some time before."""
        return eqx.tree_at(
            lambda flow: (flow.start, flow.elapsed),
            self,
            (state, elapsed),
            is_leaf=lambda leaf: leaf is None,
        )

    @property
    def at_rest(self) -> Any:
        """The network without noise that has the same equilibria."""
        return self.model if self.spread is None else _smoothed(self.model, self.spread.total)

    @property
    def memories(self) -> Float[Array, "P N"]:
        """Those of the network."""
        return self.model.memories

    @property
    def state_size(self) -> int:
        """As the network."""
        return self.model.state_size

    @property
    def fastest_time_constant(self) -> Any:
        """As the network."""
        return self.model.fastest_time_constant

    @property
    def relaxation_rates(self) -> Any:
        """As the network."""
        return getattr(self.model, "relaxation_rates", None)

    @property
    def overlap_measures_size(self) -> bool:
        """As the network."""
        return self.model.overlap_measures_size

    def initial_state(self, x0: Float[Array, " N"]) -> Float[Array, " state"]:
        """As the network, or `start`."""
        return self.model.initial_state(x0) if self.start is None else self.start

    def features(self, state: Float[Array, " state"]) -> Float[Array, " N"]:
        """As the network."""
        return self.model.features(state)

    def drive(self, u: Float[Array, " N"]) -> PyTree[Array]:
        """As the network."""
        return self.model.drive(u)

    def saliency(self, u: Float[Array, " N"]) -> Float[Array, " P"]:
        """As the network."""
        return self.model.saliency(u)

    def drift(
        self, t: Float[Array, ""], x: Float[Array, " state"], drive: Any
    ) -> Float[Array, " state"]:
        """The network's with ψ_σ(t)."""
        return self.at(t).drift(t, x, drive)

    def energy(self, x: Float[Array, " state"], u: Float[Array, " N"]) -> Float[Array, ""]:
        """What the flow descends once the noise has built up."""
        return self.at_rest.energy(x, u)

    def overlaps(self, x: Float[Array, " state"]) -> Float[Array, " P"]:
        """The mean overlaps once the noise has built up."""
        return self.at_rest.overlaps(x)

    def save(self, t: Float[Array, ""], state: Float[Array, " state"]) -> Float[Array, " P"]:
        """The mean overlaps at a time."""
        return self.at(t).overlaps(state)


_HORIZON = 50.0  # time constants
_FIRST_STEP = 2.0**-14
_LEAST_STEP = 1e-12  # a state that grows without bounds asks for shorter and shorter ones
_STEPS = 2**17


class _Patient(dfx.AbstractAdaptiveStepSizeController):
    """Adaptive steps, of which there are only so many."""

    controller: Any  # a PIDController
    rtol: Any
    atol: Any
    norm: Any

    def __init__(self, controller: Any):
        """Take the steps of a controller."""
        self.controller = controller
        self.rtol, self.atol, self.norm = controller.rtol, controller.atol, controller.norm

    def wrap(self, direction: Any) -> "_Patient":
        """As it does."""
        return _Patient(self.controller.wrap(direction))

    def init(self, *args: Any) -> tuple[Any, Any]:
        """As it does, with a count of the steps."""
        end, state = self.controller.init(*args)
        return end, (state, jnp.zeros((), jnp.int32))

    def adapt_step_size(self, *args: Any) -> Any:
        """As it does, until there have been too many."""
        *others, (state, count) = args
        *found, state, result = self.controller.adapt_step_size(*others, state)
        result = dfx.RESULTS.where(count < _STEPS, result, dfx.RESULTS.max_steps_reached)
        return *found, (state, count + 1), result


def follow(
    flow: Flow, u: Float[Array, " N"], state: Float[Array, " state"]
) -> tuple[Float[Array, " state"], Bool[Array, ""]]:
    """Where a state is after a long time at constant input, and whether it could be followed.

    It cannot where it grows without bounds, or moves so fast that there are too many steps. No
    derivative goes through it.
    """
    frozen, u, state = jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, (flow, u, state)
    )
    dtype = state.dtype
    precision = {"float32": 1e-4, "float64": 1e-5}[dtype.name]
    trajectory = solve(
        frozen.restarted(state, frozen.elapsed),
        u,
        frozen.features(state),
        t1=_HORIZON,
        dt=_FIRST_STEP,
        save_every=_HORIZON,
        stepsize_controller=_Patient(
            dfx.PIDController(
                rtol=jnp.asarray(precision, dtype),
                atol=jnp.asarray(precision * scale_of(frozen.at_rest), dtype),
                dtmin=jnp.asarray(_LEAST_STEP, dtype),
                force_dtmin=False,
            )
        ),
        adjoint=dfx.ForwardMode(),
        throw=False,
    )
    return trajectory.final_state, trajectory.ok


def scale_of(model: Any) -> Float[Array, ""] | float:
    """The size of a state at which neurons begin to saturate, 1/d."""
    activation = getattr(model, "activation", None)
    if not isinstance(activation, AbstractActivation):
        return 1.0
    return jnp.max(1 / activation.slope_at_zero)


@names_keywords
def noisy_flow(
    model: AbstractHopfield,
    inputs: Input,
    x0: Real[ArrayLike, " N"],
    *,
    noise: Noise,
    t1: float,
    dt: float,
    save_every: float | None = None,
    solver: dfx.AbstractSolver | None = None,
    stepsize_controller: dfx.AbstractStepSizeController | None = None,
) -> Trajectory:
    """What a noisy retrieval does for N → ∞, in one solve without random numbers.

    It is `solve` without noise of the same network with ψ_σ(t) for ψ (see the module): one flow
    in place of many trials, for the memories at hand, differentiable in everything that `solve`
    is. σ(t) is that of the solver's own steps, so that it can be laid over trials of the same
    solver and dt without a free parameter.

    It leaves out fluctuations of order 1/√N. They move overlaps by as much, free states that are
    all but unstable, and choose between states where the flow stands on a ridge, as it does
    between exactly symmetric ones (orthogonal memories, a start in one of them): there the flow
    stays until rounding moves it, and `report` looks to all sides.

    Example:
        ```python
        flow = theory.noisy_flow(model, u, x0, noise=0.5, t1=10.0, dt=0.02)
        flow.overlaps[-1]  # means over the noise, (P,)
        ```

    Args:
        model: as for `noisy_model`.
        inputs: as for `solve`.
        x0: features at time 0.
        noise: σ of the features, one number or one for each neuron, or `AdditiveNoise`.
        t1: end, as for `solve`.
        dt: step, as for `solve`, and of the trials that it stands for.
        save_every: as for `solve`.
        solver: as for `solve`; Euler by default.
        stepsize_controller: as for `solve`; with adaptive steps σ(t) is that of the exact equation.

    Returns:
        A `Trajectory` whose `overlaps` are means over the noise and whose `final_state` is the
        mean state.

    Raises:
        TypeError, ValueError: as `solve`, and as `noisy_model` where noise does not average out.
    """
    refuse_noisy(inputs, "inputs")
    sigma = feature_noise(model, noise)
    adaptive = stepsize_controller is not None
    rate, factor = step_response(solver, None if adaptive else dt)
    flow = Flow(model, Spread(factor * sigma, rate))
    trajectory = solve(
        flow,
        inputs,
        x0,
        t1=t1,
        dt=dt,
        save_every=save_every,
        save_fn=flow.save,
        solver=solver,
        stepsize_controller=stepsize_controller,
    )
    overlaps = jnp.where(jnp.isfinite(trajectory.overlaps), trajectory.saved, jnp.nan)
    return eqx.tree_at(
        lambda t: (t.overlaps, t.saved),
        trajectory,
        (overlaps, None),
        is_leaf=lambda leaf: leaf is None,
    )
