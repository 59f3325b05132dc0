"""What the closed forms share: elementwise evaluation in one dtype, and a bracketed root."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float

from hopjax._checks import cast_floats, check_array, check_instance, check_values, is_bad
from hopjax.activations import AbstractActivation


def check_activation(activation: Any) -> AbstractActivation:
    """An activation such as `Tanh(10.0)`."""
    check_instance(
        activation, AbstractActivation, "activation", "an activation such as Tanh(slope=10.0)"
    )
    return activation


def check_noise(noise: Any) -> Float[Array, "..."]:
    """Noise strengths σ, none below zero."""
    noise = check_array(noise, "noise")
    return check_values(noise, is_bad(noise, lambda s: s >= 0), "noise", "at least 0")


def check_positive(value: Any, name: str) -> Float[Array, "..."]:
    """Positive numbers."""
    array = check_array(value, name)
    return check_values(array, is_bad(array, lambda a: a > 0), name, "positive")


def one_dtype(*trees: Any) -> tuple[Any, ...]:
    """All floating arrays in the widest dtype among them."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(trees) if eqx.is_inexact_array(leaf)]
    return tuple(cast_floats(tree, np.result_type(*dtypes)) for tree in trees)


def elementwise(
    function: Callable[..., Float[Array, ""]],
    activation: AbstractActivation,
    *arguments: Float[Array, "..."],
) -> Float[Array, "..."]:
    """`function(activation, *numbers)` for every entry of the broadcast arguments."""
    activation, *numbers = one_dtype(check_activation(activation), *arguments)
    try:
        shape = np.broadcast_shapes(*(number.shape for number in numbers))
    except ValueError:
        shapes = " and ".join(str(number.shape) for number in numbers)
        raise ValueError(f"Arguments must broadcast against each other, got {shapes}.") from None
    if shape == ():
        return _evaluate(function, activation, numbers)  # compiles faster than a batch of one
    flat = [jnp.broadcast_to(number, shape).reshape(-1) for number in numbers]
    return _evaluate_all(function, activation, flat).reshape(shape)


@eqx.filter_jit
def _evaluate(function, activation, numbers):
    return function(activation, *numbers)


@eqx.filter_jit
def _evaluate_all(function, activation, flat):
    # Not `lax.map`: second derivatives of a root inside a scan come out wrong, without a word.
    return jax.vmap(lambda *numbers: function(activation, *numbers))(*flat)


def falling_root(
    function: Callable[[Float[Array, ""], Any], Float[Array, ""]],
    lower: Float[Array, ""],
    upper: Float[Array, ""],
    args: Any,
) -> Float[Array, ""]:
    """The root of `function(y, args)`, which falls from positive at `lower` to ≤ 0 at `upper`.

    NaN where it does not: a root is never made up. Differentiable by the implicit function
    theorem, in whatever `args` holds.
    """
    at_lower, at_upper = jax.vmap(function, (0, None))(jnp.stack([lower, upper]), args)
    inside = (at_lower > 0) & (at_upper <= 0)
    epsilon = float(jnp.finfo(lower.dtype).eps)
    solution = optx.root_find(
        # Bisection ends when the interval and the value are small; it looks at the sign of the
        # value only. Made tiny, the value has no say: the root is found to the last bit.
        lambda y, args: 1e-20 * function(y, args),
        optx.Bisection(rtol=2 * epsilon, atol=1e-18, flip=True),
        lower + (upper - lower) / 2,
        args,
        options={"lower": lower, "upper": upper},
        throw=False,
    )
    return jnp.where(inside, solution.value, jnp.nan)
