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
from hopjax.program import compiled


def check_activation(activation: Any) -> AbstractActivation:
    """Refuse what is not an activation."""
    check_instance(
        activation, AbstractActivation, "activation", "an activation such as Tanh(slope=10.0)"
    )
    return activation


def check_noise(noise: Any, *shapes: tuple[int | str, ...]) -> Float[Array, "..."]:
    """Noise strengths σ, none below zero, of one of the shapes if there are any."""
    noise = check_array(noise, "noise", *shapes)
    return check_values(noise, is_bad(noise, lambda s: s >= 0), "noise", "at least 0")


def one_dtype(*trees: Any) -> tuple[Any, ...]:
    """All floating arrays in the widest dtype among them."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(trees) if eqx.is_inexact_array(leaf)]
    return tuple(cast_floats(tree, np.result_type(*dtypes)) for tree in trees)


def broadcast(**arguments: Float[Array, "..."]) -> tuple[Float[Array, "..."], ...]:
    """Arguments, given by name, in one dtype and one shape."""
    numbers = one_dtype(*arguments.values())
    try:
        shape = np.broadcast_shapes(*(number.shape for number in numbers))
    except ValueError:
        names = " and ".join(f"`{name}`" for name in arguments)
        shapes = " and ".join(str(number.shape) for number in numbers)
        raise ValueError(
            f"Arguments {names} must broadcast against each other, got shapes {shapes}."
        ) from None
    return tuple(jnp.broadcast_to(number, shape) for number in numbers)


def elementwise(
    function: Callable[..., Float[Array, ""]],
    activation: Any,
    **arguments: Float[Array, "..."],
) -> Float[Array, "..."]:
    """`function(activation, *numbers)` for every entry of the broadcast arguments."""
    activation, *numbers = one_dtype(check_activation(activation), *broadcast(**arguments))
    return evaluate(function, activation, *numbers)


def evaluate(function: Callable[..., Float[Array, ""]], activation: Any, *numbers):
    """As `elementwise`, of numbers that have one shape; a function may need no activation."""
    shape = numbers[0].shape
    if shape == ():
        return _evaluate(function, activation, numbers)  # compiles faster than a batch of one
    return _evaluate_all(function, activation, [n.reshape(-1) for n in numbers]).reshape(shape)


@compiled
def _evaluate(function, activation, numbers):
    return function(activation, *numbers)


@compiled
def _evaluate_all(function, activation, flat):
    # Not `lax.map`: second derivatives inside a scan come out wrong.
    return jax.vmap(lambda *numbers: function(activation, *numbers))(*flat)


def falling_root(
    function: Callable[[Float[Array, ""], Any], Float[Array, ""]],
    lower: Float[Array, ""],
    upper: Float[Array, ""],
    args: Any,
) -> Float[Array, ""]:
    """The root of `function(y, args)`, which falls from positive at `lower` to ≤ 0 at `upper`.

    NaN where it does not, or where bisection did not come to an end: a root is never made up. Give
    an `upper` well above the root, so that rounding does not decide. Differentiable by the implicit
    function theorem, in whatever `args` holds; more than once not inside `lax.scan` or `lax.map`,
    where second derivatives of an implicit function come out wrong. (Two Newton steps instead of
    the theorem are right there too, and compile three times as long.)
    """
    at_lower, at_upper = jax.vmap(function, (0, None))(jnp.stack([lower, upper]), args)
    inside = (at_lower > 0) & (at_upper <= 0)
    limits = jnp.finfo(lower.dtype)
    # Bisection ends when the interval and the value are small; it looks at the sign of the value
    # only. Made tiny, the value has no say, and the root is found to the last bit.
    tiny = float(limits.tiny) ** 0.5
    solution = optx.root_find(
        lambda y, args: tiny * function(y, args),
        optx.Bisection(rtol=2 * float(limits.eps), atol=1e3 * tiny, flip=True),
        lower + (upper - lower) / 2,
        args,
        options={"lower": lower, "upper": upper},
        throw=False,
    )
    ended = solution.result == optx.RESULTS.successful
    return jnp.where(inside & ended, solution.value, jnp.nan)
