"""Memories that come one by one, and go: what a network keeps of the old when it learns the new.

A network of two memories learns more by `with_memory`, and at some numbers of them it is asked for
the oldest, the newest and others between, under noise: each from itself with a tenth of its signs
flipped, while the input shows it with weight 1 and all others with weight ½. IDP and the network of
decorrelated memories weigh their memories by that input; the classic network is not shown it, as a
current would undo it (see `capacity`). At last each forgets the older half by `without_memory`,
then that of what remains, and so on.

Interference is the overlap that the oldest memory loses, and the crosstalk that causes it: the
standard deviation over neurons of the field at a memory. At load a = P/N it should be √a in the
classic network, ½ √(a (1 + a)) in IDP and nothing among decorrelated memories. Run alone:
`python -m experiments.continual [--full] [--redraw]`.
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
from experiments.capacity import CORRUPTION
from experiments.claims import Claim, above, below, claim, measured, near, show
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import constants, proportion, rounded
from experiments.protocols import RETRIEVED, SEED
from experiments.studies import only, select, solved
from hopjax import plotting

NUM_NEURONS = 256
NOISE = 0.3
T1, DT = 20.0, 0.05
BACKGROUND = 0.5
FIRST = Sized(40, 2)  # memories at the beginning
ASKED = 8  # memories of a network that are asked for, from the oldest to the newest
TRIALS = Sized(24, 160)
NETWORKS = {
    "idp": hj.IDPHopfield,
    "classic": hj.ClassicHopfield,
    "decorrelated": hj.DecorrelatedHopfield,
}
LABELS = {"idp": "IDP", "classic": "classic", "decorrelated": "decorrelated"}
SOLVED = Sized(("idp", "classic"), tuple(NETWORKS))
# Numbers of memories at which networks are asked, while they learn and then while they forget.
MANY = 48
LEARNING = Sized((MANY,), (FIRST.full, 8, 16, 24, 32, MANY, 64, 96, 128))
FORGETTING: Sized[tuple[int, ...]] = Sized((), (64, 32, 16))


def ask(
    key: Key[Array, ""], memories: Float[Array, "P N"], *, network: str
) -> dict[str, Float[Array, " asked"]]:
    """Overlaps of a network with some memories, each retrieved alone, and the crosstalk at them."""
    model: hj.AbstractHopfield = NETWORKS[network](memories)

    def one(key, memory):
        start_key, noise_key = jax.random.split(key)
        pattern = memories[memory]
        weights = jnp.full(len(memories), BACKGROUND).at[memory].set(1.0)
        u = hj.mixture(memories, weights) if network != "classic" else jnp.zeros_like(pattern)
        x0, noise = hj.corrupt(start_key, pattern, CORRUPTION), hj.AdditiveNoise(NOISE)
        trajectory = hj.solve(model, u, x0, t1=T1, dt=DT, noise=noise, key=noise_key, save_every=T1)
        field = pattern + model.drift(jnp.zeros(()), pattern, model.drive(u))
        return {"overlap": trajectory.overlaps[-1, memory], "crosstalk": jnp.var(pattern * field)}

    chosen = np.unique(np.linspace(0, len(memories) - 1, ASKED).round().astype(int))
    return jax.vmap(one)(jax.random.split(key, ASKED)[: len(chosen)], jnp.asarray(chosen))


def mean(values: np.ndarray) -> dict[str, Any]:
    """A mean over trials with the ends of its 95% interval."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    ends = {"mean": values.mean(), "low": values.mean() - half, "high": values.mean() + half}
    return {name: rounded(end) for name, end in ends.items()}


def deviation(variances: Float[np.ndarray, "trials asked"]) -> dict[str, Any]:
    """The standard deviation that belongs to the mean of variances, with its 95% interval."""
    variances = variances.mean(axis=1)
    half = 1.96 * variances.std(ddof=1) / np.sqrt(len(variances))
    ends = {"mean": 0.0, "low": -half, "high": half}
    return {name: rounded(np.sqrt(max(variances.mean() + side, 0))) for name, side in ends.items()}


def compute(full: bool) -> dict[str, Any]:
    sizes = FIRST[full], LEARNING[full], FORGETTING[full], TRIALS[full]
    cells = side_by_side(*(partial(simulate, network, *sizes) for network in SOLVED[full]))
    return {
        "settings": {"trials": TRIALS[full], "law": "gaussian"}
        | constants(
            globals(), "SEED NUM_NEURONS NOISE CORRUPTION BACKGROUND ASKED T1 DT RETRIEVED"
        ),
        "results": [cell for each in cells for cell in each],
    }


def simulate(
    network: str, first: int, learning: tuple[int, ...], forgetting: tuple[int, ...], trials: int
) -> list[dict[str, Any]]:
    """A cell for each stage in the life of networks of a kind, as many as there are trials."""
    pattern_key, key = jax.random.split(jax.random.key(SEED))
    patterns = np.asarray(
        hj.random_memories(pattern_key, num_memories=trials * learning[-1], num_neurons=NUM_NEURONS)
    ).reshape(trials, learning[-1], NUM_NEURONS)
    models = [NETWORKS[network](own[:first]) for own in patterns]
    stages = []  # whether it learns, how many memories it has, the memories of each trial
    for count in learning:
        for place in range(len(models[0].memories), count):
            models = [
                model.with_memory(own[place]) for model, own in zip(models, patterns, strict=True)
            ]
        stages.append((True, count, np.stack([model.memories for model in models])))
    for count in forgetting:
        for _ in range(len(models[0].memories) - count):
            models = [model.without_memory(0) for model in models]
        stages.append((False, count, np.stack([model.memories for model in models])))

    # Stages of one size are one program. Those that learn come first, and so all have the same
    # starts and noise: the oldest memory is asked for in the same way each time.
    answers: list[Any] = [None] * len(stages)
    for count in sorted(set(learning + forgetting)):
        places = [place for place, (_, number, _) in enumerate(stages) if number == count]
        found = hj.map_trials(
            partial(ask, network=network),
            key=key,
            trials=1,
            label=f"continual, {network}, {count} memories",
            cells=np.concatenate([stages[place][2] for place in places]),
        )
        for number, place in enumerate(places):
            own = slice(number * trials, (number + 1) * trials)
            answers[place] = {name: values[own, 0] for name, values in found.items()}

    cells, at_first = [], answers[0]["overlap"][:, 0]
    for (learns, count, _), answer in zip(stages, answers, strict=True):
        overlaps = answer["overlap"]
        cell = {
            "network": network,
            "learns": learns,
            "num_memories": count,
            "oldest": proportion(overlaps[:, 0] > RETRIEVED),
            "newest": proportion(overlaps[:, -1] > RETRIEVED),
            "all": proportion(overlaps > RETRIEVED),
            "crosstalk": deviation(answer["crosstalk"]),
        }
        if learns:
            cell["lost"] = mean(at_first - overlaps[:, 0])
        cells.append(cell)
    return cells


def predicted_crosstalk(network: str, num_memories: Any) -> Any:
    """The standard deviation of the field at a memory."""
    load = (num_memories - 1) / NUM_NEURONS
    if network == "decorrelated":
        return 0 * load
    return np.sqrt(load) if network == "classic" else BACKGROUND * np.sqrt(load * (1 + load))


def draw(numbers: dict[str, Any]) -> Figure:
    """Oldest and newest, all before and after forgetting, and the two measures of interference."""
    figure, axes = drawing.panels(2, 2, 3.4, letters_at=17, sharex=True)
    (ages, everything), (lost, crosstalk) = axes
    for place, network, label in solved(numbers, "network", LABELS):
        cells = select(numbers["results"], network=network, learns=True)
        after = select(numbers["results"], network=network, learns=False)
        counts = [cell["num_memories"] for cell in cells]
        look = drawing.look(place, linestyle="")
        crosses = look | {"marker": "x", "markersize": 4}
        drawing.curve(ages, counts, [cell["oldest"] for cell in cells], place, label)
        ages.plot(counts, [cell["newest"]["p"] for cell in cells], **crosses)
        drawing.curve(everything, counts, [cell["all"] for cell in cells], place, label)
        everything.plot(
            [cell["num_memories"] for cell in after],
            [cell["all"]["p"] for cell in after],
            **crosses,
        )
        means = drawing.with_ends(cell["lost"] for cell in cells)
        plotting.plot_band(np.array(counts, float), *means, place=place, ax=lost)
        fine = np.linspace(FIRST.full, counts[-1])
        line = {"color": look["color"], "linestyle": plotting.LINE_STYLES[place], "linewidth": 0.6}
        crosstalk.plot(fine, predicted_crosstalk(network, fine), **line)
        crosstalk.plot(counts, [cell["crosstalk"]["mean"] for cell in cells], **look)
    ages.set(ylabel="P(retrieved)", title="oldest; × newest")
    everything.set(title="all; × after forgetting")
    lost.set(ylabel="overlap lost by the oldest", xlabel="memories $P$")
    crosstalk.set(ylabel="crosstalk", xlabel="memories $P$")
    drawing.legend_below(figure, ages)
    return figure


def claims(numbers: dict[str, Any]) -> list[Claim]:
    def at(network: str, count: int, *, learns: bool = True) -> dict[str, Any]:
        cells = select(numbers["results"], learns=learns, num_memories=count)
        return only(cells, network=network)

    idp, classic = at("idp", MANY), at("classic", MANY)
    found = [
        claim(
            f"with {MANY} memories IDP retrieves the oldest and the newest ({{}})",
            above(
                [idp["oldest"], idp["newest"]],
                0.8,
                f"P = {show(idp['oldest'], idp['newest'], joined=' and ')}",
            ),
        ),
        claim(
            f"with {MANY} memories the classic network has lost both ({{}})",
            below(
                [classic["oldest"], classic["newest"]],
                0.2,
                f"P = {show(classic['oldest'], classic['newest'], joined=' and ')}",
            ),
        ),
        claim(
            "crosstalk is √(P − 1)/√N in the classic network, and less by the factor predicted in "
            "IDP (within 10%)",
            *(
                near(
                    measured(at(name, MANY)["crosstalk"]).over(predicted_crosstalk(name, MANY)),
                    1,
                    0.1,
                    f"{name}, {MANY} memories: {show(at(name, MANY)['crosstalk'])}, predicted "
                    f"{predicted_crosstalk(name, MANY):.3f}",
                )
                for name in ("classic", "idp")
            ),
        ),
    ]
    if numbers["full"]:
        kept = [at("decorrelated", count) for count in LEARNING.full]
        few, most = FORGETTING.full[-1], LEARNING.full[-1]
        back, before = at("classic", few, learns=False), at("classic", few)
        crosstalk = max(cell["crosstalk"]["mean"] for cell in kept)
        found += [
            claim(
                "what a network forgets no longer disturbs the rest ({})",
                near(
                    back["all"],
                    before["all"],
                    0.02,
                    f"classic, {few} memories: P = {{}} after {most}, {{}} before",
                ),
            ),
            claim(
                f"decorrelated memories do not disturb each other, up to {most} ({{}})",
                above(
                    [cell["all"] for cell in kept],
                    0.95,
                    f"least P = {{}}, most crosstalk {crosstalk:.3f}",
                ),
            ),
        ]
    return found


def found(numbers: dict[str, Any]) -> list[str]:
    def at(network: str, count: int, age: str, *, learns: bool = True) -> str:
        cells = select(numbers["results"], learns=learns, num_memories=count)
        return show(only(cells, network=network)[age])

    few, most = FORGETTING.full[-1], LEARNING.full[-1]
    return [
        f"Memories that are added one by one, here at σ = {NOISE:g}, disturb the others by "
        f"crosstalk. With {MANY} of them IDP, which an input tells what is sought, retrieves the "
        f"oldest in {at('idp', MANY, 'oldest')} and the newest in {at('idp', MANY, 'newest')}, the "
        f"classic network in {at('classic', MANY, 'oldest')} and {at('classic', MANY, 'newest')}. "
        f"What is forgotten disturbs no more: with {few} left of {most}, the classic network is "
        f"back at {at('classic', few, 'all', learns=False)}. Decorrelated, all are kept, up to "
        f"{most}."
    ]


EXPERIMENT = Experiment("continual", compute, draw, claims, source="studies here", found=found)

if __name__ == "__main__":
    EXPERIMENT.main()
