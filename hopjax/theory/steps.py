"""What the steps of a solver make of the relaxation and the noise of a single neuron."""

import math

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from hopjax._checks import check_instance, check_number
from hopjax._errors import ArgumentError
from hopjax.solving import ExponentialAdams, levy_area_of


def step_response(solver: dfx.AbstractSolver | None, dt: float | None) -> tuple[float, float]:
    """What a step of dt makes of dx = −x dt + σ dB: (rate, factor).

    A mean decays as exp(−rate t), and the noise is in the end as strong as `factor` σ of the exact
    equation: 1/√(1 − dt/2) by Euler's method. Both are 1 without a dt.
    """
    if solver is not None:
        check_instance(solver, dfx.AbstractSolver, "solver", "a Diffrax solver such as Heun()")
    if dt is None:
        return 1.0, 1.0
    dt = check_number(dt, "dt", positive=True)
    if dt >= 1:
        raise ArgumentError("dt", "below 1", f"{dt:g}")
    if solver is None or isinstance(solver, dfx.Euler):
        decay, variance = 1 - dt, dt
    else:
        decay, variance = _measured_step(solver, dt)
    return -math.log(decay) / dt, math.sqrt(2 * variance / (1 - decay**2))


class _Impulses(dfx.AbstractBrownianPath):
    """One step each without noise, of an increment, and of a space-time Lévy area."""

    levy_area: type = eqx.field(static=True)

    @property
    def t0(self):
        return 0.0

    @property
    def t1(self):
        return math.inf

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        del left
        assert t1 is not None
        increment, area = jnp.array([0.0, 1.0, 0.0]), jnp.array([0.0, 0.0, 1.0])
        if not use_levy:
            return increment
        if self.levy_area is dfx.BrownianIncrement:
            return dfx.BrownianIncrement(dt=t1 - t0, W=increment)
        return dfx.SpaceTimeLevyArea(dt=t1 - t0, W=increment, H=area)


@jax.ensure_compile_time_eval()
def _measured_step(solver: dfx.AbstractSolver, dt: float) -> tuple[float, float]:
    """By what one step multiplies a state, and the variance that it adds for σ = 1."""
    if isinstance(solver, ExponentialAdams):
        solver = solver.for_rates(1.0, dt)
    simple = issubclass(dfx.BrownianIncrement, levy_area_of(solver))
    path = _Impulses(dfx.BrownianIncrement if simple else dfx.SpaceTimeLevyArea)
    terms = dfx.MultiTerm(
        dfx.ODETerm(lambda t, y, args: -y),
        dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(jnp.ones_like(y)), path),
    )
    zero, end, state = jnp.zeros(()), jnp.asarray(dt, float), jnp.array([1.0, 0.0, 0.0])
    inner = solver.init(terms, zero, end, state, None)
    moved, *_ = solver.step(terms, zero, end, state, None, inner, jnp.array(False))
    decay, increment, area = map(float, moved)
    return decay, dt * (increment**2 + area**2 / 12)
