"""Every figure with what it shows, how it is drawn and what was measured: figures/README.md.

It is made of the numbers beside the figures and of nothing else. Run alone:
`python -m experiments.gallery`.
"""

import importlib
import inspect
import json
import re
from typing import Any

from experiments.common import FIGURES, Experiment
from experiments.reproduce import find_experiments

PAGE = FIGURES / "README.md"
_HEAD = """# Figures

*Made by `python -m experiments.gallery` from the numbers beside the figures, which have all that is
drawn. Each command draws a quick size into `figures/quick`; `--full` draws what is here, and
`--redraw` draws it from the saved numbers. Times are those of these runs on two CPU cores, which
other work may have shared.*
"""


def page() -> str:
    """The text of the page."""
    parts = [_HEAD, *(_entry(experiment) for experiment in find_experiments()), _benchmark()]
    return "\n".join(parts)


def _entry(experiment: Experiment) -> str:
    numbers = json.loads((FIGURES / f"{experiment.name}.json").read_text())
    title, text = _told(experiment.name)
    lines = [f"## {experiment.name.replace('_', ' ').capitalize()}", "", f"{title}"]
    for name in experiment.files:
        lines += ["", f"![{title}]({name})"]
    if text:
        lines += ["", text]
    command = f"python -m experiments.{experiment.name} --full"
    lines += ["", f"`{command}`: {_seconds(numbers)}. Numbers: [{experiment.name}.json]"]
    lines[-1] += f"({experiment.name}.json)."
    claims = experiment.claims(numbers)
    if claims:
        lines += ["", "| claim | measured, with 95% interval | holds? |", "|---|---|---|"]
    for claim in claims:
        lines.append(f"| {_cell(claim.statement)} | {_cell(claim.measured)} | {claim.verdict} |")
    return "\n".join([*lines, ""])


def _benchmark() -> str:
    title, _ = _told("benchmark")
    lines = ["## Benchmark", "", title, "", f"![{title}](benchmark.png)", ""]
    command = "`python -m experiments.benchmark`: 12 minutes on 2 CPU cores. Numbers: "
    files = ("benchmark.json", "benchmark_gpu.json")
    return "\n".join([*lines, command + ", ".join(f"[{each}]({each})" for each in files) + "."])


def _told(name: str) -> tuple[str, str]:
    """What the script says of itself: the first line, and the rest but for how it is run."""
    text = inspect.getdoc(importlib.import_module(f"experiments.{name}")) or ""
    text = re.sub(r"\s*Run\s+alone:.*", "", text, flags=re.DOTALL)
    title, _, rest = text.partition("\n\n")
    return " ".join(title.split()), rest.strip()


def _seconds(numbers: dict[str, Any]) -> str:
    seconds = numbers["seconds"]
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    PAGE.write_text(page() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
