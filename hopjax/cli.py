"""The `hopjax` command: run a study from a file, show one, and say what is installed."""

import importlib.metadata
import importlib.resources
import math
import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jax

from hopjax._identity import PACKAGES
from hopjax._store import StudyError
from hopjax._study_file import StudyFileError, read_study
from hopjax._sweep import text as _show
from hopjax.statistics import censored_quantiles
from hopjax.study import Study, load_study

if TYPE_CHECKING:
    import xarray as xr

_FORCED = "--xla_force_host_platform_device_count"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hopjax")
def commands() -> None:
    """Studies of noisy memory retrieval in Hopfield networks.

    Begin with:  hopjax example > noise.toml;  hopjax study noise.toml --out noise
    """


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for chunks and result.nc.")
@click.option("--trials", type=click.IntRange(1), help="Trials per cell, instead of the file's.")
@click.option("--resume/--no-resume", default=True, help="Go on with what the folder holds.")
@click.option("--devices", type=click.IntRange(1), help="How many devices (CPU: cores) to use.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    help="Folder that keeps compiled programs for the next run.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would do and cost; save nothing.")
@click.option(
    "--elsewhere", is_flag=True, help="Go on with a study begun on another machine or version."
)
@click.option(
    "--distributed", is_flag=True, help="One of several processes of a Slurm or MPI allocation."
)
@click.option("--coordinator", metavar="HOST:PORT", help="Where process 0 listens.")
@click.option("--processes", type=click.IntRange(1), help="How many processes there are.")
@click.option("--process", type=click.IntRange(0), help="Which of them this is, from 0.")
def study(
    file: Path,
    out: Path | None,
    trials: int | None,
    resume: bool,
    devices: int | None,
    cache: Path | None,
    dry_run: bool,
    elsewhere: bool,
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
) -> None:
    """Run the study that FILE describes, or go on with it.

    Finished chunks are saved in the folder as it goes. Interrupted, it goes on when the same
    command is run again, and ends with the same numbers.
    """
    if out is None and not dry_run:
        raise click.UsageError("Option --out must be given: a folder for the results.")
    explicit = (coordinator, processes, process)
    if any(option is not None for option in explicit):
        if coordinator is None or processes is None or process is None:
            raise click.UsageError(
                "Options --coordinator, --processes and --process must be given together."
            )
        if process >= processes:
            raise click.UsageError(
                f"Option --process must be below --processes {processes}, got {process}."
            )
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    here = coordinator is not None and coordinator.split(":")[0] in ("localhost", "127.0.0.1")
    _use_cores(devices, processes if here and processes else 1)
    if distributed or coordinator is not None:
        _join(coordinator, processes, process)
    mine = _devices(devices)
    plan = read_study(file, trials=trials)
    if dry_run:
        _print_estimate(plan, mine)
        return
    assert out is not None
    if jax.process_index() == 0:
        cells = len(plan.cells)
        click.echo(f"{cells} cells of {plan.trials} trials, into {out}", err=True)
    dataset = plan.run(out, resume=resume, elsewhere=elsewhere, devices=mine)
    if jax.process_index() == 0:
        click.echo(table(dataset))
        click.echo(f"saved {out / 'result.nc'}", err=True)


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Print the table of a finished study and draw its picture, FOLDER/result.png."""
    dataset = load_study(folder)
    if not {"retrieved", "count", "passage_time"} <= set(dataset.data_vars):
        raise StudyError(f"{folder / 'result.nc'} is not the result of a study.")
    click.echo(table(dataset))
    path = folder / "result.png"
    try:
        draw(dataset, path)
    except OSError as error:
        raise StudyError(f"Cannot write {path}: {error.strerror}.") from error
    click.echo(f"drawn {path}", err=True)


@commands.command()
def info() -> None:
    """Print versions and devices."""
    _use_cores(None, 1)
    click.echo(f"python {sys.version.split()[0]}")
    for package in PACKAGES:
        click.echo(f"{package} {importlib.metadata.version(package)}")
    kinds = [f"{device.platform} {device.device_kind}" for device in jax.local_devices()]
    for kind in dict.fromkeys(kinds):
        click.echo(f"{kinds.count(kind)} x {kind}")


@commands.command()
def example() -> None:
    """Print a commented study file."""
    text = importlib.resources.files("hopjax").joinpath("examples", "noise.toml").read_text("utf-8")
    click.echo(text, nl=False)


def main() -> None:
    """The entry point: what goes wrong is one line and exit code 2."""
    warnings.showwarning = lambda message, *_args, **_kwargs: click.echo(
        f"hopjax: {message}", err=True
    )
    try:
        sys.exit(commands.main(prog_name="hopjax", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message())
    except (StudyError, StudyFileError, ValueError, TypeError) as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        click.echo("hopjax: interrupted; the same command goes on with the study.", err=True)
        sys.exit(130)


def _fail(message: str) -> None:
    click.echo(f"hopjax: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Become one of several processes."""
    port = re.fullmatch(r"[^\s:]+:(\d{1,5})", coordinator or "localhost:1")
    if port is None or not 0 < int(port[1]) < 2**16:
        raise click.UsageError(
            f"Option --coordinator must be HOST:PORT, such as localhost:7777, got {coordinator}."
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        what = f"at {coordinator}" if coordinator else "that the environment should describe"
        reason = " ".join(str(error).split())[:200]
        raise click.UsageError(f"Cannot join the processes {what}: {reason}") from error


def _use_cores(devices: int | None, processes: int) -> None:
    """Make every CPU core that is this process's a device; before JAX has looked for devices."""
    if _FORCED in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", devices or max(1, (cores or 1) // processes))


def _devices(count: int | None) -> list[Any]:
    found = jax.local_devices()
    if count is not None and count > len(found):
        raise click.UsageError(f"Option --devices must be at most {len(found)} here, got {count}.")
    return found[:count]


def _print_estimate(plan: Study, devices: list[Any]) -> None:
    for cell in plan.cells:
        click.echo(", ".join(f"{name} = {value}" for name, value in cell.items()))
    click.echo("measuring ...", err=True)
    cost = plan.estimate(devices)
    click.echo(
        f"{cost.cells} cells x {plan.trials} trials = {cost.trials} trials in {cost.chunks} chunks "
        f"of up to {plan.chunk}, on {len(devices)} devices"
    )
    click.echo(f"about {_duration(cost.seconds)}, {_size(cost.bytes_at_work)} at work")
    click.echo(f"about {_size(cost.bytes_of_result)} of results")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _size(size: float) -> str:
    power = min(3, int(math.log2(max(size, 1)) // 10))
    return f"{size / 1024**power:.0f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def _cells(dataset: "xr.Dataset") -> "xr.Dataset":
    """One row for every cell, whether it was a grid or a list."""
    dims = dataset.retrieved.dims
    return dataset.stack(row=dims, create_index=False)


def _parameters(dataset: "xr.Dataset") -> list[str]:
    grid = list(dataset.retrieved.dims)
    if grid == ["cell"]:
        return [str(name) for name, c in dataset.coords.items() if c.dims == ("cell",)]
    return [str(name) for name in grid]


def table(dataset: "xr.Dataset") -> str:
    """A study's results: one line for every cell, plain text."""
    names, rows = _parameters(dataset), _cells(dataset)
    head = [*names, "retrieved", "95% interval", "median passage", "diverged"]
    lines = [head]
    middle = rows.passage_time.transpose("row", "trial").to_numpy()
    for place in range(rows.sizes["row"]):
        row = rows.isel(row=place)
        lines.append(
            [
                *(_show(row[name].item()) for name in names),
                f"{row.retrieved.item():.3f}",
                f"[{row.retrieved_low.item():.3f}, {row.retrieved_high.item():.3f}]",
                f"{censored_quantiles(middle[place], [0.5])[0]:g}",
                str(int(row["count"].sel(outcome_name="diverged").item())),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(entry.rjust(width) for entry, width in zip(line, widths, strict=True))
        for line in lines
    ]
    settle = dataset.attrs["settle"]
    sign = "|m|" if dataset.attrs["mirror"] else "m"
    text.append(
        f"{dataset.attrs['trials']} trials in each cell; retrieved: {sign} > "
        f"{dataset.attrs['threshold']:g} at the end"
        + (f", averaged over the last {settle:g}" if settle else "")
    )
    if dataset.attrs["diverged"] != "none":
        text.append(f"diverged, and left out of means: {dataset.attrs['diverged']}")
    return "\n".join(text)


def draw(dataset: "xr.Dataset", path: Path) -> None:
    """A picture: P(retrieved) with intervals against the first numeric parameter."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from hopjax import plotting

    names, rows = _parameters(dataset), _cells(dataset)
    numeric = [name for name in names if rows[name].dtype.kind in "if"]
    x = max(numeric, key=lambda name: len(set(rows[name].values.tolist())), default=names[0])
    others = [name for name in names if name != x]
    labels = [
        ", ".join(f"{name} = {_show(rows[name].values[place].item())}" for name in others)
        for place in range(rows.sizes["row"])
    ]
    groups = list(dict.fromkeys(labels))
    shown = groups[: len(plotting.COLOURS)]
    with plotting.style():
        figure, ax = plt.subplots(figsize=(plotting.COLUMN_WIDTH, 2.6), layout="constrained")
        for place, group in enumerate(shown):
            mine = [number for number, label in enumerate(labels) if label == group]
            part = rows.isel(row=mine).sortby(x)
            plotting.plot_proportions(
                part[x].values,
                part.retrieved.values,
                part.retrieved_low.values,
                part.retrieved_high.values,
                place=place,
                label=group or None,
                ax=ax,
            )
        ax.set(xlabel=x, ylabel="P(retrieved)")
        if groups != [""]:
            more = len(groups) - len(shown)
            title = f"and {more} more, not drawn" if more else None
            figure.legend(loc="outside lower center", title=title)
        figure.savefig(path, metadata={"Software": None})
        plt.close(figure)
