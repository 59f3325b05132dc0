"""The paper's sequence and glitch experiments: settings, one trial, statistics and panels.

N = 1024 neurons, P = 10 random memories anew in each trial, activation tanh(10 x), no
self-coupling, x(0) ~ N(0, I), Euler-Maruyama steps of 0.01. The authors' scripts call plasticity
"M" and the classic current "A", a pulsed input "m" and a constant one "c".
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import hopjax as hj
from experiments import drawing
from experiments.numbers import constants, proportion, rounded
from hopjax import plotting, theory
from hopjax.statistics import first_passage_time

NUM_MEMORIES = 10
NUM_NEURONS = 1024
DT = 0.01
SAVE_EVERY = 0.1
NOISE = 8.0
PULSE = 1.0
RETRIEVED = 0.9
SEED = 2025  # of every trial's key, in both experiments
NUM_INPUTS = 3

MODELS = {"idp": "IDP", "classic": "classic, constant", "classic_pulsed": "classic, pulsed"}
DOMINANT, BACKGROUND = (2.0, 3.5), (0.8, 1.5)


def paper(**changes: Any) -> hj.Retrieval:
    """The paper's memories and inputs: the weight of a memory before is U(0.2, 0.6)."""
    task = hj.Retrieval(
        law="two_point",
        dominant=DOMINANT,
        background=BACKGROUND,
        previous=(0.2, 0.6),
        total_weight="balanced",
        pulse=PULSE,
    )
    return replace(task, **changes)


@dataclass(frozen=True)
class Protocol:
    """Which of the three inputs is shown from when to when."""

    onsets: tuple[float, ...]
    shown: tuple[int, ...]  # index of the input, and so of its dominant memory, in each window
    t1: float

    @property
    def ends(self) -> tuple[float, ...]:
        return (*self.onsets[1:], self.t1)

    def task(self, **changes: Any) -> hj.Retrieval:
        return paper(onsets=self.onsets, shown=self.shown, **changes)


SEQUENCE = Protocol(onsets=(0.0, 10.0, 20.0), shown=(0, 1, 2), t1=30.0)
GLITCH = Protocol(onsets=(0.0, 8.0, 10.0, 15.0, 19.0), shown=(0, 1, 0, 1, 2), t1=25.0)


def run_trial(
    key: Key[Array, ""],
    *,
    protocol: Protocol,
    model: str,
    noise: float,
    law: str = "gaussian",
    dt: float = DT,
) -> dict[str, Any]:
    """One trial: the overlaps over time, and whether the state stayed finite.

    Equal keys give equal memories, weights, starting states and noise for every kind of model.
    """
    setting_key, noise_key = jax.random.split(key)
    trial = protocol.task(model=model, noise=noise, law=law)(setting_key)
    trajectory = hj.solve(
        trial.model,
        trial.inputs,
        trial.x0,
        t1=protocol.t1,
        dt=dt,
        noise=trial.noise if noise > 0 else None,
        key=noise_key,
        save_every=SAVE_EVERY,
    )
    return {"overlaps": trajectory.overlaps, "ok": trajectory.ok}


def follow_trial(
    key: Key[Array, ""], *, protocol: Protocol, model: str, noise: float
) -> dict[str, Any]:
    """The flow that a trial has for infinitely many neurons: its mean overlaps over time."""
    trial = protocol.task(model=model)(jax.random.split(key)[0])
    trajectory = theory.noisy_flow(
        trial.model,
        trial.inputs,
        trial.x0,
        noise=noise,
        t1=protocol.t1,
        dt=DT,
        save_every=SAVE_EVERY,
    )
    return {"overlaps": trajectory.overlaps}


def run_protocol(
    protocol: Protocol, *, model: str, noise: float, trials: int, label: str
) -> np.ndarray:
    """Overlaps (trials, T, P) of many trials, those that diverged as NaN."""
    trial = partial(run_trial, protocol=protocol, model=model, noise=noise)
    return hj.map_trials(trial, key=jax.random.key(SEED), trials=trials, label=label)["overlaps"]


def run_flow(
    protocol: Protocol, *, model: str, noise: float, trials: int, label: str
) -> np.ndarray:
    """Overlaps (trials, T, P) of the flows of the first trials."""
    follow = partial(follow_trial, protocol=protocol, model=model, noise=noise)
    key = jax.random.key(SEED)
    return hj.map_trials(follow, key=key, trials=trials, label=label, one_by_one=True)["overlaps"]


def compare(
    protocol: Protocol, flow: np.ndarray, overlaps: np.ndarray, since: float
) -> dict[str, Any]:
    """Flows beside the same trials: their medians over trials, and how each window ended.

    The interval of the difference of the medians is by bootstrap of the trials, at the time and
    for the memory where it is largest.
    """
    both = np.abs(np.stack([flow, overlaps[: len(flow)]]))[..., :NUM_INPUTS]
    predicted, simulated = np.median(both, axis=1)
    apart = np.abs(predicted - simulated)[at(since) :]
    time, memory = np.unravel_index(np.argmax(apart), apart.shape)
    values = both[:, :, at(since) + time, memory]
    draws = np.random.default_rng(SEED).integers(len(flow), size=(2000, len(flow)))
    medians = np.median(values[:, draws], axis=2)
    ends = both[:, :, [at(end) for end in protocol.ends], protocol.shown] > RETRIEVED
    times = [
        [
            np.median(passages(strength[:, at(start) : at(end) + 1, memory]))
            for start, end, memory in zip(
                protocol.onsets, protocol.ends, protocol.shown, strict=True
            )
        ]
        for strength in both
    ]
    return {
        "trials": len(flow),
        "since": since,
        "median": rounded(predicted),
        "largest": {
            "time": rounded(since + time * SAVE_EVERY),
            "memory": int(memory),
            "difference": rounded(
                predicted[at(since) + time, memory] - simulated[at(since) + time, memory]
            ),
            "interval": rounded(np.quantile(medians[0] - medians[1], [0.025, 0.975])),
        },
        "mean_difference": rounded(apart.mean()),
        "time_to_retrieve": {"flow": rounded(times[0]), "trials": rounded(times[1])},
        "right": [proportion(end) for end in ends[0].T],
        "same": [proportion(end) for end in (ends[0] == ends[1]).T],
    }


def at(time: float) -> int:
    """The index of a saved time."""
    return round(time / SAVE_EVERY)


def passages(strength: np.ndarray) -> np.ndarray:
    """When an overlap first counts as retrieved in a window, inf for never; one for each trial."""
    times = np.arange(strength.shape[1]) * SAVE_EVERY
    return np.asarray(first_passage_time(times, strength > RETRIEVED))


def summarise(protocol: Protocol, overlaps: np.ndarray) -> dict[str, Any]:
    """Statistics of many trials: bands over time, and how each window ended.

    Magnitudes are used, since the IDP network is odd: it retrieves −ξ as well as ξ.
    """
    strength = np.abs(overlaps)
    ok = np.isfinite(overlaps).all(axis=(1, 2))
    low, median, high = np.nanquantile(strength[:, :, :NUM_INPUTS], [0.1, 0.5, 0.9], axis=0)
    windows = []
    for start, end, dominant in zip(protocol.onsets, protocol.ends, protocol.shown, strict=True):
        final = strength[:, at(end)]
        right = final[:, dominant] > RETRIEVED
        wrong = np.delete(final, dominant, axis=1).max(axis=1) > RETRIEVED
        times = passages(strength[:, at(start) : at(end) + 1, dominant])
        windows.append(
            {
                "start": start,
                "end": end,
                "memory": dominant,
                "right": proportion(right),
                "wrong": proportion(wrong & ~right),
                "neither": proportion(~wrong & ~right),
                "largest": proportion((final.argmax(axis=1) == dominant) & ok),
                "mean_overlap": rounded(np.nanmean(final[:, dominant])),
                # Trials that never got there count as later than all others.
                "time_to_retrieve": rounded(np.quantile(times, [0.1, 0.5, 0.9], method="nearest")),
            }
        )
    return {
        "diverged": int(np.sum(~ok)),
        "one_trial": rounded(overlaps[0]),
        "low": rounded(low),
        "median": rounded(median),
        "high": rounded(high),
        "windows": windows,
    }


def settings(protocol: Protocol, trials: int) -> dict[str, Any]:
    return {
        "protocol": asdict(protocol),
        "trials": trials,
        "slope": 10.0,
        "law": "gaussian",
    } | constants(globals(), "SEED NUM_NEURONS NUM_MEMORIES DT SAVE_EVERY RETRIEVED PULSE")


def panels(
    protocol: dict[str, Any],
    noises: list[float],
    draw: Callable[[Axes, str, float], None],
    ylabel: str,
    note: str | None = None,
) -> Figure:
    """A panel for each kind of model (rows) and noise (columns), over what is shown."""
    rows, columns = len(MODELS), len(noises)
    figure, axes = drawing.over_time(rows, columns, 0.95 * rows + 0.95)
    for row, (model, name) in enumerate(MODELS.items()):
        for column, noise in enumerate(noises):
            ax = axes[row, column]
            draw(ax, model, noise)
            pulse = PULSE if model == "classic_pulsed" else None
            drawing.mark_windows(ax, protocol["onsets"], pulse)
            ax.set(xlabel="", ylabel=f"{name}\n{ylabel}" if column == 0 else "")
            ax.tick_params(labelbottom=False, labelleft=column == 0)
            if row == 0:
                ax.set_title(drawing.title_of_noise(noise))
    drawing.strip_of_inputs(axes[-1], protocol["onsets"], protocol["shown"], protocol["t1"])
    drawing.legend_below(
        figure,
        axes[0, 0],
        more={"input pulse (last row)": Patch(color="black", alpha=0.07)},
        title=note,
        columnspacing=1.2,
        handlelength=1.8,
        title_fontsize=6.5,
    )
    return figure


def draw_one_trial(numbers: dict[str, Any]) -> Figure:
    """The overlaps of the first trial, as drawn in the paper."""
    protocol = numbers["settings"]["protocol"]

    def draw(ax: Axes, model: str, noise: float) -> None:
        overlaps = np.array(numbers["results"][f"{noise:g}"][model]["one_trial"], float)
        ts = np.arange(len(overlaps)) * numbers["settings"]["save_every"]
        plotting.plot_overlaps(ts, overlaps, highlight=range(NUM_INPUTS), ax=ax)

    return panels(protocol, numbers["noises"], draw, r"$m_\mu$")


def draw_ensemble(numbers: dict[str, Any]) -> Figure:
    """Median and 10%-90% band over trials, and how often each window ended in its memory."""
    protocol = numbers["settings"]["protocol"]
    flows = numbers.get("flows", 0)

    def draw(ax: Axes, model: str, noise: float) -> None:
        result = numbers["results"][f"{noise:g}"][model]
        low, median, high = (np.array(result[name], float) for name in ("low", "median", "high"))
        ts = np.arange(len(median)) * numbers["settings"]["save_every"]
        for memory in range(NUM_INPUTS):
            band = median[:, memory], low[:, memory], high[:, memory]
            label = f"memory {memory + 1}"
            plotting.plot_band(ts, *band, place=memory, label=label, ax=ax)
        look = {"color": "black", "linewidth": 0.6, "linestyle": (0, (4, 1.5))}
        if flows:
            ax.plot([], [], label="flow", **look)
        if "flow" in result:
            ax.plot(ts, np.array(result["flow"]["median"], float), **look)
        ax.axhline(RETRIEVED, color="black", linewidth=0.5, linestyle=":", label="0.9")
        for window in result["windows"]:
            middle = (window["start"] + window["end"]) / 2
            text = {"color": plotting.COLOURS[window["memory"]], "ha": "center", "va": "bottom"}
            ax.text(middle, 1.04, str(window["right"]["count"]), fontsize=6, **text)
        ax.set(ylim=(0, 1.22), yticks=[0, 0.5, 1])

    trials = numbers["settings"]["trials"]
    note = f"median, 10%-90% of {trials} trials; number above 0.9 at window's end"
    if flows:
        note += f"\nflow: median for {flows} of them without noise, no free parameter"
    return panels(protocol, numbers["noises"], draw, r"$|m_\mu|$", note)
