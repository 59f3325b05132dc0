"""Steps that follow the linear part of a network, and the noise on it, exactly."""

import math
from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from hopjax._checks import check_array, check_values, is_bad, is_traced
from hopjax._errors import ArgumentError
from hopjax.models import AbstractHopfield
from hopjax.models.base import is_feature
from hopjax.program import compiled

# In units of the features' shortest time constant. With any feedback of F from −λ to λ steps are
# stable up to λh = 1 where an entry feeds itself back. Where it does so through another one of rate
# λ', which answers a step later, it is up to .49 for λ' = 5λ, .34 for 50λ and .327 for λ' → ∞.
LONGEST_STEP = 0.3

_FAR = 1e6  # times the size of a state, where a bounded F has long been at its bounds
_BOUNDED = 1e-3  # by how much F may grow there, in units of what λx does
_SERIES = 0.5  # λh below which the weights are summed up as series, which do not cancel
_TERMS = 16

_NAME = "model.relaxation_rates"
_RIGHT = "λ of dx/dt = −λ ⊙ x + F with a bounded F"


class Weights(NamedTuple):
    """What a step makes of what it adds up, for z = λh: one number, or one per entry.

    Attributes:
        linear: z.
        kept: e⁻ᶻ, of the state.
        pull: φ₁(z) = (1 − e⁻ᶻ)/z, of h F.
        change: φ₂(z) = (e⁻ᶻ − 1 + z)/z², of what h F has changed since the step before.
        noise: √φ₁(2z), of the increment of the noise.
    """

    linear: float | Float[Array, " #state"]
    kept: float | Float[Array, " #state"]
    pull: float | Float[Array, " #state"]
    change: float | Float[Array, " #state"]
    noise: float | Float[Array, " #state"]


def _weights(linear: Any) -> Weights:
    """For static rates as Python's numbers, which a program has in it as constants."""
    first, twice, second = _phi(linear, 1), _phi(2 * linear, 1), _phi(linear, 2)
    if isinstance(linear, float):
        return Weights(linear, math.exp(-linear), float(first), float(second), math.sqrt(twice))
    return Weights(linear, jnp.exp(-linear), first, second, jnp.sqrt(twice))


def _phi(z: Any, order: int) -> Any:
    """(1 − e⁻ᶻ)/z, and (e⁻ᶻ − 1 + z)/z² for order 2: Σ_k (−z)ᵏ/(k + order)!."""
    xp = np if isinstance(z, float) else jnp
    small = z < _SERIES
    near, far = xp.where(small, z, 0), xp.where(small, 1, z)
    series = 0.0 * near
    for k in reversed(range(_TERMS)):
        series = 1 / math.factorial(k + order) - near * series
    rest = -xp.expm1(-far)
    return xp.where(small, series, rest / far if order == 1 else (far - rest) / far**2)


class LastStep(NamedTuple):
    """What a step leaves to the next one.

    Attributes:
        drift: h times the drift that there would be now, had F stayed as it was at the beginning
            of the step. (The loop has no need to copy it, as it would F itself: it is made last.)
        known: False before the first step.
    """

    drift: Float[Array, " state"]
    known: Bool[Array, ""]


class ExponentialAdams(dfx.AbstractItoSolver):
    """Two-step exponential Adams-Bashforth steps with exact Ornstein-Uhlenbeck noise.

    For dx = (−λ ⊙ x + F(x, u(t))) dt + σ dB, with the `relaxation_rates` λ of the model and a
    bounded F, of which it takes one value per step h:

    x_{n+1} = e x_n + (1 − e)/λ F_n + (e − 1 + λh)/(λ²h) (F_n − F_{n−1}) + σ √((1 − e²)/(2λ)) η_n

    with e = exp(−λh), and F_{n−1} := F_n in the first step and in the first step after the input
    of a schedule has changed. So the linear part and its noise are exact at any h, and F is
    followed to second order. η_n is the increment of the noise's path over the step, divided by
    its standard deviation.

    Take it for larger steps: at dt = 0.05 the errors of means and probabilities are about those
    of Euler at 0.01. Around a threshold they are smaller, as Euler's steps have more noise
    (theory.effective_noise): with 10 orthogonal memories, 1024 neurons and σ = 1.25 and 1.3,
    that of the probability of a transition is 0.002 [−0.006, 0.010] and 0.005 [−0.006, 0.016]
    at dt = 0.05, and 0.019 [0.008, 0.030] and 0.028 [0.016, 0.040] by Euler at 0.01. A first
    passage of an overlap that fluctuates is seen later the longer the steps are, by any solver.
    (`experiments/work_precision.py` has these numbers and others.)

    Memory neurons may be faster than the steps by any factor. The longest dt is 0.3 of the
    features' time constant, up to which steps are stable where F feeds back no more than the leak
    takes away. An F that feeds back −gλ times the state, with g > 1, needs dt < 1/(gλ), and through
    fast memory neurons 0.4 of that; beyond it the state oscillates, though within bounds, as F is
    bounded.

    It is for additive noise and fixed steps. A function of time as the input should be smooth: only
    the changes of a schedule are known to be sudden.

    Sources: Nørsett, Lecture Notes in Mathematics 109, 214 (1969), and Cox and Matthews, J. Comput.
    Phys. 176, 430 (2002), for the steps without noise; Gillespie, Phys. Rev. E 54, 2084 (1996), for
    the noise of a step, which Jentzen and Kloeden, Proc. R. Soc. A 465, 649 (2009), put into
    exponential steps.
    """

    weights: Weights | None
    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar = dfx.LocalLinearInterpolation

    def __init__(self):
        """No arguments: `solve` takes the rates from the model."""
        self.weights = None

    def for_rates(self, rates: Any, step: float) -> "ExponentialAdams":
        """The solver of steps of one length for known rates, one or one per entry."""
        weights = _weights(step * rates)
        return eqx.tree_at(lambda s: s.weights, self, weights, is_leaf=lambda leaf: leaf is None)

    def order(self, terms):
        """Two without noise."""
        return 2

    def strong_order(self, terms):
        """One: the part of F that the noise moves within a step is not seen."""
        return 1

    def init(self, terms, t0, t1, y0, args) -> LastStep:
        """Nothing is known of a step before the first."""
        return LastStep(jnp.zeros_like(y0), jnp.array(False))

    def step(self, terms, t0, t1, y0, args, solver_state: LastStep, made_jump):
        """One step; see the class."""
        weights = self.weights
        assert weights is not None
        drift, *diffusion = terms.terms if isinstance(terms, dfx.MultiTerm) else (terms,)
        linear = weights.linear * y0
        pull = drift.vf_prod(t0, y0, args, drift.contr(t0, t1)) + linear
        goes_on = solver_state.known & ~jnp.asarray(made_jump)
        change = jnp.where(goes_on, pull - (solver_state.drift + linear), 0)
        y1 = weights.kept * y0 + weights.pull * pull + weights.change * change
        for each in diffusion:
            y1 = y1 + weights.noise * each.vf_prod(t0, y0, args, each.contr(t0, t1))
        last = LastStep(pull - weights.linear * y1, jnp.array(True))
        return y1, None, dict(y0=y0, y1=y1), last, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        """The drift."""
        return terms.vf(t0, y0, args)


def rates_of(model: AbstractHopfield) -> float | Float[Array, ""] | Float[Array, " state"]:
    """λ of a model; refuses one that does not tell it."""
    given = getattr(model, "relaxation_rates", None)
    if given is None:
        raise ArgumentError(
            _NAME,
            "given for ExponentialAdams()",
            "None",
            hint=f"let {type(model).__name__} have it, {_RIGHT}, one number or one for each entry "
            "of the state; or use diffrax.Euler()",
        )
    rates = check_array(given, _NAME, (), (model.state_size,))
    rates = check_values(rates, is_bad(rates, lambda rate: rate >= 0), _NAME, "zero or positive")
    return float(given) if isinstance(given, (int, float)) else rates


def check_rates(model: AbstractHopfield, inputs: Any, x0: Any, state0: Any) -> tuple[Any, Any]:
    """Refuse rates that leave a drift without bounds.

    Args:
        model: whose methods give what they should.
        inputs: (onsets, values) or a function of time.
        x0: features at the start; None where `state0` is given.
        state0: the state there; None where `x0` is given.

    Returns:
        x0 and state0, which one must go on with.
    """
    start, dtype = model.features(state0) if x0 is None else x0, model.memories.dtype
    rates = jnp.asarray(rates_of(model), dtype)
    u = inputs(jnp.zeros((), dtype)) if callable(inputs) else inputs[1][0]
    fixed = jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf,
        (model, jnp.asarray(u, dtype), jnp.asarray(start, dtype), rates),
    )
    unbounded = _unbounded(*fixed)
    if is_traced(unbounded):
        given = (x0, state0)
        x0, state0 = (
            each if each is None else check_values(each, unbounded, _NAME, _RIGHT) for each in given
        )
    elif np.any(unbounded):
        entry = int(np.argmax(unbounded))
        rate = float(jnp.broadcast_to(rates, unbounded.shape)[entry])
        hint = f"along x0, drift + λx grows without bounds in entry {entry} of the state"
        raise ArgumentError(_NAME, _RIGHT, f"{rate:g}", hint=hint)
    return x0, state0


@compiled
def _unbounded(
    model: AbstractHopfield,
    u: Float[Array, " N"],
    x0: Float[Array, " N"],
    rates: Float[Array, "#state"],
) -> Bool[Array, " state"]:
    """Where F = drift + λx still grows far out in the directions x0 and −x0.

    An entry is looked at where it is large itself: F of the features, say, may grow with memory
    neurons, which are bounded.
    """
    largest = jnp.maximum(jnp.max(jnp.abs(model.memories)), jnp.max(jnp.abs(x0)))
    far = _FAR * jnp.maximum(largest, 1)
    rates = jnp.broadcast_to(rates, (model.state_size,))
    drive, start, outer = model.drive(u), model.initial_state(x0), is_feature(model)
    one_layer = model.state_size == len(x0)

    def pull(scale):
        states = [model.initial_state(jnp.where(x0 < 0, -scale, scale))]
        if not one_layer:
            states.append(jnp.where(outer, start, scale))
        found = [model.drift(jnp.zeros((), x0.dtype), s, drive) + rates * s for s in states]
        return found[0] if one_layer else jnp.where(outer, *found)

    pulls = jax.vmap(pull)(far * jnp.array([1.0, 2.0, -1.0, -2.0], x0.dtype))
    growth = jnp.abs(pulls[1::2] - pulls[::2])
    return ~(jnp.max(growth, axis=0) <= _BOUNDED * far * jnp.where(rates > 0, rates, 1))
