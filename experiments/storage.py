"""How many memories four architectures can hold: retrieval against load, with and without noise.

The classic network and IDP, as in `capacity`; dense memory, −x + Σ_μ ξ^μ sign(m_μ) m_μ², and
attention, to which no input is shown. All have wells of amplitude about 1, so that one σ means the
same to all. The state starts in a memory with a tenth of its signs flipped. Retrieved is what the
mean of the last states shows: in a single one each neuron has noise of variance σ²/2, which
attention, without an activation, does not hide.

Limits predicted for random memories, with z standard normal and a = P/N:

- Dense memory, without noise. The field of a neuron holds crosstalk √(3a/N) z. The overlaps hold
  the neuron's own ξ_i^μ ψ_i / N, which couples it to itself by J = 2a √(2/πN): it is a switch, as
  x = J ψ(x) + h has two solutions for |h| < c. A tenth of the neurons start on the wrong side, so
  m = .9 E sign(m² + c + √(3a/N) z) + .1 E sign(m² − c + √(3a/N) z), from m = .8 on. Noise frees
  the switches, and so some of it helps.
- Attention. A memory of overlap m in a state of mean square q has the weight
  w = 1 / (1 + P exp(b²q/2N − bm)) in the softmax, b = βN, and the others give (1 − w) b/N times the
  state. So ṁ = −m + w + (1 − w) m b/N; what is outside the memory decays alike, noise adds to q.

Run alone: `python -m experiments.storage [--full] [--redraw]`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import erf

import hopjax as hj
from experiments import drawing, studies
from experiments.capacity import CLASSIC_LIMIT, CORRUPTION, by_crosstalk
from experiments.claims import Claim, Measured, above, below, claim, near
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import constants, proportion, rounded
from experiments.protocols import RETRIEVED, SEED
from experiments.studies import only, select
from hopjax import plotting

NUM_NEURONS = 128
T1, DT = 20.0, 0.05
SETTLED = 5  # the last states, one time constant apart, whose mean is judged
TRIALS = Sized(40, 160)
# Memories of a network that are tried, each alone. Where many share it, these hardly depend on each
# other, and solving them together is cheaper.
TRIES = {"classic": 1, "idp": 1, "dense": 8, "attention": 8}
NOISES = QUIET, NOISY = 0.0, 0.5
POWER, SLOPE, SHARPNESS = 3.0, 10.0, 13.0  # of dense memory, of tanh, and βN of attention
BACKGROUND = 0.5  # in the input of IDP, of the memories that it does not show


def dense(memories: Float[Array, "P N"]) -> hj.AbstractHopfield:
    return hj.DenseHopfield(memories, hj.PowerSeparation(POWER), hj.Tanh(SLOPE), input_as="nothing")


def attention(memories: Float[Array, "P N"]) -> hj.AbstractHopfield:
    return hj.DynamicAttention(memories, SHARPNESS / memories.shape[1], input_as="nothing")


MAKE: dict[str, Callable[[Float[Array, "P N"]], hj.AbstractHopfield]] = {
    "classic": hj.ClassicHopfield,
    "idp": hj.IDPHopfield,
    "dense": dense,
    "attention": attention,
}
LABELS = {
    "classic": "classic, no current",
    "idp": f"IDP, $b$ = {BACKGROUND:g}",
    "dense": f"dense memory, power {POWER:g}",
    "attention": rf"attention, $\beta N$ = {SHARPNESS:g}",
}
MANY, MORE = 0.25, 2.0  # loads beyond the classic network, and beyond IDP
LOADS: Sized[dict[str, tuple[float, ...]]] = Sized(
    {"dense": (MORE,)},
    {
        "classic": (0.05, 0.1, 0.14, 0.18, MANY),
        "idp": (0.05, 0.1, MANY, 0.4, 0.6, 1.0),
        "dense": (MANY, MORE, 4.0, 6.0, 8.0, 10.0, 14.0, 20.0),
        "attention": (MANY, MORE, 8.0, 16.0, 32.0, 48.0, 72.0),
    },
)


def run_trial(
    key: Key[Array, ""], *, network: str, num_memories: int
) -> Float[Array, "noises tries"]:
    """The overlaps with the memories that were to be retrieved."""
    memory_key, start_key, noise_key = jax.random.split(key, 3)
    memories = hj.random_memories(memory_key, num_memories=num_memories, num_neurons=NUM_NEURONS)
    model = MAKE[network](memories)

    def overlap(noise, start_key, noise_key, shown):
        u = jnp.zeros(NUM_NEURONS)
        if network == "idp":
            u = hj.mixture(memories, jnp.full(num_memories, BACKGROUND).at[shown].set(1.0))
        trajectory = hj.solve(
            model,
            u,
            hj.corrupt(start_key, memories[shown], CORRUPTION),
            t1=T1,
            dt=DT,
            noise=hj.AdditiveNoise(noise),
            key=noise_key,
            save_every=1.0,
            save_fn=lambda _, state: state,
        )
        return model.overlaps(jnp.mean(trajectory.saved[-SETTLED:], axis=0))[shown]

    shown = jnp.arange(TRIES[network])
    start_keys, noise_keys = (jax.random.split(key, len(shown)) for key in (start_key, noise_key))
    tries = jax.vmap(overlap, in_axes=(None, 0, 0, 0))
    return jax.vmap(lambda noise: tries(noise, start_keys, noise_keys, shown))(jnp.array(NOISES))


def measure(network: str, loads: tuple[float, ...], trials: int) -> list[dict[str, Any]]:
    """A cell for each load and noise."""
    cells = []
    for load in loads:
        num_memories = round(load * NUM_NEURONS)
        trial = partial(run_trial, network=network, num_memories=num_memories)
        label = f"storage, {network}, P = {num_memories}"
        overlaps = hj.map_trials(
            trial, key=jax.random.key(SEED), trials=trials // TRIES[network], label=label
        )
        for place, noise in enumerate(NOISES):
            cells.append(
                {
                    "network": network,
                    "load": load,
                    "num_memories": num_memories,
                    "noise": noise,
                    "retrieved": proportion(overlaps[:, place] > RETRIEVED),
                    "mean_overlap": rounded(overlaps[:, place].mean()),
                }
            )
    return cells


def compute(full: bool) -> dict[str, Any]:
    trials, loads = TRIALS[full], LOADS[full]
    tasks = [partial(measure, name, loads[name], trials) for name in loads]
    return {
        "settings": {"trials": trials, "law": "gaussian"}
        | constants(globals(), "SEED TRIES NUM_NEURONS CORRUPTION BACKGROUND POWER SLOPE")
        | constants(globals(), "SHARPNESS T1 DT SETTLED RETRIEVED"),
        "results": [cell for cells in side_by_side(*tasks) for cell in cells],
    }


def largest(retrieves: Callable[[float], bool], high: float) -> float:
    """The load up to which something is retrieved, by bisection on a logarithmic scale."""
    low = 1e-3
    while high / low > 1.001:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if retrieves(middle) else (low, middle)
    return low


def dense_limit() -> float:
    """The load up to which a tenth of wrong signs is put right without noise, as predicted."""

    def retrieves(load: float) -> bool:
        crosstalk = np.sqrt(3 * load / NUM_NEURONS)
        coupling = 2 * load * np.sqrt(2 / (np.pi * NUM_NEURONS))
        turn = np.sqrt(max(1 - 1 / max(SLOPE * coupling, 1), 0))  # |ψ| where a switch lets go
        coercive = coupling * turn - np.arctanh(turn) / SLOPE
        m = 1 - 2 * CORRUPTION
        for _ in range(200):
            right, wrong = erf((m**2 + np.array([coercive, -coercive])) / (np.sqrt(2) * crosstalk))
            m = (1 - CORRUPTION) * right + CORRUPTION * wrong
        return bool(m > RETRIEVED)

    return largest(retrieves, 1e3)


def attention_limit(noise: float) -> float:
    """The load up to which attention retrieves, as predicted."""

    def retrieves(load: float) -> bool:
        m, outside = 1 - 2 * CORRUPTION, 1 - (1 - 2 * CORRUPTION) ** 2
        for step in range(round(T1 / DT)):
            q = m**2 + outside + noise**2 / 2 * (1 - np.exp(-2 * step * DT))
            exponent = SHARPNESS**2 * q / (2 * NUM_NEURONS) - SHARPNESS * m
            weight = 1 / (1 + load * NUM_NEURONS * np.exp(exponent))
            decay = 1 - (1 - weight) * SHARPNESS / NUM_NEURONS
            m, outside = m + DT * (weight - decay * m), outside * (1 - DT * decay) ** 2
        return bool(m > 0.5)

    return largest(retrieves, 1e4)


def along(numbers: dict[str, Any], network: str, noise: float) -> tuple[list[float], list[Any]]:
    """Loads, and what was retrieved there."""
    cells = select(numbers["results"], network=network, noise=noise)
    return [cell["load"] for cell in cells], [cell["retrieved"] for cell in cells]


def limit(numbers: dict[str, Any], network: str, noise: float) -> Measured:
    """The load at which half are retrieved, between points on a logarithmic scale."""
    loads, found = along(numbers, network, noise)
    return Measured(*map(float, np.exp(studies.limit(np.log(loads).tolist(), found))))


def predicted(network: str, noise: float) -> float:
    """The limit, where there is a prediction."""
    if network == "attention":
        return attention_limit(noise)
    if noise > 0:
        return np.nan
    if network == "dense":
        return dense_limit()
    return CLASSIC_LIMIT if network == "classic" else by_crosstalk(BACKGROUND, CLASSIC_LIMIT)


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each noise."""
    figure, axes = drawing.panels(len(NOISES), 1, 3.5, letters_at=17, sharex=True)
    for ax, noise in zip(axes, NOISES, strict=True):
        for place, network, label in studies.solved(numbers, "network", LABELS):
            drawing.curve(ax, *along(numbers, network, noise), place, label)
            line = {"color": plotting.COLOURS[place], "linewidth": 0.6, "linestyle": ":"}
            ax.axvline(predicted(network, noise), **line)
        ax.text(0.02, 0.08, rf"$\sigma$ = {noise:g}", transform=ax.transAxes)
        ax.set(ylabel="P(retrieved)", xscale="log", xlim=(0.04, 120), yticks=[0, 0.5, 1])
        ax.xaxis.set_major_formatter("{x:g}")
    axes[-1].set_xlabel("load $P/N$")
    line = Line2D([], [], color="black", linewidth=0.6, linestyle=":")
    more = {"predicted limit (classic: $N$ → ∞)": line}
    drawing.legend_below(figure, axes[0], more=more, loc="outside upper center", ncols=2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    def at(network: str, load: float) -> dict[str, Any]:
        cells = select(numbers["results"], noise=QUIET, load=load)
        return only(cells, network=network)["retrieved"]

    found = [
        claim(
            f"dense memory holds {MORE:g} memories per neuron ({{}})", above(at("dense", MORE), 0.9)
        )
    ]
    if not numbers["full"]:
        return found
    loads = {name: [limit(numbers, name, noise) for noise in NOISES] for name in LABELS}
    compared = f"half at load {{:.3g}} with σ = {NOISY:g}, {{:.3g}} without"
    found += [
        claim(
            f"the classic network does not hold {MANY:g} ({{}}), IDP does ({{}})",
            below(at("classic", MANY), 0.3),
            above(at("idp", MANY), 0.7, "IDP {}"),
        ),
        claim("attention holds 16 ({})", above(at("attention", 16.0), 0.9)),
    ]
    for name, noises in {"dense": (QUIET,), "attention": NOISES}.items():
        checks = [
            near(
                measured.over(predicted(name, noise)),
                1,
                0.1,
                f"{measured:.3g} at σ = {noise:g}, predicted {predicted(name, noise):.3g}",
            )
            for noise, measured in zip(noises, loads[name], strict=False)
        ]
        found.append(
            claim(
                f"half of what is stored is retrieved at the predicted load, within 10%: {name}",
                *checks,
            )
        )
    quiet, noisy = loads["dense"]
    found += [
        claim(
            "noise lets dense memory hold more, as it frees neurons that hold themselves",
            above(noisy, quiet, compared),
        ),
        claim(
            "noise lets the classic network and IDP hold less",
            *(
                below(loads[name][1], loads[name][0], f"{name}: {compared}")
                for name in ("classic", "idp")
            ),
        ),
    ]
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    quiet, noisy = ({name: limit(numbers, name, noise) for name in LABELS} for noise in NOISES)
    return [
        f"From a tenth of wrong signs half of the random memories of {NUM_NEURONS} neurons are "
        f"retrieved at a load of {quiet['classic']:.2f} by the classic network, "
        f"{quiet['idp']:.2f} by IDP, {quiet['dense']:.2f} by dense memory of power {POWER:g} and "
        f"{quiet['attention']:.0f} by attention (βN = {SHARPNESS:g}). Noise of σ = {NOISY:g} costs "
        "the classic network and IDP some of it, attention nothing that "
        f"{numbers['settings']['trials']} trials show, {noisy['attention']:.0f}, but takes dense "
        f"memory to {noisy['dense']:.1f}: its neurons couple to themselves, hold on to wrong "
        "signs, and noise frees them."
    ]


EXPERIMENT = Experiment("storage", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
