"""The numbers that README and docs print about experiments are those beside the figures.

Tied are, in README.md, all of "What was found" and the two-point strengths under "Tuning"; in
docs/theory.md the tables and bullets about random memories and about what the flow leaves out. A
block of text (a row of a table, or what follows some words up to the end of the paragraph or
bullet) is given with the values that it prints, in order. An estimate with an interval must be the
very next one of the block, to the digits that are printed; a number alone must come after those
before it. All estimates with intervals outside code are tied, but for those of the benchmark (in
"Speed", and what "Many retrievals" quotes of it). Settings, and numbers in words, are not.
"""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

import hopjax as hj
from experiments import capacity, escape, noise_window, storage, work_precision
from experiments.claims import Measured, measured
from experiments.reproduce import find_experiments
from experiments.studies import only

NUMBER = r"(-?\d+(?:\.\d+)?)"
ESTIMATE = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
BENCHMARK = ("## Speed", "## Many retrievals")  # sections whose estimates are not of experiments
Blocks = Iterator[tuple[str, list[Any]]]


def load(name: str) -> Any:
    return json.loads((ROOT / "figures" / f"{name}.json").read_text())


def of_readme() -> Blocks:
    """Words at which a block begins, and what it prints."""
    yield from of_the_paper()
    yield from of_the_noise_theory()
    yield from of_studies()
    yield from of_architectures()
    yield from of_tuning()


def of_the_paper() -> Blocks:
    results = load("sequence")["results"]
    for row, noise, kind in (
        ("IDP, σ = 8", "8", "idp"),
        ("IDP, no noise", "0", "idp"),
        ("classic, constant input, σ = 8", "8", "classic"),
        ("classic, pulsed input, σ = 8", "8", "classic_pulsed"),
        ("classic, pulsed input, no noise", "0", "classic_pulsed"),
    ):
        yield f"| {row} |", [window["right"] for window in results[noise][kind]["windows"]]
    constant = results["8"]["classic"]["windows"]
    yield (
        "- The classic network with a constant input has",
        [max(window["mean_overlap"] for window in constant)],
    )
    idp = load("glitch")["results"]["8"]["idp"]
    eroded, events = idp["overlap_1_at_end_of_glitch"], list(idp["events"].values())
    yield "- A glitch of 2", [eroded["mean"], eroded["half_width"], *events[2:]]


def of_the_noise_theory() -> Blocks:
    numbers = load("noise_window")
    idp, edges = numbers["results"]["orthogonal"], numbers["theory"]["edges"]
    for row, low, high, edge in (
        ("up to 1.1", 0.0, 1.1, [edges["esc"]]),
        ("from 2.75", 2.75, 9.0, [0.8, edges["80"], edges["c"]]),
    ):
        each = {measured(cell) for cell in noise_window.between(idp, low, high)}
        yield f"| {row} |", [*each, *edge]
    yield "| 1.3 |", noise_window.between(idp, 1.3, 1.3)
    for noise, predicted in zip(
        (1.6, 1.8, 2.0), numbers["theory"]["window"]["orthogonal"], strict=True
    ):
        place = idp["noises"].index(noise)
        overlap = idp["overlap"][place]["mean"]
        yield f"| {noise} | 1", [idp["moved"][place], overlap, predicted]
    escapes = load("escape")
    onsets = [measured(result["onset"]).times(100, -100) for result in escapes["results"]]
    off, farthest = (max(abs(end) for each in onsets for end in each[:ends]) for ends in (1, 3))
    late = [100 * each.value - 100 for each in escape.half_escaped(escapes)]
    yield "- The growth rate of", [off, farthest, min(late), max(late)]
    window = noise_window.WINDOW
    mirrored = [
        cell
        for noise, cell in zip(idp["noises"], idp["mirrored"], strict=True)
        if window[0] <= noise <= window[-1]
    ]
    yield "- IDP is odd", [noise_window.together(mirrored)]
    low, median, high = numbers["flow"]["lost"]["quantiles"]
    random = noise_window.midpoint(numbers["results"]["random"]).value
    alike = noise_window.together(numbers["flow"]["same"])
    half = noise_window.midpoint(idp).value
    yield "- Random memories hold", [random, half, median, low, high, alike]
    yield (
        "- The classic network with a constant input moves",
        [
            result["overlap"][result["noises"].index(2.0)]["mean"]
            for result in (numbers["results"]["classic"], idp)
        ],
    )


def of_studies() -> Blocks:
    results = load("robustness")["results"]

    def at(model: str, noise: float, ratio: float | None = None) -> list[Any]:
        return only(results, model=model, noise=noise, ratio=ratio)["retrieved"]

    for noise in (0, 0.5, 4, 8, 12, 16):
        row = f"| {'σ = 0' if noise == 0 else noise} | 0"
        yield row, [*at("idp", noise), at("classic_pulsed", noise)[1]]
    yield "- **Unclear inputs**", [at("idp", 8.0, ratio)[1] for ratio in (2.0, 1.4, 1.0)]
    times = {
        cell["noise"]: cell for cell in load("retrieval_time")["results"] if cell["model"] == "idp"
    }
    noisy, best = times[8.0]["passage"][0], times[6.0]["passage"][1]
    assert best[1] == min(cell["passage"][1][1] or np.inf for cell in times.values())
    yield (
        "- **Time.**",
        [
            times[0.0]["passage"][0][1],
            *(passage[place] for passage in (noisy, best) for place in (1, 0, 2)),
            times[0.0]["never"][1],
            times[16.0]["never"][1],
        ],
    )
    results = load("unscaled")["results"]
    yield (
        "- **Weights as drawn**",
        [
            only(results, model=model, noise=noise)["retrieved"][2]
            for model, noise in (("idp", 0.0), ("idp", 1.0), ("idp", 1.25), ("classic_pulsed", 0.5))
        ],
    )
    results = load("glitch_duration")["results"]
    yield (
        "- **Glitches**",
        [
            only(results, model=model, noise=noise, duration=duration)[name]
            for model, noise, duration, name in (
                ("idp", 8.0, 2.0, "soon"),
                ("idp", 8.0, 4.0, "followed"),
                ("idp", 8.0, 10.0, "followed"),
                ("idp", 8.0, 10.0, "soon"),
                ("idp", 8.0, 10.0, "later"),
                ("classic_pulsed", 0.0, 10.0, "later"),
            )
        ],
    )
    numbers = load("capacity")
    classic, half, equal = (
        capacity.limit(numbers, network).value for network in ("none", "half", "equal")
    )
    by_crosstalk = [capacity.by_crosstalk(background, classic) for background in (0.5, 1.0)]
    yield "- **Capacity.**", [classic, half, equal, *by_crosstalk]


def of_architectures() -> Blocks:
    numbers = load("attention")
    protocol, low = (numbers["betas"].index(beta) for beta in (0.2, 0.05))
    dynamic, plain = numbers["right"]["dynamic"], numbers["right"]["plain"]
    assert dynamic["input"][protocol] == plain["input"][protocol]
    yield (
        "- **Attention**",
        [
            *(right[start][protocol] for right, start in ((dynamic, "small"), (plain, "small"))),
            dynamic["input"][protocol],
            *(dynamic["previous"][place] for place in (protocol, low)),
        ],
    )
    results = load("firing_rate")["results"]
    pulse = results["classic"]["pulse"]
    yield (
        "- **Firing rates**",
        [
            *(window["largest"] for window in results["idp"]["windows"]),
            *(window["silent"] for window in results["idp_quiet"]["windows"][1:]),
            100 * pulse["mean_activity"],
            pulse["least_plain"]["median"],
            pulse["most_centred"]["median"],
        ],
    )
    orders = [cell["order"]["median"][-1] for cell in load("two_layer")["results"]]
    yield "- **Two layers.**", orders[:2]
    numbers = load("pictures")
    mutual, results = numbers["overlap_of_letters"], numbers["results"]
    attention = {measured(each) for each in results["attention"]["retrieved"]}
    retrieved = [*results["decorrelated"]["retrieved"], *attention]
    yield "- **Letters**", [mutual["least"], mutual["most"], *retrieved]
    numbers = load("storage")
    limits = {name: storage.limit(numbers, name, 0.0) for name in storage.LABELS}
    noisy = [storage.limit(numbers, name, 0.5) for name in ("attention", "dense")]
    classic, idp = limits["classic"].value, limits["idp"].value
    yield "- **Storage**", [classic, idp, limits["dense"], limits["attention"], *noisy]
    results = load("continual")["results"]
    cells = [
        only(results, network=network, num_memories=48, learns=True)
        for network in ("idp", "classic")
    ]
    asked = [cell[age] for cell in cells for age in ("oldest", "newest")]
    back = only(results, network="classic", num_memories=16, learns=False)["all"]
    yield "- **Learning and forgetting**", [*asked, back]


def of_tuning() -> Blocks:
    numbers = load("tuned_strength")

    def ends(result: dict[str, Any], name: str = "tuned") -> Measured:
        return Measured(result[name], result["low"], result["high"])

    gaussian = {task: ends(tuned[0]) for task, tuned in numbers["tuned"].items()}
    brute = {task: ends(numbers["brute_force"][task], "root") for task in gaussian}
    yield (
        "Two-point noise is fine here",
        [each for task in gaussian for each in (ends(numbers["two_point"][task]), gaussian[task])],
    )
    yield (
        "- **Strength.**",
        [
            *(each[task] for task in gaussian for each in (gaussian, brute)),
            ends(numbers["brute_force"]["judged once"], "root"),
        ],
    )
    numbers = load("pulse")
    tuned = {(each["model"], each["noise"]): each["tuned"]["energy"] for each in numbers["results"]}
    ratios = [each["tuned"]["energy"] / each["constant"]["energy"] for each in numbers["results"]]
    yield (
        "- **Pulse.**",
        [
            *(
                tuned[cell]
                for cell in (("classic", 0.0), ("classic", 0.7), ("idp", 1.1), ("idp", 1.5))
            ),
            max((each["switched"] for each in numbers["quiet"]), key=lambda each: each["high"]),
            min(ratios),
            max(ratios),
        ],
    )
    numbers = load("separation")
    alone = only(numbers["brute_force"], weight=0.0)["retrieved"]
    weight = Measured(*(numbers["tuned"][end][0] for end in ("weights", "low", "high")))
    yield "- **Weights.**", [weight, numbers["tuned"]["retrieved"], alone]


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
    position, wrong, seen = position + len(start.rstrip("01")), [], set()
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


@pytest.mark.parametrize(
    ("page", "blocks"), [("README.md", of_readme), ("docs/theory.md", of_theory)]
)
def test_printed_numbers_are_those_of_the_figures(page, blocks):
    text = words((ROOT / page).read_text())
    wrong, tied = [], set()
    for start, values in blocks():
        misprinted, seen = misprints(text, start, values)
        wrong += misprinted
        tied |= seen
    assert wrong == []
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        if not section.startswith(BENCHMARK):
            begin = text.index(section)
            loose = [
                match[0]
                for match in ESTIMATE.finditer(text, begin, begin + len(section))
                if match.start() not in tied
            ]
            assert loose == [], section.partition("\n")[0]


@pytest.mark.parametrize("wrong", ["0.990 [0.983, 0.992]", "0.989 [0.983, 0.993]", ""])
def test_a_misprint_is_seen(wrong):
    start, values = next(of_readme())
    right = "0.989 [0.983, 0.992]"
    text = words((ROOT / "README.md").read_text())
    assert misprints(text, start, values)[0] == []
    assert misprints(text.replace(right, wrong), start, values)[0][0].startswith(start)


def test_readme_has_a_row_for_every_experiment():
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if "](figures/" in line]
    for experiment in find_experiments():
        (row,) = (row for row in rows if f"`python -m experiments.{experiment.name}`" in row)
        assert re.findall(r"\[`([^`]+)`\]", row) == experiment.files
