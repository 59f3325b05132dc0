"""The numbers that pages and docstrings print are those beside the figures.

Tied are, in README.md, docs/speed.md and docs/cluster.md, what was measured of speed; in
docs/theory.md the tables and bullets about random memories and about what the flow leaves out; in
the tutorials what two-point noise does to tuning; in docstrings what steps of 0.05 do around a
threshold. (figures/README.md is made of the numbers.) A block of text (a row of a table, or what
follows some words up to the end of the paragraph or bullet) is given with the values that it
prints, in order. An estimate with an interval must be the very next one of the block, to the digits
that are printed; a number alone must come after those before it. All estimates with intervals
outside code are tied. Settings, and numbers in words, are not.
"""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT

import hopjax as hj
from experiments import tuned_strength, work_precision
from experiments.claims import Measured, measured

NUMBER = r"(-?\d+(?:\.\d+)?)"
ESTIMATE = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
FIRST = "seconds of the first solve of a model, N = 1024"
LAWS = ("two_point", "gaussian")
Blocks = Iterator[tuple[str, list[Any]]]
"""Words at which a block begins, and what it prints."""


def load(name: str) -> Any:
    return json.loads((ROOT / "figures" / f"{name}.json").read_text())


class Benchmark:
    """What a benchmark measured, by name."""

    def __init__(self, name: str):
        numbers = load(name)
        self.rows = numbers["rows"]
        self.bars = {bar["name"]: bar for bar in numbers["bars"]}

    def row(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first of that name and with these fields."""
        fields |= {"name": name}
        return next(row for row in self.rows if fields.items() <= row.items())

    def ms(self, *names: str, n: int = 1024) -> list[float]:
        """For 1000 steps of a trajectory."""
        return [self.row(name, n=n)["ms"] for name in names]

    def ratio(self, name: str) -> Measured:
        bar = self.bars[name]
        return Measured(bar["ratio"], bar["low"], bar["high"])

    def against_scan(self, law: str) -> Measured:
        return self.ratio(f"hopjax / scan with the same noise, {law}, N = 1024, B = 512")

    def peaks(self) -> list[float]:
        """MiB of ensembles of a thousand and of a hundred thousand trials."""
        return [self.row("peak memory", trials=trials)["mib"] for trials in (1000, 100_000)]


def of_readme() -> Blocks:
    cpu, gpu = Benchmark("benchmark"), Benchmark("benchmark_gpu")
    yield (
        "- On a CPU solving with Diffrax costs",
        [
            cpu.against_scan("two_point"),
            cpu.ratio("NumPy gaussian / hopjax gaussian, N = 1024"),
            cpu.ratio("Diffrax, UnsafeBrownianPath / hopjax gaussian, N = 1024"),
        ],
    )
    yield "- A thousand steps of 1024 neurons", of_batches(cpu, "hopjax")
    chunks = gpu.ratio("ensemble in chunks of 128 / of 4096, two_point, N = 1024")
    yield "- On one H100", [gpu.against_scan("two_point"), chunks]
    yield "- Memory does not grow", cpu.peaks()
    yield "- The first solve of a model", [cpu.ratio(FIRST).value]


def of_batches(found: Benchmark, name: str) -> list[float]:
    """Of 512 trajectories of 1024 neurons with two-point and with Gaussian noise."""
    rows = (found.row(f"{name} {law}", n=1024, batch=512) for law in LAWS)
    return [row["ms"] for row in rows]


def of_speed() -> Blocks:
    cpu, gpu = Benchmark("benchmark"), Benchmark("benchmark_gpu")
    floors = [found.row("floor", n=1024, batch=512)["ms"] for found in (cpu, gpu)]
    yield "| `jit(vmap(hj.solve))` |", of_batches(cpu, "hopjax") + of_batches(gpu, "hopjax")
    yield (
        "| a `lax.scan` by hand, the same noise |",
        of_batches(cpu, "scan") + of_batches(gpu, "scan"),
    )
    yield "| a `lax.scan` without noise: the floor |", [floors[0], *floors, floors[1]]
    yield "| NumPy, 64 trajectories at a time", cpu.ms("NumPy two_point", "NumPy gaussian")
    yield "| numba, 100 steps", cpu.ms("numba two_point", "numba gaussian")
    for start, name in (
        ("| Diffrax as its documentation has it", "Diffrax, UnsafeBrownianPath"),
        ("| the same with `VirtualBrownianTree`", "Diffrax, VirtualBrownianTree"),
    ):
        yield start, [*cpu.ms(name), *gpu.ms(name)]
    yield "| torchsde, 16 trajectories of 100 steps |", cpu.ms("torchsde")
    yield "| float64, W built anew in each step", cpu.ms("dense")
    kept = [bar["holds"] for bar in cpu.bars.values() if bar["holds"] is not None]
    yield (
        "Milliseconds are those of one machine",
        [len(kept), sum(kept), cpu.ratio("NumPy gaussian / hopjax two_point, N = 1024")],
    )
    where = "N = 1024, B = 512, chunks of 64"
    euler = f"per unit of time, Euler Gaussian / exponential {{}}, {where}"
    numpy = f"per unit of time, NumPy Gaussian / exponential binomial, {where}"
    yield (
        "- Per unit of time exponential steps",
        [*(cpu.ratio(euler.format(law)) for law in ("gaussian", "binomial")), cpu.ratio(numpy)],
    )
    chunks = "exponential binomial, chunks of 128 / of 64, N = 1024, B = 512"
    yield (
        "- Such a step takes",
        [
            cpu.ratio(f"a step, exponential / Euler, without noise, {where}"),
            cpu.ratio(euler.format("without noise")),
            cpu.ratio(chunks),
        ],
    )
    by_hand = f"exponential, hopjax / scan with the same noise, {{}}, {where}"
    tuning = "Euler gaussian / tuning step, exponential {}"
    laws = "gaussian", "binomial"
    yield "- A `lax.scan` of the same steps", [cpu.ratio(by_hand.format(law)) for law in laws]
    yield "- A step of the tuning", [cpu.ratio(tuning.format(law)) for law in laws]
    drawing = cpu.ratio("drawing, jax.random.normal / hopjax Gaussian, N = 1024")
    yield "- The noise is JAX's own generator", [drawing]

    def of_gradient(mode: str, other: str) -> list[Measured]:
        each = (f"hopjax {mode} mode / {other}, {law}, N = 1024, B = 64" for law in LAWS)
        return [cpu.ratio(name) for name in each]

    memory = [
        cpu.row(f"memory of {who}, per trajectory", steps=steps)["mib"]
        for who in ("reverse", "scan reverse")
        for steps in (250, 1000, 4000)
    ]
    yield (
        "- A reverse-mode gradient takes",
        [
            *of_gradient("reverse", "hopjax loss"),
            *(each.value for each in of_gradient("reverse", "scan reverse mode")),
            *(each.value for each in of_gradient("forward", "hopjax loss")),
            *memory,
        ],
    )
    ensembles = [f"ensemble / bare vmap, 2048 trials, N = {n}" for n in (1024, 256)]
    yield "- Against the same chunks by hand", [cpu.ratio(name) for name in ensembles]
    yield "- The peak memory was", cpu.peaks()
    sizes = (
        "time per trial, ensemble of 4096 / of 512, N = 1024",
        "time per trial and neuron, N = 4096 / 1024, ensemble of 512",
    )
    yield "- The time of a trial in an ensemble", [cpu.ratio(name) for name in sizes]
    yield (
        "- To JAX a CPU is one device",
        [cpu.ratio("ensemble on one CPU device / on 2, N = 1024").value],
    )
    yield (
        "- Two workers with a core each",
        [cpu.ratio("two workers / one process with two devices, 512 chunks of 128, N = 256")],
    )
    tasks = [cpu.row("tasks", chunk=chunk)["coordinator_ms_per_chunk"] for chunk in (128, 1024)]
    merge = cpu.row("merge", chunks=10_000)
    yield "- To hand out, save and merge a chunk", [*tasks, merge["seconds"]]
    first = (
        FIRST,
        "seconds of the same with new numbers",
        "seconds of the first gradient, compiled before",
        "seconds of the first gradient, N = 1024",
    )
    yield "- The first `solve` of a model takes", [cpu.ratio(name).value for name in first]
    judged = [bar["holds"] for bar in gpu.bars.values() if bar["holds"] is not None]
    yield (
        "- Not yet as fast as by hand",
        [*(gpu.against_scan(law) for law in LAWS), sum(judged), len(judged)],
    )
    yield (
        "- Chunks of 128 trials leave a GPU idle",
        [
            *(gpu.ratio(f"ensemble in chunks of 128 / of 4096, {law}, N = 1024") for law in LAWS),
            *gpu.ms(*(f"{law}, chunks of 4096" for law in LAWS)),
        ],
    )
    graphs = "ensemble in chunks of {}, step by step / as a graph, gaussian, N = 1024"
    yield (
        "- Small chunks gain",
        [gpu.ratio(graphs.format(chunk)) for chunk in (128, 4096)],
    )


def of_cluster() -> Blocks:
    cpu = Benchmark("benchmark")
    rows = [cpu.row("tasks", chunk=chunk) for chunk in (128, 1024)]
    chunks = [10**8 / row["chunk"] for row in rows]
    there, kept = ([row[f"bytes_of_{what}_per_chunk"] for row in rows] for what in PER_CHUNK)
    each = [row["coordinator_ms_per_chunk"] for row in rows]
    for row, *values in zip(rows, there, kept, each, strict=True):
        answer, folder, ms = values
        yield f"| {row['chunk']} trials |", [answer / 1e3, folder / 1e3, ms]
    for start, sizes in (("| from workers to", there), ("| the folder |", kept)):
        yield start, [size * many / 1e9 for size, many in zip(sizes, chunks, strict=True)]
    hours = [ms * many / 3.6e6 for ms, many in zip(each, chunks, strict=True)]
    yield "| processor time of the coordinating process |", hours
    trials = [1e3 * row["chunk"] / ms for row, ms in zip(rows, each, strict=True)]
    yield "| trials that it can take in a second |", [round(rate, -2) for rate in trials]
    core = 2 * of_batches(cpu, "hopjax")[0]  # as it was measured on two
    busy = [float(f"{rate * core / 1e3:.2g}") for rate in trials]
    yield "The scheduler sees at most 100 tasks", [core, *busy]


PER_CHUNK = ("answers", "folder")


def of_theory() -> Blocks:
    flow = load("noise_window")["flow"]
    low, median, high = flow["lost"]["quantiles"]
    yield "Of 200 sets of ten memories", [median, low, high]
    for row, name in (
        ("flow", "moved"),
        ("one trial of each of the same sets", "simulated"),
        ("flow and trial of a set end alike", "same"),
    ):
        yield f"| {row} |", [cell["p"] for cell in flow[name]]
    numbers = load("flow_error")
    held, edges = numbers["held"], numbers["edge"]
    yield "cue of memory 2", [held["overlap"][-1]]
    yield "| overlap of one trial against flow, rms |", held["error"]
    yield "| mean over trials minus flow, at rest |", held["shift"]
    for row, name, who in (
        ("edge: share freed, flow", "moved", "flow"),
        ("edge: share freed, trials", "moved", "trials"),
        ("edge: flow and trial of a set end alike", "same", "flow"),
        ("edge: two trials of a set do", "same", "trials"),
    ):
        yield f"| {row} |", [edge[name][who] for edge in edges]
    yield "- **In a well**", [held["powers"]["error"], held["powers"]["shift"]]


def of_steps() -> Iterator[tuple[type, str, list[Any]]]:
    """Of classes with what their docstrings print about steps of 0.05, around a threshold."""
    numbers = load("work_precision")

    def at_the_edge(method: str, dt: float = 0.05) -> list[Measured]:
        return work_precision.errors_of(numbers, method, dt, "transition", "probability")

    exponential = at_the_edge("exponential, Gaussian")
    euler = at_the_edge(work_precision.EULER, 0.01)
    yield hj.ExponentialAdams, "Around a threshold they are smaller", [*exponential, *euler]
    binomial, two_point = (at_the_edge(f"exponential, {law}") for law in ("binomial", "two-point"))
    yield hj.Binomial, "With these at dt = 0.05", [*binomial, *exponential, *two_point]


def test_numbers_in_docstrings_are_those_of_the_figures():
    for each, start, values in of_steps():
        text = words(f"{inspect.getdoc(each)}\n")
        wrong, tied = misprints(text, start, values)
        assert wrong == []
        assert tied == {match.start() for match in ESTIMATE.finditer(text)}


def test_the_page_on_steps_has_the_longest_ones_that_are_safe():
    numbers = load("work_precision")
    methods = [work_precision.EULER, "Heun, Gaussian", work_precision.EXPONENTIAL]
    asked = {
        "at the end of what is shown, or at rest": [("overlap", True), ("probability", True)],
        "probabilities on the way, also near a threshold": [("probability", False)],
        "overlaps on the way": [("overlap", False)],
    }
    page = (ROOT / "docs" / "how-to" / "steps.md").read_text("utf-8")
    for row, groups in asked.items():
        places = [each for each in work_precision.groups(numbers) if each[1] in groups]
        safe = [
            min(work_precision.safe_step(numbers, m, *each) or 0.0 for each in places)
            for m in methods
        ]
        assert f"| {row} | " + " | ".join(f"{dt:g}" if dt else "none" for dt in safe) + " |" in page
    costs = [f"{numbers['costs'][method]['step']['mean']:.1f} times" for method in methods[1:]]
    assert all(cost in page for cost in costs)


def words(page: str) -> str:
    """A page without its code, lines of a paragraph joined, with one sign for minus."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    return re.sub(r"(?<=\S)\n(?: {2}(?=\S)|(?=[^\s|#-]))", " ", text.replace("−", "-"))


def same(printed: str, value: float) -> bool:
    """Whether that is the value, rounded; JSON is rounded too, so a last 5 may go either way."""
    return abs(float(printed) - value) <= 0.5 * 10.0 ** -len(printed.partition(".")[2]) + 1e-9


def misprints(text: str, start: str, values: list[Any]) -> tuple[list[str], set[int]]:
    """What a block should say and does not, and where its estimates with intervals stand."""
    assert text.count(start) == 1, start
    position = text.index(start)
    end = text.find("\n", position)
    position, wrong, seen = position + len(start), [], set()
    for value in map(measured, values):
        if value.low == value.high:
            each = re.compile(NUMBER).finditer(text, position, end)
            # A whole number below 10 says too little, and would be found too often.
            told = (match for match in each if "." in match[1] or abs(float(match[1])) >= 10)
            found = next((match for match in told if same(match[1], value.value)), None)
        else:
            found = ESTIMATE.search(text, position, end)
            if found and not all(map(same, found.groups(), value)):
                found = None
        if found is None:
            wrong.append(f"{start} … {value:.4f}")
        else:
            seen.add(found.start())
            position = found.end()
    return wrong, seen


def of_binomial_noise() -> Blocks:
    numbers = load("tuned_strength")
    both = [(numbers["binomial"][task], tuned[0]) for task, tuned in numbers["tuned"].items()]
    strengths = [tuned_strength.found_by(each, "tuned") for pair in both for each in pair]
    yield "Binomial noise is fine here", strengths


TUTORIALS = [
    (f"docs/tutorials/{page.name}", of_binomial_noise if page.stem == "tuning" else list)
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))
]


@pytest.mark.parametrize(
    ("page", "blocks"),
    [
        ("README.md", of_readme),
        ("docs/speed.md", of_speed),
        ("docs/cluster.md", of_cluster),
        ("docs/theory.md", of_theory),
        *TUTORIALS,
    ],
)
def test_printed_numbers_are_those_of_the_figures(page, blocks):
    text = words((ROOT / page).read_text("utf-8"))
    wrong, tied = [], set()
    for start, values in blocks():
        misprinted, seen = misprints(text, start, values)
        wrong += misprinted
        tied |= seen
    assert wrong == []
    loose = [match[0] for match in ESTIMATE.finditer(text) if match.start() not in tied]
    assert loose == []


@pytest.mark.parametrize("wrong", ["0.0693 [0.0681, 0.0705]", "0.0692 [0.0681, 0.0706]", ""])
def test_a_misprint_is_seen(wrong):
    start = "| overlap of one trial against flow, rms |"
    values, right = dict(of_theory())[start], "0.0692 [0.0681, 0.0705]"
    text = words((ROOT / "docs" / "theory.md").read_text("utf-8"))
    assert misprints(text, start, values)[0] == []
    assert misprints(text.replace(right, wrong), start, values)[0][0].startswith(start)
