"""Chunks as the tasks of an executor: the same bits, and what is said where it cannot go on."""

import dataclasses
import itertools
import math
import multiprocessing
import pickle
import time
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import resident
import small_study
import small_tuning
import xarray as xr
from executors import Inline, Shuffled
from processes import starting, wait

import hopjax as hj
from hopjax.engine import task, workers
from hopjax.engine.pickled import pickled
from hopjax.engine.task import Answer
from hopjax.store import Store, place_of

KEY = jax.random.key(0)
CELLS = np.array([0.0, 100.0, 200.0])


def normal(key):
    return jax.random.normal(key)


def of_cell(key, cell):
    return cell + jax.random.normal(key)


def run(executor: Executor, **changes: Any) -> Any:
    """Ten chunks."""
    arguments: dict[str, Any] = {"function": normal, "trials": 20, "key": KEY, "chunk": 2} | changes
    return hj.map_trials(arguments.pop("function"), executor=executor, **arguments)


@pytest.fixture(scope="module")
def expected():
    return hj.map_trials(normal, trials=20, key=KEY, chunk=2)


@pytest.fixture
def one_by_one(monkeypatch):
    """A chunk in each batch, however little time it takes, and however many devices there are."""
    monkeypatch.setattr(workers.Workers, "devices", 1)
    monkeypatch.setattr(workers, "_SECONDS", 0.0)
    monkeypatch.setattr(workers, "_TASKS", math.inf)


# The same numbers.


def test_any_executor_gives_what_this_process_gives(expected):
    with ThreadPoolExecutor(2) as executor:
        np.testing.assert_array_equal(run(executor), expected)
    np.testing.assert_array_equal(run(Inline()), expected)


def test_cells_go_to_workers_too():
    arguments: dict[str, Any] = {"trials": 5, "key": KEY, "cells": CELLS, "chunk": 4}
    found = hj.map_trials(of_cell, executor=Inline(), **arguments)
    np.testing.assert_array_equal(found, hj.map_trials(of_cell, **arguments))


def test_chunks_may_come_back_in_any_order(expected, one_by_one):
    with Shuffled() as executor:
        np.testing.assert_array_equal(run(executor), expected)
    assert sorted(executor.begun) == [*range(10)] != executor.begun


@pytest.mark.slow
def test_an_ensemble_and_its_trajectories_are_those_of_this_process():
    patterns = jnp.asarray(small_study.MEMORIES)

    def trial(key):  # enclosed here, and so sent by value
        start = jax.random.normal(key, (8,), patterns.dtype)
        u = hj.mixture(patterns, jnp.array([2.0, 0.5]))
        return hj.Trial(hj.IDPHopfield(patterns), u, start, hj.AdditiveNoise(1.0))

    settings: dict[str, Any] = {"trials": 7, "key": KEY, "t1": 0.4, "dt": 0.1, "chunk": 2}
    settings |= {"trajectories": True, "reductions": {"raw": hj.PerTrial(small_study.raw)}}
    here = hj.solve_ensemble(trial, **settings)
    there = hj.solve_ensemble(trial, executor=Inline(), **settings)
    assert [*map(np.shape, jax.tree.leaves(vars(here)))]
    jax.tree.map(np.testing.assert_array_equal, dataclasses.asdict(here), dataclasses.asdict(there))


@pytest.mark.slow
def test_a_study_has_the_same_file_and_the_same_dataset(tmp_path):
    dataset = small_study.study().run(tmp_path / "here")
    there = small_study.study().run(tmp_path / "there", executor=Inline())
    assert (tmp_path / "here" / "result.nc").read_bytes() == (
        tmp_path / "there" / "result.nc"
    ).read_bytes()
    xr.testing.assert_identical(there, dataset)
    xr.testing.assert_equal(small_study.study().run(executor=Inline()), dataset)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_tuning_takes_the_same_steps(mode):
    short: dict[str, Any] = {"steps": 4, "window": 2, "verify": 5, "mode": mode}
    here = small_tuning.tune(**short)
    there = small_tuning.tune(**short, devices=None, executor=Inline())
    xr.testing.assert_identical(there.history, here.history)


# What is under way.


def test_few_batches_are_under_way_and_done_ones_are_let_go(one_by_one):
    alive: list[weakref.ref[Any]] = []
    most = 0

    class Counting(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            nonlocal most
            future = super().submit(fn, *args, **kwargs)
            alive.append(weakref.ref(future))
            most = max(most, sum(each() is not None for each in alive))
            return future

    with Counting(1) as executor:
        run(executor, trials=80)
    assert len(alive) == 40
    # Three of a worker; the one that is done, and that which the pool still looks at.
    assert most <= 3 + 2


def test_chunks_that_take_no_time_are_gathered_and_at_the_end_all_workers_have_some():
    executor = Inline(lambda answer: answer._replace(seconds=0.01 * len(answer.parts)))
    found = run(executor, trials=1000)
    sizes = [len(pickle.loads(args[-1])) for args in executor.given]
    assert sum(sizes) == 500
    assert sizes[0] == sizes[-1] == 1
    assert max(sizes) == 100  # of a second
    assert sizes[-3:] == [1, 1, 1]
    np.testing.assert_array_equal(found, hj.map_trials(normal, trials=1000, key=KEY, chunk=2))


def test_a_large_job_is_sent_to_those_that_lack_it(monkeypatch, one_by_one):
    monkeypatch.setattr(workers, "_SMALL", 100)
    task._known.clear()
    executor = Inline()
    expected = hj.map_trials(normal, trials=60, key=KEY, chunk=2)
    np.testing.assert_array_equal(run(executor, trials=60), expected)
    # The first ones, of three batches for each of four workers that there may be, are asked again.
    assert [args[2] is not None for args in executor.given] == 12 * [False] + 12 * [True] + 18 * [
        False
    ]
    # Which also happens where a worker has forgotten it.
    task._known.clear()
    np.testing.assert_array_equal(run(executor, trials=60), expected)
    # A small one is with every task, and known by its digest all the same.
    monkeypatch.setattr(workers, "_SMALL", 2**20)
    task._known.clear()
    executor = Inline()
    run(executor)
    assert all(args[2] is not None for args in executor.given)
    assert len(task._known) == 1


@pytest.mark.slow
def test_a_worker_keeps_the_latest_jobs_only():
    for number in range(task._KEPT + 3):
        run(Inline(), trials=2, function=lambda key, number=number: jnp.asarray(number))
    assert len(task._known) == task._KEPT


@pytest.mark.parametrize("x64", [True, False])
def test_workers_have_the_settings_of_this_process(x64, monkeypatch):
    seen: list[Answer] = []

    def elsewhere(*args: Any) -> Answer:
        """As in a process that was told the opposite."""
        jax.config.update("jax_enable_x64", not x64)
        try:
            answer = task.solve_batch(*args)
            assert jax.config.read("jax_enable_x64") is not x64
        finally:
            jax.config.update("jax_enable_x64", x64)
        seen.append(answer)
        return answer

    task._known.clear()
    jax.config.update("jax_enable_x64", x64)
    try:
        monkeypatch.setattr(workers, "solve_batch", elsewhere)
        third = jnp.asarray(1 / 3)  # enclosed, and so sent along
        found = run(Inline(), function=lambda key: third, trials=2)
        assert found[0] == third
    finally:
        jax.config.update("jax_enable_x64", True)
    assert found.dtype == (np.float64 if x64 else np.float32)
    assert seen[0].environment is not None
    assert seen[0].environment["x64"] is x64


# What is refused.


def test_no_executor_is_refused():
    with pytest.raises(hj.ArgumentError, match=r"`executor` must be a concurrent\.futures\.Exec"):
        run(3)  # type: ignore[arg-type]
    with pytest.raises(hj.ArgumentError, match="`devices` must be None where an executor is given"):
        run(Inline(), devices=jax.local_devices())
    with pytest.raises(hj.ArgumentError, match="`elsewhere` must be"):
        run(Inline(), elsewhere=1)


def test_a_pool_that_forks_is_refused_by_name():
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor,
        pytest.raises(hj.ArgumentError, match=r"does not fork.*a ProcessPoolExecutor.*\"spawn\""),
    ):
        run(executor)


def other_processor(answer: Answer) -> Answer:
    assert answer.environment is not None
    return answer._replace(environment=answer.environment | {"processor": "abacus"})


def test_a_worker_of_another_kind_is_refused_by_name_or_allowed(expected):
    match = r"The worker on \S+, process \d+ is another .*processor \(.* here, abacus there\)"
    with pytest.raises(hj.WorkerError, match=match):
        run(Inline(other_processor))
    np.testing.assert_array_equal(run(Inline(other_processor), elsewhere=True), expected)


def test_a_worker_that_computes_something_else_is_refused_with_its_host():
    other = Inline(lambda answer: answer._replace(program="other"))
    for elsewhere in (False, True):
        match = r"The worker on \S+, process \d+ computes something else.*trials 0 to 1"
        with pytest.raises(hj.WorkerError, match=match):
            run(other, elsewhere=elsewhere)


@pytest.mark.slow
def test_a_module_that_is_another_one_there_is_another_program(monkeypatch):
    def other_module(*args: Any) -> Answer:
        with monkeypatch.context() as patch:
            patch.setattr(small_study, "MEMORIES", 2 * small_study.MEMORIES)
            return task.solve_batch(*args)

    monkeypatch.setattr(workers, "solve_batch", other_module)
    task._known.clear()
    study = small_study.study({"noise": [1.0], "weights": [(6.0, 0.5)], "lost": [0.0]}, trials=4)
    with pytest.raises(hj.WorkerError, match=r"computes something else .* noise = 1"):
        study.run(executor=Inline())


class Gone:
    """Cannot be read where it comes to."""

    def __reduce__(self) -> Any:
        return __import__, ("no_such_module",)


def test_a_module_that_a_worker_cannot_import_is_said():
    gone = Gone()
    match = r"cannot solve trials 0 to 1: it cannot import the module no_such_module.*PYTHONPATH"
    with pytest.raises(hj.WorkerError, match=match):
        run(Inline(), function=lambda key: (gone, normal(key))[1])


class Breaking(Inline):
    """Works three times."""

    error: Any = BrokenProcessPool("A process was terminated abruptly")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        if len(self.given) < 3:
            return super().submit(fn, *args, **kwargs)
        if self.error is None:
            future: Future[Any] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future
        raise self.error


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (Breaking.error, "a worker ended abruptly, as when it is killed or has no memory left"),
        (None, "it was cancelled, as when the scheduler is gone"),
        (OSError("no route to host"), "OSError: no route to host"),
    ],
)
def test_a_pool_that_broke_is_one_line(monkeypatch, error, match):
    monkeypatch.setattr(Breaking, "error", error)
    with pytest.raises(hj.WorkerError, match=rf"^The executor does not solve trials 6 .*: {match}"):
        run(Breaking())


def test_futures_that_cannot_be_called_back_hide_no_error(monkeypatch):
    class Firm(Future):
        def cancel(self) -> bool:
            raise NotImplementedError

    monkeypatch.setattr("executors.Future", Firm)
    with pytest.raises(hj.WorkerError, match="The executor does not solve trials 6"):
        run(Breaking())


def test_an_error_of_the_user_names_the_trials():
    def fail(key):
        raise RuntimeError("this is\nwrong")

    with pytest.raises(hj.WorkerError, match=r"trials 0 to 1: RuntimeError: this is wrong\.$"):
        run(Inline(), function=fail)


def test_a_value_out_of_its_range_is_named_as_it_is_here():
    bad = jax.random.key_data(jax.random.fold_in(KEY, 7))

    def trial(key):
        strength = jnp.where(jnp.all(jax.random.key_data(key) == bad), -1.0, 1.0)
        return hj.AdditiveNoise(strength).strength

    with pytest.raises(hj.ArgumentError, match=r"`strength` must be .* it is not in trial 7"):
        run(Inline(), function=trial)


def test_silence_is_said_and_ends(monkeypatch, expected):
    monkeypatch.setattr(workers, "_PATIENCE", 0.1)

    class Slow(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(lambda *given: (time.sleep(0.25), fn(*given))[1], *args)

    with (
        Slow(1) as executor,
        pytest.warns(UserWarning, match=r"Waiting for a first one of 1 workers: nothing has come"),
    ):
        found = run(executor, trials=4)
    np.testing.assert_array_equal(found, expected[:4])


def test_nothing_is_said_while_work_comes_back(expected):
    with warnings.catch_warnings(), ThreadPoolExecutor(1) as executor:
        warnings.simplefilter("error")
        np.testing.assert_array_equal(run(executor), expected)


# What is saved.

ONE_CELL: dict[str, Any] = {"noise": [1.0], "weights": [(6.0, 0.5)], "lost": [0.0]}


@pytest.mark.slow
def test_what_was_finished_is_saved_and_the_rest_follows(tmp_path, one_by_one):
    study = small_study.study(ONE_CELL, trials=40)
    with pytest.raises(hj.WorkerError, match="The executor does not solve trials 12 to 15 of the"):
        study.run(tmp_path / "study", executor=Breaking())
    first = {path.name: path.read_bytes() for path in tmp_path.glob("study/chunks/*/*.npz")}
    assert len(first) == 3
    study.run(tmp_path / "study", executor=Inline())
    last = {path.name: path.read_bytes() for path in tmp_path.glob("study/chunks/*/*.npz")}
    assert len(last) == 10
    assert all(last[name] == first[name] for name in first)
    small_study.study(ONE_CELL, trials=40).run(tmp_path / "here")
    here, there = (tmp_path / name / "result.nc" for name in ("here", "study"))
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.long
@pytest.mark.skipif(not resident.KNOWN, reason="how much memory a process has is not told here")
def test_memory_does_not_grow_with_the_trials(tmp_path):
    with starting("small_study") as start:
        process = start(small_study.weigh, tmp_path / "study", tmp_path / "output")
        assert wait(process, 300) == 0, (tmp_path / "output").read_text()
    few, most, one, held = map(int, (tmp_path / "output").read_text().split())
    assert most - few < 5e6 < held - one  # were all kept, these would be 30e6 and 10e6


@pytest.mark.slow
def test_chunks_of_workers_elsewhere_say_so(tmp_path, one_by_one):
    study = small_study.study(ONE_CELL)

    turn = itertools.cycle((other_processor, lambda answer: answer))
    with pytest.raises(hj.WorkerError, match="abacus there"):
        study.run(tmp_path / "study", executor=Inline(other_processor))
    assert not [*tmp_path.glob("study/chunks/*/*")]
    dataset = study.run(
        tmp_path / "study", executor=Inline(lambda a: next(turn)(a)), elsewhere=True
    )
    store = Store(tmp_path / "study")
    manifest = store.read_manifest()
    assert manifest is not None
    here, (there,) = manifest["environment"], manifest["elsewhere"]
    assert there == here | {"processor": "abacus"}
    assert "abacus" in dataset.attrs["elsewhere"]
    places = [store.origin(path)[1] for path in sorted(store.folder.glob("chunks/*/*.npz"))]
    assert places == [place_of(there), place_of(here), place_of(there)]


@pytest.mark.slow
def test_a_class_travels_with_its_fields_and_methods():
    import cloudpickle

    # Of this module, as if it were a notebook's.
    import travelling

    cloudpickle.register_pickle_by_value(travelling)
    try:
        content = pickled((travelling.Scaled(2.0), travelling.Plain(1)))
    finally:
        cloudpickle.unregister_pickle_by_value(travelling)
    assert b"Scaled" in content
    assert travelling.in_another_process(content) == "[6.0, 8.0, 1, 5, True]"
