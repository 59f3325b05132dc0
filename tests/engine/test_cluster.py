"""Real processes on this machine: workers that are killed, come late, or lose their scheduler."""

import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pytest
import small_study
from conftest import ROOT
from distributed import Client, LocalCluster
from processes import starting, wait, wait_for

import hopjax as hj
from hopjax.engine import workers

pytestmark = [
    pytest.mark.long,
    # A busy machine may take 30 s to compile; dask and its processes leave things to be collected.
    pytest.mark.filterwarnings("ignore:Waiting for:UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CHUNKS = 60
REPEATS = int(os.environ.get("HOPJAX_REPEATS", "10"))  # of what must happen every time
SOON = 60.0  # seconds from when work is possible to when it is done
SCHEDULER = "scheduler.json"
KILLED = ["worker"] * 6 + ["scheduler"] * 2 + ["study"] * 2
study = small_study.slow_study


def sha(folder: Path) -> str:
    return hashlib.sha256((folder / "result.nc").read_bytes()).hexdigest()


def chunks(folder: Path) -> list[Path]:
    return [*folder.glob("chunks/*/[0-9]*")]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one process writes."""
    folder = tmp_path_factory.mktemp("one") / "study"
    study().run(folder)
    return sha(folder)


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[tuple[Any, Any]]:
    """Processes on the loopback interface, without a dashboard."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,  # pyright: ignore[reportArgumentType]
            memory_limit=0,
            silence_logs=50,
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield local, client


@contextlib.contextmanager
def meanwhile(folder: Path, share: float, act: Callable[[], Any]) -> Iterator[None]:
    """While the body runs, do something once a share of the chunks is there; it then ends soon."""
    done: list[float] = []

    def watch() -> None:
        wait_for(lambda: len(chunks(folder)) >= share * CHUNKS, 300)
        act()
        done.append(time.monotonic())

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    end = time.monotonic()
    thread.join()
    assert len(done) == 1
    assert end - done[0] < SOON


def processes_of(local: Any) -> list[int]:
    """Those of the workers."""
    return [nanny.pid for nanny in local.workers.values()]


def test_one_process_writes_the_same_file(expected, tmp_path):
    for number in range(REPEATS):
        study().run(tmp_path / f"{number}", devices=jax.local_devices()[: 1 + number % 2])
        assert sha(tmp_path / f"{number}") == expected


def test_workers_write_the_same_file(expected, tmp_path):
    with cluster(2) as (_, client):
        for number in range(REPEATS):
            study().run(tmp_path / f"{number}", executor=client.get_executor())
            assert sha(tmp_path / f"{number}") == expected


def test_a_worker_that_is_killed_costs_nothing(expected, tmp_path):
    luck = random.Random(5)
    with cluster(2) as (local, client):
        for number in range(REPEATS):
            folder = tmp_path / f"{number}"

            def kill() -> None:
                os.kill(luck.choice(processes_of(local)), signal.SIGKILL)

            client.wait_for_workers(2, timeout=300)
            with meanwhile(folder, 1 / 4, kill):
                study().run(folder, executor=client.get_executor())
            assert sha(folder) == expected


def test_a_worker_that_joins_late_gets_work(expected, tmp_path):
    with cluster(1) as (local, client):

        def join() -> None:
            (first,) = processes_of(local)
            os.kill(first, signal.SIGSTOP)  # or all would be done before another one is there
            local.scale(2)
            client.wait_for_workers(2, timeout=300)
            os.kill(first, signal.SIGCONT)

        for number in range(REPEATS):
            folder, late = tmp_path / f"{number}", study()
            with meanwhile(folder, 1 / 2, join):
                late.run(folder, executor=client.get_executor())
            assert sha(folder) == expected
            assert late._kept is not None
            assert isinstance(late._kept.where, workers.Workers)
            assert len(late._kept.where._seen) == 2
            local.scale(1)
            wait_for(lambda: len(client.nthreads()) == len(local.workers) == 1, 300)


def test_a_study_waits_for_its_first_worker_and_says_so(expected, tmp_path, monkeypatch):
    said: list[str] = []
    with cluster(0) as (local, client):

        def warn(message: str) -> None:
            if not said:
                local.scale(1)
            said.append(message)

        monkeypatch.setattr(workers, "warn", warn)
        monkeypatch.setattr(workers, "_PATIENCE", 1.0)
        study().run(tmp_path / "study", executor=client.get_executor())
    match = (
        r"Waiting for workers, as the scheduler has none: nothing has come back for 1 s of \d+ .*"
    )
    assert re.fullmatch(match, said[0])
    assert sha(tmp_path / "study") == expected


def start(*words: Any) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *map(str, words[1:])],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Scheduled(NamedTuple):
    """A scheduler and workers as they are started on a cluster."""

    client: Any
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    another: Callable[[], subprocess.Popen[bytes]]  # starts a worker


@contextlib.contextmanager
def scheduled(folder: Path) -> Iterator[Scheduled]:
    """With two workers, which nobody starts again."""
    file = folder / SCHEDULER
    file.unlink(missing_ok=True)
    here = ("--scheduler-file", file, "--no-dashboard")
    scheduler = start("dask_scheduler", *here, "--host", "127.0.0.1", "--port", "0")
    workers: list[subprocess.Popen[bytes]] = []

    def another() -> subprocess.Popen[bytes]:
        own = ("--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--local-directory", folder)
        return start("dask_worker", *here, *own)

    try:
        wait_for(file.exists, 300)
        workers += [another(), another()]
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            yield Scheduled(client, scheduler, workers, another)
    finally:
        for process in (scheduler, *workers):
            process.kill()
            process.wait()


def test_a_scheduler_that_is_killed_is_one_line_and_a_rerun_goes_on(expected, tmp_path):
    before: dict[Path, bytes] = {}
    for number in range(REPEATS + 1):
        with scheduled(tmp_path) as (client, scheduler, *_):
            if number > 0:
                folder = tmp_path / f"{number - 1}"  # where the scheduler before was killed
                study().run(folder, executor=client.get_executor())
                assert sha(folder) == expected
                assert all(path.read_bytes() == content for path, content in before.items())
            if number < REPEATS:
                folder = tmp_path / f"{number}"
                with (
                    meanwhile(folder, 1 / 4, scheduler.kill),
                    pytest.raises(
                        hj.WorkerError, match="The executor does not solve trial"
                    ) as error,
                ):
                    study().run(folder, executor=client.get_executor())
                assert "\n" not in str(error.value)
                before = {path: path.read_bytes() for path in chunks(folder)}
                assert CHUNKS // 4 <= len(before) < CHUNKS


def test_ten_kills_at_random_times_lose_nothing(expected, tmp_path, monkeypatch):
    # Workers are taken away here, which is no fault of the trials.
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1000")
    luck, folder = random.Random(7), tmp_path / "study"
    gate, output = tmp_path / "gate", tmp_path / "output"
    saved: dict[Path, bytes] = {}
    with contextlib.ExitStack() as stack, starting("small_study") as start:
        there = stack.enter_context(scheduled(tmp_path))

        def begin() -> Any:
            return start(small_study.run_on, folder, tmp_path / SCHEDULER, gate, output)

        def possible() -> bool:
            """Whether there is a worker; the scheduler may still believe in one that is gone."""
            alive = there.client.run(os.getpid, on_error="ignore").values()
            return not {each.pid for each in there.workers}.isdisjoint(alive)

        gate.touch()
        run = begin()
        for number, killed in enumerate(luck.sample(KILLED, len(KILLED))):
            wait_for(possible, 300)
            gate.write_bytes(bytes(5 * (number + 1)))  # or all might be done before the last one
            goal = 5 * number + luck.randint(1, 4)
            wait_for(lambda goal=goal: len(chunks(folder)) >= goal, SOON)
            time.sleep(0.1 * luck.random())
            saved |= {path: path.read_bytes() for path in chunks(folder)}
            assert run.is_alive()
            if killed == "worker":
                first = there.workers.pop(0)  # the other one may not have begun
                first.kill()
                first.wait()
                there.workers.append(there.another())
            elif killed == "scheduler":
                there.scheduler.kill()
                assert wait(run, SOON) == 2
                assert "The executor does not solve trial" in output.read_text().splitlines()[-1]
                there = stack.enter_context(scheduled(tmp_path))
                run = begin()
            else:
                run.kill()
                run.join()
                run = begin()
        wait_for(possible, 300)
        gate.write_bytes(bytes(CHUNKS))
        assert wait(run, SOON) == 0, output.read_text()
    assert len(chunks(folder)) == CHUNKS
    assert all(path.read_bytes() == content for path, content in saved.items())
    assert sha(folder) == expected


def test_a_pool_of_python_does_too_and_breaks_in_one_line(expected, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    folder = tmp_path / "study"
    with ProcessPoolExecutor(2, mp_context=spawn) as executor:
        pids = {executor.submit(os.getpid).result() for _ in range(20)}
        with (
            meanwhile(folder, 1 / 4, lambda: os.kill(min(pids), signal.SIGKILL)),
            pytest.raises(hj.WorkerError, match="a worker ended abruptly"),
        ):
            study().run(folder, executor=executor)
    before = {path: path.read_bytes() for path in chunks(folder)}
    assert CHUNKS // 4 <= len(before) < CHUNKS
    with ProcessPoolExecutor(2, mp_context=spawn) as executor:
        study().run(folder, executor=executor)
    assert sha(folder) == expected
    assert all(path.read_bytes() == content for path, content in before.items())
