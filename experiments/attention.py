"""Attention that an input can direct: it need not be where the state starts.

The input holds one pattern with weight 2, four others with about 1, and noise. Dynamic attention
takes it as a gate of the patterns, z = max(α, 0), and the plain one, z = 1, not at all: to that the
input means something only if the state starts there. What either answers is the pattern nearest to
its state at the end, by cosine. Both start from three states, at several inverse temperatures β,
with the same patterns, inputs and starting states. Run alone:
`python -m experiments.attention [--full] [--redraw]`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, below, claim, show, within
from experiments.common import Experiment, Sized
from experiments.numbers import constants, proportion

NUM_NEURONS, NUM_MEMORIES = 64, 32
TARGET = NUM_MEMORIES - 1  # the pattern that is asked for
T1, DT = 30.0, 0.02
DOMINANT, DISTRACTOR = 2.0, (0.8, 1.2)
NUM_DISTRACTORS = 4
INPUT_NOISE = 0.5
SMALL = 0.01
BETAS = (0.05, 0.1, 0.2, 0.4)
BETA, LOW_BETA = 0.2, 0.05  # of the protocol, and one that tells patterns less sharply apart
SEED = 2025
TRIALS = Sized(200, 2000)
STARTS = {
    "small": "from a small\nrandom state",
    "input": "from\nthe input",
    "previous": "from another\npattern",
}
NETWORKS = {"dynamic": "dynamic", "plain": "plain ($z$ = 1)"}


class Question(NamedTuple):
    """Patterns, an input, and states to start from."""

    memories: Float[Array, "P N"]
    u: Float[Array, " N"]
    starts: Float[Array, "S N"]
    distracted: Bool[Array, ""]  # whether the pattern that is a start is in the input


def ask(key: Key[Array, ""]) -> Question:
    """The pattern to start from is any but the one asked for, which is the last.

    So a tie between patterns, for the first of them, is no right answer.
    """
    memory_key, previous_key, weight_key, noise_key, start_key = jax.random.split(key, 5)
    memories = hj.random_memories(
        memory_key, num_memories=NUM_MEMORIES, num_neurons=NUM_NEURONS, dtype=jnp.float32
    )
    low, high = DISTRACTOR
    weights = jax.random.uniform(weight_key, (NUM_DISTRACTORS,), jnp.float32, low, high)
    weights = jnp.zeros(NUM_MEMORIES).at[:NUM_DISTRACTORS].set(weights)
    u = hj.mixture(memories, weights.at[TARGET].set(DOMINANT))
    u = u + INPUT_NOISE * jax.random.normal(noise_key, u.shape, u.dtype)
    small = SMALL * jax.random.normal(start_key, u.shape, u.dtype)
    previous = jax.random.randint(previous_key, (), 0, TARGET)
    starts = jnp.stack([small, u, memories[previous]])
    return Question(memories, u, starts, previous < NUM_DISTRACTORS)


def answers(key: Key[Array, ""]) -> dict[str, Bool[Array, "..."]]:
    """Whether either network answers right from every start and at every β, (S, B)."""
    question = ask(key)

    def right(input_as, x0, beta):
        model = hj.DynamicAttention(question.memories, beta, input_as=input_as)
        trajectory = hj.solve(model, question.u, x0, t1=T1, dt=DT, save_every=T1)
        return (jnp.argmax(trajectory.overlaps[-1]) == TARGET) & trajectory.ok

    def by_start_and_beta(input_as):
        at_betas = jax.vmap(partial(right, input_as), in_axes=(None, 0))
        return jax.vmap(at_betas, in_axes=(0, None))(question.starts, jnp.array(BETAS))

    return {
        "dynamic": by_start_and_beta("plasticity"),
        "plain": by_start_and_beta("nothing"),
        "distracted": question.distracted,
    }


def compute(full: bool) -> dict[str, Any]:
    trials = TRIALS[full]
    outcome = hj.map_trials(answers, key=jax.random.key(SEED), trials=trials, label="attention")

    def by_beta(right: np.ndarray) -> list[dict[str, Any]]:
        return [proportion(each) for each in right.T]

    previous, distracted = outcome["dynamic"][:, -1], outcome["distracted"]
    return {
        "settings": {"trials": trials, "distractors": NUM_DISTRACTORS}
        | constants(
            globals(), "SEED NUM_NEURONS NUM_MEMORIES DOMINANT DISTRACTOR INPUT_NOISE SMALL T1 DT"
        ),
        "betas": BETAS,
        "right": {
            network: {
                start: by_beta(outcome[network][:, place]) for place, start in enumerate(STARTS)
            }
            for network in NETWORKS
        },
        # Dynamic attention from another pattern, by whether that is in the input.
        "previous": {
            "shown": by_beta(previous[distracted]),
            "not_shown": by_beta(previous[~distracted]),
        }
        if full
        else {},
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """A panel for each start: how often the answer is right, against β."""
    figure, axes = drawing.panels(1, 3, 2.0, sharey=True, sharex=True)
    betas, chance = numbers["betas"], 1 / numbers["settings"]["num_memories"]
    for ax, (start, title) in zip(axes, STARTS.items(), strict=True):
        ax.axhline(chance, color="black", linewidth=0.5, linestyle=":", label="chance")
        for place, (network, label) in enumerate(NETWORKS.items()):
            drawing.curve(ax, betas, numbers["right"][network][start], place, label)
        ax.set(title=title, xscale="log", xlim=(betas[0] / 1.25, betas[-1] * 1.25))
        ax.set_xticks(betas, [f"{beta:g}" for beta in betas])
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("P(right answer)")
    axes[1].set_xlabel(r"inverse temperature $\beta$")
    drawing.legend_below(figure, axes[0], last=0)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    def at(network: str, start: str, beta: float = BETA) -> dict[str, Any]:
        return numbers["right"][network][start][numbers["betas"].index(beta)]

    small, shown, previous = (
        [at(network, start) for network in NETWORKS] for start in ("small", "input", "previous")
    )
    smooth = at("dynamic", "previous", LOW_BETA)
    found = [
        claim(
            f"β = {BETA:g}, from a small random state: dynamic {{}}, plain {{}}; from u both {{}}",
            above(small[0], 0.94),
            below(small[1], 0.08),
            above(shown, 0.97, f"from u {show(*shown)}"),
        ),
        claim(
            f"dynamic, from another pattern: β = {LOW_BETA:g} far better ({{}}) than {BETA:g} "
            "({})",
            above(smooth, 0.9),
            within(previous[0], 0.46, 0.66, "{}"),
        ),
        claim(f"plain, from another pattern, β = {BETA:g}: never ({{}})", below(previous[1], 0.02)),
    ]
    if not numbers["previous"]:
        return found
    place = numbers["betas"].index(BETA)
    held, free = (numbers["previous"][name][place] for name in ("shown", "not_shown"))
    found.append(
        claim(
            f"that pattern holds dynamic attention (β = {BETA:g}) if the input shows it as well",
            below(held, free, "P = {}, else {}"),
        )
    )
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    def at(network: str, start: str, beta: float = BETA) -> str:
        return show(numbers["right"][network][start][numbers["betas"].index(beta)])

    return [
        f"{NUM_NEURONS} neurons, {NUM_MEMORIES} patterns, β = {BETA:g}, no noise but on the "
        "input. From a small random state dynamic attention answers the input in "
        f"{at('dynamic', 'small')} of the trials, and the plain one is at chance, "
        f"{at('plain', 'small')}; started in the input both do, {at('dynamic', 'input')} and "
        f"{at('plain', 'input')}. From another pattern dynamic attention gets away in "
        f"{at('dynamic', 'previous')}, and at β = {LOW_BETA:g} in "
        f"{at('dynamic', 'previous', LOW_BETA)}; what holds it is a pattern that the input shows "
        "as well."
    ]


EXPERIMENT = Experiment("attention", compute, draw, claims, found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
