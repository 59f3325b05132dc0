"""Thoughts that move on by themselves: how slow saliencies, their gain and noise decide it.

A network whose saliencies are driven by what it retrieves goes from memory to memory. Theory for
infinitely slow saliencies predicts the gain above which it never stops, how long it stays in each
memory and the map of saliencies from one memory to the next, without noise and with it. Here they
are measured with time constants up to 400 and extrapolated, the gain and the noise are varied
together, and memories that are not orthogonal are tried. Run alone:
`python -m experiments.thoughts [--full] [--redraw]`.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing, takeover
from experiments.claims import (
    Claim,
    Measured,
    above,
    agrees,
    below,
    claim,
    every,
    measured,
    near,
    show,
    within,
)
from experiments.common import Experiment, Sized
from experiments.numbers import constants, mean, rounded
from hopjax import plotting, theory

NUM_NEURONS, NUM_MEMORIES = 256, 8
DT, SAVE_EVERY = 0.05, 0.5
SEED = 2026
LENGTH = 36  # of a solve, in time constants of the saliencies
SETTLED = 8  # visits after which the saliency has forgotten how the sequence began
ENTER = 0.7  # a visit begins at this overlap

TIME_CONSTANTS = Sized((25.0, 50.0), (25.0, 50.0, 100.0, 200.0, 400.0))
TRIALS = Sized(2, 4)
QUIET = 0.02  # noise, without which nothing would ever leave a memory for a side
GAINS = (4.5, 5.0, 6.0)  # at this noise
NOISY = 6.0  # a gain
NOISES = Sized((0.3,), (0.1, 0.2, 0.3, 0.5))  # at that gain
LOW, HIGH, NUM_GAINS = 3.0, 4.2, 6  # where the threshold is looked for
ROUNDS = Sized(1, 3)  # each in one of the intervals of the one before
FAR = Sized((), (800.0, 1600.0, 3200.0))  # for equations of two memories only

# Of the diagram of gain and noise.
DIAGRAM_TIME, DIAGRAM_LENGTH, DIAGRAM_TRIALS = 100.0, 24, Sized(1, 2)
DIAGRAM_GAINS = Sized((3.4, 5.0, 8.0), (3.0, 3.4, 3.8, 4.2, 4.6, 5.0, 5.5, 6.0, 7.0, 8.0, 9.0))
DIAGRAM_NOISES = Sized((0.02, 0.5, 1.2), (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2))
STATES = ("collapsed", "disordered", "ordered")

# Other memories, at one gain and noise.
KINDS = {"orthogonal": None, "random": 0.0, "correlated, 0.1": 0.1, "correlated, 0.2": 0.2}
SETS, KINDS_TIME, KINDS_GAIN, KINDS_NOISE = Sized(1, 12), 50.0, 5.0, 0.1


def orthogonal() -> Float[Array, "P N"]:
    """A random choice, the same everywhere."""
    return hj.orthogonal_memories(
        num_memories=NUM_MEMORIES,
        num_neurons=NUM_NEURONS,
        key=jax.random.key(SEED),
        dtype=jnp.float32,
    )


def slow(t, state):
    del t
    return state[NUM_NEURONS:]


def run_trial(key: Key[Array, ""], cell: dict[str, Array], *, t1: float) -> dict[str, Array]:
    """The visits of a sequence, and the saliency with which each memory begins."""
    model = hj.SequentialHopfield(
        cell["memories"] if "memories" in cell else orthogonal(),
        gain=cell["gain"],
        time_constant=cell["time_constant"],
        self_coupling=True,
    )
    trajectory = hj.solve(
        model,
        jnp.zeros(NUM_NEURONS, jnp.float32),
        model.memories[0],
        t1=t1,
        dt=DT,
        noise=hj.AdditiveNoise(cell["noise"]),
        key=key,
        save_every=SAVE_EVERY,
        save_fn=slow,
        solver=hj.ExponentialAdams(),
    )
    visits = hj.Visits(max_visits=64, enter=ENTER).of(
        trajectory.ts, trajectory.overlaps, model.transition_matrix
    )
    place = jnp.searchsorted(trajectory.ts, visits["start"])
    place = jnp.minimum(place, len(trajectory.ts) - 1)
    saliency = trajectory.saved[place, visits["order"]]
    return {**visits, "saliency": jnp.where(visits["order"] >= 0, saliency, jnp.nan)}


def run(cells: list[tuple[float, float, float]], *, length: float, trials: int, label: str):
    """Trials of cells of (gain, noise, time constant), all as long as the first one needs."""
    gain, noise, time_constant = np.array(cells, np.float32).T
    found = hj.map_trials(
        partial(run_trial, t1=length * float(time_constant[0])),
        cells={"gain": gain, "noise": noise, "time_constant": time_constant},
        trials=trials,
        key=jax.random.key(SEED),
        label=label,
    )
    return [{name: values[place] for name, values in found.items()} for place in range(len(cells))]


def dwell_of(found: dict[str, np.ndarray], time_constant: float) -> np.ndarray:
    """The mean dwell time of each trial, once settled, in time constants of the saliencies."""
    dwell = np.where(found["ended"], found["dwell"], np.nan)[:, SETTLED:]
    complete = np.isinf(found["collapse"])
    return np.where(complete, np.nanmean(dwell, axis=1), np.nan) / time_constant


def map_error(found: dict[str, np.ndarray], gain: float, noise: float) -> np.ndarray:
    """Of each trial the mean relative error of the predicted next saliency, from each one."""
    saliency = found["saliency"]
    predicted = theory.next_saliency(np.nan_to_num(saliency, nan=2.0), gain, noise, hj.HardTanh())
    known = np.isfinite(saliency[:, 1:])
    error = np.where(known, saliency[:, 1:] / np.asarray(predicted)[:, :-1] - 1, np.nan)
    return np.nanmean(error, axis=1)


def threshold_on(gains: np.ndarray, found: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Of each trial the middle between the gains at which it ends and at which it does not."""
    ended = np.isfinite([cell["collapse"] for cell in found])
    return gains[0] + (ended.sum(axis=0) - 0.5) * (gains[1] - gains[0])


def threshold_between(
    first: list[dict[str, np.ndarray]], time_constant: float, *, rounds: int, trials: int
) -> dict[str, Any]:
    """The gain below which sequences end: of each trial, from grids that become finer."""
    gains = np.linspace(LOW, HIGH, NUM_GAINS)
    thresholds = threshold_on(gains, first)
    for _ in range(rounds - 1):
        width = (gains[1] - gains[0]) / 2
        gains = np.linspace(thresholds.min() - width, thresholds.max() + width, NUM_GAINS)
        cells = [(gain, QUIET, time_constant) for gain in gains]
        found = run(cells, length=LENGTH, trials=trials, label=f"threshold, {time_constant:g}")
        thresholds = threshold_on(gains, found)
    return {"thresholds": thresholds, "resolution": float(gains[1] - gains[0]) / 2}


# How what is measured at τ_s may differ from its limit, beside a term in 1/τ_s: docs/theory.md has
# a delay that hardly depends on τ_s as long as σ τ_s is small, and grows as √τ_s where it is large.
# Measured is what lies between, where a logarithm does as well.
LAWS = {
    "ln τ_s/τ_s": lambda taus: [1 / taus, np.log(taus) / taus],
    "τ_s^−½": lambda taus: [1 / taus, taus**-0.5],
}


def limit(
    numbers: dict[str, Any], cells: list[dict[str, Any]], law: str, least: float = 0.0
) -> Measured:
    """What was measured at all time constants, extrapolated; each is known to `least` at best."""
    taus = np.array(numbers["settings"]["time_constants"])
    columns = [np.ones_like(taus), *LAWS[law](taus)][: len(taus)]
    values, low, _ = drawing.with_ends(cells)
    weights = np.linalg.pinv(np.transpose(columns))[0]
    half = float(np.linalg.norm(weights * np.maximum(values - low, least)))
    value = float(weights @ values)
    return Measured(value, value - half, value + half)


def between(numbers: dict[str, Any], cells: list[dict[str, Any]], least: float = 0.0) -> Measured:
    """The limit by the first law, with ends that hold those by all laws."""
    found = [limit(numbers, cells, law, least) for law in LAWS]
    return Measured(
        found[0].value, min(each.low for each in found), max(each.high for each in found)
    )


def threshold_limit(numbers: dict[str, Any]) -> Measured:
    """The least gain for τ_s → ∞: the theory's, and what two memories leave unexplained there."""
    threshold = numbers["threshold"]
    pairs = zip(threshold["at"], threshold["two_memories"], strict=False)  # no others were measured
    rest = [cell | {"mean": cell["mean"] - explained} for cell, explained in pairs]
    value, low, high = between(numbers, rest, resolution(numbers))
    known = threshold["theory"]
    return Measured(known + value, known + low, known + high)


def compute(full: bool) -> dict[str, Any]:
    taus, trials = TIME_CONSTANTS[full], TRIALS[full]
    settings = [(gain, QUIET) for gain in GAINS] + [(NOISY, noise) for noise in NOISES[full]]
    looked = [(gain, QUIET) for gain in np.linspace(LOW, HIGH, NUM_GAINS)]
    dwells, errors, thresholds = [], [], []
    for tau in taus:
        cells = [(gain, noise, tau) for gain, noise in settings + looked]
        found = run(cells, length=LENGTH, trials=trials, label=f"time constant {tau:g}")
        of_cells = list(zip(found, settings, strict=False))
        dwells.append([dwell_of(cell, tau) for cell, _ in of_cells])
        errors.append([map_error(cell, *setting) for cell, setting in of_cells])
        first = found[len(settings) :]
        thresholds.append(threshold_between(first, tau, rounds=ROUNDS[full], trials=trials))
    results = []
    gains, noises = np.transpose(settings)
    predicted = rounded(theory.dwell_time(gains, noises, hj.HardTanh()))
    levels, fine = DIAGRAM_NOISES[full], np.linspace(0, max(DIAGRAM_NOISES[full]), 49)
    critical = rounded(theory.critical_gain(np.array([QUIET, *levels, *fine]), hj.HardTanh()))
    for place, (gain, noise) in enumerate(settings):
        values = np.array([row[place] for row in dwells])
        results.append(
            {
                "gain": gain,
                "noise": noise,
                "dwell": [mean(row) for row in values],
                "map_error": [mean(row[place], 5) for row in errors],
                "theory": predicted[place],
            }
        )
    found = np.array([cell["thresholds"] for cell in thresholds])
    threshold = {
        "at": [mean(row) for row in found],
        "resolution": rounded([cell["resolution"] for cell in thresholds]),
        "theory": critical[0],
        "two_memories": rounded(
            takeover.thresholds(
                [*taus, *FAR[full]],
                noise=QUIET,
                num_neurons=NUM_NEURONS,
                enter=ENTER,
                length=LENGTH,
            )
        ),
    }
    return {
        "settings": {"trials": trials, "time_constants": taus, "law": "gaussian"}
        | {"solver": "ExponentialAdams", "rounds": ROUNDS[full]}
        | constants(globals(), "SEED NUM_NEURONS NUM_MEMORIES DT SAVE_EVERY LENGTH SETTLED ENTER")
        | constants(globals(), "QUIET LOW HIGH NUM_GAINS DIAGRAM_TIME DIAGRAM_LENGTH")
        | constants(globals(), "KINDS_TIME KINDS_GAIN KINDS_NOISE")
        | {"far": FAR[full]},
        "results": results,
        "threshold": threshold,
        "diagram": diagram(full)
        | {"at_noises": critical[1 : 1 + len(levels)]}
        | {"boundary": {"noise": rounded(fine), "gain": critical[1 + len(levels) :]}},
        "kinds": other_memories(full),
    }


def state_of(found: dict[str, np.ndarray]) -> np.ndarray:
    """How each trial goes on, as an index into `STATES`."""
    wrong = found["skipped"] + found["repeated"] + found["disordered"] > 0
    return np.where(np.isfinite(found["collapse"]), 0, np.where(wrong, 1, 2))


def diagram(full: bool) -> dict[str, Any]:
    """What becomes of sequences at each gain and noise, and how long visits are."""
    gains, noises = DIAGRAM_GAINS[full], DIAGRAM_NOISES[full]
    cells = [(gain, noise, DIAGRAM_TIME) for noise in noises for gain in gains]
    trials = DIAGRAM_TRIALS[full]
    found = run(cells, length=DIAGRAM_LENGTH, trials=trials, label="gain and noise")
    shape = len(noises), len(gains)
    states = np.array([state_of(cell) for cell in found])
    shares = [(states == number).mean(axis=1).reshape(shape) for number in range(len(STATES))]
    return {
        "trials": trials,
        "gains": gains,
        "noises": noises,
        "shares": {name: rounded(each) for name, each in zip(STATES, shares, strict=True)},
    }


def other_memories(full: bool) -> list[dict[str, Any]]:
    """The share of right changes with memories that are not orthogonal, new ones in each cell."""
    keys = jax.random.split(jax.random.key(SEED), SETS[full])
    made = []
    for correlation in KINDS.values():
        for key in keys:
            sizes: dict[str, Any] = {"num_memories": NUM_MEMORIES, "num_neurons": NUM_NEURONS}
            if correlation is None:
                made.append(hj.orthogonal_memories(**sizes, key=key))
            else:
                made.append(hj.correlated_memories(key, **sizes, correlation=correlation))
    count = len(made)
    numbers = {"gain": KINDS_GAIN, "noise": KINDS_NOISE, "time_constant": KINDS_TIME}
    found = hj.map_trials(
        partial(run_trial, t1=DIAGRAM_LENGTH * KINDS_TIME),
        cells={
            "memories": np.array(made, np.float32),
            **{name: np.full(count, value, np.float32) for name, value in numbers.items()},
        },
        trials=1,
        key=jax.random.key(SEED),
        label="other memories",
    )
    results = []
    for place, kind in enumerate(KINDS):
        rows = {
            name: values[place * len(keys) : (place + 1) * len(keys), 0]
            for name, values in found.items()
        }
        changes = np.maximum(rows["count"] - 1, 1)
        results.append(
            {
                "kind": kind,
                "right": mean(rows["right"] / changes),
                "run": mean(rows["run"].astype(float)),
                "collapsed": int(np.isfinite(rows["collapse"]).sum()),
                "sets": len(keys),
            }
        )
    return results


def draw_limit(numbers: dict[str, Any]) -> Figure:
    """Dwell times and the threshold against 1/τ_s, with their extrapolations and the theory."""
    figure, (top, bottom) = drawing.panels(2, 1, 4.4, height_ratios=[1.6, 1], sharex=True)
    inverse = 1 / np.array(numbers["settings"]["time_constants"])
    for place, result in enumerate(numbers["results"]):
        label = rf"$\kappa$ = {result['gain']:g}, $\sigma$ = {result['noise']:g}"
        look = drawing.look(place % 4, linewidth=0.6, elinewidth=0.7, label=label)
        look["color"] = f"C{place}"
        drawing.error_bars(top, inverse, result["dwell"], **look)
        drawing.error_bars(top, [0], [between(numbers, result["dwell"])], **look | {"label": None})
        top.plot(-0.0012, result["theory"], marker=">", color=f"C{place}", clip_on=False)
    look = drawing.look(0, color="black", linewidth=0.6, elinewidth=0.7)
    threshold = numbers["threshold"]
    drawing.error_bars(bottom, inverse, threshold["at"], **look)
    drawing.error_bars(bottom, [0], [threshold_limit(numbers)], **look)
    far = np.append(inverse, 1 / np.array(numbers["settings"]["far"]))
    dashed = {"color": "black", "linewidth": 0.8, "linestyle": "--", "zorder": 0}
    bottom.plot(far, threshold["two_memories"], **dashed, label="two memories, no free parameter")
    bottom.legend(loc="upper right")
    bottom.plot(-0.0012, threshold["theory"], marker=">", color="black", clip_on=False)
    top.set(ylabel=r"dwell time / $\tau_s$")
    bottom.set(
        xlabel=r"1 / $\tau_s$  (at 0: extrapolated; arrows: theory for $\tau_s \to \infty$)",
        ylabel=r"least gain $\kappa_c$",
        xlim=(-0.002, 1.05 * inverse.max()),
    )
    drawing.legend_below(figure, top, ncols=2)
    return figure


def draw_diagram(numbers: dict[str, Any]) -> Figure:
    """What becomes of sequences, with the predicted boundary; dwell times against noise."""
    figure, (left, right) = drawing.panels(1, 2, 2.4, width_ratios=[1.5, 1])
    found = numbers["diagram"]
    gains, noises = np.array(found["gains"]), np.array(found["noises"])
    looks = {"ordered": "o", "disordered": "s", "collapsed": "x"}
    for place, (name, marker) in enumerate(looks.items()):
        shares = np.array(found["shares"][name], float)
        rows, columns = np.nonzero(shares > 0)
        left.scatter(
            gains[columns],
            noises[rows],
            s=18 * shares[rows, columns],
            marker=marker,
            color=plotting.COLOURS[place],
            linewidths=0.8,
            label=name,
        )
    boundary = found["boundary"]
    left.plot(boundary["gain"], boundary["noise"], color="black", label=r"theory, $\kappa_c$")
    left.set(
        xlabel=r"gain $\kappa$",
        ylabel=r"noise $\sigma$",
        xlim=(gains.min() - 0.3, gains.max() + 0.3),
    )
    noisy = [result for result in numbers["results"] if result["gain"] == NOISY]
    noisy.sort(key=lambda result: result["noise"])
    sigma = [result["noise"] for result in noisy]
    look = drawing.look(0, linestyle="none", label=r"extrapolated, $\kappa$ = 6")
    drawing.error_bars(right, sigma, [between(numbers, each["dwell"]) for each in noisy], **look)
    right.plot(sigma, [result["theory"] for result in noisy], color="black", label="theory")
    right.set(xlabel=r"noise $\sigma$", ylabel=r"dwell time / $\tau_s$")
    drawing.legend_below(figure, left, right, ncols=3)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results, threshold, found = numbers["results"], numbers["threshold"], numbers["diagram"]
    quiet = [result for result in results if result["noise"] == QUIET]
    noisy = [result for result in results if result["noise"] != QUIET]
    slowest = numbers["settings"]["time_constants"][-1]
    gains, critical = np.array(found["gains"]), np.array(found["at_noises"])[:, None]
    states = {name: np.array(share, float) for name, share in found["shares"].items()}
    beyond, short = gains > 1.1 * critical, gains < 0.85 * critical
    least = [gains[row == 1].min() for row in states["ordered"]]
    by_law = [limit(numbers, threshold["at"], law, resolution(numbers)) for law in LAWS]
    without = show(*by_law, joined=" and ")
    slow = [  # two time constants, as at quick size, say nothing of where they lead
        claim(
            f"from memory to memory the map of saliencies holds within 1% (mean, τ_s = {slowest:g}"
            "; κ = 4.5, 5, 6)",
            within([result["map_error"][-1] for result in quiet], -0.01, 0.01, "{} at most"),
        ),
        *(
            claim(
                f"dwell times for τ_s → ∞ are the theory's, {what} (intervals hold fits of two "
                "laws)",
                *(
                    agrees(
                        between(numbers, result["dwell"]),
                        result["theory"],
                        f"{name} = {result[key]:g}: {{}}, theory {{}}",
                    )
                    for result in chosen
                ),
            )
            for what, chosen, name, key in (
                (f"σ = {QUIET:g}", quiet, "κ", "gain"),
                (f"with noise, κ = {NOISY:g}", noisy, "σ", "noise"),
            )
        ),
        claim(
            "the gain below which sequences end is that of the equations for two memories, which "
            "have no free parameter, at every τ_s ({})",
            *(
                near(
                    cell | {"half_width": max(cell["half_width"], finest)},
                    expected,
                    0.05,
                    f"τ_s = {tau:g}: {{}}, equations {{:.3f}}",
                )
                for tau, cell, finest, expected in zip(
                    numbers["settings"]["time_constants"],
                    threshold["at"],
                    threshold["resolution"],
                    threshold["two_memories"],
                    strict=False,  # equations are solved at other τ_s too
                )
            ),
        ),
        claim(
            "and it is 4 for τ_s → ∞ ({})",
            near(
                threshold_limit(numbers),
                4,
                0.05,
                f"{{}} (interval holds fits of two laws to what these equations leave); theory at "
                f"this noise {threshold['theory']:.3f}. Without these equations the laws give "
                f"{without} ({' and '.join(LAWS)})",
            ),
        ),
    ]
    made = [
        *(slow if numbers["full"] else []),
        claim(
            "noise shortens visits: each step of noise does, at every τ_s",
            below(
                [
                    measured(less).over(more)
                    for one, two in pairwise([quiet[-1], *noisy])
                    for less, more in zip(two["dwell"], one["dwell"], strict=True)
                ],
                1,
                symbol="ratio",
            ),
        ),
        claim(
            "all sequences go on in order where the gain is 10% above the predicted boundary",
            every(int((states["ordered"][beyond] == 1).sum()), int(beyond.sum()), "{} of {} cells"),
        ),
        claim(
            f"and none goes on where it is 15% below (τ_s = {DIAGRAM_TIME:g})",
            every(int((states["collapsed"][short] == 1).sum()), int(short.sum()), "{} of {} cells"),
        ),
        claim(
            "no noise makes up for gain: the least gain at which all go on never falls with noise",
            every(sum(a <= b for a, b in pairwise(least)), len(least) - 1, "{} of {} steps"),
        ),
    ]
    if numbers["full"]:
        kinds = {kind["kind"]: kind for kind in numbers["kinds"]}
        made.append(
            claim(
                "random memories, and such as overlap by .1, follow each other in order as "
                "orthogonal ones do ({}); those that overlap by .2 stop after a few ({})",
                above(
                    [kinds[name]["right"] for name in ("random", "correlated, 0.1")],
                    0.95,
                    symbol="share of right changes",
                ),
                below(kinds["correlated, 0.2"]["run"], 5, symbol="changes"),
            )
        )
    return made


def resolution(numbers: dict[str, Any]) -> float:
    """How finely a threshold was looked for, at the worst."""
    return max(numbers["threshold"]["resolution"])


EXPERIMENT = Experiment(
    "thoughts",
    compute,
    {"thoughts_limit": draw_limit, "thoughts_noise": draw_diagram},
    claims,
    source="theory of sequences",
)

if __name__ == "__main__":
    EXPERIMENT.main()
