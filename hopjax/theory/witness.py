"""What theory believes of a network, and only after it has looked.

Closed forms and the theory of noise are about equations of a certain form. A class may inherit from
one of these and have another equation, so nothing is believed of a class: its methods are called at
three fixed random states, also with another ψ, and what they give must be what the form says.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hopjax._checks import is_traced
from hopjax.activations import AbstractActivation
from hopjax.models import AbstractHopfield, ClosedForm
from hopjax.program import compiled

_SIZES = (0.3, 1.0, 3.0)  # of the states
_TIMES = (0.0, 1.5, 40.0)
_ROUNDING = 128  # units in the last place by which two ways of writing one sum may differ
_COARSE = 1e-4  # as many digits in which a drift must be of a form that it does not have to name


def closed_form(model: AbstractHopfield, u: Float[Array, " N"]) -> ClosedForm | str:
    """The closed form of a network at an input, or why there is none; on the host."""
    claim: Any = getattr(model, "closed_form", None)
    if claim is None:
        return "it is for IDP and classic networks, decorrelated or not"
    probe, reason = _with_activation(model, _Wave())
    if reason is not None:
        return f"this model's activation cannot be looked at: {reason}"
    size, dtype = model.memories.shape[1], model.memories.dtype
    if model.state_size != size:
        return "this model's state has more than its neurons"
    key = jax.random.key(1)
    weights = jax.random.normal(key, (2, len(model.memories)), jnp.float32).astype(dtype)
    others = weights @ model.memories + _random((2, size), dtype) / 4
    inputs = jnp.concatenate([u[None].astype(dtype), others])
    states = _random((3, size), dtype) * jnp.asarray(_SIZES, dtype)[:, None]
    times = jnp.asarray(_TIMES, dtype)
    try:
        missed = _missed((model, probe), inputs, states, times)
    except Exception as error:  # of the user's methods, with an activation that is not theirs
        told = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        return f"this model fails where its activation is another one ({told})"
    form: ClosedForm = claim(u)
    in_words = (form.drift_in_words, "ΞΨ(x)/N", form.energy_in_words)
    for name, right, bad in zip(("drift", "overlaps", "energy"), in_words, missed, strict=True):
        if bool(bad):
            verb = "is" if name != "overlaps" else "are"
            return f"this model's {name} {verb} not {right}"
    return form


@compiled
def _missed(models: Any, inputs: Any, states: Any, times: Any) -> list[Bool[Array, ""]]:
    """Whether drift, overlaps and energy of any of some networks are others than they claim."""

    def differences(model: Any, u: Any, x: Any, t: Any) -> list[Float[Array, ""]]:
        form = model.closed_form(u)
        x = model.initial_state(x)
        drift = model.drift(t, x, model.drive(u))
        energy = jnp.asarray(model.energy(x, u), x.dtype)
        known = jnp.isfinite(energy) | jnp.isfinite(form.energy(x))
        apart = (
            jnp.max(jnp.abs(drift - form.drift(x))),
            jnp.max(jnp.abs(model.overlaps(x) - form.overlaps(x))),
            jnp.where(known, jnp.abs(energy - form.energy(x)) / x.size, 0),
        )
        scale = 1 + form.size(x)
        return [each / scale for each in apart]

    most = _ROUNDING * float(jnp.finfo(states.dtype).eps)
    found = [
        jax.vmap(lambda *point, model=model: differences(model, *point))(inputs, states, times)
        for model in models
    ]
    # Not finite is not equal.
    return [~jnp.all(jnp.concatenate(each) <= most) for each in zip(*found, strict=True)]


def why_not(model: AbstractHopfield) -> str | None:
    """Why the mean of a noisy network obeys no equation of the network's own kind; None if it does.

    The drift must be −x + F(Ψ(x)) in the features: with activities that are given, x + drift must
    be the same at all states, and it must be all but linear in the activity of a single neuron. The
    overlaps must be sums of activities. A traced model has passed: see `averages_out`.
    """
    activation = getattr(model, "activation", None)
    if not isinstance(activation, AbstractActivation):
        return (
            "its neurons have no activation inside the sums that the network makes of them, where "
            "noise is averaged; it acts by fluctuations of these sums, of order 1/√N"
        )
    activity = jnp.zeros(model.memories.shape[1], model.memories.dtype)
    _, reason = _with_activation(model, _Given(activity))
    if reason is not None or is_traced(model):
        return reason
    with jax.ensure_compile_time_eval():
        for reason, bad in _unlike_a_sum(model).items():
            if bool(bad):
                return reason
    return None


def averages_out(model: AbstractHopfield) -> Bool[Array, ""]:
    """As `why_not`, of a traced model."""
    return ~jnp.any(jnp.stack(list(_unlike_a_sum(model).values())))


@compiled
def _unlike_a_sum(model: Any) -> dict[str, Bool[Array, ""]]:
    """What a network may not be whose noise averages out, and whether it is."""
    size, dtype = model.memories.shape[1], model.memories.dtype
    drive = model.drive(model.memories[0])
    places = _random((3, size), dtype) * jnp.asarray(_SIZES, dtype)[:, None]
    first = jnp.cos(jnp.arange(size, dtype=dtype))
    second = jnp.sin(2 * jnp.arange(size, dtype=dtype) + 1)
    step = jnp.zeros(size, dtype).at[0].set(0.25)

    def felt(activity, features):
        """What features get of given activities, and what overlaps these have."""
        probe: Any = _replaced(model, _Given(activity))
        state = probe.initial_state(features)
        drift = probe.drift(jnp.zeros((), dtype), state, drive)
        return features + probe.features(drift), probe.overlaps(state)

    sent, overlaps = jax.vmap(lambda place: felt(first, place))(places)
    activities = jnp.stack([first + step, first - step, second, first + second, 0 * first])
    others, measured = jax.vmap(lambda activity: felt(activity, places[0]))(activities)
    scale = 1 + jnp.max(jnp.abs(sent[0]))
    apart = jnp.max(jnp.abs(sent - sent[:1]))
    # In sums over many neurons the activity of one hardly bends anything, but twice as much noise
    # in a square of it does not average out.
    bend = jnp.max(jnp.abs(others[0] + others[1] - 2 * sent[0]))
    unequal = jnp.max(jnp.abs(overlaps - overlaps[:1]))
    curved = jnp.max(jnp.abs(measured[3] + measured[4] - overlaps[0] - measured[2]))
    most = 1 + jnp.max(jnp.abs(overlaps[0]))
    return {
        "its drift is not −x plus something of the activities Ψ(x) alone": ~(
            apart <= _COARSE * scale
        ),
        "the activity of a single neuron enters its drift nonlinearly, outside any sum": ~(
            bend <= (0.5 / size + _COARSE) * scale
        ),
        "its overlaps are not sums of the activities Ψ(x)": ~(
            jnp.maximum(unequal, curved) <= _COARSE * most
        ),
    }


def _random(shape: tuple[int, int], dtype: Any) -> Float[Array, "a b"]:
    """The same normal numbers in every precision."""
    return jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(dtype)


def _replaced(model: Any, activation: AbstractActivation) -> Any:
    return eqx.tree_at(lambda model: model.activation, model, activation)


def _with_activation(model: Any, activation: AbstractActivation) -> tuple[Any, str | None]:
    """A network with another activation, or why there is none."""
    try:
        return _replaced(model, activation), None
    except ValueError:  # a property
        return None, "its activation is no field that could be replaced"


class _Given(AbstractActivation):
    """Activities that do not depend on the state."""

    activity: Float[Array, " N"]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The given ones."""
        return jnp.broadcast_to(self.activity, x.shape)

    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """As if they were constant."""
        return self.activity * x


class _Wave(AbstractActivation):
    """Like no activation of any network, so that one written into a drift is seen."""

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Neither odd nor bounded by what others are."""
        return jnp.sin(x) + jnp.cos(2 * x) / 2

    def antiderivative(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """∫₀ˣ of it."""
        return 1 - jnp.cos(x) + jnp.sin(2 * x) / 4
