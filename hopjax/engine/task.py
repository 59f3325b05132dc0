"""What a worker does: it solves a batch of chunks of a job that it was sent, and says who it is.

`solve_batch` is a function of this package, so that it travels by its name, and what it compiles
is kept from task to task. Nothing in here raises: an executor would hand on an exception without
saying where, or try again.
"""

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from hopjax._errors import ArgumentError
from hopjax.engine.devices import Checked, Chunk, Job, OnDevices, solved
from hopjax.engine.pickled import pickled, squeezed, unpickled
from hopjax.program import as_code_is, environment, program_of, reached

_KEPT = 16  # jobs of a worker, the latest ones
# What JAX is told at run time and numbers, or what is refused, may depend on.
_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
)


class Answer(NamedTuple):
    """What comes back from a worker.

    Attributes:
        worker: its host and process, in words.
        lacks: whether it was not sent the job before, and wants it.
        environment: what its numbers may depend on beside the program.
        program: the digest of what one trial computes there.
        lowered_for: the platform that this is lowered for; None for that of the coordinator.
        devices: how many it has.
        seconds: that the batch took.
        parts: what is handed on of each chunk, squeezed, as far as it came.
        error: what went wrong then: one to be raised as it is, or its text.
    """

    worker: str
    lacks: bool = False
    environment: dict[str, Any] | None = None
    program: str = ""
    lowered_for: str | None = None
    devices: int = 1
    seconds: float = 0.0
    parts: tuple[bytes, ...] = ()
    error: ArgumentError | str | None = None


@dataclass
class _Known:
    """A job at a worker, with the settings of the process that it comes from, and its platform."""

    job: Job
    settings: dict[str, Any]
    platform: str
    placed: OnDevices | None = None  # once it is needed
    programs: dict[Any, str] = field(default_factory=dict)  # digests by the kinds of arguments


_known: OrderedDict[str, _Known] = OrderedDict()
_alone = threading.Lock()  # a batch has all devices, and the settings of the process


def packed(job: Job) -> bytes:
    """A job for another process."""
    settings = {name: _setting(name) for name in _SETTINGS}
    return pickled((settings, jax.default_backend(), pickled(job)))


def digest_of(job: Job, chunk: Chunk, platform: str | None) -> str:
    """What one trial computes, and the user's code that runs on the host beside it."""

    def run(program: Any, arguments: Any, key: Any, start: Any) -> Checked:
        return solved(program, arguments, key, start, [])

    one = job.program._replace(size=1)
    start = np.asarray(chunk.start, int)
    program = program_of(run, one, chunk.arguments, chunk.key, start, platform=platform)
    return hashlib.sha256(f"{program.digest} {reached(*job.host).digest}".encode()).hexdigest()


def kinds_of(chunk: Chunk) -> Any:
    """By which the programs of a job are told apart: the shapes and dtypes of the arguments."""
    leaves, structure = jax.tree.flatten(chunk.arguments)
    kinds = ((np.shape(leaf), str(jax.numpy.result_type(leaf)), type(leaf)) for leaf in leaves)
    return structure, tuple(kinds)


def solve_batch(name: str, digest: str, payload: bytes | None, chunks: bytes) -> Answer:
    """Solve chunks of a job.

    Args:
        name: of the task, so that an executor takes no two for the same.
        digest: of the payload, by which the job is known here.
        payload: the packed job; None where it may be known.
        chunks: which, pickled.
    """
    del name
    answer = Answer(f"{socket.gethostname()}, process {os.getpid()}")
    with _alone:
        known = _known.get(digest)
        if known is None:
            if payload is None:
                return answer._replace(lacks=True)
            settings, platform, content = unpickled(payload)
            try:
                with _set(settings):  # without which arrays might lose half of their digits
                    known = _Known(unpickled(content), settings, platform)
            except Exception as error:
                return answer._replace(error=_of_unpickling(error))
            _known[digest] = known
            if len(_known) > _KEPT:
                _known.popitem(last=False)
        _known.move_to_end(digest)
        with _set(known.settings):
            return _solve(known, chunks, answer)


def _solve(known: _Known, pickled_chunks: bytes, answer: Answer) -> Answer:
    job, begun = known.job, time.perf_counter()
    parts: list[bytes] = []
    error = None
    try:
        chunks: list[Chunk] = unpickled(pickled_chunks)
        kinds = kinds_of(chunks[0])
        lowered_for = None if known.platform == jax.default_backend() else "cpu"
        if kinds not in known.programs:
            known.programs[kinds] = digest_of(job, chunks[0], lowered_for)
        answer = answer._replace(
            environment=environment(),
            program=known.programs[kinds],
            lowered_for=lowered_for,
            devices=jax.local_device_count(),
        )
        with as_code_is((job.program, job.summarise)):
            if known.placed is None:
                known.placed = OnDevices(job, jax.local_devices())
            for part in known.placed.run(chunks):
                parts.append(squeezed(part))
    except ArgumentError as wrong:
        error = wrong
    except Exception as wrong:
        error = _in_words(wrong)
    seconds = time.perf_counter() - begun
    return answer._replace(seconds=seconds, parts=tuple(parts), error=error)


def _setting(name: str) -> Any:
    """In this thread, where JAX has settings of threads."""
    return getattr(jax.config, name) if hasattr(jax.config, name) else jax.config.read(name)


@contextlib.contextmanager
def _set(settings: dict[str, Any]) -> Iterator[None]:
    """With the settings of another process."""
    before = {name: _setting(name) for name in settings}
    changed = {name: value for name, value in settings.items() if value != before[name]}
    try:
        for name, value in changed.items():
            jax.config.update(name, value)
        yield
    finally:
        for name in changed:
            jax.config.update(name, before[name])


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def _of_unpickling(error: Exception) -> str:
    """Why a job cannot be read."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"it cannot import the module {error.name}, which is looked for in "
            f"{', '.join(sys.path[:4])}, ...: start workers where it is, or with PYTHONPATH"
        )
    return f"it cannot read what it was sent ({_in_words(error)})"
