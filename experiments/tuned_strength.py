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
from experiments import drawing
from experiments.claims import Claim, Measured, below, claim, near, within
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import constants, rounded
from hopjax import plotting, theory

NUM_NEURONS = 512
WEIGHTS = (1.0, *[0.4] * 7)  # of the memories in the input, times the strength
SLOPE = 10.0
NOISE = 2.0
START_SCALE = 1.3  # of the start in memory 1, times the noise
DT, T1, SAVE_EVERY = 0.05, 10.0, 0.1
SOLVER = hj.ExponentialAdams()
SETTLE = T1 / 2  # the saved instants from T1/2 on
LEVEL = 0.9  # of the overlap
GOALS = {"overlap": LEVEL, "probability": 0.95}
TITLES = {"overlap": "mean overlap", "probability": f"P(overlap > {LEVEL:g})"}
SEED = 2025
NEAR = 0.02  # how near to brute force the tuner must land

STARTS: Sized[dict[str, tuple[float, ...]]] = Sized(
    {"overlap": (4.0,), "probability": (2.5,)}, dict.fromkeys(GOALS, (1.5, 2.5, 4.0))
)
BATCH, STEPS = Sized(32, 128), Sized(30, 100)
VERIFY, BRUTE_TRIALS = Sized(256, 2000), Sized(200, 4000)
STRENGTHS = Sized(
    (2.5, 2.65, 2.8, 2.95),
    (1.5, 2.0, 2.3, 2.5, 2.6, 2.63, 2.7, 2.76, 2.78, 2.8, 2.82, 2.9, 3.0, 3.5, 4.0),
)
OTHER_NOISES = Sized((), (0.25, 0.5, 1.0, 1.5, 2.5, 3.0))
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


def brute_force(full: bool) -> dict[str, Any]:
    """Both quantities at every strength, and where they reach what is wanted.

    And how often a trial's mean overlap is above the level.
    """
    strengths, trials = STRENGTHS[full], BRUTE_TRIALS[full]
    study = hj.Study(
        trial,
        {"strength": strengths},
        trials=trials,
        key=jax.random.key(SEED),
        t1=T1,
        dt=DT,
        solver=SOLVER,
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
    full: bool, loss: hj.AbstractLoss, start: float, noise: float, law: str = "gaussian"
) -> dict[str, Any]:
    tuning = hj.tune(
        eqx.Partial(trial, noise=jnp.asarray(noise), law=law),  # compiles once for all noises
        {"strength": start},
        loss=loss,
        key=jax.random.key(SEED),
        t1=T1,
        dt=DT,
        solver=SOLVER,
        save_every=SAVE_EVERY,
        bounds={"strength": (0.0, None)},
        trials=BATCH[full],
        steps=STEPS[full],
        verify=VERIFY[full],
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

    For N = 512 and zeroed self-coupling.
    """
    alpha = jax.vmap(lambda s: theory.effective_saliency(s * jnp.array(WEIGHTS), NUM_NEURONS)[0])
    noises = theory.noise_at_overlap(alpha(jnp.asarray(CURVE)), LEVEL, hj.Tanh(SLOPE))
    if noise is None:
        return noises, CURVE
    return float(np.interp(noise, noises, CURVE))


def compute(full: bool) -> dict[str, Any]:

    def all_starts(task: str, loss: hj.AbstractLoss) -> list[dict[str, Any]]:
        return [tune(full, loss, start, NOISE) for start in STARTS[full][task]]

    *found, brute = side_by_side(
        *(partial(all_starts, task, loss) for task, loss in losses().items()),
        partial(brute_force, full),
    )
    tuned = dict(zip(GOALS, found, strict=True))
    binomial = {
        task: tune(full, loss, STARTS[full][task][0], NOISE, "binomial")
        for task, loss in losses().items()
        if full
    }
    others = [
        tune(full, losses()["overlap"], predicted(noise) * 1.5, noise)
        for noise in OTHER_NOISES[full]
    ]
    return {
        "settings": {
            "trials_per_step": BATCH[full],
        }
        | constants(globals(), "NUM_NEURONS WEIGHTS SLOPE NOISE DT T1 GOALS SEED"),
        "brute_force": brute,
        "tuned": tuned,
        "binomial": binomial,
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
    drawing.letters(axes.values())
    brute = numbers["brute_force"]
    xs, goals = brute["strengths"], numbers["settings"]["goals"]
    for task, goal in goals.items():
        upper, lower = axes[f"path {task}"], axes[task]
        upper.sharex(lower)
        for place, tuned in enumerate(numbers["tuned"][task]):
            style = {"color": plotting.COLOURS[place], "linestyle": plotting.LINE_STYLES[place]}
            upper.plot(tuned["path"], range(len(tuned["path"])), linewidth=0.7, **style)
            upper.plot(tuned["path"][:1], [0], marker="o", markersize=3, color=style["color"])
        upper.invert_yaxis()
        upper.tick_params(labelbottom=False)
        upper.set_title(f"{TITLES[task]} = {goal:g}")
        mean, error = (np.array(brute[task][name]) for name in ("mean", "error"))
        lower.errorbar(
            xs, mean, 1.96 * error, color="black", marker=".", markersize=3, linewidth=0.7
        )
        lower.axhline(goal, color=plotting.OTHERS_COLOUR, linewidth=0.7, zorder=0)
        for ax in (upper, lower):
            ax.axvline(brute[task]["root"], color=plotting.OTHERS_COLOUR, linewidth=0.7, zorder=0)
        lower.set(xlabel="input strength $s$", ylabel=TITLES[task])
    axes["path overlap"].set_ylabel("step")
    ax = axes["noise"]
    ax.plot(
        numbers["theory"]["noise"], numbers["theory"]["strength"], color="black", label="theory"
    )
    points = [*numbers["tuned"]["overlap"][:1], *numbers["other_noises"]]
    places = ([each[name] for each in points] for name in ("noise", "tuned"))
    ax.plot(*places, **drawing.look(0, linestyle="none", markersize=3.5, label="tuned"))
    ax.set(
        xlabel=r"noise $\sigma$", ylabel="strength for overlap 0.9", xlim=(0, 3.3), ylim=(0, 4.5)
    )
    ax.legend(loc="upper left")
    return figure


def found_by(result: dict[str, Any], name: str) -> Measured:
    """The strength that was tuned, or where brute force has its root, with its interval."""
    return Measured(result[name], result["low"], result["high"])


def off_theory(numbers: dict[str, Any]) -> list[Measured]:
    """By how much the tuned strengths for a mean overlap are off those of theory, as a share."""
    points = numbers["other_noises"] + [
        each | {"predicted": numbers["predicted"]} for each in numbers["tuned"]["overlap"]
    ]
    return [found_by(each, "tuned").times(1 / each["predicted"], -1) for each in points]


def claims(numbers: dict[str, Any]) -> list[Claim]:
    brute, goals = numbers["brute_force"], numbers["settings"]["goals"]
    made = []
    for task, tuned in numbers["tuned"].items():
        root = found_by(brute[task], "root")
        starts = ", ".join(f"{each['start']:g}" for each in tuned)
        made.append(
            claim(
                f"strength for {TITLES[task]} = {goals[task]:g}, tuned from {starts}: within 2% of "
                "brute force",
                *(
                    near(found_by(each, "tuned").over(root), 1, NEAR, f"{found_by(each, 'tuned')}")
                    for each in tuned
                ),
                near(root, root.value, NEAR * root.value, "brute force {}"),
            )
        )
    once, always = (found_by(brute[name], "root") for name in ("judged once", "probability"))
    made.append(
        claim(
            "95% of trials need less where each is judged once, by its mean over the instants",
            below(once, always, "{}, not {}"),
        )
    )
    for task, tuned in numbers["binomial"].items():
        binomial, gaussian = (
            found_by(each, "tuned") for each in (tuned, numbers["tuned"][task][0])
        )
        made.append(
            claim(
                f"strength for {TITLES[task]}: binomial noise gives that of Gaussian noise within "
                "0.5%",
                near(binomial.over(gaussian), 1, 0.005, f"{binomial}, Gaussian {gaussian}"),
            )
        )
    off = off_theory(numbers)
    noises = {NOISE, *(each["noise"] for each in numbers["other_noises"])}
    made.append(
        claim(
            "the strength for a mean overlap of 0.9 is that of the noise theory, within 1%",
            within(off, -0.01, 0.01, f"farthest {{:+.2%}} at {len(noises)} noise(s)"),
        )
    )
    return made


def found(numbers: dict[str, Any]) -> list[str]:
    brute, binomial = numbers["brute_force"], numbers["binomial"]
    gaussian = {task: found_by(each[0], "tuned") for task, each in numbers["tuned"].items()}
    root = {task: found_by(brute[task], "root") for task in (*gaussian, "judged once")}
    starts = [f"{each['start']:g}" for each in numbers["tuned"]["overlap"]]
    noises = {each["noise"] for each in numbers["other_noises"]}
    farthest = max(abs(end) for each in off_theory(numbers) for end in each)
    return [
        f"{NUM_NEURONS} neurons, saliencies s·(1, {WEIGHTS[1]:g} × {len(WEIGHTS) - 1}), "
        f"σ = {NOISE:g}. From each of the starts {', '.join(starts[:-1])} and {starts[-1]} the "
        f"strength for a mean overlap of {GOALS['overlap']:g} is tuned to {gaussian['overlap']} "
        f"(brute force {root['overlap']}), that for an overlap above {LEVEL:g} in "
        f"{GOALS['probability']:.0%} of trials and instants to {gaussian['probability']} "
        f"({root['probability']}). Where each trial is judged once, by its mean over these "
        f"instants, {root['judged once']} is enough. From σ = {min(noises):g} to {max(noises):g} "
        f"the first is that of the noise theory within {farthest:.1%}, intervals included.",
        "Binomial noise is fine here: the two strengths are "
        f"{found_by(binomial['overlap'], 'tuned')} with it and {gaussian['overlap']} with "
        f"Gaussian noise, and {found_by(binomial['probability'], 'tuned')} and "
        f"{gaussian['probability']}. Near an escape it moves thresholds, as in a solve.",
    ]


EXPERIMENT = Experiment("tuned_strength", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
