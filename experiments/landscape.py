"""The energy landscape: the input deepens the well of one memory and takes away another's.

Two orthogonal memories span a plane of states x = a ξ¹ + b ξ². In it four inputs are drawn, with
all equilibria and noiseless trajectories, and an animation shows noisy networks on the landscape
of an input that turns from memory 1 to memory 2. Self-coupling is kept: then a memory exists above
the saliency 1/d exactly, and neither the energy per neuron nor the motion of the plane depends on
N. Run alone: `python -m experiments.landscape [--full] [--redraw]`.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter
from scipy.ndimage import zoom

import hopjax as hj
from experiments import drawing
from experiments.claims import Claim, above, below, claim, every, measured, near, number, show
from experiments.common import Experiment, Sized, side_by_side
from experiments.numbers import constants, proportion, rounded
from hopjax import plotting, theory

# The four pictures: memory 2 is absent, a saddle, a shallower well, the deepest well.
INPUTS = ((2.0, 0.8), (2.0, 1.15), (2.0, 1.7), (1.6, 2.0))
SLOPE = 1.0
NUM_NEURONS = 64
EXTENT = 2.6  # of the plane drawn, from −EXTENT to EXTENT both ways
DT, T1 = 0.05, 25.0  # of the noiseless trajectories
DRAWN_POINTS = 41  # of each path, at equal distances

# The animation: a steep activation, which the noise makes as smooth as that of the pictures.
TURNING = {
    "saliency": 2.0,
    "slope": 10.0,
    "noise": 1.0,
    "dt": 0.05,
    "turn": (2.0, 22.0),  # from when to when the input turns
    "angles": (15.0, 75.0),  # and from what angle to memory 1 to what
    "t1": 28.0,
    "save_every": 0.5,
    "drawn": 18,
}
TRIALS = Sized(200, 2000)
SEED = 2025

KINDS = ("stable", "saddle", "maximum")  # by the number of growing directions
MEMORIES = plotting.COLOURS[:2]
GROUND = ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.82, 256)), "ground")


def network(slope: float, num_neurons: int = NUM_NEURONS) -> hj.IDPHopfield:
    memories = hj.orthogonal_memories(num_memories=2, num_neurons=num_neurons, dtype=jnp.float32)
    return hj.IDPHopfield(memories, hj.Tanh(slope), self_coupling=True)


def axis(size: int) -> np.ndarray:
    return np.linspace(-EXTENT, EXTENT, size)


def plane(model: hj.IDPHopfield, size: int) -> Float[Array, "points N"]:
    """The states a ξ¹ + b ξ² on a square grid, a running fastest."""
    a, b = np.meshgrid(axis(size), axis(size))
    return hj.mixture(model.memories, np.stack([a.ravel(), b.ravel()], axis=1))


def components(model: hj.IDPHopfield, state: Float[Array, "... N"]) -> Float[Array, "... 2"]:
    """(a, b) of a state, ξ·x / N for both memories."""
    return jnp.matmul(state, model.memories.T, precision="highest") / model.state_size


def energies(
    model: hj.IDPHopfield, weights: tuple[tuple[float, float], ...], size: int
) -> Float[np.ndarray, "inputs size size"]:
    """E/N over the plane for each input."""
    states, inputs = plane(model, size), hj.mixture(model.memories, np.array(weights))
    over_plane = jax.vmap(jax.vmap(model.energy, (0, None)), (None, 0))
    values = jax.jit(over_plane)(states, inputs) / model.state_size
    return np.asarray(values).reshape(-1, size, size)


def find_equilibria(model: hj.IDPHopfield, weights: tuple[float, float]) -> list[dict[str, Any]]:
    """All equilibria of the plane: Newton's method from a grid of starts, each kept once."""
    u = hj.mixture(model.memories, np.array(weights))
    found, places = _search(model, u, plane(model, 7))
    places = np.asarray(places, float).round(4) + 0.0  # −0 becomes 0
    kept: list[int] = []
    for index in np.flatnonzero(found.found):
        if all(math.dist(places[index], places[other]) > 1e-2 for other in kept):
            kept.append(int(index))
    equilibria = []
    for index in sorted(kept, key=lambda index: tuple(places[index])):
        growth = theory.leading_eigenvalues(model, found.state[index], u, count=3).real
        share = abs(places[index]) / max(np.hypot(*places[index]), 1e-3)
        equilibria.append(
            {
                "a": rounded(places[index, 0]),
                "b": rounded(places[index, 1]),
                "energy": rounded(found.energy[index] / model.state_size, 5),
                "kind": KINDS[int(np.sum(np.asarray(growth) > 0))],
                "memory": int(np.argmax(share)) if share.max() > 0.99 else None,
            }
        )
    return equilibria


@eqx.filter_jit
def _search(model, u, starts):
    found = jax.vmap(theory.find_equilibrium, (None, None, 0))(model, u, starts)
    return found, components(model, found.state)


class Watch(eqx.Module):
    """Saves a trajectory's place in the plane and its energy per neuron."""

    model: hj.IDPHopfield
    u: Float[Array, " N"]

    def __call__(self, t: Float[Array, ""], state: Float[Array, " N"]) -> Float[Array, "3"]:
        del t
        energy = self.model.energy(state, self.u) / self.model.state_size
        return jnp.append(components(self.model, state), energy)


def descend(
    model: hj.IDPHopfield, weights: tuple[float, float], starts: Float[np.ndarray, "starts N"]
) -> Float[np.ndarray, "starts T 3"]:
    """Noiseless trajectories: a, b and E/N at every step."""
    u = hj.mixture(model.memories, np.array(weights))
    return np.asarray(_descend(model, u, jnp.asarray(starts)))


@eqx.filter_jit
def _descend(model, u, starts):
    def run(start):
        watch = Watch(model, u)
        trajectory = hj.solve(model, u, start, t1=T1, dt=DT, save_every=DT, save_fn=watch)
        return trajectory.saved

    return jax.vmap(run)(starts)


def drawn_starts(model: hj.IDPHopfield) -> np.ndarray:
    """Starts on two rings, none on an axis or a diagonal, where nothing breaks the symmetry."""
    places = []
    for radius, count in ((2.45, 16), (0.3, 8)):
        angles = 2 * np.pi * (np.arange(count) + 0.5) / count
        places += [(radius * np.cos(angle), radius * np.sin(angle)) for angle in angles]
    return np.asarray(hj.mixture(model.memories, np.array(places)))


def thin(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A path by few points, equally far apart."""
    length = np.append(0, np.cumsum(np.hypot(np.diff(a), np.diff(b))))
    places = np.linspace(0, length[-1], DRAWN_POINTS)
    return np.stack([np.interp(places, length, a), np.interp(places, length, b)])


def survey() -> tuple[np.ndarray, list[list[dict[str, Any]]]]:
    """The energy over the plane under the four inputs, and its equilibria."""
    model = network(SLOPE)
    return energies(model, INPUTS, 51), [find_equilibria(model, weights) for weights in INPUTS]


def compute_panels(
    full: bool, maps: np.ndarray, equilibria: list[list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    model = network(SLOPE)
    ring = drawn_starts(model)
    # The energy falls outside the plane as well.
    anywhere = 2 * np.random.default_rng(SEED).normal(size=(500 if full else 100, NUM_NEURONS))
    panels = []
    for weights, energy, points in zip(INPUTS, maps, equilibria, strict=True):
        paths = descend(model, weights, np.concatenate([ring, anywhere]).astype(np.float32))
        panels.append(
            {
                "saliency": list(weights),
                "energy": rounded(energy),
                "equilibria": points,
                "paths": rounded(
                    np.array([thin(*path[:, :2].T) for path in paths[: len(ring)]]), 3
                ),
                "trajectories": len(paths),
                "largest_rise": float(np.diff(paths[:, :, 2]).max()),
            }
        )
    return panels


class TurningInput(eqx.Module):
    """u(t) of constant size, which turns from memory 1 to memory 2."""

    memories: Float[Array, "2 N"]

    def weights(self, t: Float[Array, ""]) -> Float[Array, "2"]:
        start, end = TURNING["turn"]
        turned = jnp.clip((t - start) / (end - start), 0, 1)
        first, last = (math.radians(angle) for angle in TURNING["angles"])
        angle = first + (last - first) * turned**2 * (3 - 2 * turned)
        return TURNING["saliency"] * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " N"]:
        return hj.mixture(self.memories, self.weights(t))


@eqx.filter_jit  # many small operations: compiled at once
def smoothed(slope: float) -> theory.NoisyActivation:
    """The activation that the mean of the noisy states sees."""
    noise = theory.effective_noise(TURNING["noise"], TURNING["dt"])
    return theory.NoisyActivation(hj.Tanh(slope), noise)


@eqx.filter_jit
def _wells(activation, alpha):
    """The amplitude of a memory of each saliency, and the slope of the activation there."""
    amplitude = theory.equilibrium_amplitude(alpha, activation)
    return amplitude, activation.derivative(amplitude)


def compute_turning(full: bool) -> dict[str, Any]:
    model = network(TURNING["slope"])
    inputs = TurningInput(model.memories)
    watch = Watch(model, model.memories[0])

    def trial(key):
        trajectory = hj.solve(
            model,
            inputs,
            TURNING["saliency"] * model.memories[0],
            t1=TURNING["t1"],
            dt=TURNING["dt"],
            noise=hj.AdditiveNoise(TURNING["noise"]),
            key=key,
            save_every=TURNING["save_every"],
            save_fn=watch,
        )
        return trajectory.saved[:, :2]

    trials = TRIALS[full]
    places = hj.map_trials(trial, key=jax.random.key(SEED), trials=trials, label="turning input")
    ts = np.arange(places.shape[1]) * TURNING["save_every"]
    saliency = np.asarray(jax.jit(jax.vmap(inputs.weights))(jnp.asarray(ts, jnp.float32)))

    activation = smoothed(TURNING["slope"])
    alpha_1, alpha_2 = saliency.T
    # One search for both: memory 1 at every time, and memory 2 in the end.
    wanted = np.append(alpha_1, alpha_2[-1])
    amplitudes, slopes = map(np.asarray, _wells(activation, jnp.asarray(wanted)))
    amplitude, competing = amplitudes[-1], alpha_2 * slopes[:-1]
    in_2 = abs(places[:, :, 1]) > abs(places[:, :, 0])
    left = np.where(in_2.any(1), ts[in_2.argmax(axis=1)], np.inf)
    ended = abs(places[:, -1, 1])
    frames = slice(None, None, 1 if full else 6)
    # The energy is linear in the input: three maps make that of every frame. Four neurons have
    # the energy per neuron of any number.
    few = network(TURNING["slope"], 4)
    mean_model = hj.IDPHopfield(few.memories, activation, self_coupling=True)
    return {
        "settings": {**TURNING, "num_neurons": NUM_NEURONS, "trials": trials, "seed": SEED},
        "ts": rounded(ts[frames]),
        "saliency": rounded(saliency[frames]),
        "energy": rounded(energies(mean_model, ((0, 0), (1, 0), (0, 1)), 41)),
        "places": rounded(places[: TURNING["drawn"], frames].transpose(2, 1, 0), 3),
        "memory_2_deeper_from": float(ts[np.argmax(alpha_2 > alpha_1)]),
        "memory_1_lost_from": float(ts[np.argmax(competing > 1)]),
        "left": rounded(np.quantile(left, [0, 0.1, 0.5, 0.9], method="nearest")),
        "in_memory_2": proportion(abs(ended - amplitude) < amplitude / 2),
        "in_plus": proportion(places[:, -1, 1] > 0),
        "amplitude": rounded(amplitude),
        "mean_amplitude": rounded(ended.mean()),
        "mean_half_width": rounded(1.96 * ended.std(ddof=1) / math.sqrt(trials)),
    }


def compute(full: bool) -> dict[str, Any]:
    (maps, equilibria), turning = side_by_side(survey, lambda: compute_turning(full))
    return {
        "settings": {"self_coupling": True}
        | constants(globals(), "NUM_NEURONS SLOPE EXTENT DT T1 SEED"),
        "panels": compute_panels(full, maps, equilibria),
        "turning": turning,
    }


def expected_kind(saliency: list[float], memory: int) -> str:
    """What theory says of a memory: absent, a saddle or stable."""
    activation, other = hj.Tanh(SLOPE), saliency[1 - memory]
    if saliency[memory] <= theory.existence_threshold(activation):
        return "absent"
    return (
        "stable" if saliency[memory] > theory.stability_threshold(other, activation) else "saddle"
    )


def found_kind(panel: dict[str, Any], memory: int) -> str:
    kinds = {point["kind"] for point in panel["equilibria"] if point["memory"] == memory}
    return " and ".join(sorted(kinds)) or "absent"


def claims(numbers: dict[str, Any]) -> list[Claim]:
    panels, turning = numbers["panels"], numbers["turning"]
    deepest, depths = [], []
    for panel in panels:
        wells = [point for point in panel["equilibria"] if point["kind"] == "stable"]
        well = min(wells, key=lambda point: point["energy"])
        deepest.append(well["memory"] == int(np.argmax(panel["saliency"])))
        best = {}
        for point in sorted(wells, key=lambda point: -point["energy"]):
            best[point["memory"]] = point["energy"]
        depths.append(" / ".join(f"{best[memory]:.3f}" for memory in sorted(best)))
    found = [[found_kind(panel, memory) for memory in (0, 1)] for panel in panels]
    expected = [[expected_kind(panel["saliency"], memory) for memory in (0, 1)] for panel in panels]
    agree = int(np.sum(np.array(found) == np.array(expected)))
    rise = max(panel["largest_rise"] for panel in panels)
    trajectories = sum(panel["trajectories"] for panel in panels)
    first, _, median, _ = map(number, turning["left"])
    amplitude = {"mean": turning["mean_amplitude"], "half_width": turning["mean_half_width"]}
    return [
        claim(
            "the most salient memory has the deepest well, for every input",
            every(
                sum(deepest), len(deepest), f"{{}} of {{}}; E/N of the wells {', '.join(depths)}"
            ),
        ),
        claim(
            "a memory is absent below 1/d, then a saddle, then a well, as predicted",
            every(
                agree,
                2 * len(panels),
                f"{{}} of {{}}; memory 2: {', '.join(kinds[1] for kinds in found)}",
            ),
        ),
        claim(
            "without noise the energy never rises (E/N, up to rounding)",
            below(rise, 2e-6, f"largest rise in a step {{:.0e}}, {trajectories} trajectories"),
        ),
        claim(
            "noisy states have followed the turned input to ± memory 2 ({})",
            above(
                turning["in_memory_2"], 0.95, f"P = {{}}, with sign + {show(turning['in_plus'])}"
            ),
        ),
        claim(
            "none leaves memory 1 before memory 2 lies deeper",
            above(
                first,
                turning["memory_2_deeper_from"],
                f"deeper from t = {{1:g}}, first leaves at {{0:g}}; "
                f"well 1 lost from {turning['memory_1_lost_from']:g}, median {median:g}",
            ),
        ),
        claim(
            "they lie in the well of the landscape that the noise smooths (mean |b|, within 1%)",
            near(
                measured(amplitude).over(turning["amplitude"]),
                1,
                0.01,
                f"{amplitude['mean']:.3f} ± {amplitude['half_width']:.3f}, "
                f"well at {turning['amplitude']:.3f}",
            ),
        ),
    ]


ENERGY = "energy per neuron $E/N$"
FINE = {"linewidths": 0.25, "alpha": 0.6}
LEVELS = np.arange(-0.34, 0.2801, 0.02)


def draw_panels(numbers: dict[str, Any]) -> Figure:
    """The landscape under four inputs, with its equilibria and noiseless trajectories."""
    figure, axes = drawing.panels(2, 2, 4.6, sharex=True, sharey=True)
    norm = BoundaryNorm(LEVELS, GROUND.N)
    for ax, panel in zip(axes.flat, numbers["panels"], strict=True):
        energy = np.array(panel["energy"])
        ticks = axis(len(energy))
        ax.contourf(ticks, ticks, energy, LEVELS, cmap=GROUND, norm=norm)
        ax.contour(ticks, ticks, energy, LEVELS, colors="white", linestyles="solid", **FINE)
        draw_paths(ax, panel["paths"])
        for point in panel["equilibria"]:
            draw_equilibrium(ax, point)
        first, second = panel["saliency"]
        kind = found_kind(panel, 1)
        if kind == "stable":
            kind = "deepest well" if second > first else "shallower well"
        ax.set_title(
            rf"$\alpha_1$ = {first:g}, $\alpha_2$ = {second:g}"
            f"\nmemory 2: {kind}",
            linespacing=1.35,
        )
        style_plane(ax)
    for ax in axes[0]:
        ax.set_xlabel("")
    for ax in axes[:, 1]:
        ax.set_ylabel("")
    bar = figure.colorbar(
        ScalarMappable(norm, GROUND),
        ax=axes,
        location="bottom",
        label=ENERGY,
        ticks=[-0.3, -0.2, -0.1, 0, 0.1, 0.2],
        aspect=45,
        pad=0.02,
        format=FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")),
    )
    bar.outline.set_linewidth(0.4)
    figure.legend(
        handles=[
            *(
                Line2D([], [], **marker(kind, None), linestyle="none", label=label)
                for kind, label in (
                    ("stable", "well (stable)"),
                    ("saddle", "saddle"),
                    ("maximum", "maximum of the plane"),
                )
            ),
            Patch(color=MEMORIES[0], label="memory 1"),
            Patch(color=MEMORIES[1], label="memory 2"),
            Line2D(
                [],
                [],
                color="white",
                linewidth=0.8,
                path_effects=[withStroke(linewidth=2.2, foreground="black")],
                label="noiseless trajectory",
            ),
        ],
        loc="outside lower center",
        ncols=2,
        columnspacing=2.5,
        handletextpad=0.6,
        handlelength=1.2,
        handleheight=0.6,
    )
    return figure


def style_plane(ax: Axes) -> None:
    ends, ticks = (-EXTENT, EXTENT), [-2, 0, 2]
    ax.set(xlim=ends, ylim=ends, xticks=ticks, yticks=ticks, aspect="equal")
    ax.set_xlabel(r"$a$, component along $\xi^1$", color=MEMORIES[0])
    ax.set_ylabel(r"$b$, component along $\xi^2$", color=MEMORIES[1])
    ax.spines[["top", "right"]].set_visible(True)


def marker(kind: str, memory: int | None) -> dict[str, Any]:
    """How an equilibrium looks: its shape says the kind, its colour the memory."""
    shape, size = {"stable": ("o", 5.0), "saddle": ("X", 5.0), "maximum": ("^", 4.5)}[kind]
    return {
        "marker": shape,
        "markersize": size,
        "markerfacecolor": "white" if memory is None else MEMORIES[memory],
        "markeredgecolor": "black" if memory is None else "white",
        "markeredgewidth": 0.6,
    }


def draw_equilibrium(ax: Axes, point: dict[str, Any]) -> None:
    ax.plot(point["a"], point["b"], **marker(point["kind"], point["memory"]), zorder=5)


def draw_paths(ax: Axes, paths: list[list[list[float]]]) -> None:
    """Each trajectory with an arrow head halfway along its length."""
    for a, b in paths:
        ax.plot(a, b, color="white", linewidth=0.5, zorder=3)
        middle = len(a) // 2
        ax.annotate(
            "",
            (a[middle + 1], b[middle + 1]),
            (a[middle - 1], b[middle - 1]),
            arrowprops={"arrowstyle": "-|>", "color": "white", "lw": 0, "mutation_scale": 6},
            zorder=3,
        )


TAIL = 2.0  # how far back in time a state's tail reaches
BANDS = np.arange(-0.42, 0.3001, 0.02)  # what is higher has one colour
PIXELS = 280  # of the landscape in the animation, one for each number


def paint(energy: np.ndarray) -> np.ndarray:
    """The landscape in colours, with a lighter line between two bands."""
    band = np.searchsorted(BANDS, energy)
    colours = GROUND(band / len(BANDS), bytes=True)[:, :, :3]
    line = np.zeros(band.shape, bool)
    line[:-1] |= band[:-1] != band[1:]
    line[:, :-1] |= band[:, :-1] != band[:, 1:]
    colours[line] += (255 - colours[line]) // 3
    return colours


def animate(numbers: dict[str, Any]) -> FuncAnimation:
    """Noisy states on the landscape of their mean, while the input turns."""
    turning = numbers["turning"]
    ts, saliency = np.array(turning["ts"]), np.array(turning["saliency"])
    places = np.array(turning["places"]).transpose(1, 2, 0)  # frames, states, (a, b)
    start, *ends = (zoom(np.array(part), PIXELS / len(part)) for part in turning["energy"])
    slopes = np.stack(ends) - start

    # Placed by hand: an automatic layout would draw every frame once more.
    figure = plt.figure(figsize=(4.0, 4.8))
    boxes = (0.125, 0.36, 0.7, 0.583), (0.845, 0.36, 0.025, 0.583), (0.125, 0.09, 0.7, 0.16)
    ax, bar, strip = map(figure.add_axes, boxes)
    extent = (-EXTENT, EXTENT, -EXTENT, EXTENT)
    image = ax.imshow(paint(start), extent=extent, origin="lower")
    tails = LineCollection([], colors="white", linewidths=0.7, zorder=3)
    ax.add_collection(tails)
    states = ax.scatter(*places[0].T, s=24, edgecolors="white", linewidths=0.7, zorder=4)
    style_plane(ax)
    settings = turning["settings"]
    ax.set_title(
        f"{places.shape[1]} networks of {settings['num_neurons']} neurons "
        rf"under noise $\sigma$ = {settings['noise']:g}"
    )
    norm = BoundaryNorm(BANDS, GROUND.N, extend="max")
    colours = ScalarMappable(norm, GROUND)
    figure.colorbar(colours, cax=bar, ticks=[-0.3, 0, 0.3], label=ENERGY).ax.minorticks_off()

    for memory, name in enumerate(("1", "2")):
        style = {"color": MEMORIES[memory], "linestyle": plotting.LINE_STYLES[memory]}
        strip.plot(ts, saliency[:, memory], label=rf"$\alpha_{name}$", **style)
    now = strip.axvline(0, color="black", linewidth=0.8)
    strip.set(
        xlim=(0, ts[-1]),
        ylim=(-0.1, saliency.max() * 1.1),
        xlabel="time $t$ (time constants)",
        ylabel="saliency",
    )
    strip.legend(loc="center left", ncols=1)

    reach = round(TAIL / (ts[1] - ts[0]))

    def update(frame: int) -> list[Artist]:
        first, second = saliency[frame]
        image.set_data(paint(start + first * slopes[0] + second * slopes[1]))
        here = places[frame]
        states.set_offsets(here)
        states.set_facecolor([MEMORIES[int(abs(b) > abs(a))] for a, b in here])
        tails.set_segments(list(places[max(0, frame - reach) : frame + 1].transpose(1, 0, 2)))
        now.set_xdata([ts[frame]] * 2)
        return [image, states, tails, now]

    return FuncAnimation(figure, update, frames=len(ts))


EXPERIMENT = Experiment(
    "landscape", compute, draw_panels, claims, animate={"landscape_turning": animate}
)

if __name__ == "__main__":
    EXPERIMENT.main()
