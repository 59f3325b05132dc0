"""The noise at which a memory loses the state to a more salient one: measured against predicted.

For several pairs of saliencies, while the state is in the weaker memory: the rate at which a small
part of the more salient one grows, in a large network, where the theory's limit is near; and the
noise at which half of the networks of protocol size have left within a given time. Run alone:
`python -m experiments.escape [--full] [--redraw]`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, Measured, claim, measured, number, within
from experiments.common import Experiment, Sized
from experiments.numbers import constants, proportion, rounded
from hopjax import plotting, theory

NUM_MEMORIES = 10
PAIRS = ((1.5, 3.0), (1.0, 3.0), (2.0, 3.0), (1.0, 1.5), (0.5, 1.5))  # (α_1, α_max)
BACKGROUND = 1 / 6  # saliency of all other memories, as a part of α_max
SLOPE = 10.0
DT = 0.01
SEED = 2025

LARGE, SMALL = 8192, 1024  # neurons: for growth rates, and for escapes
PERTURBATION = 0.01
FIT = (1.0, 6.0)  # when the growth rate is measured
SAVE_EVERY = 0.5
T1 = 20.0  # by when a small network may have escaped

# Noises in units of the predicted one. Escapes are simulated at full size only.
FACTORS = Sized((0.96, 1.0, 1.04), tuple(np.linspace(0.92, 1.08, 9)))
ESCAPE_FACTORS = tuple(np.linspace(0.94, 1.12, 10))
TRIALS, ESCAPE_TRIALS = Sized(3, 24), 200
SOLVED = Sized(PAIRS[:3], PAIRS)


def saliencies(alpha: float, alpha_max: float) -> np.ndarray:
    """Of all memories (P,): the one that traps, its competitor, and the background."""
    return np.array([alpha, alpha_max, *[BACKGROUND * alpha_max] * (NUM_MEMORIES - 2)])


def predict(alpha: float, alpha_max: float, num_neurons: int) -> float:
    """σ_esc for the network's size and step."""
    trap, competitor = theory.effective_saliency(saliencies(alpha, alpha_max), num_neurons)[:2]
    noise = theory.escape_noise(trap, competitor, hj.Tanh(SLOPE))
    return float(noise / theory.effective_noise(1.0, DT))


def stationary_state(alpha: np.ndarray, noises: np.ndarray) -> np.ndarray:
    """Mean amplitude of memory 1 in a large network, for saliencies (cells, P) and noises."""
    trap = jax.vmap(partial(theory.effective_saliency, num_neurons=LARGE))(alpha)[:, 0]
    noises = noises * np.asarray(theory.effective_noise(1.0, DT))
    return np.asarray(trap * theory.noisy_overlap(trap, noises, hj.Tanh(SLOPE)))


def predict_rate(alpha: float, alpha_max: float, noises: np.ndarray) -> np.ndarray:
    """Growth rate of the competitor in the large network."""
    trap, competitor = theory.effective_saliency(saliencies(alpha, alpha_max), LARGE)[:2]
    noises = noises * np.asarray(theory.effective_noise(1.0, DT))
    return np.asarray(theory.escape_rate(trap, competitor, noises, hj.Tanh(SLOPE)))


Cell = tuple[Float[Array, " P"], Float[Array, ""], Float[Array, ""]]  # α, σ, amplitude


def run(key: Key[Array, ""], cell: Cell, x0: Float[Array, " N"], *, t1: float) -> hj.Trajectory:
    """A network that shows its component along memory 2 over time."""
    alpha, noise, _ = cell
    memories = orthogonal(len(x0))

    def component(t, state):
        del t
        return memories[1] @ state / len(x0)

    return hj.solve(
        hj.IDPHopfield(memories, hj.Tanh(SLOPE)),
        hj.mixture(memories, alpha),
        x0,
        t1=t1,
        dt=DT,
        noise=hj.AdditiveNoise(noise),
        key=key,
        save_every=SAVE_EVERY,
        save_fn=component,
    )


def orthogonal(num_neurons: int) -> Float[Array, "P N"]:
    return hj.orthogonal_memories(num_memories=NUM_MEMORIES, num_neurons=num_neurons)


def response(key: Key[Array, ""], cell: Cell) -> Float[Array, " T"]:
    """How memory 2 responds over time to a small perturbation along it, per perturbation.

    From a large network at rest in memory 1, noise included. The same noise with either sign of
    the perturbation: half the difference is the response.
    """
    start_key, noise_key = jax.random.split(key)
    _, noise, amplitude = cell
    memories = orthogonal(LARGE)
    rest = jax.random.normal(start_key, (LARGE,), jnp.float32) * noise / jnp.sqrt(2 - DT)
    rest = rest + amplitude * memories[0]
    starts = rest + PERTURBATION * jnp.array([[1.0], [-1.0]]) * memories[1]
    plus, minus = jax.vmap(partial(run, noise_key, cell, t1=FIT[1]))(starts).saved
    return (plus - minus) / (2 * PERTURBATION)


def escapes(key: Key[Array, ""], cell: Cell) -> Bool[Array, ""]:
    """Whether a small network that starts in memory 1 is nearer to memory 2 at the end."""
    end = run(key, cell, cell[0][0] * orthogonal(SMALL)[0], t1=T1).overlaps[-1]
    return jnp.abs(end[1]) > jnp.abs(end[0])


def growth_rate(response: np.ndarray) -> np.ndarray:
    """The slope of the log of the mean response (..., trials, T) over the time of the fit."""
    ts = np.arange(response.shape[-1]) * SAVE_EVERY
    inside = ts >= FIT[0]
    centred = ts[inside] - ts[inside].mean()
    return np.log(response.mean(axis=-2)[..., inside]) @ centred / np.sum(centred**2)


def onset(factors: np.ndarray, rates: np.ndarray) -> float:
    """Where a parabola through the growth rates passes through 0; NaN where none does."""
    roots = np.roots(np.polyfit(factors - 1, rates, 2))
    real = roots[np.isreal(roots)].real
    near = real[np.abs(real) < 2 * np.ptp(factors)]
    return 1 + float(near[np.argmin(np.abs(near))]) if len(near) else np.nan


def measure(
    trial,
    pairs: tuple[tuple[float, float], ...],
    factors,
    trials: int,
    num_neurons: int,
    label: str,
):
    """Outcomes (pairs, factors, trials, ...), and the predicted noises of the pairs."""
    predicted = np.array([predict(*pair, num_neurons) for pair in pairs])
    alpha = np.repeat([saliencies(*pair) for pair in pairs], len(factors), axis=0)
    noises = np.outer(predicted, factors).reshape(-1)
    cells = jax.tree.map(np.float32, (alpha, noises, stationary_state(alpha, noises)))
    outcome = hj.map_trials(
        trial, key=jax.random.key(SEED), trials=trials, label=label, cells=cells
    )
    return outcome.reshape(len(pairs), len(factors), *outcome.shape[1:]), predicted


def count_escapes() -> dict[str, Any]:
    """How many small networks have left by the end; the noise at which half of them have."""
    factors = np.array(ESCAPE_FACTORS)
    escaped, predicted = measure(
        escapes, PAIRS, factors, ESCAPE_TRIALS, SMALL, "escape, by the end"
    )
    share = np.maximum.accumulate(escaped.mean(axis=2), axis=1)
    half = [
        np.interp(0.5, each, factors) if each[0] < 0.5 <= each[-1] else np.nan for each in share
    ]
    return {
        "predicted": rounded(predicted),
        "factors": rounded(factors),
        "escaped": [[proportion(cell) for cell in row] for row in escaped],
        "half": rounded(half),  # in units of the predicted
    }


def compute(full: bool) -> dict[str, Any]:
    trials, pairs, factors = TRIALS[full], SOLVED[full], np.array(FACTORS[full])
    responses, predicted = measure(response, pairs, factors, trials, LARGE, "escape, growth rates")
    escaped = count_escapes() if full else {}
    generator = np.random.default_rng(SEED)
    results = []
    for row, pair in enumerate(pairs):
        measured = responses[row].astype(float)
        rates = growth_rate(measured)
        draws = generator.integers(trials, size=(1000, len(factors), trials))
        resampled = np.array(
            [growth_rate(np.take_along_axis(measured, draw[..., None], axis=1)) for draw in draws]
        )
        low, high = np.quantile([onset(factors, each) for each in resampled], [0.025, 0.975])
        fine = np.linspace(factors[0], factors[-1], 33)
        results.append(
            {
                "pair": pair,
                "predicted": rounded(predicted[row]),
                "factors": rounded(factors),
                "rate": rounded(rates),
                "rate_interval": rounded(np.quantile(resampled, [0.025, 0.975], axis=0)),
                "onset": [
                    *map(rounded, (onset(factors, rates), low, high))
                ],  # in units of the predicted
                "theory": {
                    "factors": rounded(fine),
                    "rate": rounded(predict_rate(*pair, predicted[row] * fine)),
                },
            }
        )
    return {
        "settings": {
            "trials": trials,
            "trials_of_escape": ESCAPE_TRIALS if full else 0,
            "num_neurons": LARGE,
            "num_neurons_of_escape": SMALL,
            "law": "gaussian",
        }
        | constants(globals(), "SEED NUM_MEMORIES BACKGROUND SLOPE DT T1 PERTURBATION FIT"),
        "results": results,
        "escapes": escaped,
    }


MARKERS = "osD^v"


def draw(numbers: dict[str, Any]) -> Figure:
    figure, (top, bottom) = drawing.panels(2, 1, 4.3, height_ratios=[1.2, 1])
    settings, escaped = numbers["settings"], numbers["escapes"]
    for place, result in enumerate(numbers["results"]):
        look = {"color": plotting.COLOURS[place], "marker": MARKERS[place], "markersize": 3.5}
        alpha, alpha_max = result["pair"]
        drawing.error_bars(
            top,
            result["factors"],
            zip(result["rate"], *result["rate_interval"], strict=True),
            elinewidth=0.7,
            linestyle="none",
            label=rf"$\alpha_1$ = {alpha:g}, $\alpha_{{\max}}$ = {alpha_max:g}",
            **look,
        )
        line = result["theory"]["factors"], result["theory"]["rate"]
        top.plot(*line, color=look["color"], linewidth=0.8)
        onset = measured(result["onset"]).times(result["predicted"])
        drawing.error_bars(bottom, result["predicted"], [onset], **look)
        if escaped:
            half = escaped["predicted"][place] * number(escaped["half"][place])
            bottom.plot(
                escaped["predicted"][place], half, markerfacecolor="none", linestyle="none", **look
            )
    top.axhline(0, color="black", linewidth=0.6, linestyle=":")
    top.axvline(1, color="black", linewidth=0.6, linestyle=":")
    top.plot([], [], color="black", linewidth=0.8, label="theory")
    top.set(
        xlabel=r"noise $\sigma$ / predicted $\sigma_{\mathrm{esc}}$",
        ylabel="growth rate of the salient\nmemory (1 / time constant)",
    )
    ends = [0, 1.1 * max(result["predicted"] for result in numbers["results"])]
    bottom.plot(ends, ends, color="black", linewidth=0.8, label="measured = predicted")
    look = {"color": "black", "marker": "o", "markersize": 3.5, "linestyle": "none"}
    bottom.plot([], [], label=f"growth rate 0, N = {settings['num_neurons']}", **look)
    if escaped:
        size = settings["num_neurons_of_escape"]
        label = f"half escaped by t = {settings['t1']:g}, N = {size}"
        bottom.plot([], [], markerfacecolor="none", label=label, **look)
    bottom.set(
        xlabel=r"predicted $\sigma_{\mathrm{esc}}$",
        ylabel=r"measured onset of escape",
        xlim=ends,
        ylim=(0, 1.1 * ends[1]),
    )
    top.legend(loc="upper left", fontsize=6)
    bottom.legend(loc="upper left", fontsize=6)
    return figure


def half_escaped(numbers: dict[str, Any]) -> list[Measured]:
    """For each pair the noise at which half of the networks have left, relative to the predicted.

    Its ends are the noises at which the ends of the interval of what has left pass ½.
    """
    escapes = numbers["escapes"]

    def passing(row: list[dict[str, Any]], end: str) -> float:
        share = np.maximum.accumulate([cell[end] for cell in row])
        return float(np.interp(0.5, share, escapes["factors"]))

    return [
        Measured(number(half), passing(row, "high"), passing(row, "low"))
        for half, row in zip(escapes["half"], escapes["escaped"], strict=True)
    ]


def claims(numbers: dict[str, Any]) -> list[Claim]:
    results = numbers["results"]
    off = [measured(result["onset"]).times(1, -1) for result in results]
    worst = int(np.argmax([abs(each.value) for each in off]))  # NaN counts as the largest
    alpha, alpha_max = results[worst]["pair"]
    found = [
        claim(
            f"memories lose the state at the predicted σ_esc, {len(results)} pairs (within 1%)",
            within(
                off,
                -0.01,
                0.01,
                f"largest difference {off[worst]:+.2%}, at α1 = {alpha:g}, αmax = {alpha_max:g}",
            ),
        )
    ]
    if numbers["escapes"]:
        late = [each.times(1, -1) for each in half_escaped(numbers)]
        values = [each.value for each in late]
        found.append(
            claim(
                f"half of the small networks leave within {numbers['settings']['t1']:g} near it "
                "(±6%)",
                within(
                    late,
                    -0.06,
                    0.06,
                    f"{min(values):+.1%} to {max(values):+.1%} of it, farthest {{:+.1%}}",
                ),
            )
        )
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    off = [measured(result["onset"]).times(1, -1) for result in numbers["results"]]
    largest, farthest = (max(abs(end) for one in off for end in one[:ends]) for ends in (1, 3))
    late = [each.value - 1 for each in half_escaped(numbers)]
    return [
        f"The growth rate of the more salient memory, measured in networks of {LARGE} neurons at "
        f"{len(off)} pairs of saliencies, passes through zero within {largest:.2%} of the "
        f"predicted σ_esc ({farthest:.2%} with its interval). Half of the networks of {SMALL} "
        f"neurons have left within {T1:g} time constants at noises {min(late):.1%} to "
        f"{max(late):.1%} above it."
    ]


EXPERIMENT = Experiment("escape", compute, draw, claims, source="noise theory here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
