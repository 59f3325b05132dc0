"""The cheapest pulse that switches a network from one memory to another: noise makes it cheaper.

The state starts in memory 1; an input that favours memory 2 is on for a while, in windows whose
strengths are tuned for the least energy ∫ |u|²/N dt at which nearly all trials change over (least
total |u| would be an impulse, as short and strong as is allowed). Its height is then what brings
95% of trials into memory 2 for good. The classic network gets the input as a current and keeps its
memories without one. IDP has an input that holds both memories alike, to which the pulse adds. The
cheapest pulse of constant strength, by brute force, stands beside it. Run alone:
`python -m experiments.pulse [--full] [--redraw]`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, below, claim, show, within
from experiments.common import Experiment, Sized
from experiments.numbers import constants, proportion, rounded

NUM_NEURONS, NUM_MEMORIES = 256, 4
WINDOWS, WINDOW = 8, 0.5  # the pulse: how many, and how long
START_NOISE = 0.5  # of the start around memory 1
HELD = 2.0  # IDP: weight of memories 1 and 2 without the pulse
# What counts is the end, where these steps are safe (docs/how-to/steps.md).
DT, LAW, SOLVER = 0.05, "binomial", hj.ExponentialAdams()
# Tuned is where a trial is soon after the pulse, on the one side or the other; what counts is
# whether it is in memory 2 long after it, averaged over the last time.
TUNED_T1, TUNED_THRESHOLD, TUNED_TO = 6.0, 0.5, 0.98
T1, THRESHOLD, SETTLE = 12.0, 0.8, 1.0
WANTED, MARGIN = 0.95, 0.025  # P(switch), and for the trials that find the height
STRONGEST = {"classic": 4.0, "idp": 80.0}
START = {"classic": 1.3, "idp": 25.0}
MODELS = {"classic": "classic: pulse of current", "idp": "IDP: pulse of plasticity"}
SEED = 2025

NOISES: Sized[dict[str, tuple[float, ...]]] = Sized(
    {"classic": (0.0, 0.7)},
    {"classic": (0.0, 0.2, 0.4, 0.5, 0.6, 0.7), "idp": (1.1, 1.2, 1.3, 1.4, 1.5)},
)
STEPS, BATCH, VERIFY = Sized(20, 200), Sized(32, 128), Sized(200, 2000)
HEIGHTS = np.geomspace(0.7, 1.6, 20)  # relative to the tuned one; at the quick size no search ...
QUICK_HEIGHT = 1.15  # ... but this
HEIGHT_TRIALS = 500
QUIET = (0.0, 0.4)  # noises at which IDP is shown the strongest pulse of all


def trial(
    key: Key[Array, ""],
    pulse: Float[ArrayLike, " W"],
    noise: Float[ArrayLike, ""] = 0.0,
    *,
    model: str,
) -> hj.Trial:
    memory_key, start_key = jax.random.split(key)
    memories = hj.random_memories(
        memory_key, num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS, dtype=jnp.float32
    )
    held = HELD if model == "idp" else 0.0
    weights = jnp.zeros((WINDOWS + 1, NUM_MEMORIES)).at[:, :2].set(held)
    weights = weights.at[:-1, 1].add(pulse)
    x0 = memories[0] + START_NOISE * jax.random.normal(start_key, (NUM_NEURONS,), jnp.float32)
    return hj.Trial(
        hj.IDPHopfield(memories) if model == "idp" else hj.ClassicHopfield(memories),
        hj.Schedule(WINDOW * np.arange(WINDOWS + 1), hj.mixture(memories, weights)),
        HELD * x0 if model == "idp" else x0,
        hj.AdditiveNoise(noise, LAW),
        target=1,
    )


def energy(pulse: Float[ArrayLike, "*cells W"], model: str) -> Float[np.ndarray, "*cells"]:
    """What a pulse adds to the energy of the input, for orthogonal memories."""
    pulse = np.asarray(pulse, float)
    held = HELD if model == "idp" else 0.0
    return WINDOW * np.sum((held + pulse) ** 2 - held**2, axis=-1)


def criterion(model: str, threshold: float = THRESHOLD, **options: Any) -> hj.Criterion:
    # IDP is odd: −ξ is as good as ξ.
    return hj.Criterion(threshold, mirror=model == "idp", **options)


def switched(
    model: str,
    pulses: Float[np.ndarray, "cells W"],
    noises: Float[ArrayLike, " cells"],
    trials: int,
    seed: int,
) -> Float[np.ndarray, "cells trials"]:
    """For each pulse at its noise, in which trials memory 2 is retrieved long after it."""
    judge = criterion(model, settle=SETTLE)

    def run(key: Key[Array, ""], cell: tuple[Array, Array]) -> Array:
        trial_key, noise_key = jax.random.split(key)
        made = trial(trial_key, *cell, model=model)
        start = made.model, made.inputs, made.x0
        options = {"t1": T1, "dt": DT, "solver": SOLVER, "throw": False}
        trajectory = hj.solve(*start, noise=made.noise, key=noise_key, **options)
        return judge.of(made.model, made.target).decisive(trajectory)[0] > 0

    cells = (np.asarray(pulses, np.float32), np.asarray(noises, np.float32))
    return hj.map_trials(
        run, key=jax.random.key(seed), trials=trials, label=f"{model}, pulses", cells=cells
    )


def tune(full: bool, model: str, noise: float) -> hj.Tuning:
    """The shape of a pulse."""
    steps, flat = STEPS[full], np.full(WINDOWS, START[model])
    retrieval = hj.RetrievalLoss(temperature=0.1, straight_through=True, at_least=TUNED_TO)
    return hj.tune(
        eqx.Partial(trial, noise=jnp.asarray(noise), model=model),
        {"pulse": flat},
        loss=1000 * retrieval + hj.InputCost() * (1 / float(energy(flat, model))),
        key=jax.random.key(SEED),
        t1=TUNED_T1,
        dt=DT,
        solver=SOLVER,
        bounds={"pulse": (0.0, STRONGEST[model])},
        # Few trials are about to change sides, and their gradients are large: clip them.
        optimiser=optax.chain(
            optax.clip_by_global_norm(0.1),
            optax.adam(optax.cosine_decay_schedule(0.3, steps, alpha=0.05), b1=0.8, b2=0.99),
        ),
        trials=BATCH[full],
        steps=steps,
        verify=1,  # that comes below, for longer
        criterion=criterion(model, TUNED_THRESHOLD, settle=WINDOW, judge="instants"),
    )


def of_model(full: bool, model: str) -> list[dict[str, Any]]:
    """The cheapest pulses of tuned and of constant shapes at every noise."""
    noises = NOISES[full][model]
    results: list[dict[str, Any]] = []
    shapes = []
    for noise in noises:
        tuning = tune(full, model, noise)
        shapes.append(tuning.parameters["pulse"])
        results.append({"model": model, "noise": noise, "reason": tuning.reason})
    shapes = np.array(shapes)
    found = {"tuned": QUICK_HEIGHT * shapes}
    if full:
        # Rectangles of every duration, at first with the energy of the tuned shape.
        on = np.arange(WINDOWS) < np.arange(1, WINDOWS + 1)[:, None]
        levels = np.sqrt(np.sum(shapes**2, axis=1, keepdims=True) / np.sum(on, axis=1))
        found = {
            "tuned": cheapest(model, shapes[:, None], noises),
            "constant": cheapest(model, levels[..., None] * on, noises),
        }
    fresh = switched(
        model,
        np.concatenate(list(found.values())),
        np.tile(noises, len(found)),
        VERIFY[full],
        SEED + 2,
    )
    fresh = dict(zip(found, np.split(fresh, len(found)), strict=True))
    for kind, pulses in found.items():
        for result, pulse, trials in zip(results, pulses, fresh[kind], strict=True):
            result[kind] = {
                "pulse": rounded(pulse),
                "energy": round(float(energy(pulse, model)), 4),
                "total": round(float(WINDOW * np.sum(pulse)), 4),
                "switched": proportion(trials),
            }
    return results


def cheapest(
    model: str, shapes: Float[np.ndarray, "noises shapes W"], noises: tuple[float, ...]
) -> Float[np.ndarray, "noises W"]:
    """At each noise the pulse of least energy that is enough, of its shapes at all heights."""
    pulses = (HEIGHTS[:, None] * shapes[:, :, None]).reshape(len(noises), -1, WINDOWS)
    at = np.repeat(noises, pulses.shape[1])
    rates = switched(model, pulses.reshape(-1, WINDOWS), at, HEIGHT_TRIALS, SEED + 1).mean(axis=1)
    enough = rates.reshape(pulses.shape[:2]) >= WANTED + MARGIN
    if not enough.any(axis=1).all():
        raise RuntimeError(f"No pulse of {model} is high enough at one of the noises {noises}.")
    best = np.argmin(np.where(enough, energy(pulses, model), np.inf), axis=1)
    return pulses[np.arange(len(noises)), best]


def compute(full: bool) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "settings": constants(globals(), "NUM_NEURONS NUM_MEMORIES WINDOW WINDOWS HELD DT LAW T1")
        | constants(globals(), "THRESHOLD WANTED MARGIN TUNED_TO STRONGEST SEED"),
        "results": [result for model in NOISES[full] for result in of_model(full, model)],
    }
    if full:
        strongest = np.full((len(QUIET), WINDOWS), STRONGEST["idp"])
        found = switched("idp", strongest, np.array(QUIET), VERIFY[full], SEED + 2)
        numbers["quiet"] = [
            {"noise": noise, "switched": proportion(each)}
            for noise, each in zip(QUIET, found, strict=True)
        ]
    return numbers


def of(numbers: dict[str, Any], model: str) -> list[dict[str, Any]]:
    return [each for each in numbers["results"] if each["model"] == model]


def draw(numbers: dict[str, Any]) -> Figure:
    models = [model for model in MODELS if of(numbers, model)]
    figure, axes = drawing.panels(2, len(models), 3.6, squeeze=False)
    edges = WINDOW * np.arange(WINDOWS + 1)
    for (upper, lower), model in zip(axes.T, models, strict=True):
        results = of(numbers, model)
        for place, each in enumerate(results):
            upper.stairs(
                each["tuned"]["pulse"],
                edges,
                baseline=None,
                color=plt.get_cmap("viridis")(0.9 * place / max(1, len(results) - 1)),
                label=rf"$\sigma$ = {each['noise']:g}",
                linewidth=1,
            )
        top = 1.4 * max(max(each["tuned"]["pulse"]) for each in results)  # room for the legend
        upper.set(xlabel="time $t$", title=MODELS[model], ylim=(0, top), xlim=(0, edges[-1]))
        upper.legend(fontsize=5, ncols=2, handlelength=1, columnspacing=0.8)
        noises = [each["noise"] for each in results]
        kinds = {"tuned": "tuned", "constant": "constant strength"}
        for place, (kind, label) in enumerate(kinds.items()):
            if kind in results[0]:
                lower.plot(
                    noises,
                    [each[kind]["energy"] for each in results],
                    label=label,
                    **drawing.look(place, markersize=3.5),
                )
        most = max(each[kind]["energy"] for each in results for kind in kinds if kind in each)
        lower.set(xlabel=r"noise $\sigma$", ylim=(0, 1.15 * most))
        lower.legend(loc="lower left")
    axes[0, 0].set_ylabel("strength of the pulse")
    axes[1, 0].set_ylabel("energy of the pulse")
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    """The energy of a pulse is exact: it follows from its strengths."""
    made = []
    for model, title in MODELS.items():
        results = of(numbers, model)
        if not results:
            continue
        name = title.partition(":")[0]
        tuned = [each["tuned"] for each in results]
        energies = [each["energy"] for each in tuned]
        cheap = int(np.argmin(energies))
        made += [
            claim(
                f"{name}: tuned pulses switch to memory 2 at every noise ({{}})",
                above([each["switched"] for each in tuned], 0.94),
            ),
            claim(
                f"{name}: noise makes the switch cheaper, by half at least",
                below(
                    energies[cheap],
                    0.5 * energies[0],
                    f"energy {energies[0]:.3g} at σ = {results[0]['noise']:g}, "
                    f"{{:.3g}} at {results[cheap]['noise']:g}",
                ),
            ),
        ]
        constant = [each["constant"]["energy"] for each in results if "constant" in each]
        if constant:
            ratios = [own / other for own, other in zip(energies, constant, strict=True)]
            made.append(
                claim(
                    f"{name}: the tuned pulse costs what the cheapest of constant strength does, "
                    "within a fifth",
                    within(ratios, 0.8, 1.2, f"{min(ratios):.2f} to {max(ratios):.2f} of it"),
                )
            )
    if "quiet" in numbers:
        made.append(
            claim(
                f"IDP: up to σ = {max(QUIET):g} a pulse of {STRONGEST['idp']:g} is not enough "
                "({})",
                below([each["switched"] for each in numbers["quiet"]], WANTED),
            )
        )
    return made


def found(numbers: dict[str, Any]) -> list[str]:
    energies = {
        model: {each["noise"]: each["tuned"]["energy"] for each in of(numbers, model)}
        for model in MODELS
    }
    ratios = [each["tuned"]["energy"] / each["constant"]["energy"] for each in numbers["results"]]
    most = max((each["switched"] for each in numbers["quiet"]), key=lambda each: each["high"])
    moving = sum("still on its way" in each["reason"] for each in numbers["results"])
    return [
        "What does it cost to switch a network from one memory to another? The energy of a pulse "
        f"of current that switches the classic network in at least {WANTED:.0%} of trials falls "
        f"from {energies['classic'][0.0]:.2f} without noise to {energies['classic'][0.7]:.2f} at "
        f"σ = 0.7, that of a pulse of plasticity from {energies['idp'][1.1]:.0f} at σ = 1.1 to "
        f"{energies['idp'][1.5]:.0f} at 1.5; up to σ = {max(QUIET):g} a pulse as strong as "
        f"{STRONGEST['idp']:g} switches IDP in {show(most)} at most. What counts is the noise, not "
        f"the shape: tuned pulses cost {min(ratios):.2f} to {max(ratios):.2f} of the cheapest of "
        f"constant strength, of heights that are {HEIGHTS[1] ** 2 / HEIGHTS[0] ** 2 - 1:.0%} apart "
        f"in energy, though {moving} of {len(ratios)} shapes still moved when tuning ended."
    ]


EXPERIMENT = Experiment("pulse", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
