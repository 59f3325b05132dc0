"""The `hopjax` command: run a study or a tuning from a file, and show what came of it."""

import importlib.resources
import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import jax

from hopjax.command.cluster import check_workers, cores, working
from hopjax.command.file import FileError
from hopjax.command.page import check_altair, save_page
from hopjax.command.picture import FORMATS, draw_study, draw_tuning
from hopjax.command.show import study_table
from hopjax.command.study_file import read_study
from hopjax.command.tune_file import TuningArguments, read_tuning
from hopjax.engine import WorkerError
from hopjax.program import PACKAGES, version_of
from hopjax.store import ACCEPT, StudyError, load_result
from hopjax.study import Study, is_unfinished_study, load_unfinished_study
from hopjax.tuning import (
    TuningError,
    estimate_tuning,
    is_unfinished_tuning,
    load_unfinished_tuning,
    summary,
    tune as run_tuning,
)

_NO_ROOM = "Not enough memory: a smaller `chunk` needs less, and so do fewer saved times"
_FORCED = "--xla_force_host_platform_device_count"
_EXAMPLES = {"study": "noise.toml", "tune": "tune.toml", "basins": "basins.toml"}
_RESULTS = {  # what a dataset is entitled: its text and its picture
    "hopjax study": (study_table, draw_study),
    "hopjax tuning": (summary, draw_tuning),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hopjax")
def commands() -> None:
    """Studies of noisy memory retrieval in Hopfield networks.

    Begin with:  hopjax example > noise.toml;  hopjax study noise.toml --out noise

    Or with:  hopjax example tune > tune.toml;  hopjax tune tune.toml --out tuned
    """


def _of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """The options of everything that computes."""
    options = [
        click.option("--out", type=click.Path(path_type=Path), help="Folder for what is computed."),
        click.option(
            "--resume/--no-resume", default=True, help="Go on with what the folder holds."
        ),
        click.option(
            "--devices", type=click.IntRange(1), help="How many devices (CPU: cores) to use."
        ),
        click.option(
            "--cache",
            type=click.Path(path_type=Path, file_okay=False, writable=True),
            help="Folder that keeps compiled programs for the next run.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Say what it would do and cost; save nothing."
        ),
        click.option(
            "--elsewhere",
            is_flag=True,
            help="Go on with what was begun on another machine or version.",
        ),
        click.option(
            "--accept-changes",
            type=click.Choice(ACCEPT),
            help="Go on after the code has changed: try whether it gives the same numbers, or "
            "compute anew what it had computed.",
        ),
        click.option(
            "--scheduler",
            metavar="FILE_OR_ADDRESS",
            help="Let the workers of this scheduler of dask compute: its file, or HOST:PORT.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Let so many processes of this machine compute, which share its devices.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@_of_a_run
@click.option("--trials", type=click.IntRange(1), help="Trials per cell, instead of the file's.")
def study(
    file: Path,
    out: Path | None,
    trials: int | None,
    resume: bool,
    devices: int | None,
    cache: Path | None,
    dry_run: bool,
    elsewhere: bool,
    accept_changes: str | None,
    scheduler: str | None,
    workers: int | None,
) -> None:
    """Run the study that FILE describes, or go on with it.

    Finished chunks are saved in the folder as it goes. Interrupted, it goes on when the same
    command is run again, and ends with the same numbers.
    """
    _check_out(out, dry_run)
    check_workers(scheduler, workers)
    _keep_compiled(cache)
    _use_cores(devices)
    mine = _devices(devices)
    plan = read_study(file, trials=trials)
    if dry_run:
        _print_estimate(plan, mine)
        return
    assert out is not None
    cells = len(plan.cells)
    click.echo(f"{cells} cells of {plan.trials} trials, into {out}", err=True)
    with working(scheduler, workers, mine) as where:
        dataset = plan.run(
            out, resume=resume, elsewhere=elsewhere, accept_changes=accept_changes, **where
        )
    click.echo(study_table(dataset))
    click.echo(f"saved {out / 'result.nc'}", err=True)


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
@_of_a_run
def tune(
    file: Path,
    out: Path | None,
    resume: bool,
    devices: int | None,
    cache: Path | None,
    dry_run: bool,
    elsewhere: bool,
    accept_changes: str | None,
    scheduler: str | None,
    workers: int | None,
) -> None:
    """Tune the numbers that FILE names by gradient, or go on with it.

    The steps are saved in the folder as it goes. Interrupted, it goes on when the same command is
    run again, and ends with the same numbers.
    """
    _check_out(out, dry_run)
    check_workers(scheduler, workers)
    _keep_compiled(cache)
    _use_cores(devices)
    mine = _devices(devices)
    arguments = read_tuning(file)
    if dry_run:
        _print_cost(arguments, mine)
        return
    assert out is not None
    click.echo(f"tuning {', '.join(arguments.parameters)}, into {out}", err=True)
    with working(scheduler, workers, mine) as where:
        tuning = run_tuning(
            arguments.trial,
            arguments.parameters,
            **arguments.options,
            folder=out,
            resume=resume,
            elsewhere=elsewhere,
            accept_changes=accept_changes,
            **where,
        )
    click.echo(repr(tuning))
    click.echo(f"saved {out / 'result.nc'}", err=True)


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format", "ending", type=click.Choice(FORMATS), help="Of the picture; png by default."
)
@click.option(
    "--html",
    is_flag=True,
    help="Instead of the picture write a page to be clicked, FOLDER/result.html, of a study.",
)
def show(folder: Path, ending: str | None, html: bool) -> None:
    """Print what a study or tuning found and draw its picture, FOLDER/result.png.

    Of what is running, or was interrupted, it is what there is so far, and the picture is
    FOLDER/unfinished.png. The run is not disturbed.
    """
    if html and ending is not None:
        raise click.UsageError("Options --format and --html exclude each other.")
    if is_unfinished_study(folder):
        dataset = load_unfinished_study(folder)
    elif is_unfinished_tuning(folder):
        dataset = load_unfinished_tuning(folder)
    else:
        dataset = load_result(folder, "study or tuning")
    kind = dataset.attrs.get("title")
    if kind not in _RESULTS:
        raise StudyError(f"{folder / 'result.nc'} is not the result of a study or tuning.")
    text, draw = _RESULTS[kind]
    if html:
        if draw is not draw_study:
            raise click.UsageError("Option --html is for studies, and this folder has a tuning.")
        try:
            check_altair()
        except ImportError as error:
            raise click.UsageError(str(error)) from error
        ending, draw = "html", save_page
    name = "unfinished" if "unfinished" in dataset.attrs else "result"
    path = folder / f"{name}.{ending or 'png'}"
    try:
        click.echo(text(dataset))
        draw(dataset, path)
    except OSError as error:
        raise StudyError(f"Cannot write {path}: {error.strerror}.") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StudyError(
            f"{folder / 'result.nc'} was changed after it was written ({reason}): run the "
            f"{kind.removeprefix('hopjax ')} again."
        ) from error
    click.echo(f"drawn {path}", err=True)


@commands.command()
def info() -> None:
    """Print versions and devices."""
    _use_cores(None)
    click.echo(f"python {sys.version.split()[0]}")
    for package in PACKAGES:
        click.echo(f"{package} {version_of(package)}")
    kinds = [f"{device.platform} {device.device_kind}" for device in jax.local_devices()]
    for kind in dict.fromkeys(kinds):
        click.echo(f"{kinds.count(kind)} x {kind}")


@commands.command()
@click.argument("kind", type=click.Choice(list(_EXAMPLES)), default="study")
def example(kind: str) -> None:
    """Print a commented file: a `study` (the default) of noise or of `basins`, or a `tune`."""
    path = importlib.resources.files("hopjax").joinpath("command", "examples", _EXAMPLES[kind])
    click.echo(path.read_text("utf-8"), nl=False)


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
    except (StudyError, WorkerError, FileError, TuningError, ValueError, TypeError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"Cannot use {error.filename}: {error.strerror}." if error.filename else str(error))
    except MemoryError as error:
        _fail(f"{_NO_ROOM} ({error})." if str(error) else f"{_NO_ROOM}.")
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        _fail(f"{_NO_ROOM} ({str(error).splitlines()[0][:200]}).")
    except (click.Abort, KeyboardInterrupt):
        click.echo("hopjax: interrupted; the same command goes on from there.", err=True)
        sys.exit(130)


def _fail(message: str) -> None:
    click.echo(f"hopjax: {' '.join(message.split())}", err=True)
    sys.exit(2)


def _check_out(out: Path | None, dry_run: bool) -> None:
    if out is None and not dry_run:
        raise click.UsageError("Option --out must be given: a folder for the results.")


def _keep_compiled(cache: Path | None) -> None:
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _use_cores(devices: int | None) -> None:
    """Make every CPU core that is this process's a device; before JAX has looked for devices."""
    if _FORCED not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", devices or cores())


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


def _print_cost(arguments: TuningArguments, devices: list[Any]) -> None:
    trial, parameters, options = arguments
    for name, start in parameters.items():
        ends = zip(("above", "below"), options["bounds"].get(name, ()), strict=False)
        bounds = [f", {side} {end:g}" for side, end in ends if end is not None]
        click.echo(f"{name} from {start}{''.join(bounds)}")
    click.echo("measuring ...", err=True)
    cost = estimate_tuning(trial, parameters, **options, devices=devices)
    click.echo(
        f"numbers to tune: {cost.numbers}, in {cost.mode} mode; at most {cost.solves} solves, on "
        f"{len(devices)} devices"
    )
    click.echo(f"about {_duration(cost.seconds)} at most, without compiling")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _size(size: float) -> str:
    power = min(3, int(math.log2(max(size, 1)) // 10))
    return f"{size / 1024**power:.0f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"
