"""How Diffrax solves: which solver suits which noise and steps, and why others do not."""

import math
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp

from hopjax._checks import check_instance
from hopjax._errors import ArgumentError
from hopjax.models import AbstractHopfield
from hopjax.noise import AbstractNoise
from hopjax.solving.exponential import LONGEST_STEP, ExponentialAdams, rates_of


class Method(NamedTuple):
    """How Diffrax solves; the clock counts steps, or time when the steps adapt."""

    solver: dfx.AbstractSolver
    controller: Any  # ConstantStepSize, or an adaptive one
    adjoint: dfx.AbstractAdjoint | None  # None for that which suits the number of steps
    adaptive: bool


def choose_method(
    solver: dfx.AbstractSolver | None,
    controller: dfx.AbstractStepSizeController | None,
    adjoint: dfx.AbstractAdjoint | None,
    noise: AbstractNoise | None,
) -> Method:
    """The arguments of `solve`, or their defaults; refuses what would give wrong answers."""
    if controller is None:
        controller = dfx.ConstantStepSize()
    check_instance(
        controller,
        (dfx.ConstantStepSize, dfx.AbstractAdaptiveStepSizeController),
        "stepsize_controller",
        "None for fixed steps, or an adaptive controller such as PIDController",
    )
    adaptive = is_adaptive(controller)
    if solver is None:
        solver = _default_solver(noise, adaptive)
    check_instance(solver, dfx.AbstractSolver, "solver", "a Diffrax solver such as diffrax.Euler()")
    check_instance(
        adjoint,
        (type(None), dfx.RecursiveCheckpointAdjoint, dfx.ForwardMode, dfx.DirectAdjoint),
        "adjoint",
        "RecursiveCheckpointAdjoint(), ForwardMode() or DirectAdjoint() of Diffrax (others do "
        "not give the gradient of the solve on its grid)",
    )
    if noise is not None and adaptive and noise.law.on_grid:
        raise ArgumentError(
            "stepsize_controller",
            f"None for noise with law {type(noise.law).__name__}, whose increments "
            "exist on the grid of steps only",
            type(controller).__name__,
            hint='for adaptive steps use law="tree"',
        )
    problem = _misfit(solver, noise, adaptive)
    if problem is not None:
        raise ArgumentError("solver", "the problem", _name(solver), must="suit", hint=problem)
    return Method(solver, controller, adjoint, adaptive)


def is_adaptive(controller: dfx.AbstractStepSizeController | None) -> bool:
    """Whether a controller chooses the steps, which then have times and no numbers."""
    return controller is not None and not isinstance(controller, dfx.ConstantStepSize)


def _default_solver(noise: AbstractNoise | None, adaptive: bool) -> dfx.AbstractSolver:
    if not adaptive:
        return dfx.Euler()
    if noise is None:
        return dfx.Tsit5()
    if noise.additive:
        return dfx.SPaRK()
    raise ArgumentError(
        "solver",
        "given for adaptive steps with state dependent noise",
        "None",
        hint="HalfSolver(ItoMilstein()) for few neurons (its memory grows as N "
        "cubed), or leave stepsize_controller=None",
    )


def _name(solver: dfx.AbstractSolver) -> str:
    inner = f"({_name(solver.solver)})" if isinstance(solver, dfx.HalfSolver) else "()"
    return type(solver).__name__ + inner


def _misfit(solver: dfx.AbstractSolver, noise: AbstractNoise | None, adaptive: bool) -> str | None:
    """Why a solver would give wrong answers here, and the remedy; None if it suits.

    A HalfSolver passes for the solver it wraps in every `isinstance`.
    """
    name = _name(solver)
    if isinstance(solver, _SPLIT):
        return "it splits the drift in two; use one that takes a single drift, such as Kvaerno5()."
    if isinstance(solver, _LANGEVIN):
        return "it is for underdamped Langevin equations only; use ShARK() for additive noise."
    if isinstance(solver, ExponentialAdams):
        if adaptive or isinstance(solver, dfx.HalfSolver):
            return (
                "it looks back at the step before, which must be of the same length; leave "
                "stepsize_controller=None."
            )
        if noise is not None and not noise.additive:
            return "it knows the noise of a whole step only if that is additive; use Euler()."
    if isinstance(solver, dfx.HalfSolver) and isinstance(solver, dfx.AbstractImplicitSolver):
        return "implicit solvers estimate their own error; use the one inside."
    if adaptive and noise is not None and isinstance(solver, dfx.Euler):
        return "with adaptive steps and noise it may converge to a wrong solution; use SPaRK()."
    if adaptive and not isinstance(solver, dfx.AbstractAdaptiveSolver):
        return f"it estimates no error, which adaptive steps need; use HalfSolver({name})."
    if isinstance(solver, dfx.AbstractImplicitSolver) and not adaptive:
        tolerance = getattr(solver.root_finder, "rtol", 0.0)
        if not isinstance(tolerance, (int, float, jax.Array)):
            return (
                "it has no tolerance for its implicit equations; pass adaptive steps, or a "
                "root_finder such as diffrax.VeryChord(rtol=1e-6, atol=1e-6)."
            )
    if noise is None:
        if isinstance(solver, _STOCHASTIC):
            return "it needs noise; use Euler(), Heun() or Tsit5() without."
        return None
    if not isinstance(solver, (dfx.AbstractItoSolver, dfx.AbstractStratonovichSolver)):
        return "it is for equations without noise; use Euler(), Heun() or ShARK()."
    if not noise.additive and isinstance(solver, dfx.AbstractStratonovichSolver):
        return (
            "it converges to the Stratonovich solution, but state dependent noise is meant in "
            "the sense of Itô; use Euler()."
        )
    if noise.law.on_grid and isinstance(solver, dfx.HalfSolver):
        return 'it takes half steps, which a path on the grid does not have; use law="tree".'
    if not issubclass(noise.law.levy_area, levy_area_of(solver)):
        return (
            f"it needs the Lévy area of each step, which law {type(noise.law).__name__} does not "
            'have; use law="gaussian", or Euler() or Heun().'
        )
    return None


# Solvers that Diffrax has no common type for.
_SPLIT = (dfx.KenCarp3, dfx.KenCarp4, dfx.KenCarp5, dfx.Sil3, dfx.SemiImplicitEuler)
_LANGEVIN = (dfx.ALIGN, dfx.ShOULD, dfx.QUICSORT)
_STOCHASTIC = (dfx.AbstractSRK, dfx.EulerHeun, dfx.ItoMilstein, dfx.StratonovichMilstein)


def levy_area_of(solver: dfx.AbstractSolver) -> type:
    """What the solver needs to know of a step of the Brownian motion."""
    if isinstance(solver, dfx.AbstractWrappedSolver):
        solver = solver.solver
    return getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)


def longest_step(solver: dfx.AbstractSolver, model: AbstractHopfield) -> tuple[Any, str]:
    """The longest dt that a solver can take of a model's steps, and what that is."""
    if isinstance(solver, dfx.AbstractImplicitSolver):
        return math.inf, "any number"
    if not isinstance(solver, ExponentialAdams):
        return model.fastest_time_constant, "the model's fastest time constant"
    fastest = jnp.max(model.features(jnp.broadcast_to(rates_of(model), (model.state_size,))))
    return LONGEST_STEP / fastest, f"{LONGEST_STEP:g} of the features' time constant, which is"
