"""Activations: against SciPy and closed forms, and the properties that the theory asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from numpy.testing import assert_allclose
from scipy import integrate, special

import hopjax as hj

# ψ and ψ' as functions of y = d·x, written in NumPy.
CLOSED_FORMS = {
    hj.Tanh: (np.tanh, lambda y: np.cosh(y) ** -2.0),
    hj.Erf: (
        lambda y: special.erf(np.sqrt(np.pi) / 2 * y),
        lambda y: np.exp(-np.pi / 4 * y**2),
    ),
    hj.HardTanh: (
        lambda y: np.minimum(np.maximum(y, -1), 1),
        lambda y: np.where(abs(y) < 1, 1.0, np.where(abs(y) > 1, 0.0, 0.5)),
    ),
}
KINDS = pytest.mark.parametrize("kind", CLOSED_FORMS)
SLOPES = pytest.mark.parametrize("slope", [0.5, 10.0])

Y = np.linspace(-4, 4, 81)  # d·x from one saturated end to the other, 0 included
LARGE = np.array([30.0, 1e3, 1e15, 1e100])  # tanh saturates at 19, e^y overflows at 710


@KINDS
@SLOPES
def test_value(kind, slope):
    assert_allclose(kind(slope)(Y / slope), CLOSED_FORMS[kind][0](Y), rtol=EXACT, atol=1e-15)


@KINDS
@SLOPES
def test_derivative(kind, slope):
    psi = kind(slope)
    exact = slope * CLOSED_FORMS[kind][1](Y)
    assert_allclose(psi.derivative(Y / slope), exact, rtol=EXACT)
    h = 1e-4 / slope  # the error is about (d·h)²/6 of the third derivative, here below 10
    central = (psi(Y / slope + h) - psi(Y / slope - h)) / (2 * h)
    assert_allclose(psi.derivative(Y / slope), central, atol=2e-8 * slope, rtol=0)
    assert_allclose(psi.slope_at_zero, slope, rtol=EXACT)


@KINDS
@SLOPES
def test_antiderivative_is_the_integral_of_the_value(kind, slope):
    psi = kind(slope)
    for y in (-3.0, -0.1, 0.0, 0.7, 5.0):
        integral, _ = integrate.quad(CLOSED_FORMS[kind][0], 0, y, epsabs=1e-13, epsrel=1e-12)
        assert_allclose(psi.antiderivative(y / slope), integral / slope, rtol=EXACT, atol=1e-13)


@KINDS
@SLOPES
def test_antiderivative_has_the_value_as_its_gradient(kind, slope):
    psi = kind(slope)
    x = np.concatenate([-LARGE, Y, LARGE]) / slope
    gradient = jax.vmap(jax.grad(psi.antiderivative))(x)
    assert_allclose(gradient, psi(x), rtol=EXACT, atol=1e-15)
    # The energy's Hessian, which decides on stability, needs it twice.
    smooth = Y[abs(Y) != 1] if kind is hj.HardTanh else Y  # a corner has no second derivative
    curvature = jax.vmap(jax.grad(jax.grad(psi.antiderivative)))(smooth / slope)
    assert_allclose(curvature, psi.derivative(smooth / slope), rtol=EXACT, atol=1e-13 * slope)


@KINDS
@SLOPES
def test_large_arguments_do_not_overflow(kind, slope):
    psi = kind(slope)
    for sign in (-1, 1):
        x = sign * LARGE / slope
        assert_allclose(psi(x), CLOSED_FORMS[kind][0](sign * LARGE), rtol=EXACT)
        assert np.isfinite(psi.antiderivative(x)).all()
        assert np.isfinite(psi.derivative(x)).all()
        # Far out ∫ψ grows as |x|, with a bounded offset.
        assert_allclose(psi.antiderivative(x)[1:], abs(x)[1:], rtol=2e-3)


@KINDS
@SLOPES
def test_odd_bounded_increasing_concave(kind, slope):
    psi = kind(slope)
    x = np.concatenate([Y, LARGE]) / slope
    assert_allclose(psi(-x), -psi(x), rtol=1e-15)
    assert_allclose(psi.antiderivative(-x), psi.antiderivative(x), rtol=1e-15)
    assert psi.antiderivative(jnp.zeros(())) == 0
    assert (abs(psi(x)) <= 1).all()
    assert (np.diff(psi(x)) >= 0).all()
    second = jax.vmap(jax.grad(psi.derivative))(Y[Y > 0] / slope)
    assert (second <= 0).all()
    if kind is hj.HardTanh:  # made of straight lines
        assert (np.diff(psi(Y[abs(Y) <= 1] / slope)) > 0).all()
    else:
        assert (np.diff(psi(Y / slope)) > 0).all()
        assert (second < 0).all()


@KINDS
def test_dtype_of_the_state_is_kept(kind):
    psi = kind(np.float32(10))
    x = jnp.linspace(-1, 1, 5, dtype=jnp.float32)
    for result in (psi(x), psi.derivative(x), psi.antiderivative(x)):
        assert result.dtype == jnp.float32
    assert_allclose(psi(x), CLOSED_FORMS[kind][0](10 * np.linspace(-1, 1, 5)), rtol=1e-6)


def test_a_users_own_needs_the_value_and_its_antiderivative_only():
    class Arctan(hj.AbstractActivation):
        def __call__(self, x):
            return 2 / jnp.pi * jnp.arctan(jnp.pi / 2 * x)

        def antiderivative(self, x):
            y = jnp.pi / 2 * x
            return (2 / jnp.pi) ** 2 * (y * jnp.arctan(y) - jnp.log1p(y**2) / 2)

    psi = Arctan()
    assert_allclose(psi.derivative(jnp.asarray(Y)), 1 / (1 + (np.pi / 2 * Y) ** 2), rtol=EXACT)
    assert_allclose(psi.slope_at_zero, 1, rtol=EXACT)
