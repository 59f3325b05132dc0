"""How strong an input must be: found by gradient, beside brute force and the noise theory.

The state starts in memory 1, which the input holds most of, under noise. Two tasks: the strength
at which the mean overlap with memory 1 is 0.9, and the smallest one at which the overlap is above
0.9 in 95% of trials and instants, each tuned from three starts; then the first one again for other
noises. Judged once, by its mean over the late instants, 95% of trials need less. Run alone:
`python -m experiments.tuned_strength [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments.common import Claim, Experiment, rounded, side_by_side
from hopjax import plotting, theory

NUM_NEURONS = 512
WEIGHTS = (1.0, *[0.4] * 7)  # of the memories in the input, times the strength
SLOPE = 10.0
NOISE = 2.0
START_SCALE = 1.3  # of the start in memory 1, times the noise
DT, T1, SAVE_EVERY = 0.01, 10.0, 0.1
SETTLE = T1 / 2  # the saved instants from T1/2 on
LEVEL = 0.9  # of the overlap
GOALS = {"overlap": LEVEL, "probability": 0.95}
TITLES = {"overlap": "mean overlap", "probability": f"P(overlap > {LEVEL:g})"}
SEED = 2025
NEAR = 0.02  # how near to brute force the tuner must land

STARTS = {
    "quick": {"overlap": (4.0,), "probability": (2.5,)},
    "full": dict.fromkeys(GOALS, (1.5, 2.5, 4.0)),
}
BATCH = {"quick": 32, "full": 128}
STEPS = {"quick": 30, "full": 100}
VERIFY = {"quick": 256, "full": 2000}
BRUTE_TRIALS = {"quick": 200, "full": 4000}
STRENGTHS = {
    "quick": (2.5, 2.65, 2.8, 2.95),
    "full": (1.5, 2.0, 2.3, 2.5, 2.6, 2.63, 2.7, 2.76, 2.78, 2.8, 2.82, 2.9, 3.0, 3.5, 4.0),
}
OTHER_NOISES = {"quick": (), "full": (0.25, 0.5, 1.0, 1.5, 2.5, 3.0)}
CURVE = np.geomspace(0.2, 4.5, 200)  # strengths at which theory is drawn


def trial(
    key: Key[Array, ""],
    strength: Float[ArrayLike, ""] = 1.0,
    noise: Float[ArrayLike, ""] = NOISE,
    *,
    law: str = "gaussian",
) -> hj.Trial:
    memories = hj.orthogonal_memories(num_memories=len(WEIGHTS), num_neurons=NUM_NEURONS)
    u = hj.mixture(memories, strength * jnp.array(WEIGHTS))
    model, x0 = hj.IDPHopfield(memories, hj.Tanh(SLOPE)), START_SCALE * noise * memories[0]
    return hj.Trial(model, u, x0, hj.AdditiveNoise(noise, law))


CRITERION = hj.Criterion(LEVEL, settle=SETTLE, mirror=False, judge="instants")


def losses() -> dict[str, hj.AbstractLoss]:
    return {
        "overlap": hj.OverlapLoss(goal=GOALS["overlap"]),
        # The probability itself, with the slope of a smooth one.
        "probability": hj.RetrievalLoss(goal=GOALS["probability"], straight_through=True),
    }


def brute_force(size: str) -> dict[str, Any]:
    """Both quantities at every strength, and where they reach what is wanted.

    And how often a trial's mean overlap is above the level.
    """
    strengths, trials = STRENGTHS[size], BRUTE_TRIALS[size]
    study = hj.Study(
        trial,
        {"strength": strengths},
        trials=trials,
        key=jax.random.key(SEED),
        t1=T1,
        dt=DT,
        save_every=SAVE_EVERY,
        criterion=CRITERION,
        paired=["strength"],
    )
    data = study.run()
    found: dict[str, Any] = {"strengths": strengths, "trials": trials}
    judged = {
        "overlap": data.final_overlap,
        "probability": data.share,
        "judged once": data.outcome == hj.Ensemble.OUTCOMES.index("right"),
    }
    for task, quantity in judged.items():
        goal = GOALS.get(task, GOALS["probability"])
        values = quantity.transpose("strength", "trial").values.astype(float)
        means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(trials)
        found[task] = {
            "mean": rounded(means, 5),
            "error": rounded(errors, 5),
            **root(np.array(strengths), means, errors, goal),
        }
    return found


def root(xs: np.ndarray, means: np.ndarray, errors: np.ndarray, goal: float) -> dict[str, float]:
    """Where a rising curve passes the goal: straight lines between the logits of its points."""
    means = np.clip(means, 1e-9, 1 - 1e-9)
    curve, level = (np.log(p / (1 - p)) for p in (means, goal))
    at = float(np.interp(level, curve, xs))
    after = int(np.clip(np.searchsorted(xs, at), 1, len(xs) - 1))
    slope = (means[after] - means[after - 1]) / (xs[after] - xs[after - 1])
    half = 1.96 * float(np.interp(at, xs, errors) / slope)
    return {"root": round(at, 4), "low": round(at - half, 4), "high": round(at + half, 4)}


def tune(
    size: str, loss: hj.AbstractLoss, start: float, noise: float, law: str = "gaussian"
) -> dict[str, Any]:
    tuning = hj.tune(
        eqx.Partial(trial, noise=jnp.asarray(noise), law=law),  # compiles once for all noises
        {"strength": start},
        loss=loss,
        key=jax.random.key(SEED),
        t1=T1,
        dt=DT,
        save_every=SAVE_EVERY,
        bounds={"strength": (0.0, None)},
        trials=BATCH[size],
        steps=STEPS[size],
        verify=VERIFY[size],
        criterion=CRITERION,
    )
    tuned, low, high = tuning.intervals["strength"]
    return {
        "noise": noise,
        "start": start,
        "path": rounded(tuning.history.strength),
        "tuned": round(float(tuned), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "reason": tuning.reason,
        "retrieved": rounded(tuning.retrieved),
    }


def predicted(noise: float | None = None) -> Any:
    """The strength at which theory has the overlap 0.9: at a noise, or (noises, strengths).

    For N = 512, Euler steps and zeroed self-coupling.
    """
    alpha = jax.vmap(lambda s: theory.effective_saliency(s * jnp.array(WEIGHTS), NUM_NEURONS)[0])
    noises = theory.noise_at_overlap(alpha(jnp.asarray(CURVE)), LEVEL, hj.Tanh(SLOPE))
    noises = np.asarray(noises) * np.sqrt(1 - DT / 2)
    if noise is None:
        return noises, CURVE
    return float(np.interp(noise, noises, CURVE))


def compute(full: bool) -> dict[str, Any]:
    size = "full" if full else "quick"

    def all_starts(task: str, loss: hj.AbstractLoss) -> list[dict[str, Any]]:
        return [tune(size, loss, start, NOISE) for start in STARTS[size][task]]

    *found, brute = side_by_side(
        *(partial(all_starts, task, loss) for task, loss in losses().items()),
        partial(brute_force, size),
    )
    tuned = dict(zip(GOALS, found, strict=True))
    two_point = {
        task: tune(size, loss, STARTS[size][task][0], NOISE, "two_point")
        for task, loss in losses().items()
        if full
    }
    others = [
        tune(size, losses()["overlap"], predicted(noise) * 1.5, noise)
        for noise in OTHER_NOISES[size]
    ]
    return {
        "settings": {
            "num_neurons": NUM_NEURONS,
            "weights": WEIGHTS,
            "slope": SLOPE,
            "noise": NOISE,
            "dt": DT,
            "t1": T1,
            "goals": GOALS,
            "trials_per_step": BATCH[size],
            "seed": SEED,
        },
        "brute_force": brute,
        "tuned": tuned,
        "two_point": two_point,
        "other_noises": [
            each | {"predicted": round(predicted(each["noise"]), 4)} for each in others
        ],
        "predicted": round(predicted(NOISE), 4),
        "theory": {
            "noise": rounded(predicted()[0]),
            "strength": rounded(predicted()[1]),
        },
    }


def draw(numbers: dict[str, Any]) -> Figure:
    figure, axes = plt.subplot_mosaic(
        [["path overlap", "path probability"], ["overlap", "probability"], ["noise", "noise"]],
        figsize=(plotting.COLUMN_WIDTH, 4.6),
        height_ratios=[1, 1, 1.2],
        layout="constrained",
    )
    brute = numbers["brute_force"]
    xs, goals = brute["strengths"], numbers["settings"]["goals"]
    for task, goal in goals.items():
        above, below = axes[f"path {task}"], axes[task]
        above.sharex(below)
        for place, tuned in enumerate(numbers["tuned"][task]):
            style = {"color": plotting.COLOURS[place], "linestyle": plotting.LINE_STYLES[place]}
            above.plot(tuned["path"], range(len(tuned["path"])), linewidth=0.7, **style)
            above.plot(tuned["path"][:1], [0], marker="o", markersize=3, color=style["color"])
        above.invert_yaxis()
        above.tick_params(labelbottom=False)
        above.set_title(f"{TITLES[task]} = {goal:g}")
        mean, error = (np.array(brute[task][name]) for name in ("mean", "error"))
        below.errorbar(
            xs, mean, 1.96 * error, color="black", marker=".", markersize=3, linewidth=0.7
        )
        below.axhline(goal, color=plotting.OTHERS_COLOUR, linewidth=0.7, zorder=0)
        for ax in (above, below):
            ax.axvline(brute[task]["root"], color=plotting.OTHERS_COLOUR, linewidth=0.7, zorder=0)
        below.set(xlabel="input strength $s$", ylabel=TITLES[task])
    axes["path overlap"].set_ylabel("step")
    ax = axes["noise"]
    ax.plot(
        numbers["theory"]["noise"], numbers["theory"]["strength"], color="black", label="theory"
    )
    points = [*numbers["tuned"]["overlap"][:1], *numbers["other_noises"]]
    ax.plot(
        [each["noise"] for each in points],
        [each["tuned"] for each in points],
        linestyle="none",
        marker="o",
        markersize=3.5,
        color=plotting.COLOURS[0],
        label="tuned",
    )
    ax.set(
        xlabel=r"noise $\sigma$", ylabel="strength for overlap 0.9", xlim=(0, 3.3), ylim=(0, 4.5)
    )
    ax.legend(loc="upper left")
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    made = []
    for task, tuned in numbers["tuned"].items():
        brute = numbers["brute_force"][task]
        found = ", ".join(f"{each['tuned']:.3f}" for each in tuned)
        starts = ", ".join(f"{each['start']:g}" for each in tuned)
        half = max(each["high"] - each["low"] for each in tuned) / 2
        made.append(
            Claim(
                f"strength for {TITLES[task]} = {numbers['settings']['goals'][task]:g}, tuned from "
                f"{starts}: within 2% of brute force",
                f"{found}, each ± {half:.3f} at most; brute force {brute['root']:.3f} "
                f"[{brute['low']:.3f}, {brute['high']:.3f}]",
                all(abs(each["tuned"] / brute["root"] - 1) < NEAR for each in tuned)
                and half < NEAR * brute["root"],
            )
        )
    once, always = (numbers["brute_force"][name] for name in ("judged once", "probability"))
    made.append(
        Claim(
            "95% of trials need less where each is judged once, by its mean over the instants",
            f"{once['root']:.3f} [{once['low']:.3f}, {once['high']:.3f}], not {always['root']:.3f}",
            once["high"] < always["low"],
        )
    )
    for task, tuned in numbers["two_point"].items():
        gaussian = numbers["tuned"][task][0]
        made.append(
            Claim(
                f"strength for {TITLES[task]}: two-point noise gives that of Gaussian noise within "
                "0.5%",
                f"{tuned['tuned']:.3f} [{tuned['low']:.3f}, {tuned['high']:.3f}], Gaussian "
                f"{gaussian['tuned']:.3f} [{gaussian['low']:.3f}, {gaussian['high']:.3f}]",
                abs(tuned["tuned"] / gaussian["tuned"] - 1) < 0.005,
            )
        )
    points = numbers["other_noises"] + [
        each | {"predicted": numbers["predicted"]} for each in numbers["tuned"]["overlap"]
    ]
    worst = max(abs(each["tuned"] / each["predicted"] - 1) for each in points)
    made.append(
        Claim(
            "the strength for a mean overlap of 0.9 is that of the noise theory, within 1%",
            f"within {100 * worst:.2f}% at {len({each['noise'] for each in points})} noise(s)",
            worst < 0.01,
        )
    )
    return made


EXPERIMENT = Experiment(
    name="tuned_strength",
    compute=compute,
    draw={"tuned_strength": draw},
    claims=claims,
    source="studies here",
)

if __name__ == "__main__":
    EXPERIMENT.main()
