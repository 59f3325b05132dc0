"""A running sequence of memories and the outside world: an input that interrupts it, and a word.

While a network goes from memory to memory, an input shows it another one: early in a visit, briefly
at the change to the next memory, or from there on for long. What follows, and how the sequence goes
on, depends on when and how strongly. And five letters, each with neurons that are not drawn and
tell it from the others, spell a word again and again. Run alone:
`python -m experiments.thoughts_input [--full] [--redraw]`.
"""

import base64
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, below, claim, every, near
from experiments.common import Experiment, Sized
from experiments.numbers import constants, proportion, rounded
from hopjax import plotting, theory

NUM_NEURONS, NUM_MEMORIES = 256, 8
GAIN, TIME_CONSTANT, NOISE = 5.0, 50.0, 0.1
DT, SAVE_EVERY, T1 = 0.05, 0.5, 420.0
SHOWN, BACKGROUND = 5, 0.2  # the memory of the input, and the weight of all others in it
SEED = 2026
# From when to when, while memories 0, 1 and 2 follow each other at about 85, 160 and 235.
WHEN = {"early": (95.0, 125.0), "brief": (140.0, 185.0), "long": (140.0, 260.0)}
STRENGTHS = Sized(
    (1.0, 3.5, 6.0), (0.0, 1.0, 2.0, 2.5, 3.0, 3.25, 3.5, 3.75, 4.0, 4.5, 5.0, 6.0, 8.0)
)
TRIALS = Sized(4, 24)

WORD = "THINK"
SIDE, HIDDEN = 16, 768  # pixels along a side of a letter, and neurons that are not drawn
WORD_GAIN, WORD_TIME, WORD_NOISE = 6.0, 20.0, 0.3
WORD_T1, WORD_EVERY = 400.0, 2.0
GREYS = 15


def run_trial(key: Key[Array, ""], cell: dict[str, Array]) -> dict[str, Array]:
    """The visits of a sequence that an input meets."""
    memories = hj.orthogonal_memories(
        num_memories=NUM_MEMORIES,
        num_neurons=NUM_NEURONS,
        key=jax.random.key(SEED),
        dtype=jnp.float32,
    )
    model = hj.SequentialHopfield(
        memories, gain=GAIN, time_constant=TIME_CONSTANT, self_coupling=True
    )
    weights = jnp.full(NUM_MEMORIES, BACKGROUND).at[SHOWN].set(cell["strength"])
    shown, nothing = hj.mixture(memories, weights), jnp.zeros(NUM_NEURONS, jnp.float32)
    inputs = hj.Schedule(
        jnp.stack([jnp.zeros_like(cell["on"]), cell["on"], cell["off"]]),
        jnp.stack([nothing, shown, nothing]),
    )
    trajectory = hj.solve(
        model,
        inputs,
        memories[0],
        t1=T1,
        dt=DT,
        noise=hj.AdditiveNoise(NOISE),
        key=key,
        save_every=SAVE_EVERY,
        solver=hj.ExponentialAdams(),
    )
    visits = hj.Visits(max_visits=8)
    return visits.of(trajectory.ts, trajectory.overlaps, model.transition_matrix)


def interrupted(full: bool) -> dict[str, Any]:
    """After which strength of the input its memory follows memory 1, and which one follows that."""
    strengths, trials = STRENGTHS[full], TRIALS[full]
    cells = [(s, *when) for when in WHEN.values() for s in strengths]
    strength, on, off = np.array(cells, np.float32).T
    found = hj.map_trials(
        run_trial,
        cells={"strength": strength, "on": on, "off": off},
        trials=trials,
        key=jax.random.key(SEED),
        label="interrupted",
    )
    order = found["order"].reshape(len(WHEN), len(strengths), trials, -1)
    start = found["start"].reshape(order.shape)
    results = {}
    for place, when in enumerate(WHEN):
        follows, then = order[place, :, :, 2] == SHOWN, order[place, :, :, 3]
        results[when] = {
            "follows": [proportion(each) for each in follows],
            "went_on": int((follows & (then == SHOWN + 1)).sum()),
            "returned": int((follows & (then == 2)).sum()),
            "interrupted": int(follows.sum()),
        }
    # Without an input worth the name: when memories follow each other.
    times = np.median(start[0, 0], axis=0)[1:4]
    return {
        "strengths": strengths,
        "trials": trials,
        "times": rounded(times),
        "broken_into": proportion(order[0, :, :, 2] == SHOWN),
        "when": results,
    }


def letters() -> Float[Array, "P N"]:
    """Pictures of letters, and behind them random neurons."""
    pictures = hj.glyph_memories(WORD, size=SIDE, dtype=jnp.float32)
    hidden = hj.random_memories(
        jax.random.key(SEED), num_memories=len(WORD), num_neurons=HIDDEN, dtype=jnp.float32
    )
    return jnp.concatenate([pictures, hidden], axis=1)


def seen(t, state):
    """The activities that are drawn, and the saliencies."""
    del t
    return hj.HardTanh()(state[: SIDE * SIDE]), state[SIDE * SIDE + HIDDEN :]


def spelt() -> dict[str, Any]:
    """The letters that a network thinks of, one after the other."""
    memories = letters()
    model = hj.SequentialHopfield(memories, gain=WORD_GAIN, time_constant=WORD_TIME)
    trajectory = hj.solve(
        model,
        jnp.zeros(memories.shape[1], jnp.float32),
        memories[0],
        t1=WORD_T1,
        dt=DT,
        noise=hj.AdditiveNoise(WORD_NOISE),
        key=jax.random.key(SEED),
        save_every=WORD_EVERY,
        save_fn=seen,
        solver=hj.ExponentialAdams(),
    )
    pictures, saliencies = trajectory.saved
    visits = hj.Visits().of(trajectory.ts, trajectory.overlaps, model.transition_matrix)
    levels = np.round((np.asarray(pictures) + 1) / 2 * GREYS).astype(np.uint8)
    mutual = np.asarray(memories @ memories.T) / memories.shape[1]
    return {
        "ts": rounded(trajectory.ts),
        "overlaps": rounded(trajectory.overlaps, 3),
        "saliencies": rounded(saliencies, 3),
        "pictures": base64.b85encode(zlib.compress(levels.tobytes(), 9)).decode(),
        "text": "".join(WORD[each] for each in np.asarray(visits["order"]) if each >= 0),
        "right": int(visits["right"]),
        "count": int(visits["count"]),
        "largest_overlap_of_letters": rounded(np.abs(mutual - np.eye(len(WORD))).max(), 3),
    }


def predicted() -> float:
    """How salient the next memory is when memory 1 is left, by theory: two visits from the start.

    The first memory begins with the gain; and the input has a little of all memories.
    """
    saliency = GAIN
    for _ in range(2):
        saliency = theory.next_saliency(saliency, GAIN, NOISE, hj.HardTanh())
    return round(float(saliency) + BACKGROUND, 4)


def compute(full: bool) -> dict[str, Any]:
    return {
        "settings": constants(globals(), "SEED NUM_NEURONS NUM_MEMORIES GAIN TIME_CONSTANT NOISE")
        | constants(globals(), "DT SAVE_EVERY T1 SHOWN BACKGROUND WHEN WORD SIDE HIDDEN WORD_GAIN")
        | constants(globals(), "WORD_TIME WORD_NOISE WORD_T1 WORD_EVERY")
        | {"law": "gaussian", "solver": "ExponentialAdams", "trials": TRIALS[full]},
        "interrupted": interrupted(full),
        "predicted": predicted(),
        "word": spelt(),
    }


def share(count: int, total: int) -> dict[str, Any]:
    """A proportion of counts."""
    return proportion(np.arange(total) < count)


def half(found: dict[str, Any]) -> tuple[float, float, float]:
    """The strength at which half of the trials are taken, with the ends by those of the shares."""
    pairs = zip(*(found["when"][when]["follows"] for when in ("brief", "long")), strict=True)
    cells = [share(one["count"] + other["count"], 2 * found["trials"]) for one, other in pairs]
    ends = []
    for name in ("p", "high", "low"):
        shares = np.maximum.accumulate([cell[name] for cell in cells])
        rising = shares + 1e-9 * np.arange(len(shares))
        ends.append(float(np.interp(0.5, rising, found["strengths"])))
    return ends[0], ends[1], ends[2]


def draw(numbers: dict[str, Any]) -> Figure:
    """How often the memory of the input follows; and the word, as overlaps over time."""
    figure, (top, bottom) = drawing.panels(2, 1, 3.9)
    found = numbers["interrupted"]
    for place, (when, result) in enumerate(found["when"].items()):
        on, off = WHEN[when]
        label = f"{when}: from {on:g} to {off:g}"
        drawing.curve(top, found["strengths"], result["follows"], place, label)
    top.axvline(numbers["predicted"], color="black", linewidth=0.8, linestyle=":")
    top.set(
        xlabel="weight of another memory in the input",
        ylabel="P(it follows memory 1)",
        ylim=(-0.03, 1.03),
    )
    top.legend(loc="upper left")
    word = numbers["word"]
    ts, overlaps = np.array(word["ts"]), np.abs(np.array(word["overlaps"]))
    for place, letter in enumerate(WORD):
        bottom.plot(ts, overlaps[:, place], color=f"C{place}", linewidth=0.9, label=letter)
    bottom.set(xlabel="time $t$ (time constants)", ylabel="overlap |m|", ylim=(-0.03, 1.08))
    bottom.legend(ncols=len(WORD), loc="upper center", bbox_to_anchor=(0.5, 1.22))
    return figure


def animate(numbers: dict[str, Any]) -> list[FuncAnimation]:
    """The letters that are seen, and the saliencies that move them on."""
    word = numbers["word"]
    levels = np.frombuffer(zlib.decompress(base64.b85decode(word["pictures"])), np.uint8)
    film = levels.reshape(-1, SIDE, SIDE) / GREYS * 2 - 1
    # Letters come as often as their mirror images; drawn is what is bright on dark.
    film = film * np.where(film[:, :1, :1] > 0, -1, 1)
    some = slice(None, None, 2 if numbers["full"] else 8)
    ts, saliencies = np.array(word["ts"])[some], np.array(word["saliencies"])[some]
    left, right = plt.subplots(
        1, 2, figsize=(5.2, 1.9), layout="constrained", width_ratios=[1, 2.2]
    )[1]
    seen = plotting.animate_film(ts, film[some].reshape(len(ts), -1), captions=[], ax=left)
    moved_on = plotting.animate_overlaps(ts, saliencies, ax=right)
    for place, (line, letter) in enumerate(zip(right.get_lines(), WORD, strict=True)):
        line.set(color=f"C{place}", linewidth=1, label=letter)
    right.set(ylim=(0, 1.05 * saliencies.max()), ylabel="saliency")
    right.legend(ncols=len(WORD), loc="upper right", bbox_to_anchor=(1, 1.25))
    return [seen, moved_on]


def claims(numbers: dict[str, Any]) -> list[Claim]:
    found, word = numbers["interrupted"], numbers["word"]
    when = found["when"]
    brief, long = when["brief"], when["long"]
    text = (WORD * 10)[: word["count"]]
    return [
        claim(
            "an input early in a visit does not break into it, however strong ({})",
            below(found["broken_into"], 0.05),
        ),
        claim(
            "at a change it decides what follows if it is about as strong as the next memory is "
            "salient, which theory predicts: at {}",
            near(half(found), numbers["predicted"], 0.6, "half of the trials at {}, theory {:.2f}"),
        ),
        claim(
            "a strong one nearly always does ({})",
            above([when[name]["follows"][-1] for name in ("brief", "long")], 0.85),
        ),
        claim(
            "after a long input the sequence goes on from the memory that was shown ({})",
            above(share(long["went_on"], long["interrupted"]), 0.9),
        ),
        claim(
            "after a brief one it returns to where it was going ({})",
            above(share(brief["returned"], brief["interrupted"]), 0.9),
        ),
        claim(
            f"letters spell {WORD} again and again",
            every(int(word["text"] == text) * word["count"], word["count"], "{} of {} letters"),
        ),
    ]


EXPERIMENT = Experiment(
    "thoughts_input", compute, draw, claims, "studies here", animate={"thoughts_word": animate}
)

if __name__ == "__main__":
    EXPERIMENT.main()
