"""Noise: how strong (a diffusion) and by which random increments (a law, which makes a path).

The clock of a fixed-step solve counts steps, so a grid path has increments of unit variance per
step; `solve` puts √dt into the diffusion.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key, Real

from hopjax._checks import (
    check_array,
    check_count,
    check_flag,
    check_instance,
    check_number,
    check_values,
    is_bad,
)
from hopjax._errors import ArgumentError, ArgumentTypeError, names_keywords
from hopjax.noise.draws import normals, signs, sums_of_signs


class AbstractGridPath(dfx.AbstractBrownianPath):
    """A Brownian motion on the grid of steps: its clock counts steps.

    The increment over step i is a pure function of (key, i): the same bits alone, in a batch, on
    any number of devices, in float32 and float64, and the same again in a reverse pass.
    """

    size: eqx.AbstractVar[int]
    dtype: eqx.AbstractVar[Any]

    @property
    def t0(self) -> float:
        """The first step."""
        return 0.0

    @property
    def t1(self) -> float:
        """The path has no end."""
        return math.inf

    @abc.abstractmethod
    def increment(self, step: Int[Array, ""]) -> Float[Array, " size"]:
        """W(step + 1) − W(step), of unit variance in each entry."""

    @abc.abstractmethod
    def increment_and_area(
        self, step: Int[Array, ""]
    ) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """The increment W and the space-time Lévy area H (variance 1/12) of one step."""

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        """The increment over the step that starts at `t0`, which is what Diffrax asks for.

        Anything but one whole step gives NaN rather than an increment that looks right.
        """
        del left
        if t1 is None:
            raise NotImplementedError("a path on the grid has increments, not values")
        step = jnp.round(t0).astype(jnp.int32)
        is_step = (t1 - t0 == 1) & (t0 == jnp.round(t0))
        whole = jnp.where(is_step, 1, math.nan).astype(self.dtype)
        if not use_levy:
            return self.increment(step) * whole
        if self.levy_area is dfx.BrownianIncrement:
            return dfx.BrownianIncrement(dt=whole, W=self.increment(step) * whole)
        increment, area = self.increment_and_area(step)
        return dfx.SpaceTimeLevyArea(dt=whole, W=increment * whole, H=area * whole)


def _streams(key: Key[Array, ""], purposes: int) -> Key[Array, " purposes"]:
    """A key for each purpose; none is `key` itself, which the user may draw from as well."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(purposes, dtype=jnp.uint32))


class GaussianPath(AbstractGridPath):
    """Normal increments; `refinement` k bridges each increment of a coarser grid k times."""

    streams: Key[Array, " purposes"]
    size: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    levy_area: type = eqx.field(static=True)
    refinement: int = eqx.field(static=True)
    full_precision: bool = eqx.field(static=True)

    def _normal(self, index: Int[Array, ""], purpose: int) -> Float[Array, " size"]:
        stream = self.streams[purpose]
        if self.full_precision:
            return jax.random.normal(jax.random.fold_in(stream, index), (self.size,), self.dtype)
        return normals(stream, index, self.size).astype(self.dtype)

    def increment(self, step: Int[Array, ""]) -> Float[Array, " size"]:
        """W(step + 1) − W(step) ~ N(0, 1)."""
        if self.refinement == 0:
            return self._normal(step, 0)
        return self.increment_and_area(step)[0]

    def increment_and_area(
        self, step: Int[Array, ""]
    ) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        """W ~ N(0, 1) and, independent of it, H ~ N(0, 1/12)."""
        coarse = step >> self.refinement
        length = 2.0**self.refinement
        increment = math.sqrt(length) * self._normal(coarse, 0)
        area = math.sqrt(length / 12) * self._normal(coarse, 1)
        for depth in range(self.refinement):
            # Both halves of a step share what is drawn here: given (W, H) of the whole, the left
            # half is (W/2 + 3H/2 + Z, H/4 − Z/2 + V/2) and the right one has −3H/2, −Z and −V,
            # with Z and V independent of variance length/16 and length/12.
            level = self.refinement - 1 - depth
            left = 1 - 2 * ((step >> level) & 1).astype(self.dtype)
            shared = step >> (level + 1)
            swing = math.sqrt(length / 16) * self._normal(shared, 2 * depth + 2)
            spread = math.sqrt(length / 12) * self._normal(shared, 2 * depth + 3)
            increment, area = (
                increment / 2 + left * (1.5 * area + swing),
                area / 4 - swing / 2 + left * spread / 2,
            )
            length /= 2
        return increment, area


class PackedPath(AbstractGridPath):
    """Increments of which several share a random word: signs, or sums of eight of them."""

    eight: bool = eqx.field(static=True)
    stream: Key[Array, ""]
    size: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    levy_area: type = eqx.field(static=True)

    def increment(self, step: Int[Array, ""]) -> Float[Array, " size"]:
        """±1, each with probability one half, or the sum of eight such signs divided by √8."""
        draw = sums_of_signs if self.eight else signs
        return draw(self.stream, step, self.size).astype(self.dtype)

    def increment_and_area(self, step: Int[Array, ""]):
        """Refused: the law has no Lévy area."""
        raise NotImplementedError


def _packed(
    key: Key[Array, ""], size: int, dtype: Any, levy_area: type, *, eight: bool
) -> PackedPath:
    """The path of a law of signs."""
    stream = _streams(key, 1)[0]
    return PackedPath(eight=eight, stream=stream, size=size, dtype=dtype, levy_area=levy_area)


class AbstractLaw(eqx.Module):
    """A law of the random increments: makes the Brownian path that a solve follows."""

    # Whether increments live on the grid of steps, which rules out adaptive steps.
    on_grid: eqx.AbstractClassVar[bool]
    # The richest information about a step that the law can give to a solver.
    levy_area: eqx.AbstractClassVar[type]

    @abc.abstractmethod
    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> dfx.AbstractBrownianPath:
        """The path of a `size`-dimensional Brownian motion on the clock of a solve.

        Args:
            key: decides the path.
            size: number of independent entries.
            dtype: of the increments.
            end: the clock's last value, or infinity where a solve does not begin with step 0: a
                path on the grid must not depend on it.
            step: the length of one step of dt on the clock.
            levy_area: the Diffrax increment class that the solver asks for.
        """


class Gaussian(AbstractLaw):
    """Normal increments, the default: converges pathwise (strongly) to the Brownian motion.

    The increments are drawn in float32 and cast, so a key gives the same noise in float32 and
    float64; `full_precision` draws them in the solve's own dtype instead.

    `refinement` k is for convergence studies: with step dt / 2^k it follows the same Brownian
    motion as refinement 0 with step dt (k Brownian bridges per step, so it costs more).
    """

    refinement: int = eqx.field(static=True)
    full_precision: bool = eqx.field(static=True)
    on_grid: ClassVar[bool] = True
    levy_area: ClassVar[type] = dfx.SpaceTimeLevyArea

    @names_keywords
    def __init__(self, *, refinement: int = 0, full_precision: bool = False):
        """Both arguments are static: another value compiles anew."""
        self.refinement = check_count(refinement, "refinement", minimum=0)
        if self.refinement > 20:
            raise ArgumentError("refinement", "at most 20", refinement)
        self.full_precision = check_flag(full_precision, "full_precision")

    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> GaussianPath:
        """The grid path; see `AbstractLaw.path`."""
        del end, step
        return GaussianPath(
            streams=_streams(key, 2 + 2 * self.refinement),
            size=size,
            dtype=dtype,
            levy_area=levy_area,
            refinement=self.refinement,
            full_precision=self.full_precision,
        )


class TwoPoint(AbstractLaw):
    """Increments ±√dt, nearly free where normal ones take half of a solve: for robustness studies.

    A weak law: distributions converge to those of the Brownian motion, paths do not. Away from
    thresholds the statistics agree with Gaussian ones. Near the noise at which a memory loses
    its stability they do not: the threshold moves by about −.003 in σ at dt = 0.01, which
    shifted the probability of a transition by up to .04, comparable to Euler's own dt bias (the
    two-point Ornstein-Uhlenbeck process has excess kurtosis −2dt). For thresholds use `Gaussian`
    or a smaller dt. It has no Lévy area and no refinement.
    """

    on_grid: ClassVar[bool] = True
    levy_area: ClassVar[type] = dfx.BrownianIncrement

    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> PackedPath:
        """The grid path; see `AbstractLaw.path`."""
        del end, step
        return _packed(key, size, dtype, levy_area, eight=False)


class Binomial(AbstractLaw):
    """Sums of eight random signs in place of normal numbers, at little more than the cost of one.

    A weak law like `TwoPoint`, for the larger steps of `ExponentialAdams`: the excess kurtosis
    of an increment is −1/4 instead of −2. With these at dt = 0.05, around a threshold (10
    orthogonal memories, 1024 neurons, σ = 1.25 and 1.3), the error of the probability of a
    transition is 0.024 [0.005, 0.043] and 0.025 [−0.001, 0.051], where it is 0.002 [−0.006,
    0.010] and 0.005 [−0.006, 0.016] with normal increments, and 0.061 [0.030, 0.092] and 0.095
    [0.056, 0.134] with two-point ones (`experiments/work_precision.py`). For less than that
    take `Gaussian`. It has no Lévy area and no refinement.
    """

    on_grid: ClassVar[bool] = True
    levy_area: ClassVar[type] = dfx.BrownianIncrement

    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> PackedPath:
        """The grid path; see `AbstractLaw.path`."""
        del end, step
        return _packed(key, size, dtype, levy_area, eight=True)


class BrownianTree(AbstractLaw):
    """Diffrax's VirtualBrownianTree: any interval can be asked for, as adaptive steps need.

    Costs about log2(t1 / (tolerance dt)) draws per query, many times a whole fixed-step solve.
    The path depends on `t1` as well as on the key.
    """

    tolerance: float = eqx.field(static=True)
    on_grid: ClassVar[bool] = False
    levy_area: ClassVar[type] = dfx.SpaceTimeLevyArea

    def __init__(self, tolerance: float = 0.01):
        """`tolerance` is the finest interval that is resolved, as a fraction of dt."""
        self.tolerance = check_number(tolerance, "tolerance", positive=True)
        if self.tolerance >= 1:
            raise ArgumentError("tolerance", "below 1", tolerance)

    def path(
        self, key: Key[Array, ""], size: int, dtype: Any, end: float, step: float, levy_area: type
    ) -> dfx.AbstractBrownianPath:
        """The tree over [0, end]; see `AbstractLaw.path`."""
        shape = jax.ShapeDtypeStruct((size,), dtype)
        return dfx.VirtualBrownianTree(
            0.0, end, tol=self.tolerance * step, shape=shape, key=key, levy_area=levy_area
        )


_LAWS: dict[str, Callable[[], AbstractLaw]] = {
    "gaussian": Gaussian,
    "two_point": TwoPoint,
    "binomial": Binomial,
    "tree": BrownianTree,
}


def _law(law: AbstractLaw | str) -> AbstractLaw:
    names = ", ".join(f'"{name}"' for name in _LAWS)
    right = f"one of {names}, or an object such as Gaussian(refinement=1)"
    if not isinstance(law, str):
        check_instance(law, AbstractLaw, "law", right)
        return law
    if law not in _LAWS:
        raise ArgumentError("law", right, repr(law))
    return _LAWS[law]()


class AbstractNoise(eqx.Module):
    """Noise on the state: independent Brownian motions, one per entry, times a diffusion."""

    law: eqx.AbstractVar[AbstractLaw]
    # Whether the diffusion ignores the state, in which case Itô and Stratonovich agree.
    additive: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def diffusion(
        self, t: Float[Array, ""], x: Float[Array, " state"]
    ) -> Float[Array, " #state"] | Float[Array, ""]:
        """σ, per entry or one for all features, in units of the state per square root of time."""


class AdditiveNoise(AbstractNoise):
    """σ dB with a σ that depends on neither the state nor time.

    Example:
        ```python
        noise = hj.AdditiveNoise(2.0)
        cheaper = hj.AdditiveNoise(2.0, "two_point")  # signs in place of normal numbers
        on_half = hj.AdditiveNoise(jnp.where(jnp.arange(64) < 32, 2.0, 0.0))  # one for each neuron
        ```
    """

    strength: Float[Array, ""] | Float[Array, " state"]
    law: AbstractLaw
    additive: ClassVar[bool] = True

    def __init__(
        self,
        strength: Real[ArrayLike, ""] | Real[ArrayLike, " state"],
        law: AbstractLaw | str = "gaussian",
    ):
        """Store the strength.

        Args:
            strength: σ ≥ 0 in units of the state per √(time constant): a scalar, which is that of
                the features (the neurons that carry the memories), or one per entry of the state.
            law: of the increments, "gaussian", "two_point", "binomial" or "tree", or an object like
                `Gaussian(refinement=1)`.

        Raises:
            ValueError: if σ is negative or not finite, or the law is unknown.
        """
        strength = check_array(strength, "strength", (), ("state",))
        self.strength = check_values(
            strength, is_bad(strength, lambda s: s >= 0), "strength", "zero or positive"
        )
        self.law = _law(law)

    def diffusion(
        self, t: Float[Array, ""], x: Float[Array, " state"]
    ) -> Float[Array, " #state"] | Float[Array, ""]:
        """σ."""
        del t, x
        return self.strength


class MultiplicativeNoise(AbstractNoise):
    """State dependent noise σ(t, x) ⊙ dB in the sense of Itô, diagonal.

    Solve it with Euler, the default. Diffrax's ItoMilstein converges faster if σᵢ depends on no
    entry of the state but xᵢ, at a memory of N³ numbers.
    """

    strength: Callable[[Float[Array, ""], Float[Array, " state"]], Float[Array, " state"]]
    law: AbstractLaw
    additive: ClassVar[bool] = False

    def __init__(
        self,
        strength: Callable[[Float[Array, ""], Float[Array, " state"]], Float[Array, " state"]],
        law: AbstractLaw | str = "gaussian",
    ):
        """Store the function.

        Args:
            strength: σ(t, x), from time and state (state,) to one value per entry (or a scalar).
                A function defined once or an Equinox Module: a lambda made anew per call would
                compile anew per call.
            law: of the increments, as for `AdditiveNoise`.

        Raises:
            TypeError: if `strength` is not callable.
            ValueError: if the law is unknown.
        """
        if not callable(strength):
            raise ArgumentTypeError(
                "strength",
                "a function of (t, x)",
                repr(strength),
                hint="for a constant strength use AdditiveNoise",
            )
        self.strength = strength
        self.law = _law(law)

    def diffusion(
        self, t: Float[Array, ""], x: Float[Array, " state"]
    ) -> Float[Array, " #state"] | Float[Array, ""]:
        """σ(t, x)."""
        return self.strength(t, x)
