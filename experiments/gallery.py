"""Pages that are made of the numbers beside the figures and of what the scripts say of themselves.

figures/README.md has every figure with what it shows, what was found and what was claimed;
experiments/README.md has the scripts, their times and how they are run. Run alone:
`python -m experiments.gallery`.
"""

import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import prose
from experiments.common import FIGURES, ROOT, Experiment
from experiments.reproduce import find_experiments


class Chapter(NamedTuple):
    """Figures that belong together, by the names of their scripts."""

    title: str
    names: tuple[str, ...]
    remark: str = ""


BENCHMARK = "benchmark"  # the one script that is not an experiment: it has no claims
CHAPTERS = (
    Chapter(
        "The paper",
        ("mixture_weights", "sequence", "glitch", "hierarchy", "landscape", "phase_diagram"),
    ),
    Chapter("Noise as a feature", ("noise_window", "escape", "flow_error")),
    Chapter(
        "Studies of retrieval",
        ("robustness", "retrieval_time", "unscaled", "glitch_duration", "capacity", "basins"),
        "Where nothing else is said the inputs have the paper's weights, and all models of a study "
        "get the same memories, weights and noise.",
    ),
    Chapter(
        "Other architectures",
        ("attention", "firing_rate", "two_layer", "storage", "continual", "pictures"),
    ),
    Chapter("Memories that follow each other", ("thoughts", "thoughts_input", "thoughts_gain")),
    Chapter("Tuning", ("tuned_strength", "pulse", "separation")),
    Chapter("Accuracy and speed", ("work_precision", BENCHMARK)),
)

_FIGURES = """# Figures and findings

*Made by `python -m experiments.gallery` from the numbers beside the figures, which have all that is
drawn.* How to draw them again is on the page of the [experiments](../experiments/README.md).

IDP is the network with input-driven plasticity; the classic network gets its input as a current,
which is constant or, pulsed, on for a short time only. σ is the strength of the noise, m an overlap
with a memory, N the number of neurons, P that of memories. Numbers in brackets are the ends of 95%
intervals.
"""

_EXPERIMENTS = """# Experiments

*Made by `python -m experiments.gallery`.* Each script here draws one figure, or a few of the same
numbers, and prints what is claimed beside what was measured. What was found is told beside
[the figures](../figures/README.md).

## How to run them

They run in the environment that `make env` makes:

```sh
make reproduce                                   # all, at a quick size, and a table of claims
make reproduce-full                              # all, at the size of the committed figures
.venv/bin/python -m experiments.sequence         # one of them, at the quick size
.venv/bin/python -m experiments.sequence --full  # ... at the committed size
```

- The **quick size** has 200 trials or fewer and goes into `figures/quick`, which git ignores. A
  script takes 3 to 50 seconds, all of them some eight minutes on two CPU cores, most of it
  compilation.
- **`--full`** draws the committed size into `figures`.
- **`--redraw`** solves nothing: it draws again from the numbers that were saved, and judges the
  claims again.
- Beside each picture lies a JSON file with all numbers that are drawn, the settings, the versions
  of the software and the seconds that it took.

## How a claim is judged

By 95% intervals. A claim holds, "yes", where the whole interval of what was measured lies on the
claimed side of the bound; it fails, "NO", where it lies on the other side; it is "open" where the
bound is inside the interval, which means that there are too few trials to tell. Of several
comparisons all must hold, and one that fails is enough. Numbers without an interval are exact, or
their error is far below the bound. A claim that fails is a finding and stays in the table.
`make reproduce` ends with an error where a claim fails, and `make reproduce-full` also where one is
open.

## Scripts and times

Times are those in which the committed figures were computed on two CPU cores. Other work shared the
cores in some of these runs, so that they may take a fraction of it.
"""


def page_of_figures() -> str:
    """The text of figures/README.md."""
    known = {experiment.name: experiment for experiment in find_experiments()}
    blocks = [_FIGURES.rstrip()]
    blocks.append("\n".join(f"- {each.title}: {_links(each)}" for each in CHAPTERS))
    for chapter in CHAPTERS:
        blocks += [
            f"## {chapter.title}",
            *([prose.filled(chapter.remark)] if chapter.remark else []),
        ]
        for name in chapter.names:
            blocks += _benchmark() if name == BENCHMARK else _entry(known[name])
    return "\n\n".join(blocks) + "\n"


def page_of_experiments() -> str:
    """The text of experiments/README.md."""
    known = {experiment.name: experiment for experiment in find_experiments()}
    blocks = [_EXPERIMENTS.rstrip()]
    for chapter in CHAPTERS:
        rows = []
        for name in chapter.names:
            files = ["benchmark.png"] if name == BENCHMARK else known[name].files
            place = f"../figures/README.md#{_anchor(name)}"
            drawn = ", ".join(f"[`{file}`]({place})" for file in files)
            title = _told(name)[0].rstrip(".")
            rows.append([drawn, title, f"`python -m experiments.{name}`", _time(_numbers(name))])
        head = ["figure", "what it shows", "command", "time at full size"]
        blocks += [f"### {chapter.title}", prose.table(head, rows)]
    return "\n\n".join(blocks) + "\n"


PAGES: dict[Path, Callable[[], str]] = {
    FIGURES / "README.md": page_of_figures,
    ROOT / "experiments" / "README.md": page_of_experiments,
}


def _entry(experiment: Experiment) -> list[str]:
    name, numbers = experiment.name, _numbers(experiment.name)
    title, text = _told(name)
    blocks = [f"### {_heading(name)}", title]
    blocks += [f"![{title}]({file})" for file in experiment.files]
    blocks += [text] if text else []
    if experiment.found is not None:
        blocks += ["**What was found.**", *map(prose.filled, experiment.found(numbers))]
    claims = experiment.claims(numbers)
    if claims:
        rows = [[claim.statement, claim.measured, claim.verdict] for claim in claims]
        blocks.append(prose.table(["claim", "measured, with 95% interval", "holds?"], rows))
    command = f"`python -m experiments.{name} --full`: {_time(numbers)}."
    return [*blocks, f"{command} Numbers: [{name}.json]({name}.json)."]


def _benchmark() -> list[str]:
    title, _ = _told(BENCHMARK)
    command = f"`python -m experiments.{BENCHMARK}`: {_time(_numbers(BENCHMARK))} on 2 CPU cores."
    files = ", ".join(f"[{name}]({name})" for name in ("benchmark.json", "benchmark_gpu.json"))
    return [
        f"### {_heading(BENCHMARK)}",
        title,
        f"![{title}](benchmark.png)",
        "What was found is on [a page of its own](../docs/speed.md).",
        f"{command} Numbers: {files}.",
    ]


def _numbers(name: str) -> dict[str, Any]:
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


def _told(name: str) -> tuple[str, str]:
    """What the script says of itself: the first line, and the rest but for how it is run."""
    text = inspect.getdoc(importlib.import_module(f"experiments.{name}")) or ""
    text = re.sub(r"\s*Run\s+alone:.*", "", text, flags=re.DOTALL)
    title, _, rest = text.partition("\n\n")
    return " ".join(title.split()), rest.strip()


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _anchor(name: str) -> str:
    return name.replace("_", "-")


def _links(chapter: Chapter) -> str:
    return ", ".join(f"[{_heading(name)}](#{_anchor(name)})" for name in chapter.names)


def _time(numbers: dict[str, Any]) -> str:
    seconds = numbers["seconds"]
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def main() -> None:
    for path, text in PAGES.items():
        path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
