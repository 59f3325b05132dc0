"""The firing-rate twin: rates between 0 and 1, memories of 0 and 1, three inputs in a row.

Input-driven plasticity with and without noise, and the classic network, which gets its input as a
pulse of current. A memory is judged by its centred overlap. The plain one, the mean activity of
the memory's active neurons, is drawn beside it: where all neurons are on, it shows all memories at
once. Run alone: `python -m experiments.firing_rate [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats

import hopjax as hj
from experiments import drawing, prose
from experiments.claims import Claim, above, below, claim, show
from experiments.common import Experiment, Sized
from experiments.numbers import bands, constants, proportion, rounded
from hopjax import plotting

NUM_NEURONS, NUM_MEMORIES = 1024, 10
DENSITY, SLOPE = 0.22, 10.0
NOISE = 0.45
WINDOW, PULSE = 20.0, 2.0
DT, SAVE_EVERY = 0.01, 0.2
BACKGROUND, DOMINANT = (0.5, 1.5), (9.0, 10.0)
KEPT = 0.5  # of memory 1's active entries, in the starting state
NUM_INPUTS = 3  # input j is dominated by memory j
RETRIEVED, SILENT = 0.5, 0.05  # centred overlap above, mean activity below
SEED = 2025
TRIALS = Sized(16, 300)

REFERENCE = (294, 232, 226)  # trials with the right memory largest, by an independent program
REFERENCE_TRIALS = 294
FALSE_ALARM = 1e-3  # of all comparisons with it together
NETWORKS = {
    "idp": rf"IDP, $\sigma$ = {NOISE:g}",
    "idp_quiet": r"IDP, $\sigma$ = 0",
    "classic": rf"classic, $\sigma$ = {NOISE:g}",
}


def draw_weights(key: Key[Array, ""]) -> Float[Array, "S P"]:
    """Weights of the memories in the three inputs."""
    background, dominant = jax.random.split(key)
    shape, rows = (NUM_INPUTS, NUM_MEMORIES), jnp.arange(NUM_INPUTS)
    low, high = BACKGROUND
    weights = jax.random.uniform(background, shape, jnp.float32, low, high)
    low, high = DOMINANT
    return weights.at[rows, rows].set(
        jax.random.uniform(dominant, (NUM_INPUTS,), jnp.float32, low, high)
    )


def run_trial(key: Key[Array, ""]) -> dict[str, dict[str, Array]]:
    """One trial of every network: over time the centred and plain overlaps and the mean activity.

    All get the same memories, weights, starting state and noise.
    """
    memory_key, weight_key, start_key, noise_key = jax.random.split(key, 4)
    sizes = {"num_memories": NUM_MEMORIES, "num_neurons": NUM_NEURONS}
    memories = hj.sparse_memories(memory_key, density=DENSITY, dtype=jnp.float32, **sizes)
    onsets = [WINDOW * window for window in range(NUM_INPUTS)]
    inputs = hj.Schedule(onsets, hj.mixture(memories, draw_weights(weight_key)))
    x0 = memories[0] * jax.random.bernoulli(start_key, KEPT, (NUM_NEURONS,))

    def run(input_as, noise):
        model = hj.FiringRateHopfield(memories, DENSITY, slope=SLOPE, input_as=input_as)

        def activity(t, state):
            del t
            rates = model.activity(state)
            return memories @ rates / memories.sum(axis=1), rates.mean()

        trajectory = hj.solve(
            model,
            inputs.pulsed(PULSE) if input_as == "current" else inputs,
            x0,
            t1=WINDOW * NUM_INPUTS,
            dt=DT,
            noise=hj.AdditiveNoise(noise),
            key=noise_key,
            save_every=SAVE_EVERY,
            save_fn=activity,
        )
        plain, mean = trajectory.saved
        return {"centred": trajectory.overlaps, "plain": plain, "mean": mean, "ok": trajectory.ok}

    idp = jax.vmap(partial(run, "plasticity"))(jnp.array([NOISE, 0.0]))
    noisy, quiet = (jax.tree.map(lambda leaf, place=place: leaf[place], idp) for place in (0, 1))
    return {"idp": noisy, "idp_quiet": quiet, "classic": run("current", NOISE)}


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    outcomes = hj.map_trials(
        run_trial, key=jax.random.key(SEED), trials=trials, label="firing rate"
    )
    return {
        "settings": {"trials": trials, "law": "gaussian"}
        | constants(globals(), "SEED NUM_NEURONS NUM_MEMORIES DENSITY SLOPE NOISE WINDOW PULSE")
        | constants(globals(), "BACKGROUND DOMINANT KEPT RETRIEVED SILENT DT SAVE_EVERY"),
        "reference": {"counts": REFERENCE, "trials": REFERENCE_TRIALS},
        "results": {network: summarise(outcomes[network]) for network in NETWORKS},
    }


def at(time: float) -> int:
    """The index of a saved time."""
    return round(time / SAVE_EVERY)


def summarise(outcome: dict[str, np.ndarray]) -> dict[str, Any]:
    """Bands over time, how each window ended, and the end of the first pulse."""
    centred, plain, mean = (outcome[name] for name in ("centred", "plain", "mean"))
    windows = []
    for window in range(NUM_INPUTS):
        end = at(WINDOW * (window + 1))
        largest = (values[:, end].argmax(axis=1) == window for values in (centred, plain))
        by_centred, by_plain = (proportion(each & outcome["ok"]) for each in largest)
        windows.append(
            {
                "largest": by_centred,
                "largest_plain": by_plain,
                "retrieved": proportion(centred[:, end, window] > RETRIEVED),
                "silent": proportion(mean[:, end] < SILENT),
                "centred": bands(centred[:, end, window]),
                "mean_activity": rounded(np.nanmean(mean[:, end])),
            }
        )
    pulse = at(PULSE)
    return {
        "diverged": int(np.sum(~outcome["ok"])),
        "windows": windows,
        # When a pulse would end: the memory with the least plain overlap, that with the most.
        "pulse": {
            "mean_activity": rounded(np.nanmean(mean[:, pulse])),
            "least_plain": bands(plain[:, pulse].min(axis=1)),
            "most_centred": bands(centred[:, pulse].max(axis=1)),
        },
        "centred": bands(centred[:, :, :NUM_INPUTS]),
        "plain": bands(plain[:, :, :NUM_INPUTS]),
        "mean_activity": bands(mean),
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A row for each network: centred overlaps, and plain ones beside the mean activity."""
    figure, axes = drawing.over_time(len(NETWORKS), 2, 4.3)
    settings = numbers["settings"]
    onsets = [settings["window"] * window for window in range(NUM_INPUTS)]
    t1 = settings["window"] * NUM_INPUTS
    ts = np.arange(at(t1) + 1) * settings["save_every"]
    for row, (network, label) in enumerate(NETWORKS.items()):
        result = numbers["results"][network]
        for ax, kind in zip(axes[row], ("centred", "plain"), strict=True):
            low, median, high = (np.array(result[kind][end]) for end in ("low", "median", "high"))
            for memory in range(NUM_INPUTS):
                band = median[:, memory], low[:, memory], high[:, memory]
                name = f"memory {memory + 1}"
                plotting.plot_band(ts, *band, place=memory, label=name, ax=ax)
            pulse = settings["pulse"] if network == "classic" else None
            drawing.mark_windows(ax, onsets, pulse, shade=0.12)
            ax.set(xlabel="", ylim=(-0.1, 1.22), yticks=[0, 0.5, 1])
            ax.tick_params(labelbottom=False, labelleft=kind == "centred")
        left, right = axes[row]
        right.plot(ts, result["mean_activity"]["median"], color="black", linestyle=":")
        left.set_ylabel(label)
        for window, onset in zip(result["windows"], onsets, strict=True):
            text = f"{100 * window['largest']['p']:.0f} ({100 * window['retrieved']['p']:.0f})"
            left.text(onset + settings["window"] / 2, 1.06, text, ha="center", fontsize=6)
    axes[0, 0].set_title(r"centred overlap $c_\mu$")
    axes[0, 1].set_title(r"plain overlap")
    drawing.strip_of_inputs(axes[-1], onsets, range(NUM_INPUTS), t1)
    note = (
        f"median, 10%-90% of {settings['trials']} trials; "
        rf"% right memory largest (above {settings['retrieved']:g})"
    )
    drawing.legend_below(
        figure,
        axes[0, 1],
        more={
            "mean activity": Line2D([], [], color="black", linestyle=":"),
            "pulse (last row)": Patch(color="black", alpha=0.12),
        },
        title=note,
        title_fontsize=6.5,
        columnspacing=1.2,
        handlelength=1.8,
    )
    return figure


def p_value(count: int, trials: int, expected: int) -> float:
    """Fisher's exact test of two counts having one probability."""
    table = [[count, trials - count], [expected, REFERENCE_TRIALS - expected]]
    return float(np.asarray(stats.fisher_exact(table)[1]))


def claims(numbers: dict[str, Any]) -> list[Claim]:
    noisy, quiet, classic = (numbers["results"][network] for network in NETWORKS)
    level = FALSE_ALARM / NUM_INPUTS
    later, pulse = quiet["windows"][1:], classic["pulse"]
    largest, retrieved, silent = (
        [window[name] for window in later] for name in ("largest", "retrieved", "silent")
    )
    means = " and ".join(f"{window['mean_activity']:.3f}" for window in later)
    return [
        *(
            claim(
                f"IDP, input {place}: the right memory is largest, as in {expected} of "
                f"{REFERENCE_TRIALS} (exact test, {{}})",
                above(
                    p_value(found["count"], found["trials"], expected),
                    level,
                    f"P = {show(found)}, p = {{:.2g}}",
                    symbol="p",
                ),
            )
            for place, (found, expected) in enumerate(
                zip([window["largest"] for window in noisy["windows"]], REFERENCE, strict=True), 1
            )
        ),
        claim(
            f"without noise most are silent when inputs 2 and 3 end (mean activity < {SILENT:g})",
            above(silent, 0.5, f"P = {show(*silent, joined=' and ')}, mean {means}"),
        ),
        claim(
            "there the largest overlap means nothing: it is right more often than "
            f"c > {RETRIEVED:g}",
            *(
                above(first, second, f"P = {{}}, c > {RETRIEVED:g} {{}}")
                for first, second in zip(largest, retrieved, strict=True)
            ),
        ),
        claim(
            "classic, on everywhere in a pulse: plain overlaps of all memories > .7, centred < .3",
            # Of all trials the 10% and the 90%, not of their median.
            above(
                pulse["least_plain"]["low"],
                0.7,
                f"mean activity {pulse['mean_activity']:.2f}, least plain "
                f"{pulse['least_plain']['median']:.2f}",
            ),
            below(
                pulse["most_centred"]["high"],
                0.3,
                f"largest centred {pulse['most_centred']['median']:.2f} (medians)",
            ),
        ),
    ]


def found(numbers: dict[str, Any]) -> list[str]:
    noisy, quiet, classic = (numbers["results"][network] for network in NETWORKS)
    right = [window["largest"] for window in noisy["windows"]]
    silent = [window["silent"] for window in quiet["windows"][1:]]
    pulse = classic["pulse"]
    return [
        f"Under noise of σ = {NOISE:g} the right memory is the largest at the end of the three "
        f"inputs in {prose.listed(right)}. Without noise {prose.listed(silent)} are silent at the "
        "ends of the second and third, and the largest overlap means nothing. A current that "
        f"switches on {pulse['mean_activity']:.0%} of the classic network gives all "
        f"{NUM_MEMORIES} memories plain overlaps of about {pulse['least_plain']['median']:.1f}, "
        f"but centred ones of at most {pulse['most_centred']['median']:.1f}."
    ]


EXPERIMENT = Experiment("firing_rate", compute, draw, claims, found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
