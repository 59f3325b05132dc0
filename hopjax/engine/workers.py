"""Chunks of trials as the tasks of an executor, whose workers may come late, die, or be few.

Whatever the workers do, a chunk gives what it gives here, to the bit: each is solved whole, by the
same program. This side never waits in silence, and takes nothing that another program computed, or
that was computed in another environment.
"""

import contextlib
import hashlib
import itertools
import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from hopjax._checks import check_flag, check_instance
from hopjax._errors import ArgumentError, warn
from hopjax.engine.devices import Chunk, Device, Job, OnDevices, as_they_are, check_devices
from hopjax.engine.pickled import pickled, unsqueezed
from hopjax.engine.task import Answer, digest_of, kinds_of, packed, solve_batch
from hopjax.program import environment

_T = TypeVar("_T")
_SMALL = 2**20  # bytes of a job that travels with every task
_EACH = 3  # batches of a worker that are under way: one is solved, the others wait
_FEW = 4  # workers that there may be while none is known
_AHEAD = 16  # times as many may be finished before the oldest of those that are under way
_SECONDS = 1.0  # that a batch should take at least
_TASKS = 100  # a second, that a scheduler should see at most
_PATIENCE = 30.0  # seconds without a word
_LOOK_EVERY = 10.0  # seconds, for workers that joined or left


class WorkerError(RuntimeError):
    """Workers of an executor cannot go on with trials; what they finished before is kept."""


class Done(NamedTuple):
    """A chunk that was solved by a worker.

    Attributes:
        number: of the chunk among those of the run.
        chunk: see there.
        parts: what was handed on of it.
        environment: in which it was solved.
    """

    number: int
    chunk: Chunk
    parts: Any
    environment: dict[str, Any]


class Packed:
    """A job that is ready to travel."""

    def __init__(self, job: Job):
        """It is pickled once."""
        self.job = job
        self.payload = packed(job)
        self.digest = hashlib.sha256(self.payload).hexdigest()
        self.seconds = 0.0  # that a chunk takes a worker, with all its devices
        self._programs: dict[Any, str] = {}

    def program(self, chunk: Chunk, platform: str | None) -> str:
        """What one trial computes, as this process has it."""
        kinds = platform, kinds_of(chunk)
        if kinds not in self._programs:
            self._programs[kinds] = digest_of(self.job, chunk, platform)
        return self._programs[kinds]


class _Batch(NamedTuple):
    """Chunks of one job that are a task."""

    packed: Packed
    number: int  # of the first of them
    chunks: list[Chunk]

    @property
    def name(self) -> str:
        """Which trials, to print."""
        job, first, last = self.packed.job, self.chunks[0], self.chunks[-1]
        end = min(last.start + job.program.size, job.trials) - 1
        if first.start == end:
            return job.name(first, end)
        if first.label == last.label:
            return f"trials {first.start} to {end}{first.label}"
        return f"{job.name(first, first.start)}, to {job.name(last, end)}"


class Workers:
    """An executor, what is known of its workers, and whether others than this process will do."""

    def __init__(self, executor: Executor, *, elsewhere: bool):
        """Nothing is sent yet."""
        self._executor = executor
        self._elsewhere = elsewhere
        self._seen: dict[str, Answer] = {}  # workers, and what they answered last
        self._name, self._tasks = uuid.uuid4().hex, itertools.count()
        self._listed, self._looked = 0, -math.inf

    def run(self, tasks: Iterable[tuple[Packed, Chunk]], count: int) -> Iterator[Done]:
        """Chunks as they are finished, in any order; batches of them are handed out in theirs.

        Args:
            tasks: the chunks, each with its job; those of one job follow each other.
            count: how many there are.

        Raises:
            WorkerError: where workers cannot go on, or are of another kind; chunks that were
                finished by then come first.
            OutOfRangeError: where a check fails in a trial, naming the trial.
        """
        run = _Run(self, tasks, count)
        try:
            yield from run.to_the_end()
        finally:
            run.cancel()

    @property
    def count(self) -> int:
        """How many workers there are, as far as this is known; or may be."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._listed, self._looked = _listed(self._executor) or 0, time.monotonic()
        return max(len(self._seen), self._listed) or _FEW

    @property
    def devices(self) -> int:
        """How many the workers have."""
        return max((each.devices for each in self._seen.values()), default=1)

    @property
    def environments(self) -> list[dict[str, Any]]:
        """Of all workers that answered, each kind once."""
        found: list[dict[str, Any]] = []
        for each in self._seen.values():
            if each.environment is not None and each.environment not in found:
                found.append(each.environment)
        return found

    def submit(self, batch: _Batch, *, whole: bool) -> "Future[Answer]":
        """Hand a batch to the executor, with the job or only its digest."""
        packed, chunks = batch.packed, pickled(batch.chunks)
        given = packed.payload if whole or len(packed.payload) <= _SMALL else None
        name = f"{self._name}-{next(self._tasks)}"
        try:
            return self._executor.submit(solve_batch, name, packed.digest, given, chunks)
        except Exception as error:  # executors fail in any way
            raise _gave_up(batch, error) from error

    def check(self, answer: Answer, batch: _Batch) -> None:
        """Refuse a worker whose numbers would be others."""
        known = self._seen.get(answer.worker)
        if known is None or known.environment != answer.environment:
            self._check_environment(answer)
        self._seen[answer.worker] = answer._replace(parts=())
        if answer.program != batch.packed.program(batch.chunks[0], answer.lowered_for):
            raise WorkerError(
                f"The worker on {answer.worker} computes something else than this process in "
                f"{batch.name}: a module of yours, or what it reads, is another one there."
            )

    def _check_environment(self, answer: Answer) -> None:
        here, there = environment(), answer.environment or {}
        moved = [
            f"{name} ({here.get(name)} here, {there.get(name)} there)"
            for name in here | there
            if here.get(name) != there.get(name)
        ]
        if moved and not self._elsewhere:
            raise WorkerError(
                f"The worker on {answer.worker} is another environment than this process: it "
                f"differs in {'; '.join(moved[:4])}. Allow it by elsewhere=True (--elsewhere): the "
                "last digits of its numbers will then not be those of one machine."
            )

    def waited_for(self) -> str:
        """Who does not answer, as far as that is known."""
        listed = _listed(self._executor)
        if listed == 0:
            return "workers, as the scheduler has none"
        if listed is None or self._seen:
            return "workers" if self._seen else "a first worker"
        return f"a first one of {listed} workers"


def _listed(executor: Any) -> int | None:
    """How many workers an executor says that it has; None where it does not."""
    size = getattr(executor, "_max_workers", None)  # of the pools of Python, and others
    client = getattr(executor, "_client", None)  # of dask
    try:
        return size if isinstance(size, int) or client is None else len(client.nthreads())
    except Exception:  # its scheduler is gone, or it only looks like that of dask
        return None


class _Run:
    """Chunks on their way."""

    def __init__(self, workers: Workers, tasks: Iterable[tuple[Packed, Chunk]], count: int):
        self._workers = workers
        self._tasks, self._kept = iter(tasks), None
        self._taken, self._count = 0, count
        self._out: dict[Future[Answer], _Batch] = {}
        self._back: SimpleQueue[Future[Answer]] = SimpleQueue()

    def to_the_end(self) -> Iterator[Done]:
        """See `Workers.run`."""
        try:
            while True:
                while self._has_room() and (batch := self._next_batch()):
                    self._submit(batch)
                if not self._out:
                    return
                yield from self._take(self._next_back())
        except (WorkerError, ArgumentError):
            self.cancel()
            yield from self._finished()
            raise

    def cancel(self) -> None:
        """Call back what has not begun, where the executor can."""
        for future in list(self._out):
            with contextlib.suppress(NotImplementedError):
                future.cancel()

    def _has_room(self) -> bool:
        """Whether another batch may go out."""
        room = _EACH * self._workers.count
        oldest = min((batch.number for batch in self._out.values()), default=self._taken)
        size = max((len(batch.chunks) for batch in self._out.values()), default=1)
        return len(self._out) < room and self._taken - oldest <= _AHEAD * room * size

    def _next_batch(self) -> _Batch | None:
        """The next chunks, of one job: on all devices of a worker, and not for too short a time."""
        first = self._next_task()
        if first is None:
            return None
        packed, chunk = first
        workers, devices = self._workers.count, self._workers.devices
        size = devices
        if packed.seconds > 0:
            rounds = max(_SECONDS, workers / _TASKS) / (packed.seconds * devices)
            size *= max(1, int(rounds))
        # At the end all workers shall be at work.
        size = min(size, max(1, (self._count - self._taken) // (2 * workers)))
        chunks = [chunk]
        while len(chunks) < size and (more := self._next_task(packed)):
            chunks.append(more[1])
        batch = _Batch(packed, self._taken, chunks)
        self._taken += len(chunks)
        return batch

    def _next_task(self, of: Packed | None = None) -> tuple[Packed, Chunk] | None:
        """The next chunk; None if there is none, or it is not of the job `of`."""
        task = self._kept or next(self._tasks, None)
        self._kept = None
        if of is not None and task is not None and task[0] is not of:
            self._kept, task = task, None
        return task

    def _submit(self, batch: _Batch, *, whole: bool = False) -> None:
        future = self._workers.submit(batch, whole=whole)
        self._out[future] = batch
        future.add_done_callback(self._back.put)

    def _next_back(self) -> "Future[Answer]":
        """The next task that has ended; where none does, that is said."""
        begun = time.monotonic()
        longest = max(batch.packed.seconds * len(batch.chunks) for batch in self._out.values())
        while True:
            try:
                return self._back.get(timeout=_PATIENCE)
            except Empty:
                waited = time.monotonic() - begun
                if waited > 2 * _EACH * longest:
                    warn(
                        f"Waiting for {self._workers.waited_for()}: nothing has come back for "
                        f"{waited:.0f} s of {len(self._out)} batches of trials."
                    )

    def _take(self, future: "Future[Answer]", *, last: bool = False) -> Iterator[Done]:
        """What came back of a batch; if it is one of the last ones nothing is asked again."""
        batch = self._out.pop(future)
        try:
            answer = future.result()
        except (CancelledError, Exception) as error:
            raise _gave_up(batch, error) from error
        if answer.lacks:
            if not last:
                self._submit(batch, whole=True)
            return
        if answer.environment is not None:
            self._workers.check(answer, batch)
            for place, content in enumerate(answer.parts):
                number, chunk = batch.number + place, batch.chunks[place]
                yield Done(number, chunk, unsqueezed(content), answer.environment)
        if isinstance(answer.error, ArgumentError):
            raise answer.error
        if answer.error is not None:
            left = batch._replace(chunks=batch.chunks[len(answer.parts) :])
            raise WorkerError(
                f"The worker on {answer.worker} cannot solve {left.name}: "
                f"{answer.error.removesuffix('.')}."
            )
        each = answer.seconds / len(batch.chunks)
        batch.packed.seconds = min(batch.packed.seconds or each, each)

    def _finished(self) -> Iterator[Done]:
        """What has come back beside a failure."""
        while True:
            try:
                yield from self._take(self._back.get_nowait(), last=True)
            except Empty:
                return
            except (WorkerError, ArgumentError):  # one is enough
                continue


def _gave_up(batch: _Batch, error: BaseException) -> WorkerError:
    """What an executor says of a batch that it does not solve."""
    reason = " ".join(str(error).split())[:300].removesuffix(".")
    if isinstance(error, BrokenExecutor):
        reason = f"a worker ended abruptly, as when it is killed or has no memory left ({reason})"
    elif isinstance(error, CancelledError):
        reason = "it was cancelled, as when the scheduler is gone"
    else:
        reason = f"{type(error).__name__}: {reason}"
    return WorkerError(f"The executor does not solve {batch.name}: {reason}.")


def in_order(done: Iterable[tuple[int, _T]]) -> Iterator[_T]:
    """What is numbered from zero, in that order."""
    waiting: dict[int, _T] = {}
    next_one = 0
    for number, each in done:
        waiting[number] = each
        while next_one in waiting:
            yield waiting.pop(next_one)
            next_one += 1


class OnWorkers:
    """A job on workers, as `OnDevices` is one on devices."""

    def __init__(self, job: Job, workers: Workers):
        """It is packed once."""
        self._packed, self._workers = Packed(job), workers

    def run(
        self, chunks: Iterable[Chunk], sink: Callable[[Chunk, Any], _T] = as_they_are
    ) -> Iterator[_T]:
        """For each chunk `sink(chunk, parts)`, in their order; see `Workers.run`."""
        tasks = [(self._packed, chunk) for chunk in chunks]
        run = self._workers.run(tasks, len(tasks))
        for done in in_order((done.number, done) for done in run):
            yield sink(done.chunk, done.parts)


Where = list[Device] | Workers


def place(job: Job, where: Where) -> OnDevices | OnWorkers:
    """A job that is ready to run."""
    return OnWorkers(job, where) if isinstance(where, Workers) else OnDevices(job, where)


def check_where(devices: Any, executor: Any, elsewhere: Any = False) -> Where:
    """Where to work: on devices of this process, all of them by default, or on workers."""
    check_flag(elsewhere, "elsewhere")
    if executor is None:
        return check_devices(devices)
    right = "a concurrent.futures.Executor, such as client.get_executor() of dask"
    check_instance(executor, Executor, "executor", right)
    if devices is not None:
        right = "None where an executor is given, whose workers use all devices that they see"
        raise ArgumentError("devices", right, devices)
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ArgumentError(
            "executor",
            "one that does not fork, as JAX hangs in a forked process",
            f"a {type(executor).__name__} that does",
            hint='give it mp_context=multiprocessing.get_context("spawn")',
        )
    return Workers(executor, elsewhere=elsewhere)
