"""What the flow of the mean leaves out: fluctuations of order 1/√N, measured against simulation.

`theory.noisy_flow` is a noisy retrieval for infinitely many neurons with the memories at hand. For
random memories of three sizes it is laid over trials of the same memories: where a state stays in
a well the mean error and the error of one trial are measured, and near the noise that frees a
state from a memory how often flow and trial end alike, beside how often two trials do. Run alone:
`python -m experiments.flow_error [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, agrees, claim, measured, near, show
from experiments.common import Experiment, Sized
from experiments.noise_window import ALPHA, SLOPE, SUCCESS, draw_random
from experiments.numbers import constants, rounded
from hopjax import plotting, theory

DT, T1, SAVE_EVERY = 0.01, 20.0, 0.1
SETTLED = 10.0  # from when on a state is at rest in its well
HELD = 2.7  # noise that memory 2 withstands, with an overlap that the noise reduces plainly
FLIPPED = 0.3  # share of wrong signs of the cue that leads there
# Noise at which about half of the sets let the state go from memory 1 to memory 2 within T1.
EDGE = {256: 1.05, 1024: 1.15, 4096: 1.22}
SETS = Sized({256: 8, 1024: 4}, {256: 400, 1024: 200, 4096: 100})
DRAWS = 8  # trials of each set at the edge, and at a time
# Times as many in the well, where a small mean is measured.
TIMES = Sized({256: 1, 1024: 1}, {256: 2, 1024: 4, 4096: 4})
RESAMPLINGS = 2000
SEED = 2025


def run_set(key: Key[Array, ""], *, num_neurons: int, times: int) -> dict[str, Any]:
    """Overlaps with memory 2 over time for one set of memories, by flow and by trials.

    From a cue of memory 2, of shapes (T,) and (draws, T), and from memory 1, near its edge.
    """
    memory_key, cue_key, noise_key = jax.random.split(key, 3)
    model, u = draw_random(memory_key, num_neurons)
    memories, alpha = model.memories, jnp.asarray(ALPHA)
    wrong = jax.random.permutation(cue_key, num_neurons) < round(FLIPPED * num_neurons)
    cue = jnp.where(wrong, -memories[1], memories[1])
    starts = jnp.stack([alpha[1] * cue, alpha[0] * memories[0]])
    noises = jnp.asarray([HELD, EDGE[num_neurons]])

    def follow(cell):
        noise, x0 = cell
        flow = theory.noisy_flow(model, u, x0, noise=noise, t1=T1, dt=DT, save_every=SAVE_EVERY)
        return flow.overlaps[:, 1]

    def run(cell):
        (noise, x0), key = cell

        def trial(key):
            additive = hj.AdditiveNoise(noise)
            trajectory = hj.solve(
                model, u, x0, t1=T1, dt=DT, noise=additive, key=key, save_every=SAVE_EVERY
            )
            return trajectory.overlaps[:, 1]

        return jax.vmap(trial)(jax.random.split(key, DRAWS))

    flow = jax.lax.map(follow, (noises, starts))
    cells = np.array([0] * times + [1])
    keys = jax.random.split(noise_key, len(cells))
    trials = jax.lax.map(run, ((noises[cells], starts[cells]), keys))
    return {
        "held": {"flow": flow[0], "trials": jnp.concatenate(trials[:-1])},
        "edge": {"flow": flow[1], "trials": trials[-1]},
    }


def compute(full: bool) -> dict[str, Any]:
    sets, times = SETS[full], TIMES[full]
    held, edge = {}, {}
    for size, number in sets.items():
        outcome = hj.map_trials(
            partial(run_set, num_neurons=size, times=times[size]),
            key=jax.random.fold_in(jax.random.key(SEED), size),
            trials=number,
            label=f"flow and trials, {size} neurons",
            one_by_one=True,
        )
        held[size] = errors(**outcome["held"])
        edge[size] = agreement(**outcome["edge"]) | {"noise": EDGE[size]}
    return {
        "settings": {
            "sets": list(sets.values()),
            "draws": {"held": [DRAWS * times[size] for size in sets], "edge": DRAWS},
            "slope": SLOPE,
            "law": "gaussian",
        }
        | constants(globals(), "SEED ALPHA DT T1 SETTLED HELD FLIPPED SUCCESS"),
        "sizes": list(sets),
        "held": summarise(held),
        "edge": [edge[size] for size in sets],
    }


def errors(
    flow: Float[np.ndarray, "sets T"], trials: Float[np.ndarray, "sets draws T"]
) -> dict[str, np.ndarray]:
    """For each set: mean of trials minus flow, once settled, and the mean square over all times."""
    apart = trials - flow[:, None]
    settled = round(SETTLED / SAVE_EVERY)
    return {
        "shift": apart[:, :, settled:].mean(axis=(1, 2)),
        "square": (apart[:, :, 1:] ** 2).mean(axis=(1, 2)),
        "overlap": flow[:, settled:].mean(axis=1),
    }


def summarise(held: dict[int, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Errors at each size, and their powers of N, with intervals by bootstrap of the sets."""
    generator = np.random.default_rng(SEED)
    sizes = np.array(list(held))
    shift, error = np.empty((2, len(sizes), 1 + RESAMPLINGS))
    for place, each in enumerate(held.values()):
        number = len(each["shift"])
        draws = generator.integers(number, size=(RESAMPLINGS, number))
        draws = np.concatenate([np.arange(number)[None], draws])  # first those that there are
        shift[place] = each["shift"][draws].mean(axis=1)
        error[place] = np.sqrt(each["square"][draws].mean(axis=1))
    return {
        "overlap": rounded([each["overlap"].mean() for each in held.values()]),
        "shift": [with_interval(row, 6) for row in shift],
        "error": [with_interval(row, 5) for row in error],
        "powers": {
            "shift": with_interval(power(sizes, np.abs(shift)), 3),
            "error": with_interval(power(sizes, error), 3),
        },
    }


def with_interval(values: np.ndarray, digits: int) -> dict[str, float]:
    """What was measured, the first value, with the 95% interval of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    found = {"mean": values[0], "low": low, "high": high}
    return {name: rounded(value, digits) for name, value in found.items()}


def power(sizes: np.ndarray, errors: Float[np.ndarray, "sizes n"]) -> Float[np.ndarray, " n"]:
    """Slopes of log error against log N, by least squares.

    Sizes weigh by how well their error is known.
    """
    logs = np.log(errors)
    weights = 1 / np.maximum(logs[:, 1:].std(axis=1), 1e-6)
    return np.polyfit(np.log(sizes), logs, 1, w=weights)[0]


def agreement(
    flow: Float[np.ndarray, "sets T"], trials: Float[np.ndarray, "sets draws T"]
) -> dict[str, Any]:
    """Shares that moved to memory 2, and of pairs that end alike."""
    last = round(1 / SAVE_EVERY)
    predicted, simulated = (
        np.abs(overlaps[..., -last:]).mean(axis=-1) > SUCCESS for overlaps in (flow, trials)
    )
    sign = np.where(simulated, np.sign(trials[..., -1]), 0)
    both = predicted & simulated.any(axis=1)
    first, second = np.triu_indices(simulated.shape[1], 1)
    return {
        "moved": {
            "flow": over_sets(predicted.astype(float)),
            "trials": over_sets(simulated.mean(axis=1)),
        },
        "same": {
            "flow": over_sets((simulated == predicted[:, None]).mean(axis=1)),
            "trials": over_sets((simulated[:, first] == simulated[:, second]).mean(axis=1)),
        },
        # Where both moved: whether to the same of memory 2 and its mirror image.
        "same_sign": over_sets(
            (
                (sign == np.sign(flow[:, None, -1])).sum(axis=1)
                / np.maximum(simulated.sum(axis=1), 1)
            )[both]
        ),
    }


def over_sets(values: Float[np.ndarray, " sets"]) -> dict[str, Any]:
    """A mean of shares with its 95% interval from the scatter over sets."""
    mean = values.mean() if len(values) else np.nan
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 1.0
    low, high = np.clip([mean - half, mean + half], 0, 1)
    return {"mean": rounded(mean), "low": rounded(low), "high": rounded(high)}


def draw(numbers: dict[str, Any]) -> Figure:
    figure, (left, right) = drawing.panels(1, 2, 2.3)
    sizes, held = np.array(numbers["sizes"]), numbers["held"]
    for name, label, exponent, place in (
        ("error", "of one trial (rms)", -0.5, 0),
        ("shift", "of the mean", -1.0, 1),
    ):
        middle, *ends = np.abs(drawing.with_ends(held[name]))
        colour = plotting.COLOURS[place]
        cells = zip(middle, *np.sort(ends, axis=0), strict=True)
        points = {"color": colour, "marker": "os"[place], "markersize": 3.5, "linestyle": "none"}
        drawing.error_bars(left, sizes, cells, label=label, **points)
        line = middle[0] * (sizes / sizes[0]) ** exponent
        scale = r"$\propto 1/\sqrt{N}$" if place == 0 else r"$\propto 1/N$"
        left.plot(sizes, line, color=colour, linewidth=0.7, linestyle="--", label=scale)
    left.set(xscale="log", yscale="log", xlabel="neurons $N$", ylabel="error of the overlap")
    for name, label, place in (
        ("flow", "flow and trial", 0),
        ("trials", "two trials", 2),
    ):
        drawing.error_bars(
            right,
            sizes,
            [edge["same"][name] for edge in numbers["edge"]],
            color=plotting.COLOURS[place],
            marker="o^^"[place],
            markersize=3.5,
            linewidth=0.7,
            linestyle=":",
            label=label,
        )
    right.set(
        xscale="log", xlabel="neurons $N$", ylabel="P(both move, or neither)", ylim=(0.68, 1.02)
    )
    for ax in (left, right):
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.legend(loc="best", fontsize=6)
    left.set_title("held in memory 2", fontsize=7)
    right.set_title("at the edge of memory 1", fontsize=7)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    held, same = numbers["held"]["powers"], [edge["same"] for edge in numbers["edge"]]
    found = [
        claim(
            "flow against one trial in a well: the overlap's rms error falls as N^−½ ({})",
            near(held["error"], -0.5, 0.1, "as N^{}"),
        ),
        claim(
            "near the edge of a memory, flow and trial end alike as often as two trials (−.1)",
            *(
                above(
                    each["flow"],
                    measured(each["trials"]).times(1, -0.1),
                    f"{size}: {show(each['flow'], each['trials'], joined=' and ')}",
                )
                for size, each in zip(numbers["sizes"], same, strict=True)
            ),
        ),
    ]
    if numbers["full"]:
        mean = agrees(held["shift"], -1, "as N^{}")
        found.insert(1, claim("flow against the mean of trials there: as 1/N", mean))
    return found


EXPERIMENT = Experiment("flow_error", compute, draw, claims, source="noise theory here")

if __name__ == "__main__":
    EXPERIMENT.main()
