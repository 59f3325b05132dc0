"""Memory neurons that become fast: the two-layer network turns into input-driven plasticity.

Features x and memory neurons with a time constant τ_m, against the network of one layer that is
left for τ_m → 0: the same memories, inputs and starting state and, where there is noise, the same
Brownian motion of the features. (An entry's increment depends on the key, the step and the number
of the entry alone, and the features come first.) The state is a damaged memory 1, which an input
that holds mostly memory 1 restores; then another one moves it to memory 2. Run alone:
`python -m experiments.two_layer [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, below, claim, within
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import bands, constants, rounded

NUM_NEURONS = 256
WEIGHTS = ((2.0, 0.5, 0.5, 0.5), (0.0, 2.0, 0.5, 0.5))  # of the memories, in each input
SLOPE = 10.0
CORRUPTION = 0.2
ONSETS, T1 = (0.0, 2.0), 7.0
SAVE_EVERY = 0.0125
NOISES = (0.0, 0.5)
SEED = 2025
TRIALS, FINER_TRIALS = Sized(4, 64), 16
# Each time constant half the one before. Steps are a fifth of the smallest, at most.
TIME_CONSTANTS = Sized(*(tuple(0.2 / 2**k for k in range(n)) for n in (5, 6)))
STEP = Sized(0.0025, 0.00125)
# The features' coupling to themselves.
COUPLINGS = Sized({"kept": True}, {"kept": True, "zeroed": False})


def distances(
    key: Key[Array, ""],
    *,
    self_coupling: bool,
    time_constants: tuple[float, ...],
    dt: float,
    refinement: int = 0,
) -> dict[str, Array]:
    """How far features are from the network of one layer, at every noise (S) and τ_m (K).

    The largest distance of any entry at any saved time. Each refinement halves the step, on the
    same Brownian motion.
    """
    memory_key, start_key, noise_key = jax.random.split(key, 3)
    memories = hj.random_memories(
        memory_key, num_memories=len(WEIGHTS[0]), num_neurons=NUM_NEURONS, dtype=jnp.float32
    )
    inputs = hj.Schedule(ONSETS, hj.mixture(memories, jnp.array(WEIGHTS)))
    x0 = hj.corrupt(start_key, memories[0], CORRUPTION)

    def solve(model, strength):
        def features(t, state):
            del t
            return model.features(state)

        return hj.solve(
            model,
            inputs,
            x0,
            t1=T1,
            dt=dt / 2**refinement,
            noise=hj.AdditiveNoise(strength, hj.Gaussian(refinement=refinement)),
            key=noise_key,
            save_every=SAVE_EVERY,
            save_fn=features,
            solver=dfx.Heun(),
        )

    def two_layers(time_constant):
        return hj.TwoLayerHopfield(
            memories,
            activation=hj.Tanh(SLOPE),
            memory_time_constant=time_constant,
            self_coupling=self_coupling,
        )

    def at_noise(noise):
        limit = solve(two_layers(1.0).reduced(), noise)

        def distance(time_constant):
            model = two_layers(time_constant)
            found = solve(model, model.noise_strength(features=noise))
            return jnp.max(jnp.abs(found.saved - limit.saved))

        # Where each input has led.
        first, second = (jnp.abs(limit.overlaps[end]) for end in (at(ONSETS[1]), at(T1)))
        return {
            "distance": jax.vmap(distance)(jnp.array(time_constants)),
            "overlap": jnp.array([first[0], second[1]]),
        }

    return jax.vmap(at_noise)(jnp.array(NOISES))


def at(time: float) -> int:
    """The index of a saved time."""
    return round(time / SAVE_EVERY)


def compute(full: bool) -> dict[str, Any]:
    trials, couplings = TRIALS[full], COUPLINGS[full]
    sizes: dict[str, Any] = {"time_constants": TIME_CONSTANTS[full], "dt": STEP[full]}

    def run(coupling: str, trials: int, **options: Any) -> dict[str, np.ndarray]:
        trial = partial(distances, self_coupling=couplings[coupling], **sizes, **options)
        return hj.map_trials(
            trial, key=jax.random.key(SEED), trials=trials, label=f"two layers, {coupling}"
        )

    outcomes = side_by_side(*(partial(run, coupling, trials) for coupling in couplings))
    results = []
    for coupling, outcome in zip(couplings, outcomes, strict=True):
        for place, noise in enumerate(NOISES):
            distance = outcome["distance"][:, place].astype(float)
            results.append(
                {
                    "coupling": coupling,
                    "noise": noise,
                    "distance": bands(distance, 5),
                    "order": bands(np.log2(distance[:, :-1] / distance[:, 1:]), 5),
                    "overlap": rounded(outcome["overlap"][:, place].min(axis=0)),
                }
            )
    by_half_steps = None
    if full:  # by how much half the step changes a distance, at most
        finer = run("kept", FINER_TRIALS, refinement=1)["distance"]
        coarser = outcomes[0]["distance"][:FINER_TRIALS]
        by_half_steps = rounded(np.max(np.abs(finer / coarser - 1), axis=(0, 2)), 6)
    return {
        "settings": {
            "trials": trials,
            "trials_of_half_steps": FINER_TRIALS if full else 0,
            "law": "gaussian",
            "solver": "Heun",
            **sizes,
        }
        | constants(globals(), "SEED NUM_NEURONS WEIGHTS SLOPE CORRUPTION ONSETS T1 NOISES")
        | constants(globals(), "SAVE_EVERY"),
        "results": results,
        "by_half_steps": by_half_steps,
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """The distance from the limit against τ_m, and below it the orders between neighbours."""
    figure, (top, bottom) = drawing.panels(2, 1, 3.7, height_ratios=[1.5, 1], sharex=True)
    taus = np.array(numbers["settings"]["time_constants"])
    between = np.sqrt(taus[:-1] * taus[1:])
    for place, result in enumerate(numbers["results"]):
        kept = result["coupling"] == "kept"
        for ax, xs, name in ((top, taus, "distance"), (bottom, between, "order")):
            look = {
                "linewidth": 0.6,
                "elinewidth": 0.7,
                "markersize": 3.5 if kept else 5,
                "markerfacecolor": None if kept else "none",
                "label": rf"$\sigma$ = {result['noise']:g}, self-coupling {result['coupling']}",
            }
            band = zip(*(result[name][end] for end in ("median", "low", "high")), strict=True)
            drawing.error_bars(ax, xs, band, **drawing.look(place, **look))
    smallest = min(result["distance"]["median"][-1] for result in numbers["results"])
    guide = 0.6 * smallest * taus / taus[-1]
    top.plot(taus, guide, color="black", linewidth=0.8, linestyle=":", label="slope 1")
    bottom.axhline(1, color="black", linewidth=0.8, linestyle=":")
    top.set(ylabel="largest distance of features", yscale="log", xscale="log")
    bottom.set(
        xlabel=r"time constant $\tau_m$ of memory neurons (features: 1)",
        ylabel="local order",
        ylim=(0.55, 1.05),
    )
    top.yaxis.set_major_formatter("{x:g}")
    bottom.set_xticks(taus, [f"{tau:g}" for tau in taus])
    bottom.xaxis.set_minor_locator(NullLocator())
    title = f"median, 10%-90% of {numbers['settings']['trials']} trials"
    drawing.legend_below(figure, top, last=0, title=title, title_fontsize=6.5, ncols=2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results, smallest = numbers["results"], numbers["settings"]["time_constants"][-1]
    found = []
    for noise in NOISES:
        cells = [result for result in results if result["noise"] == noise]
        checks = []
        for cell in cells:
            low, median, high = (cell["order"][end][-1] for end in ("low", "median", "high"))
            text = (
                f"self-coupling {cell['coupling']}: {median:.3f} (10%-90%: {low:.3f} to "
                f"{high:.3f}), distance {cell['distance']['median'][-1]:.3f}"
            )
            # Of all trials the 10% and the 90%, not of their median.
            checks.append(within([low, high], 0.9, 1.1, text))
        found.append(
            claim(
                f"two layers → IDP as τ_m → 0, σ = {noise:g}: order 1 ± .1 at τ_m = {smallest:g}",
                *checks,
            )
        )
    if numbers["by_half_steps"]:
        found.append(
            claim(
                "the step does not matter: half of it changes no distance by more than 2%",
                below(max(numbers["by_half_steps"]), 0.02, "{:.2%} at most"),
            )
        )
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    quiet, noisy = (
        next(cell for cell in numbers["results"] if cell["noise"] == noise)["order"]["median"][-1]
        for noise in NOISES
    )
    return [
        "As the memory neurons' time constant falls to "
        f"{numbers['settings']['time_constants'][-1]:g} the features approach IDP with a local "
        f"order of {quiet:.2f}, and with noise on the features, the same Brownian motion for both, "
        f"of {noisy:.2f}."
    ]


EXPERIMENT = Experiment("two_layer", compute, draw, claims, found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
