"""What the experiments share: many trials with progress, sizes, style, the command line."""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from experiments.claims import Claim, print_claims
from experiments.numbers import read_json, versions, write_json
from hopjax import plotting

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "figures"  # full size, committed
QUICK = FIGURES / "quick"  # quick size, not committed
CHUNK = 32  # trials at a time on each device: their memories fit into its cache
FORMATS = ("png", "pdf", "svg")  # of pictures; animations are GIFs


Size = TypeVar("Size")


class Sized(NamedTuple, Generic[Size]):
    """A quick size and the committed one, by `sized[full]`."""

    quick: Size
    full: Size


Draw = Callable[[dict[str, Any]], Figure]
Animate = Callable[[dict[str, Any]], FuncAnimation | list[FuncAnimation]]


@dataclass(frozen=True)
class Experiment:
    """A figure: its numbers come from `compute(full)`, and everything else from the numbers."""

    name: str
    compute: Callable[[bool], dict[str, Any]]
    # By file name, where it is not that of the experiment, or where there are several.
    draw: Draw | dict[str, Draw]
    claims: Callable[[dict[str, Any]], list[Claim]]
    source: str | None = None  # of all its claims, where they do not say
    animate: dict[str, Animate] = field(default_factory=dict)
    # Paragraphs and tables of Markdown that say what was found, made of the numbers.
    found: Callable[[dict[str, Any]], list[str]] | None = None

    @property
    def pictures(self) -> dict[str, Draw]:
        """What draws each picture, by file name."""
        return self.draw if isinstance(self.draw, dict) else {self.name: self.draw}

    @property
    def files(self) -> list[str]:
        """The pictures, without their folder."""
        return [f"{name}.png" for name in self.pictures] + [f"{name}.gif" for name in self.animate]

    def run(self, *, full: bool, redraw: bool = False, ending: str = "png") -> list[Claim]:
        """Compute (or read) the numbers, write them beside the pictures, return the claims.

        Pictures are drawn in another format beside the PNG if that is asked for.
        """
        folder = FIGURES if full else QUICK
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        if redraw:
            numbers = read_json(path)
        else:
            start = time.perf_counter()
            numbers = {"full": full} | self.compute(full)
            numbers["seconds"] = round(time.perf_counter() - start, 1)
            numbers["versions"] = versions()
            write_json(path, numbers)
        with plotting.style():
            for name, draw in self.pictures.items():
                figure = draw(numbers)
                save_picture(figure, path.with_name(name), ending)
                plt.close(figure)
            for name, animate in self.animate.items():
                plotting.save_animation(animate(numbers), folder / f"{name}.gif")
                plt.close("all")
        claims = self.claims(numbers)
        if self.source is None:
            return claims
        return [claim._replace(source=self.source) for claim in claims]

    def main(self) -> None:
        """The command line of one experiment."""
        parser = argparse.ArgumentParser(description=f"Draw {', '.join(self.files)}.")
        add_options(parser)
        arguments = parser.parse_args()
        use_all_cores()
        print_claims(self.run(**vars(arguments)))


def save_picture(figure: Figure, path: Path, ending: str) -> None:
    """As PNG, and in another format if that is asked for; the suffix of the path does not count."""
    for each in dict.fromkeys(("png", ending)):
        plotting.save_figure(figure, path.with_suffix(f".{each}"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of `Experiment.run`."""
    parser.add_argument("--full", action="store_true", help="the committed size")
    add_drawing_options(parser)


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Where the numbers come from, and in what formats they are drawn."""
    parser.add_argument("--redraw", action="store_true", help="from the saved numbers only")
    parser.add_argument(
        "--format",
        dest="ending",
        choices=FORMATS,
        default="png",
        help="draw pictures in this format too, beside the PNG",
    )


def use_all_cores() -> None:
    """Make every CPU core a JAX device; to be called before JAX is used."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def side_by_side(*tasks: Callable[[], Any]) -> list[Any]:
    """What the tasks return: while one of them compiles, on one core, another computes."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]
