"""Noise as a feature: it frees a state trapped in the wrong memory and lets it settle in the right.

The input holds more of memory 2 than of memory 1, where the state starts. Theory predicts the noise
above which memory 1 loses the state, and the overlap with memory 2 that it then settles at. Where
random memories lose it differs from set to set, and the flow of each predicts it. Above σ_c nothing
holds the state: what is left is the overlap of neurons that fluctuate and, near σ_c, one that has
not faded by the end. Run alone: `python -m experiments.noise_window [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing, prose
from experiments.claims import (
    Claim,
    Measured,
    above,
    agrees,
    below,
    claim,
    measured,
    near,
    show,
    within,
)
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import constants, mean, proportion, rounded
from hopjax import plotting, theory
from hopjax.statistics import wilson_interval

NUM_NEURONS = 1024
ALPHA = (1.5, 3.0, *[0.5] * 8)
SLOPE = 10.0
DT = 0.01
T1 = 20.0
SUCCESS = 0.8  # overlap with memory 2, averaged over the last unit of time
SEED = 2025

TRIALS = Sized(40, 400)
RISE = (1.25, 1.3, 1.35)
WINDOW = (1.6, 1.8, 2.0)
BELOW, ABOVE = 1.0, 3.0  # no transitions up to, and from, these noises
NETWORKS = {
    "orthogonal": "IDP, orthogonal memories",
    "random": "IDP, random memories",
    "classic": "classic, constant input",
}
EDGE = (1.0, 1.1, 1.2, 1.3, 1.4)  # of random memories, where their flow is followed
SETS = Sized(6, 200)  # of random memories
SOFTEST, HARDEST = 0.5, 1.8  # no set loses memory 1 below, and none keeps it above
HALVINGS = 4  # of the noises between which a set loses it
NOISES: Sized[dict[str, tuple[float, ...]]] = Sized(
    {"orthogonal": (1.0, *RISE, *WINDOW, 3.0), "random": (1.1, 1.3)},
    {
        "orthogonal": tuple(
            sorted(
                {0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.15, 1.2, *RISE, 1.4, 1.5, *WINDOW}
                | {2.25, 2.4, 2.5, 2.6, 2.75, 3.0, 3.25, 3.5, 4.0}
            )
        ),
        "random": (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, *RISE, 1.4, *WINDOW, 2.25, 2.5, 2.75, 3.0, 3.5),
        "classic": (0.4, 0.8, 1.2, *WINDOW, 2.5, 3.0, 3.5),
    },
)
# Where the flow of random memories is followed.
FOLLOWED = Sized(NOISES.quick["random"], EDGE)
STARTS = Sized(1, 2)


def draw_random(
    key: Key[Array, ""], num_neurons: int = NUM_NEURONS
) -> tuple[hj.IDPHopfield, Float[Array, " N"]]:
    """IDP with new memories, and the input that has the same saliencies all the same."""
    memories = hj.random_memories(
        key, num_memories=len(ALPHA), num_neurons=num_neurons, dtype=jnp.float32
    )
    weights = jnp.linalg.solve(memories @ memories.T / num_neurons, jnp.asarray(ALPHA))
    return hj.IDPHopfield(memories, hj.Tanh(SLOPE)), hj.mixture(memories, weights)


def retrieve(model, inputs, noise, key, starts: int) -> dict[str, Any]:
    """Started in memory 1 and, with two `starts`, under the same noise in memory 2."""

    def overlaps(x0):
        additive = hj.AdditiveNoise(noise)
        trajectory = hj.solve(
            model, inputs, x0, t1=T1, dt=DT, noise=additive, key=key, save_every=0.1
        )
        return trajectory.overlaps[-10:]

    x0 = jnp.asarray(ALPHA)[:starts, None] * model.memories[:starts]
    shown = jax.vmap(overlaps)(x0)[:, :, 1]
    return {"overlap": jnp.mean(jnp.abs(shown), axis=1), "mirrored": shown[0, -1] < 0}


def run_trial(
    key: Key[Array, ""], noise: Float[Array, ""], *, network: str, starts: int
) -> dict[str, Any]:
    """One network of orthogonal memories, the same in all trials."""
    # A random choice: the first rows of a Hadamard matrix are products of each other, which shows
    # in the classic network.
    memories = hj.orthogonal_memories(
        num_memories=len(ALPHA), num_neurons=NUM_NEURONS, key=jax.random.key(SEED)
    )
    kind = hj.ClassicHopfield if network == "classic" else hj.IDPHopfield
    model = kind(memories, hj.Tanh(SLOPE))
    return retrieve(model, hj.mixture(memories, jnp.asarray(ALPHA)), noise, key, starts)


def run_set(key: Key[Array, ""], *, noises: tuple[float, ...], starts: int) -> dict[str, Any]:
    """One set of random memories, at all noises."""
    memory_key, noise_key = jax.random.split(key)
    model, inputs = draw_random(memory_key)

    def at(cell):
        noise, key = cell
        return retrieve(model, inputs, noise, key, starts)

    return jax.lax.map(at, (jnp.asarray(noises), jax.random.split(noise_key, len(noises))))


def flow_of_set(key: Key[Array, ""], *, noises: tuple[float, ...]) -> dict[str, Any]:
    """Where the flow of the same set ends at all noises, and the least noise that frees it.

    That noise lies between two of `noises`, or beyond them, and is halved in.
    """
    model, inputs = draw_random(jax.random.split(key)[0])

    def follow(bounds, noise):
        low, high = bounds
        noise = jnp.where(noise > 0, noise, (low + high) / 2)
        x0 = ALPHA[0] * model.memories[0]
        trajectory = theory.noisy_flow(model, inputs, x0, noise=noise, t1=T1, dt=DT, save_every=0.1)
        moved = jnp.mean(jnp.abs(trajectory.overlaps[-10:, 1])) > SUCCESS
        high = jnp.where(moved, jnp.minimum(high, noise), high)
        low = jnp.where(moved | (noise > high), low, noise)
        return (low, high), moved

    bounds = jnp.asarray(SOFTEST), jnp.asarray(HARDEST)
    bounds, moved = jax.lax.scan(follow, bounds, jnp.asarray((*noises, *[0.0] * HALVINGS)))
    return {"moved": moved[: len(noises)], "lost": sum(bounds) / 2}


def compute(full: bool) -> dict[str, Any]:
    trials, noises, edge = TRIALS[full], NOISES[full], FOLLOWED[full]
    sets = min(SETS[full], trials)
    outcomes, flow, predicted = side_by_side(
        lambda: simulate(noises, trials, trials if full else sets, STARTS[full]),
        lambda: hj.map_trials(
            partial(flow_of_set, noises=edge),
            key=jax.random.key(SEED),
            trials=sets,
            label="noise window, the flow of random memories",
            one_by_one=True,
        ),
        lambda: predict(tuple(noises)),
    )
    return {
        "settings": {"trials": trials, "law": "gaussian"}
        | constants(globals(), "SEED NUM_NEURONS ALPHA SLOPE DT T1 SUCCESS"),
        "theory": predicted,
        "results": {
            network: summarise(noises[network], outcome) for network, outcome in outcomes.items()
        },
        "flow": compare(edge, flow, noises["random"], outcomes["random"]),
    }


def simulate(
    noises: dict[str, tuple[float, ...]], trials: int, sets: int, starts: int
) -> dict[str, Any]:
    """For each kind of network what its trials did, with the leading axes (noises, trials)."""
    outcomes = {}
    for network, levels in noises.items():
        label = f"noise window, {NETWORKS[network]}"
        if network == "random":
            trial = partial(run_set, noises=levels, starts=starts)
            outcome = hj.map_trials(trial, key=jax.random.key(SEED), trials=sets, label=label)
            outcomes[network] = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), outcome)
        else:
            trial = partial(run_trial, network=network, starts=starts)
            cells = np.array(levels, np.float32)
            outcomes[network] = hj.map_trials(
                trial, key=jax.random.key(SEED), trials=trials, label=label, cells=cells
            )
    return outcomes


def summarise(noises: tuple[float, ...], outcome: dict[str, Any]) -> dict[str, Any]:
    """At each noise: how many trials moved, and the overlaps.

    With one start the overlap in memory 2 is known only at noises at which all have moved there.
    """
    overlap, stationary = outcome["overlap"][..., 0], outcome["overlap"][..., -1]
    moved = overlap > SUCCESS
    if outcome["overlap"].shape[-1] == 1:
        stationary = np.where(moved.all(axis=1, keepdims=True), stationary, np.nan)
    return {
        "noises": noises,
        "moved": [proportion(cell) for cell in moved],
        "mirrored": [
            {"count": int(np.sum(mirrored & cell)), "trials": int(np.sum(cell))}
            for mirrored, cell in zip(outcome["mirrored"], moved, strict=True)
        ],
        "overlap": [mean(cell, 5) for cell in overlap],
        "stationary": [mean(cell, 5) for cell in stationary],
        "diverged": int(np.sum(~np.isfinite(overlap))),
    }


def compare(
    edge: tuple[float, ...],
    flow: dict[str, Any],
    noises: tuple[float, ...],
    outcome: dict[str, Any],
) -> dict[str, Any]:
    """The flow of some sets of random memories beside the trials of the same sets."""
    sets = len(flow["lost"])
    places = [noises.index(noise) for noise in edge]
    simulated = outcome["overlap"][places, :sets, 0] > SUCCESS
    predicted = flow["moved"].T
    lost = np.sort(flow["lost"])
    return {
        "noises": edge,
        "moved": [proportion(cell) for cell in predicted],
        "simulated": [proportion(cell) for cell in simulated],
        "difference": [
            mean(first.astype(float) - second, 5)
            for first, second in zip(predicted, simulated, strict=True)
        ],
        "same": [proportion(cell) for cell in predicted == simulated],
        "lost": {
            "quantiles": rounded(np.quantile(lost, [0.1, 0.5, 0.9])),
            "noises": rounded(lost),
        },
    }


def predict(networks: tuple[str, ...]) -> dict[str, Any]:
    """The window's edges and the overlap with memory 2, for the network's size and step.

    There are predictions of the overlap for IDP only.
    """
    activation = hj.Tanh(SLOPE)
    alpha = theory.effective_saliency(np.array(ALPHA), NUM_NEURONS)
    step = theory.effective_noise(1.0, DT)  # steps of dt multiply every noise by this

    def orthogonal(noises):
        return rounded(theory.noisy_overlap(alpha[1], step * noises, activation), 5)

    def random(noises):
        noises = theory.crosstalk_noise(
            np.array(ALPHA), step * noises, activation, memory=1, num_neurons=NUM_NEURONS
        )
        return rounded(theory.noisy_overlap(ALPHA[1], noises, activation), 5)

    # All at once, the window last: one shape, one compilation.
    curve = np.append(np.linspace(0.05, 4.2, 167), WINDOW)
    functions = {"orthogonal": orthogonal, "random": random}
    curves = {name: function(curve) for name, function in functions.items() if name in networks}
    last = len(WINDOW)
    return {
        "edges": {
            "esc": rounded(theory.escape_noise(alpha[0], alpha[1], activation) / step),
            "80": rounded(theory.noise_at_overlap(alpha[1], SUCCESS, activation) / step),
            "c": rounded(theory.critical_noise(alpha[1], activation) / step),
        },
        "curve": {
            "noises": rounded(curve[:-last]),
            **{network: values[:-last] for network, values in curves.items()},
        },
        "window": {
            "noises": WINDOW,
            **{network: values[-last:] for network, values in curves.items()},
        },
    }


def left_over(
    noises: Float[np.ndarray, " n"],
    alpha: float,
    *,
    slope: float,
    num_neurons: int,
    dt: float,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Above the critical noise: the mean |m| of a state without memory, and how fast one fades.

    Activities ψ(x_i) of neurons that fluctuate on their own, x_i of variance v = σ²/2, are a sum of
    parts that forget as exp(−k t), k = 1, 3, 5 ..., of the variances c_k²: the squares of ψ's
    coefficients in Hermite polynomials. So is their overlap m₀ with a memory, with variances
    c_k²/N. What is amiss by m₀ feeds back through α: with λ = 1 − α E[ψ'], the rate at which an
    overlap then decays, a part of frequency ω is larger by (1 + iω)/(λ + iω), and that of k by
    1 + (1 − λ²)/(λ (k + λ)) in variance. The sum is normal for many neurons, of which |m| has the
    mean √(2/π) times the standard deviation.
    """
    z = np.linspace(-8, 8, 20_001)  # standard deviations of a neuron
    weight = np.exp(-(z**2) / 2)
    weight /= weight.sum()
    left, rates = [], []
    for noise in theory.effective_noise(np.asarray(noises), dt):
        spread = float(noise) / np.sqrt(2)
        activity = np.tanh(slope * spread * z)
        lower, hermite = np.ones_like(z), z
        squares = {}
        for k in range(1, 42):
            squares[k] = float(np.sum(weight * activity * hermite)) ** 2
            lower, hermite = hermite, (z * hermite - np.sqrt(k) * lower) / np.sqrt(k + 1)
        rate = 1 - alpha * np.sqrt(squares[1]) / spread
        variance = sum(c * (1 - rate**2) / (rate * (k + rate)) for k, c in squares.items())
        variance += np.sum(weight * activity**2)
        left.append(np.sqrt(2 * variance / (np.pi * num_neurons)))
        rates.append(rate)
    return np.array(left), np.array(rates)


def fluctuation(numbers: dict[str, Any], noises: Any) -> tuple[np.ndarray, np.ndarray]:
    """`left_over` of memory 2, if memories are orthogonal."""
    settings = numbers["settings"]
    num_neurons = settings["num_neurons"]
    alpha = theory.effective_saliency(np.array(settings["alpha"]), num_neurons)[1]
    shared = {name: settings[name] for name in ("slope", "num_neurons", "dt")}
    return left_over(np.asarray(noises, float), float(alpha), **shared)


MARKERS = {"orthogonal": "o", "random": "s", "classic": "^"}


def draw(numbers: dict[str, Any]) -> Figure:
    figure, (top, bottom) = drawing.panels(2, 1, 3.9, sharex=True)
    edges, curve = numbers["theory"]["edges"], numbers["theory"]["curve"]
    for ax in (top, bottom):
        ax.axvspan(edges["esc"], edges["80"], color="black", alpha=0.06, linewidth=0)
        for edge in edges.values():
            ax.axvline(edge, color="black", linewidth=0.6, linestyle=":")
    for name, edge in edges.items():
        text, where = rf"$\sigma_{{\mathrm{{{name}}}}}$", top.get_xaxis_transform()
        top.text(edge, 1.06, text, ha="center", transform=where)
    for place, (network, result) in enumerate(numbers["results"].items()):
        look = {
            "color": plotting.COLOURS[place],
            "marker": MARKERS[network],
            "markersize": 3,
            "markerfacecolor": "none" if network == "random" else None,
            "elinewidth": 0.7,
        }
        drawing.error_bars(
            top,
            result["noises"],
            result["moved"],
            linestyle="none" if network == "random" else plotting.LINE_STYLES[place],
            linewidth=0.6,
            label=NETWORKS[network],
            **look,
        )
        if network == "random":
            lost = numbers["flow"]["lost"]["noises"]
            top.step(
                [lost[0], *lost, max(lost[-1], EDGE[-1])],
                np.append(np.arange(len(lost) + 1) / len(lost), 1),
                where="post",
                color=plotting.COLOURS[place],
                linewidth=0.9,
                label=f"flow of {len(lost)} random sets",
            )
        if network in curve:  # there is theory for it
            bottom.plot(
                curve["noises"],
                curve[network],
                color=plotting.COLOURS[place],
                linestyle=plotting.LINE_STYLES[place],
            )
        drawing.error_bars(bottom, result["noises"], result["stationary"], linestyle="none", **look)
    noises = np.linspace(edges["c"] + 0.02, 4.1, 60)
    left, rates = fluctuation(numbers, noises)
    faded = rates * numbers["settings"]["t1"] > 1  # nearer to the edge it lasts too long
    bottom.plot(
        noises[faded], left[faded], color="black", linestyle=":", label="fluctuations, no memory"
    )
    bottom.plot([], [], color="black", label="lines: theory, no free parameter")
    top.set(ylabel="P(memory 1 → memory 2)", ylim=(-0.03, 1.05))
    bottom.set(
        xlabel=r"noise $\sigma$",
        ylabel=r"overlap $|m_2|$ in memory 2",
        xlim=(0, 4.1),
        ylim=(0, 1.05),
    )
    drawing.legend_below(figure, top, bottom, ncols=2)
    return figure


def together(cells: list[dict[str, Any]]) -> dict[str, float | int]:
    """Counts of several noises as one proportion."""
    count, trials = (sum(cell[name] for cell in cells) for name in ("count", "trials"))
    return proportion(np.arange(trials) < count)


def between(result: dict[str, Any], low: float, high: float) -> list[dict[str, Any]]:
    """The proportions at noises from `low` to `high`."""
    return [
        cell
        for noise, cell in zip(result["noises"], result["moved"], strict=True)
        if low <= noise <= high
    ]


def in_mirror(result: dict[str, Any]) -> dict[str, float | int]:
    """The share of the states freed at noises of the window that end in the mirror image."""
    return together(
        [
            cell
            for noise, cell in zip(result["noises"], result["mirrored"], strict=True)
            if WINDOW[0] <= noise <= WINDOW[-1]
        ]
    )


def midpoint(result: dict[str, Any]) -> Measured:
    """The noise at which half of the trials move, between the noises that enclose it.

    Its ends are the noises at which the ends of the interval pass ½.
    """
    rise = np.array(result["noises"]) <= WINDOW[0]
    noises = np.array(result["noises"])[rise]
    curves = np.array([[cell[end] for cell in result["moved"]] for end in ("p", "high", "low")])
    curves = np.maximum.accumulate(curves[:, rise], axis=1)
    return Measured(*(float(np.interp(0.5, curve, noises)) for curve in curves))


def claims_of_flow(numbers: dict[str, Any]) -> list[Claim]:
    flow = numbers["flow"]
    least = min(flow["same"], key=lambda cell: cell["p"])
    low, median, high = flow["lost"]["quantiles"]
    noises = flow["noises"]
    return [
        claim(
            "random memories: the flow of each set, without a free parameter, predicts what share "
            f"moves (σ {noises[0]:g} to {noises[-1]:g}, ±.06)",
            within(flow["difference"], -0.06, 0.06, "largest difference {:+.3f}"),
        ),
        claim(
            "and which sets do ({} over these noises)",
            above(
                together(flow["same"]), 0.9, f"P(same) = {{}}, {show(least)} at the least of them"
            ),
        ),
        claim(
            "each set loses memory 1 at a noise of its own, by its flow mostly below σ_esc",
            above(
                proportion(np.array(flow["lost"]["noises"]) < numbers["theory"]["edges"]["esc"]),
                0.5,
                f"P = {{}}; 10%, 50% and 90% of the sets at σ = {low:.3f}, {median:.3f} and "
                f"{high:.3f}",
            ),
        ),
    ]


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results, predicted = numbers["results"], numbers["theory"]
    idp, edges = results["orthogonal"], predicted["edges"]
    quiet, inside, loud = (
        between(idp, *ends) for ends in ((0, BELOW), (WINDOW[0], WINDOW[-1]), (ABOVE, np.inf))
    )
    found = [
        claim(
            f"weak noise (σ ≤ {BELOW:g}) leaves IDP trapped in memory 1 ({{}} at each)",
            below(quiet, 0.05, f"P = {show(together(quiet))}"),
        ),
        claim(
            f"noise in the window (σ {WINDOW[0]:g} to {WINDOW[-1]:g}) frees it ({{}} at each)",
            above(inside, 0.95, f"P = {show(together(inside))}"),
        ),
        claim(
            f"strong noise (σ ≥ {ABOVE:g}) holds it nowhere ({{}} at each)",
            below(loud, 0.05, f"P = {show(together(loud))}"),
        ),
        claim(
            f"half are freed within {numbers['settings']['t1']:g} just above σ_esc = "
            f"{edges['esc']:.3f} ({{}})",
            within(midpoint(idp), 1.26, 1.32, "at σ = {}"),
        ),
    ]
    for network in [name for name in NETWORKS if name in predicted["window"]]:
        result = results[network]
        if not set(WINDOW) <= set(result["noises"]):
            continue
        off = [
            measured(result["overlap"][result["noises"].index(noise)]).times(1, -expected)
            for noise, expected in zip(WINDOW, predicted["window"][network], strict=True)
        ]
        found.append(
            claim(
                f"{network} memories: overlap in the window as predicted (±.005)",
                within(off, -0.005, 0.005, "largest difference {:.4f}"),
            )
        )
    sign = in_mirror(idp)
    wider = wilson_interval(sign["count"], sign["trials"], confidence=0.999)
    found.append(
        claim(
            "IDP is odd: it ends in the mirror image −ξ² as often as in ξ² (99.9% test)",
            agrees(wider, 0.5, f"P(−ξ²) = {show(sign)}"),
        )
    )
    found += claims_of_flow(numbers)
    if not numbers["full"]:
        return found
    last = [idp[name][-1] for name in ("overlap", "stationary")]
    (left,), _ = fluctuation(numbers, [idp["noises"][-1]])
    found.append(
        claim(
            f"far above σ_c (σ = {idp['noises'][-1]:g}) what is left are fluctuations of "
            f"{numbers['settings']['num_neurons']} neurons, as predicted ({{}})",
            near(last, left, 0.01, "|m2| = {}, from memory 2 {}, theory {:.4f}"),
        )
    )
    found.append(
        claim(
            "random memories: crosstalk smears the edge towards weaker noise",
            below(
                midpoint(results["random"]),
                midpoint(idp).times(1, -0.05),
                f"half moved at σ = {{}}, orthogonal {midpoint(idp)}",
            ),
        )
    )
    classic, orthogonal = (
        {
            name: results[network][name][results[network]["noises"].index(2.0)]
            for name in ("moved", "overlap")
        }
        for network in ("classic", "orthogonal")
    )
    found.append(
        claim(
            "classic with a constant input moves too, to a lower overlap (σ = 2)",
            above(classic["moved"], 0.9),
            below(classic["overlap"], orthogonal["overlap"], "|m2| = {} against {}"),
        )
    )
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    results, predicted, flow = (numbers[name] for name in ("results", "theory", "flow"))
    idp, edges = results["orthogonal"], predicted["edges"]

    def moved(low: float, high: float) -> str:
        return show(max(between(idp, low, high), key=lambda cell: cell["high"]))

    def overlap(network: str, noise: float) -> float:
        return results[network]["overlap"][results[network]["noises"].index(noise)]["mean"]

    rows = [
        ["up to 1.1", f"at most {moved(0, 1.1)}", "", f"trapped below σ_esc = {edges['esc']:.3f}"],
        ["1.3", moved(1.3, 1.3), "", ""],
        *(
            [str(noise), moved(noise, noise), f"{overlap('orthogonal', noise):.4f}", f"{m:.4f}"]
            for noise, m in zip(WINDOW, predicted["window"]["orthogonal"], strict=True)
        ),
        [
            "from 2.75",
            f"at most {moved(2.75, np.inf)}",
            "",
            f"overlap {SUCCESS:g} at {edges['80']:.3f}, no well from {edges['c']:.3f}",
        ],
    ]
    low, median, high = flow["lost"]["quantiles"]
    return [
        f"The input holds memory 2 twice as strongly as memory 1 (saliencies {ALPHA[1]:g} and "
        f"{ALPHA[0]:g}, eight others {ALPHA[2]:g}; orthogonal memories, {NUM_NEURONS} neurons, "
        f"d = {SLOPE:g}). This figure and that of `escape` compare what happens with a closed "
        "theory in which additive noise only smooths the activation, ψ → ψ_σ:",
        prose.table(
            [
                "noise σ",
                f"P(memory 1 → memory 2) within {T1:g}",
                "overlap with memory 2",
                "theory",
            ],
            rows,
        ),
        "IDP is odd: half of the freed states end in the mirror image of memory 2 "
        f"({show(in_mirror(idp))}).",
        "Random memories hold the same overlaps, but their crosstalk smears the edge downwards: "
        f"half have moved at σ = {midpoint(results['random'])} instead of {midpoint(idp)}. Each "
        "set has an edge of its own, which no closed form gives but the flow of the mean does, "
        f"without a free parameter: half of {len(flow['lost']['noises'])} sets have theirs by "
        f"σ = {median:.3f} (10% to 90%: {low:.3f} to {high:.3f}). Flow and trial of a set end "
        f"alike in {show(together(flow['same']))} from σ = {flow['noises'][0]:g} to "
        f"{flow['noises'][-1]:g}.",
        "The classic network with a constant input moves to memory 2 at weaker noise too, always "
        f"with the right sign, but to a lower overlap: {overlap('classic', 2.0):.3f} against "
        f"{overlap('orthogonal', 2.0):.3f} at σ = 2.",
    ]


EXPERIMENT = Experiment(
    "noise_window", compute, draw, claims, source="noise theory here", found=found
)

if __name__ == "__main__":
    EXPERIMENT.main()
