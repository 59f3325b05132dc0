"""The loss of many trials and its gradient, for optimisation loops of one's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from hopjax._checks import check_array, check_instance, check_key
from hopjax._errors import ArgumentError, names_keywords
from hopjax.engine import Device
from hopjax.ensemble import Asked
from hopjax.program import as_code_is
from hopjax.trials import Criterion, Trial
from hopjax.tuning.losses import AbstractLoss
from hopjax.tuning.parameters import Range, Values
from hopjax.tuning.prepared import Objective, differentiable


class LossAndGradient(NamedTuple):
    """What a function from `loss_and_gradient` gives.

    Attributes:
        loss: of the trials.
        gradient: by each parameter, {name: array}, in float64 on the host; not finite where a trial
            diverged.
        error: the standard error of the loss, from the scatter of the trials; NaN for a single one.
        diverged: how many trials diverged.
    """

    loss: float
    gradient: dict[str, Float[np.ndarray, "..."]]
    error: float
    diverged: int


@names_keywords
def loss_and_gradient(
    trial: Trial | Callable[..., Trial],
    parameters: Mapping[str, Any],
    *,
    loss: AbstractLoss,
    t1: float,
    dt: float,
    trials: int = 128,
    mode: str | None = None,
    criterion: Criterion | None = None,
    save_every: float | None = None,
    solver: dfx.AbstractSolver | None = None,
    chunk: int | None = None,
    devices: Sequence[Device] | None = None,
) -> Callable[[Mapping[str, Any], PRNGKeyArray], LossAndGradient]:
    """A function of the parameters and a key: the loss of many trials, and its gradient.

    `tune` goes down this gradient by a rule of its own; here the loop is yours. The function may be
    called with any numbers of the shapes in `parameters`, and compiles once. It gives the same bits
    on any number of devices. Trial j of a key is that of `solve_ensemble`. It runs on the host, and
    not under `jit`, `vmap` or `grad`.

    Example:
        ```python
        def of_strength(key, strength):
            u = strength * hj.mixture(memories, jnp.array([1.0, 0.3, 0.3]))
            return hj.Trial(model, u, 2.0 * memories[0], hj.AdditiveNoise(1.0))


        evaluate = hj.loss_and_gradient(
            of_strength, {"strength": 2.0}, loss=hj.OverlapLoss(goal=0.9), t1=4.0, dt=0.02
        )
        found = evaluate({"strength": 1.8}, jax.random.key(0))
        found.loss, found.gradient["strength"]
        ```

    Args:
        trial: as for `tune`.
        parameters: as for `tune`. Which memories are right is decided with these.
        loss: as for `tune`.
        t1: as for `solve`.
        dt: as for `solve`.
        trials: how many there are for each key.
        mode: as for `tune`.
        criterion: as for `tune`.
        save_every: as for `solve`; losses see the saved times.
        solver: as for `solve`.
        chunk: as for `tune`.
        devices: as for `solve_ensemble`.

    Returns:
        `evaluate(parameters, key)`, which gives a `LossAndGradient`.

    Raises:
        TypeError, ValueError: for a wrong argument; of `evaluate` too, for parameters of another
            name or shape, and for those that a trial must not have.
    """
    made_of = trial, loss, criterion, solver
    with as_code_is(made_of):
        solving = Asked(
            t1=t1, dt=dt, save_every=save_every, criterion=criterion, chunk=chunk, solver=solver
        )
        _, start, gradients = differentiable(
            trial,
            parameters,
            jax.random.key(0),
            lambda start: {name: Range(None, None, jnp.ones(())) for name in start},
            Objective(solving=solving, loss=loss, trials=trials, mode=mode, devices=devices),
        )

    def evaluate(parameters: Mapping[str, ArrayLike], key: PRNGKeyArray) -> LossAndGradient:
        values = _like(parameters, start)
        with as_code_is(made_of):
            found = gradients(values, check_key(key), "of `loss_and_gradient`")
        gradient = {name: found.gradient[name] for name in start}
        return LossAndGradient(found.loss, gradient, found.error, found.diverged)

    return evaluate


def _like(parameters: Any, start: Values) -> Values:
    """Parameters of the names and shapes at the start."""
    check_instance(parameters, Mapping, "parameters", "a dict of values by name")
    if parameters.keys() != start.keys():
        got = ", ".join(map(str, parameters)) or "none"
        raise ArgumentError("parameters", f"the names {', '.join(start)}", got, must="have")
    return {
        name: check_array(parameters[name], f"parameters[{name!r}]", value.shape).astype(
            value.dtype
        )
        for name, value in start.items()
    }
