"""What the experiments share: many trials with progress, sizes, style, the command line."""

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Key
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.claims import Claim, print_claims
from experiments.numbers import versions, write_json
from hopjax import plotting

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "figures"  # full size, committed
QUICK = FIGURES / "quick"  # quick size, not committed
FRAMES_PER_SECOND = 12
SCREEN_DPI = 100  # of animations
CHUNK = 32  # trials at a time on each device: their memories fit into its cache


Size = TypeVar("Size")


class Sized(NamedTuple, Generic[Size]):
    """A quick size and the committed one, by `sized[full]`."""

    quick: Size
    full: Size


Draw = Callable[[dict[str, Any]], Figure]


@dataclass(frozen=True)
class Experiment:
    """A figure: its numbers come from `compute(full)`, and everything else from the numbers."""

    name: str
    compute: Callable[[bool], dict[str, Any]]
    # By file name, where it is not that of the experiment, or where there are several.
    draw: Draw | dict[str, Draw]
    claims: Callable[[dict[str, Any]], list[Claim]]
    source: str | None = None  # of all its claims, where they do not say
    animate: dict[str, Callable[[dict[str, Any]], FuncAnimation]] = field(default_factory=dict)

    @property
    def pictures(self) -> dict[str, Draw]:
        """What draws each picture, by file name."""
        return self.draw if isinstance(self.draw, dict) else {self.name: self.draw}

    @property
    def files(self) -> list[str]:
        """The pictures, without their folder."""
        return [f"{name}.png" for name in self.pictures] + [f"{name}.gif" for name in self.animate]

    def run(self, *, full: bool, redraw: bool = False) -> list[Claim]:
        """Compute (or read) the numbers, write them beside the pictures, return the claims."""
        folder = FIGURES if full else QUICK
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        if redraw:
            if not path.exists():
                raise SystemExit(f"{path} does not exist: run without --redraw first.")
            numbers = json.loads(path.read_text())
        else:
            start = time.perf_counter()
            numbers = {"full": full} | self.compute(full)
            numbers["seconds"] = round(time.perf_counter() - start, 1)
            numbers["versions"] = versions()
            write_json(path, numbers)
        with plotting.style():
            for name, draw in self.pictures.items():
                figure = draw(numbers)
                figure.savefig(folder / f"{name}.png", metadata={"Software": None})
                plt.close(figure)
            for name, animate in self.animate.items():
                animation = animate(numbers)
                writer = PillowWriter(fps=FRAMES_PER_SECOND)
                animation.save(folder / f"{name}.gif", writer, dpi=SCREEN_DPI)
                plt.close("all")
        claims = self.claims(numbers)
        if self.source is None:
            return claims
        return [claim._replace(source=self.source) for claim in claims]

    def main(self) -> None:
        """The command line of one experiment."""
        parser = argparse.ArgumentParser(description=f"Draw {', '.join(self.files)}.")
        parser.add_argument("--full", action="store_true", help="the committed size")
        parser.add_argument("--redraw", action="store_true", help="from the saved numbers only")
        arguments = parser.parse_args()
        use_all_cores()
        print_claims(self.run(full=arguments.full, redraw=arguments.redraw))


def use_all_cores() -> None:
    """Make every CPU core a JAX device; to be called before JAX is used."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


def run_trials(
    trial: Callable[..., Any],
    key: Key[Array, ""],
    trials: int,
    label: str,
    cells: Any = None,
    *,
    one_by_one: bool = False,
) -> Any:
    """`trial(fold_in(key, j))` for j < trials, stacked, in chunks over all devices.

    With `cells`, arrays that share a leading axis, it is `trial(key, cell)` for each of them: the
    results get the leading axes (cells, trials), and cell c the key `fold_in(key, c)`.

    On each device trials run together, or `one_by_one`: flows take either branch of ψ_σ then, not
    both.

    The work between chunks is on the host: there the bar moves, on a terminal only.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("trials",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("trials")
    num_cells = 1 if cells is None else len(jax.tree.leaves(cells)[0])
    total = num_cells * trials
    # Chunks of one size, as full as can be; the last is filled up with further trials.
    num_chunks = -(-total // (CHUNK * mesh.size))
    chunk = mesh.size * -(-total // (num_chunks * mesh.size))

    def one(arguments):
        return trial(*arguments)

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    def run_chunk(arguments):
        run_all = partial(jax.lax.map, one) if one_by_one else jax.vmap(one)
        return run_all(arguments)

    fold_in = jax.vmap(jax.random.fold_in)
    parts = []
    with tqdm(total=total, desc=label, unit="trial", disable=None, leave=False) as bar:
        for start in range(0, total, chunk):
            numbers = np.arange(start, start + chunk)
            keys = jnp.broadcast_to(key, numbers.shape)
            if cells is None:
                arguments = (fold_in(keys, numbers),)
            else:
                cell, number = np.divmod(numbers % total, trials)
                keys = fold_in(fold_in(keys, cell), number)
                arguments = (keys, jax.tree.map(partial(np.take, indices=cell, axis=0), cells))
            parts.append(jax.tree.map(np.asarray, run_chunk(arguments)))
            bar.update(min(chunk, total - start))
    results = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:total], *parts)
    if cells is None:
        return results
    return jax.tree.map(lambda leaf: leaf.reshape(num_cells, trials, *leaf.shape[1:]), results)


def side_by_side(*tasks: Callable[[], Any]) -> list[Any]:
    """What the tasks return: while one of them compiles, on one core, another computes."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]
