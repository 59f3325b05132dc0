"""Noise as a feature: it frees a state trapped in the wrong memory and lets it settle in the right.

The input holds more of memory 2 than of memory 1, where the state starts. Theory predicts the noise
above which memory 1 loses the state, and the overlap with memory 2 that it then settles at. Where
random memories lose it differs from set to set, and the flow of each predicts it. Run alone:
`python -m experiments.noise_window [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments.common import (
    Claim,
    Experiment,
    number,
    proportion,
    rounded,
    run_trials,
    show,
    side_by_side,
)
from hopjax import plotting, theory

NUM_NEURONS = 1024
ALPHA = (1.5, 3.0, *[0.5] * 8)
SLOPE = 10.0
DT = 0.01
T1 = 20.0
SUCCESS = 0.8  # overlap with memory 2, averaged over the last unit of time
SEED = 2025

QUICK_TRIALS, FULL_TRIALS = 40, 400
RISE = (1.25, 1.3, 1.35)
WINDOW = (1.6, 1.8, 2.0)
BELOW, ABOVE = 1.0, 3.0  # no transitions up to, and from, these noises
NETWORKS = {
    "orthogonal": "IDP, orthogonal memories",
    "random": "IDP, random memories",
    "classic": "classic, constant input",
}
EDGE = (1.0, 1.1, 1.2, 1.3, 1.4)  # of random memories, where their flow is followed
QUICK_SETS, FULL_SETS = 6, 200  # of random memories
SOFTEST, HARDEST = 0.5, 1.8  # no set loses memory 1 below, and none keeps it above
HALVINGS = 4  # of the noises between which a set loses it
QUICK_NOISES = {"orthogonal": (1.0, *RISE, *WINDOW, 3.0), "random": (1.1, 1.3)}
FULL_NOISES = {
    "orthogonal": tuple(
        sorted(
            {0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.15, 1.2, *RISE, 1.4, 1.5, *WINDOW}
            | {2.25, 2.4, 2.5, 2.6, 2.75, 3.0, 3.25, 3.5, 4.0}
        )
    ),
    "random": (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, *RISE, 1.4, *WINDOW, 2.25, 2.5, 2.75, 3.0, 3.5),
    "classic": (0.4, 0.8, 1.2, *WINDOW, 2.5, 3.0, 3.5),
}


def draw_random(key: Key[Array, ""]) -> tuple[hj.IDPHopfield, Float[Array, " N"]]:
    """IDP with new memories, and the input that has the same saliencies all the same."""
    memories = hj.random_memories(
        key, num_memories=len(ALPHA), num_neurons=NUM_NEURONS, dtype=jnp.float32
    )
    weights = jnp.linalg.solve(memories @ memories.T / NUM_NEURONS, jnp.asarray(ALPHA))
    return hj.IDPHopfield(memories, hj.Tanh(SLOPE)), hj.mixture(memories, weights)


def retrieve(model, inputs, noise, key, starts: int) -> dict[str, Any]:
    """Started in memory 1 and, with two `starts`, under the same noise in memory 2."""

    def overlaps(x0):
        trajectory = hj.solve(
            model,
            inputs,
            x0,
            t1=T1,
            dt=DT,
            noise=hj.AdditiveNoise(noise),
            key=key,
            save_every=0.1,
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
        trajectory = theory.noisy_flow(
            model,
            inputs,
            ALPHA[0] * model.memories[0],
            noise=noise,
            t1=T1,
            dt=DT,
            save_every=0.1,
        )
        moved = jnp.mean(jnp.abs(trajectory.overlaps[-10:, 1])) > SUCCESS
        high = jnp.where(moved, jnp.minimum(high, noise), high)
        low = jnp.where(moved | (noise > high), low, noise)
        return (low, high), moved

    bounds = jnp.asarray(SOFTEST), jnp.asarray(HARDEST)
    bounds, moved = jax.lax.scan(follow, bounds, jnp.asarray((*noises, *[0.0] * HALVINGS)))
    return {"moved": moved[: len(noises)], "lost": sum(bounds) / 2}


def mean(values: np.ndarray) -> dict[str, Any]:
    """A mean over trials with the half width of its 95% interval."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return {"mean": None, "half_width": None}
    half_width = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": rounded(values.mean(), 5), "half_width": rounded(half_width, 5)}


def compute(full: bool) -> dict[str, Any]:
    trials = FULL_TRIALS if full else QUICK_TRIALS
    noises = FULL_NOISES if full else QUICK_NOISES
    starts, edge = (2, EDGE) if full else (1, QUICK_NOISES["random"])
    sets = min(FULL_SETS if full else QUICK_SETS, trials)
    outcomes, flow, predicted = side_by_side(
        lambda: simulate(noises, trials, trials if full else sets, starts),
        lambda: run_trials(
            partial(flow_of_set, noises=edge),
            jax.random.key(SEED),
            sets,
            "noise window, the flow of random memories",
            one_by_one=True,
        ),
        lambda: predict(tuple(noises)),
    )
    return {
        "settings": {
            "seed": SEED,
            "trials": trials,
            "num_neurons": NUM_NEURONS,
            "alpha": ALPHA,
            "slope": SLOPE,
            "dt": DT,
            "t1": T1,
            "success": SUCCESS,
            "law": "gaussian",
        },
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
            outcome = run_trials(trial, jax.random.key(SEED), sets, label)
            outcomes[network] = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), outcome)
        else:
            trial = partial(run_trial, network=network, starts=starts)
            cells = np.array(levels, np.float32)
            outcomes[network] = run_trials(trial, jax.random.key(SEED), trials, label, cells)
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
        "overlap": [mean(cell) for cell in overlap],
        "stationary": [mean(cell) for cell in stationary],
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
            mean(first.astype(float) - second)
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


MARKERS = {"orthogonal": "o", "random": "s", "classic": "^"}


def draw(numbers: dict[str, Any]) -> Figure:
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(plotting.COLUMN_WIDTH, 3.9), sharex=True, layout="constrained"
    )
    edges, curve = numbers["theory"]["edges"], numbers["theory"]["curve"]
    for ax in (top, bottom):
        ax.axvspan(edges["esc"], edges["80"], color="black", alpha=0.06, linewidth=0)
        for edge in edges.values():
            ax.axvline(edge, color="black", linewidth=0.6, linestyle=":")
    for name, edge in edges.items():
        top.text(
            edge,
            1.06,
            rf"$\sigma_{{\mathrm{{{name}}}}}$",
            ha="center",
            transform=top.get_xaxis_transform(),
        )
    for place, (network, result) in enumerate(numbers["results"].items()):
        look = {
            "color": plotting.COLOURS[place],
            "marker": MARKERS[network],
            "markersize": 3,
            "markerfacecolor": "none" if network == "random" else None,
            "elinewidth": 0.7,
        }
        p, low, high = (
            np.array([cell[end] for cell in result["moved"]]) for end in ("p", "low", "high")
        )
        top.errorbar(
            result["noises"],
            p,
            np.maximum([p - low, high - p], 0),
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
        bottom.errorbar(
            result["noises"],
            [number(cell["mean"]) for cell in result["stationary"]],
            [number(cell["half_width"]) for cell in result["stationary"]],
            linestyle="none",
            **look,
        )
    bottom.plot([], [], color="black", label="lines: theory, no free parameter")
    top.set(ylabel="P(memory 1 → memory 2)", ylim=(-0.03, 1.05))
    bottom.set(
        xlabel=r"noise $\sigma$",
        ylabel=r"overlap $|m_2|$ in memory 2",
        xlim=(0, 4.1),
        ylim=(0, 1.05),
    )
    handles, labels = top.get_legend_handles_labels()
    more, texts = bottom.get_legend_handles_labels()
    figure.legend(handles + more, labels + texts, loc="outside lower center", ncols=2)
    return figure


def together(cells: list[dict[str, Any]]) -> dict[str, float | int]:
    """Counts of several noises as one proportion."""
    count, trials = (sum(cell[name] for cell in cells) for name in ("count", "trials"))
    return proportion(np.arange(trials) < count)


def pooled(result: dict[str, Any], low: float, high: float) -> tuple[dict, list[float]]:
    """All trials at noises from `low` to `high` together, and the proportion at each noise."""
    cells = [
        cell
        for noise, cell in zip(result["noises"], result["moved"], strict=True)
        if low <= noise <= high
    ]
    return together(cells), [cell["p"] for cell in cells]


def midpoint(result: dict[str, Any]) -> float:
    """The noise at which half of the trials move, between the noises that enclose it."""
    noises = np.array(result["noises"])
    p = np.array([cell["p"] for cell in result["moved"]])
    rise = noises <= WINDOW[0]
    return float(np.interp(0.5, np.maximum.accumulate(p[rise]), noises[rise]))


def claims_of_flow(numbers: dict[str, Any]) -> list[Claim]:
    flow = numbers["flow"]
    worst = max(flow["difference"], key=lambda cell: abs(cell["mean"]))
    least = min(flow["same"], key=lambda cell: cell["p"])
    low, median, high = flow["lost"]["quantiles"]
    noises, all_alike = flow["noises"], together(flow["same"])
    return [
        Claim(
            "random memories: the flow of each set, without a free parameter, predicts what share "
            f"moves (σ {noises[0]:g} to {noises[-1]:g}, ±.06)",
            f"largest difference {worst['mean']:+.3f} ± {worst['half_width']:.3f}",
            abs(worst["mean"]) - worst["half_width"] <= 0.06,
        ),
        Claim(
            "and which sets do (P > .9 over these noises)",
            f"P(same) = {show(all_alike)}, {show(least)} at the least of them",
            all_alike["low" if numbers["full"] else "high"] > 0.9,
        ),
        Claim(
            "each set loses memory 1 at a noise of its own, by its flow mostly below σ_esc",
            f"10%, 50% and 90% of the sets at σ = {low:.3f}, {median:.3f} and {high:.3f}",
            median < numbers["theory"]["edges"]["esc"],
        ),
    ]


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results, predicted = numbers["results"], numbers["theory"]
    idp, edges = results["orthogonal"], numbers["theory"]["edges"]
    quiet, quiet_each = pooled(idp, 0, BELOW)
    inside, inside_each = pooled(idp, WINDOW[0], WINDOW[-1])
    loud, loud_each = pooled(idp, ABOVE, np.inf)
    found = [
        Claim(
            f"weak noise (σ ≤ {BELOW:g}) leaves IDP trapped in memory 1 (P ≤ .05)",
            f"P = {show(quiet)}",
            quiet["high"] <= 0.1 and max(quiet_each) <= 0.05,
        ),
        Claim(
            f"noise in the window (σ {WINDOW[0]:g} to {WINDOW[-1]:g}) frees it (P ≥ .95)",
            f"P = {show(inside)}",
            inside["low"] >= 0.9 and min(inside_each) >= 0.95,
        ),
        Claim(
            f"strong noise (σ ≥ {ABOVE:g}) holds it nowhere (P ≤ .05)",
            f"P = {show(loud)}",
            loud["high"] <= 0.1 and max(loud_each) <= 0.05,
        ),
        Claim(
            f"half are freed within {numbers['settings']['t1']:g} just above σ_esc = "
            f"{edges['esc']:.3f} (1.26 to 1.32)",
            f"at σ = {midpoint(idp):.3f}",
            1.26 <= midpoint(idp) <= 1.32,
        ),
    ]
    for network in [name for name in NETWORKS if name in predicted["window"]]:
        result = results[network]
        if not set(WINDOW) <= set(result["noises"]):
            continue
        measured = [result["overlap"][result["noises"].index(noise)]["mean"] for noise in WINDOW]
        worst = float(np.max(np.abs(np.subtract(measured, predicted["window"][network]))))
        found.append(
            Claim(
                f"{network} memories: overlap in the window as predicted (±.005)",
                f"largest difference {worst:.4f}",
                worst <= 0.005,
            )
        )
    mirrored = [
        cell
        for noise, cell in zip(idp["noises"], idp["mirrored"], strict=True)
        if WINDOW[0] <= noise <= WINDOW[-1]
    ]
    sign = together(mirrored)
    found.append(
        Claim(
            "IDP is odd: it ends in the mirror image −ξ² as often as in ξ² (99.9% test)",
            f"P(−ξ²) = {show(sign)}",
            bool(abs(sign["p"] - 0.5) < 3.29 * 0.5 / np.sqrt(sign["trials"])),
        )
    )
    found += claims_of_flow(numbers)
    if not numbers["full"]:
        return found
    smeared = midpoint(results["random"])
    found.append(
        Claim(
            "random memories: crosstalk smears the edge towards weaker noise",
            f"half moved at σ = {smeared:.3f}, orthogonal {midpoint(idp):.3f}",
            smeared < midpoint(idp) - 0.05,
        )
    )
    at_two = [results[name]["noises"].index(2.0) for name in ("orthogonal", "classic")]
    both = [
        (results[name]["moved"][index], results[name]["overlap"][index]["mean"])
        for name, index in zip(("orthogonal", "classic"), at_two, strict=True)
    ]
    found.append(
        Claim(
            "classic with a constant input moves too, to a lower overlap (σ = 2)",
            f"P = {show(both[1][0])}, |m2| = {both[1][1]:.3f} against {both[0][1]:.3f}",
            both[1][0]["low"] > 0.9 and both[1][1] < both[0][1],
        )
    )
    return found


EXPERIMENT = Experiment(
    name="noise_window",
    compute=compute,
    draw={"noise_window": draw},
    claims=claims,
    source="noise theory here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
