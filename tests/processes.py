"""Functions in processes of their own, forked from one that has hopjax imported already."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import hopjax as hj


@contextmanager
def starting(preload: str, **environment: str) -> Iterator[Callable[..., Any]]:
    """Start functions of a module that is loaded once; at last all their processes are killed."""
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    patch = pytest.MonkeyPatch()
    for name, value in ({"PYTHONPATH": paths} | environment).items():
        patch.setenv(name, value)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    started = []

    def start(function: Any, *args: Any) -> Any:
        process = context.Process(target=function, args=args)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
    patch.undo()


def wait(process: Any, limit: float = 60) -> int:
    process.join(limit)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def wait_for(condition: Any, limit: float = 60) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.001)


def looks_until_it_ends(
    process: Any, folder: Path, load: Callable[..., Any], output: Path
) -> tuple[set[str | None], set[str]]:
    """What was said to be done so far, look by look, and what where there was nothing to see."""
    seen: set[str | None] = set()
    refused: set[str] = set()
    wait_for((folder / "manifest.json").exists)
    while process.is_alive():
        try:
            found = load(folder, unfinished=True)
        except hj.StudyError as error:
            refused.add(str(error))
        else:
            seen.add(found.attrs.get("unfinished"))
    assert wait(process) == 0, output.read_text()
    return seen, refused
