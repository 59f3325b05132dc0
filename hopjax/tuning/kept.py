"""A tuning in a folder: its steps so far, and what became of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hopjax.program import Program, environment, reached, running, sources_of, version_of
from hopjax.store import (
    AbstractKept,
    Code,
    Damaged,
    Parts,
    Store,
    StudyError,
    accepted,
    digest,
    make_code,
    open_folder,
)
from hopjax.tuning.descent import History
from hopjax.tuning.prepared import Prepared

STEP, STEPS = "step", "steps.npz"  # the program of a tuning, and its file


def here() -> dict[str, Any]:
    """What the bits of a tuning may depend on besides its definition."""
    return environment() | {"optax": version_of("optax")}


class KeptTuning(AbstractKept):
    """A tuning as a folder keeps it: all steps in one file."""

    kind = "tuning"
    files = (STEPS, "chunks")

    def __init__(self, job: Prepared, version: str | None):
        """Nothing is touched."""
        self.job, self.version = job, version

    def definition(self) -> dict[str, Any]:
        """See `Prepared`."""
        return self.job.definition(self.version)

    def environment(self) -> dict[str, Any]:
        """As for a study, and Optax."""
        return here()

    def code(self) -> Code:
        """The program of a step, traced afresh."""
        descent = self.job.descent
        programs = descent.programs()
        hidden = [*dict.fromkeys(name for each in programs.values() for name in each.hidden)]
        whole = digest([each.digest for each in programs.values()])
        (mark,) = {each.mark for each in programs.values()}
        programs[STEP] = Program(whole, tuple(hidden), mark)
        job = descent.gradients.job
        made_of = (self.job.trial, job.loss, descent.optimiser, self.job.plan.criterion)
        sources = sources_of(made_of)
        return make_code(programs, reached(), sources, self.version, here())

    def label(self, program: str) -> str:
        """Which part of a step it is."""
        return program

    def files_of(self, store: Store, program: str) -> Iterator[Path]:
        """The file of the steps, if it is there: all programs have a part in it."""
        path = store.folder / STEPS
        if path.exists():
            yield path

    def again(self, path: Path, parts: Parts, code: Code) -> tuple[Parts, Parts]:
        """The last step."""
        history = History.unpack(parts)
        if not len(history):
            return {}, {}
        with running(code.digests[STEP]):
            stored, found = self.job.descent.last_step(history)
        return {"its last step": stored}, {"its last step": found}

    def grown(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """What others must know to look at it, which never changes."""
        del manifest
        return {"view": {"terms": [term.name for term in self.job.descent.gradients.terms]}}

    def open(
        self, store: Store, *, resume: bool, elsewhere: bool, accept: str | None
    ) -> tuple[dict[str, Any], History, str]:
        """The manifest, the steps so far, and the program of a step."""
        about, code = open_folder(store, self, resume=resume, elsewhere=elsewhere, accept=accept)
        history = self.job.descent.begin()
        for path in self.files_of(store, STEP):
            try:
                history = History.unpack(store.read_chunk(path, accepted(about, STEP)))
            except Damaged as damage:
                raise StudyError(
                    f"{path} is damaged ({damage}): move it away to tune anew, or take another "
                    "folder."
                ) from None
        return about, history, code.digests[STEP]

    def save(self, store: Store, history: History, program: str) -> None:
        """Replace the steps by more of them."""
        store.write_chunk(store.folder / STEPS, history.pack(), program)
