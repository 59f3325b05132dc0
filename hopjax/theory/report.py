"""What a network makes of an input, as one readable table."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from hopjax._checks import check_array, is_traced
from hopjax.activations import AbstractActivation
from hopjax.models import (
    AbstractHopfield,
    ClassicHopfield,
    DecorrelatedHopfield,
    IDPHopfield,
)
from hopjax.theory._common import check_noise
from hopjax.theory.equilibria import effective_saliency, equilibrium_amplitude, well_energy
from hopjax.theory.noise import NoisyActivation, critical_noise, effective_noise, escape_noise
from hopjax.theory.numerical import (
    Kind,
    check_model_and_input,
    classify_with_growth,
    find_memory,
)


class Prediction(eqx.Module):
    """What the closed forms say of every memory; see `Report`.

    Attributes:
        exists: whether it is an equilibrium of the noiseless network.
        stable: whether it is a stable one.
        energy: its energy per neuron, 0 where it does not exist (of a decorrelated network: that
            of orthogonal memories, as there is none of its own).
        critical_noise: σ_c, at which noise removes its well.
        escape_noise: σ_esc, at which it loses its stability to the most salient other memory;
            NaN where there is no such noise.
        noisy_overlap: the overlap with which it is held at the report's noise, 0 without a well.
        kept: whether a state that is in it at that noise stays.
    """

    exists: Bool[Array, " P"]
    stable: Bool[Array, " P"]
    energy: Float[Array, " P"]
    critical_noise: Float[Array, " P"]
    escape_noise: Float[Array, " P"]
    noisy_overlap: Float[Array, " P"]
    kept: Bool[Array, " P"]


class Report(eqx.Module):
    """What a network makes of one constant input, as `report` returns it; `print` it.

    Attributes:
        saliency: α_μ(u).
        kinds: "stable", "saddle" or "absent" for every memory, found numerically.
        overlaps: overlap of the equilibrium with its own memory; NaN where absent, as are the
            following.
        energy: its energy per neuron.
        growth: growth rate of the fastest direction there, in inverse time constants.
        residual: the largest |drift| there.
        noise: σ.
        crosstalk: the largest overlap between two memories; the prediction is for 0, or for
            any in a decorrelated network.
        prediction: what the closed forms say, or None where there are none: they cover IDP
            networks, and classic ones without a current, both decorrelated or not.
    """

    title: str = eqx.field(static=True)
    saliency: Float[Array, " P"]
    kinds: tuple[Kind, ...] = eqx.field(static=True)
    overlaps: Float[Array, " P"]
    energy: Float[Array, " P"]
    growth: Float[Array, " P"]
    residual: Float[Array, " P"]
    noise: Float[Array, ""]
    crosstalk: Float[Array, ""]
    decorrelated: bool = eqx.field(static=True)
    prediction: Prediction | None

    @property
    def ends_in(self) -> tuple[int, ...]:
        """The memories that hold a state at this noise, the most salient first, up to sign.

        One: noise takes a state there from any memory, and as often to the mirror image, within
        some `escape_time`. Several: a state stays in the memory where it is, unless rare
        fluctuations of a small network free it. None: no memory survives.

        Raises:
            ValueError: where there is no prediction.
        """
        if self.prediction is None:
            raise ValueError("The closed forms do not cover this network: there is no prediction.")
        kept = np.asarray(self.prediction.kept)
        return tuple(memory for memory in _by_saliency(self.saliency) if kept[memory])

    def __repr__(self) -> str:
        """The table."""
        if is_traced(self) or not eqx.is_array(self.saliency):
            return eqx.tree_pformat(self)
        header = ["", "saliency", "state", "overlap", "energy/N", "growth"]
        if self.prediction is not None:
            header += ["theory", "σ_esc", "σ_c", f"at σ = {float(self.noise):g}"]
        rows = [header]
        rows += [self._row(memory) for memory in _by_saliency(self.saliency)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self.title]
        lines += ["  ".join(map(str.rjust, row, widths)).rstrip() for row in rows]
        if self.prediction is not None:
            lines.append(self._conclusion())
            whose = "decorrelated" if self.decorrelated else "orthogonal"
            lines.append(
                f"theory: {whose} memories; here two memories overlap by up to "
                f"{float(self.crosstalk):.3f}"
            )
        return "\n".join(lines)

    def _row(self, memory: int) -> list[str]:
        row = [f"memories[{memory}]", f"{float(self.saliency[memory]):.3f}", self.kinds[memory]]
        for values, digits in ((self.overlaps, 3), (self.energy, 4), (self.growth, 3)):
            row.append(_number(values[memory], digits))
        theory = self.prediction
        if theory is not None:
            kind = "stable" if theory.stable[memory] else "saddle"
            row.append(kind if theory.exists[memory] else "absent")
            row.append(_number(theory.escape_noise[memory], 3))
            row.append(_number(theory.critical_noise[memory] or np.nan, 3))
            if theory.kept[memory]:
                row.append(f"kept, {float(theory.noisy_overlap[memory]):.3f}")
            else:
                well = theory.noisy_overlap[memory] > 0
                row.append("lost" if well else "gone" if theory.exists[memory] else "-")
        return row

    def _conclusion(self) -> str:
        names = [f"memories[{memory}]" for memory in self.ends_in]
        start = f"noise of strength {float(self.noise):g}"
        if len(names) > 1:
            return f"{start} leaves a state in whichever of {', '.join(names)} it is"
        return f"{start} ends in {f'±{names[0]}' if names else 'no memory'}"


def _number(value, digits: int) -> str:
    return f"{float(value):.{digits}f}" if np.isfinite(value) else "-"


def _by_saliency(saliency) -> list[int]:
    return np.argsort(-np.asarray(saliency), kind="stable").tolist()


def report(
    model: AbstractHopfield,
    u: Real[ArrayLike, " N"],
    *,
    noise: Real[ArrayLike, ""] = 0.0,
    dt: Real[ArrayLike, ""] | None = None,
) -> Report:
    """What a network makes of a constant input: which memories exist, how deep, who survives noise.

    The state of each memory is found numerically, for any model. Beside it stands what the closed
    forms predict, with the self-coupling as the model has it. It runs on the host, not under jit.

    Args:
        model: any network.
        u: a constant input.
        noise: σ of additive noise.
        dt: the step of Euler-Maruyama, if its overlaps and thresholds are to be predicted rather
            than those of the exact equation.

    Returns:
        A `Report`, which prints as a table.
    """
    model, u = check_model_and_input(model, u)
    if is_traced((model, u)):
        raise TypeError("report runs on the host: call it outside jit, vmap and grad.")
    sigma = check_noise(noise, ()).astype(model.memories.dtype)
    step = jnp.ones_like(sigma)
    if dt is not None:
        check_array(dt, "dt", ())
        step = effective_noise(1.0, dt).astype(sigma.dtype)
    num_memories, num_neurons = model.memories.shape
    overlaps, energy, growth, residual = np.full((4, num_memories), np.nan)
    kinds = []
    for memory in range(num_memories):
        found = find_memory(model, u, memory)
        kind, growth[memory] = classify_with_growth(model, u, found, memory)
        kinds.append(kind)
        if kind != "absent":
            overlaps[memory] = found.overlaps[memory]
            energy[memory] = found.energy / num_neurons
            residual[memory] = found.residual
    patterns = np.asarray(model.memories)
    mutual = np.abs(patterns @ patterns.T) / num_neurons
    coupling = getattr(model, "self_coupling", None)
    title = f"{type(model).__name__}: {num_neurons} neurons, {num_memories} memories"
    if coupling is not None:
        title += f", self-coupling {'kept' if coupling else 'zeroed'}"
    activation = getattr(model, "activation", None)
    if isinstance(activation, AbstractActivation):
        title += f", d = {float(activation.slope_at_zero):g}"
    crosstalk = mutual[~np.eye(num_memories, dtype=bool)].max(initial=0)
    overlaps, energy, growth, residual, crosstalk = (
        jnp.asarray(values, model.memories.dtype)
        for values in (overlaps, energy, growth, residual, crosstalk)
    )
    return Report(
        title=title,
        saliency=model.saliency(u),
        kinds=tuple(kinds),
        overlaps=overlaps,
        energy=energy,
        growth=growth,
        residual=residual,
        noise=sigma,
        crosstalk=crosstalk,
        decorrelated=isinstance(model, DecorrelatedHopfield),
        prediction=_predict(model, u, sigma, step),
    )


def _predict(model, u, noise, step) -> Prediction | None:
    if not isinstance(model, (IDPHopfield, ClassicHopfield, DecorrelatedHopfield)):
        return None
    kept = isinstance(model, DecorrelatedHopfield) or model.self_coupling
    if isinstance(model, IDPHopfield) or getattr(model, "input_driven", False):
        alpha = model.saliency(u)
    elif not np.any(u):
        alpha = jnp.ones_like(model.memories[:, 0])
    else:
        return None
    alpha = effective_saliency(alpha, model.memories.shape[1], self_coupling=kept)
    return _predict_from(alpha, model.activation, noise, step)


@eqx.filter_jit
def _predict_from(alpha, quiet, noise, step) -> Prediction:
    # A step multiplies every noise by its factor, and so divides every threshold of it.
    # A lone memory competes with nothing: with 0 as its rival, nothing is what it loses to.
    others = jnp.where(jnp.eye(alpha.size, dtype=bool), -jnp.inf, alpha[None])
    strongest = jnp.max(others, axis=1) if alpha.size > 1 else jnp.zeros_like(alpha)
    noisy = NoisyActivation(quiet, step * noise)
    amplitude, mean = equilibrium_amplitude(alpha, quiet), equilibrium_amplitude(alpha, noisy)
    return Prediction(
        exists=amplitude > 0,
        stable=(amplitude > 0) & (strongest * quiet.derivative(amplitude) < 1),
        energy=well_energy(alpha, quiet),
        critical_noise=critical_noise(alpha, quiet) / step,
        escape_noise=escape_noise(alpha, strongest, quiet) / step,
        noisy_overlap=noisy(mean),
        kept=(mean > 0) & (strongest * noisy.derivative(mean) < 1),
    )
