"""The least gain for twenty right changes of memory in 95% of trials: by gradient, and brute force.

Whether a sequence goes on is a cliff: below some gain all die, above it none does. A trial that
dies tells how far it is from the cliff, by how long ago its saliencies began to fade; one that
lives tells nothing. So the number of right changes is tuned with the slope of that time, and a
small cost of the gain brings a start from above down to the cliff. Later steps fall off it, by
chance of few trials; what tuning returns is the step of the lowest loss. Run alone:
`python -m experiments.thoughts_gain [--full] [--redraw]`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, claim, every, near
from experiments.common import Experiment, Sized
from experiments.numbers import constants, proportion, rounded
from hopjax import theory

NUM_NEURONS, NUM_MEMORIES = 64, 8
TIME_CONSTANT, NOISE = 20.0, 0.1
DT, T1, SAVE_EVERY = 0.1, 800.0, 1.0
CHANGES, GOAL = 20, 0.95
FADING = 5.0  # time constants of saliencies that make a dead trial e times as far from the cliff
COST = 0.002  # of one unit of gain
SEED = 2026
GAINS = Sized((2.5, 3.0, 3.5), (2.6, 3.0, 3.1, 3.2, 3.3, 3.35, 3.4, 3.45, 3.5, 3.6, 3.8))
BRUTE_TRIALS = Sized(20, 300)
STARTS = {"from below": (2.2, COST), "from above": (6.0, COST)}
TUNED = Sized(("from below",), tuple(STARTS))
BATCH, STEPS, VERIFY = Sized(8, 16), Sized(4, 30), Sized(16, 200)


def trial(key: Key[Array, ""], gain: Float[ArrayLike, ""] = 4.0) -> hj.Trial:
    """A sequence from memory 0 on, the same but for its noise."""
    del key
    memories = hj.orthogonal_memories(
        num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS, dtype=jnp.float32
    )
    model = hj.SequentialHopfield(
        memories, gain=gain, time_constant=TIME_CONSTANT, self_coupling=True
    )
    nothing = jnp.zeros(NUM_NEURONS, jnp.float32)
    return hj.Trial(model, nothing, memories[0], hj.AdditiveNoise(NOISE), target=0)


class Lives(hj.AbstractLoss):
    """The square of what is missing to the goal, and the cost of the gain."""

    cost: Float[Array, ""]

    def measure(self, trial: Any, trajectory: hj.Trajectory, criterion: hj.Criterion):
        """Whether there were enough changes, with the slope of how long ago saliencies faded."""
        del criterion
        visits = hj.Visits().of(trajectory.ts, trajectory.overlaps, trial.model.transition_matrix)
        enough = (visits["run"] >= CHANGES).astype(trajectory.overlaps.dtype)
        largest = jnp.max(trial.model.slow_saliencies(trajectory.final_state))
        near = jnp.exp(jnp.minimum(jnp.log(jnp.maximum(largest, 1e-30)), 0) / FADING)
        return {"p": near + jax.lax.stop_gradient(enough - near), "gain": trial.model.gain}

    def value(self, means: Any) -> Float[Array, ""]:
        """Of the means over trials."""
        return jax.nn.relu(GOAL - means["p"]) ** 2 + self.cost * means["gain"]


SOLVE: dict[str, Any] = {"t1": T1, "dt": DT, "save_every": SAVE_EVERY}


def brute_force(full: bool) -> dict[str, Any]:
    """The share of trials with enough right changes at each gain."""
    study = hj.Study(
        trial,
        {"gain": GAINS[full]},
        trials=BRUTE_TRIALS[full],
        key=jax.random.key(SEED),
        solver=hj.ExponentialAdams(),
        reductions={"visits": hj.PerTrial(hj.Visits())},
        **SOLVE,
    )
    runs = study.run().visits_run.transpose("gain", "trial").values
    shares = [proportion(run >= CHANGES) for run in runs]
    return {"gains": GAINS[full], "trials": BRUTE_TRIALS[full], "shares": shares}


def run_tune(full: bool, start: float, cost: float) -> hj.Tuning:
    return hj.tune(
        trial,
        {"gain": start},
        loss=Lives(jnp.asarray(cost, jnp.float32)),
        key=jax.random.key(SEED),
        bounds={"gain": (0.0, None)},
        trials=BATCH[full],
        steps=STEPS[full],
        verify=VERIFY[full],
        solver=hj.ExponentialAdams(),
        **SOLVE,
    )


def without_cost(full: bool) -> str:
    """What tuning says to a start where all trials live and no gain costs anything."""
    try:
        return run_tune(full, STARTS["from above"][0], 0.0).reason
    except hj.TuningError as error:
        return str(error)


def tune(full: bool, start: float, cost: float) -> dict[str, Any]:
    tuning = run_tune(full, start, cost)
    gain = float(tuning.parameters["gain"])
    ensemble = hj.solve_ensemble(
        eqx.Partial(trial, gain=jnp.asarray(gain, jnp.float32)),
        trials=VERIFY[full],
        key=jax.random.key(SEED + 1),
        solver=hj.ExponentialAdams(),
        reductions={"visits": hj.PerTrial(hj.Visits())},
        **SOLVE,
    )
    return {
        "start": start,
        "cost": cost,
        "path": rounded(tuning.history.gain),
        "tuned": rounded(gain),
        "share": proportion(ensemble.reduced["visits"]["run"] >= CHANGES),
        "reason": tuning.reason,
    }


def least_gain(brute: dict[str, Any]) -> tuple[float, float, float]:
    """Where the share reaches the goal, with the ends by those of the shares."""
    ends = []
    for name in ("p", "high", "low"):
        shares = np.maximum.accumulate([share[name] for share in brute["shares"]])
        ends.append(float(np.interp(GOAL, shares + 1e-9 * np.arange(len(shares)), brute["gains"])))
    return ends[0], ends[1], ends[2]


def compute(full: bool) -> dict[str, Any]:
    return {
        "settings": constants(globals(), "NUM_NEURONS NUM_MEMORIES TIME_CONSTANT NOISE DT T1")
        | constants(globals(), "SAVE_EVERY CHANGES GOAL FADING COST SEED")
        | {"trials_per_step": BATCH[full], "law": "gaussian", "solver": "ExponentialAdams"},
        "brute_force": brute_force(full),
        "tuned": {name: tune(full, *STARTS[name]) for name in TUNED[full]},
        "without_cost": without_cost(full) if full else None,
        "theory": rounded(theory.critical_gain(NOISE, hj.HardTanh())),
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """The cliff, and the steps down to it and up to it."""
    figure, (left, right) = drawing.panels(1, 2, 2.2, sharey=True)
    brute = numbers["brute_force"]
    middle, low, high = drawing.with_ends(brute["shares"])
    bars = drawing.sides(middle, low, high)
    left.errorbar(middle, brute["gains"], xerr=bars, **drawing.look(0, linewidth=0.8))
    left.axvline(GOAL, color="black", linewidth=0.6, linestyle=":")
    left.axhline(numbers["theory"], color="black", linewidth=0.8, linestyle="--")
    left.set(xlabel=f"P({CHANGES} right changes)", ylabel=r"gain $\kappa$")
    for place, (name, found) in enumerate(numbers["tuned"].items()):
        look = drawing.look(place, marker="", linewidth=0.9, label=name)
        right.plot(np.arange(len(found["path"])), found["path"], **look)
        right.plot(len(found["path"]), found["tuned"], **drawing.look(place))
    label = r"theory, $\tau_s \to \infty$"
    right.axhline(numbers["theory"], color="black", linewidth=0.8, linestyle="--", label=label)
    right.set(xlabel="step")
    drawing.legend_below(figure, right, ncols=2)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    least, tuned = least_gain(numbers["brute_force"]), numbers["tuned"]
    path = tuned["from below"]["path"]
    made = [
        claim(
            "where all sequences die the gradient points to gains where they live",
            above(path[3], path[0], "from {1:.3f} to {0:.3f} in three steps"),
        )
    ]
    if numbers["full"]:
        made += [
            claim(
                f"along the gradient the least gain for {GOAL:.0%} is found to {{}}",
                *(
                    near(each["tuned"], least, 0.15, f"{name} {{:.3f}}, brute force {{:.3f}}")
                    for name, each in tuned.items()
                ),
            ),
            claim(
                "from above without a cost of the gain nothing tells where the cliff is",
                every(
                    int("nothing is left to tune" in numbers["without_cost"]),
                    1,
                    f"“{numbers['without_cost']}”",
                ),
            ),
            claim(
                "twenty changes need less gain than theory has for an endless sequence and "
                f"τ_s → ∞ (here τ_s = {TIME_CONSTANT:g})",
                above(numbers["theory"], least, "{1:.3f}, theory {0:.3f}"),
            ),
        ]
    return made


EXPERIMENT = Experiment("thoughts_gain", compute, draw, claims, "studies here")

if __name__ == "__main__":
    EXPERIMENT.main()
