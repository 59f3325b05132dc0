"""Going down a loss along its gradient: the steps, when to stop, and what was found."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from hopjax._errors import warn
from hopjax._keys import TuningKeys
from hopjax.engine import progress_bar
from hopjax.program import Program, program_of
from hopjax.tuning.gradient import Found, Gradients
from hopjax.tuning.parameters import Values, values_of

_PATIENCE = 10  # steps in a row whose gradient is not finite
_SILENT = 1e-9  # gradients below this share of the loss are none
_FAINT = 1e-4  # and of a term of it below this one all but none
_SAVE_EVERY = 5.0  # seconds

Numbers = Mapping[str, Float[np.ndarray, "..."]]  # parameters on the host


class TuningError(RuntimeError):
    """Tuning cannot begin: the gradient at the start is zero or not finite."""


@dataclass(frozen=True)
class History:
    """All steps so far, as lists along the steps, and what the next one needs."""

    # loss, error, gradient_norm, diverged, skipped, terms; z:NAME, g:NAME
    steps: dict[str, list[Any]]
    z: Values
    good: Values  # the last z with a finite gradient
    optimiser: list[np.ndarray]  # the leaves of its state
    reason: str  # why it stopped; empty while it goes on
    silent: tuple[int, ...] = ()  # the terms of the loss that had no gradient at the start

    def __len__(self) -> int:
        return len(self.steps["loss"])

    def array(self, name: str) -> np.ndarray:
        """A quantity at every step."""
        return np.asarray(self.steps[name])

    @property
    def fine(self) -> Bool[np.ndarray, " steps"]:
        """The steps that were not skipped."""
        return ~self.array("skipped").astype(bool)

    def pack(self) -> dict[str, dict[str, np.ndarray]]:
        """Everything as arrays."""
        return {
            "steps": {name: self.array(name) for name in self.steps},
            "z": {name: np.asarray(value) for name, value in self.z.items()},
            "good": {name: np.asarray(value) for name, value in self.good.items()},
            "optimiser": {str(place): leaf for place, leaf in enumerate(self.optimiser)},
            "about": {
                "reason": np.array(self.reason),
                "silent": np.array(self.silent, np.int64),
            },
        }

    @classmethod
    def unpack(cls, parts: dict[str, dict[str, np.ndarray]]) -> "History":
        """What was packed."""
        z, good = (
            {name: jnp.asarray(value) for name, value in parts[part].items()}
            for part in ("z", "good")
        )
        leaves = parts.get("optimiser", {})
        return cls(
            {name: list(array) for name, array in parts["steps"].items()},
            z,
            good,
            [leaves[str(place)] for place in range(len(leaves))],
            str(parts["about"]["reason"]),
            tuple(parts["about"]["silent"].tolist()),
        )


@dataclass(frozen=True)
class Descent:
    """Everything that stays the same from step to step."""

    gradients: Gradients
    start: Values
    keys: TuningKeys
    steps: int
    fresh: bool
    window: int
    tolerance: float
    optimiser: Any  # of Optax
    progress: bool

    def begin(self) -> History:
        """Before the first step."""
        z = {
            name: self.gradients.job.ranges[name].free(value) for name, value in self.start.items()
        }
        names = ["loss", "error", "gradient_norm", "diverged", "skipped", "terms"]
        names += [f"{kind}:{name}" for kind in "zg" for name in z]
        with promoting():
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(self.optimiser.init(z))]
        return History({name: [] for name in names}, z, z, leaves, "")

    def programs(self) -> dict[str, Program]:
        """What a step computes, part by part in words."""
        import optax  # not at the top: importing hopjax stays light

        z = self.begin().z
        update = optax.with_extra_args_support(self.optimiser).update
        loss = np.zeros((), jnp.result_type(float))

        def first(_: None, z: Values) -> Any:
            return eqx.filter(self.optimiser.init(z), eqx.is_array)

        def step(_: None, z: Values, state: Any, loss: Any) -> Any:
            return eqx.filter(update(z, state, z, value=loss), eqx.is_array)

        mark = object()
        with promoting():
            return self.gradients.programs(z, mark) | {
                "the start of the optimiser": program_of(first, None, z, mark=mark),
                "the optimiser": program_of(step, None, z, self.optimiser.init(z), loss, mark=mark),
            }

    def differentiate(self, z: Values, key: Key[Array, ""], place: str) -> Found:
        """The loss of the trials of a key, and its gradient."""
        return self.gradients(z, key, self.label(z, place))

    def label(self, z: Values, place: str) -> str:
        """Where something went wrong, and what helps."""
        return f"of {place}, with {in_words(self.values(z))}: bounds keep it in its range"

    def values(self, z: Values) -> dict[str, np.ndarray]:
        """The parameters, in float64."""
        z = {name: jnp.asarray(part) for name, part in z.items()}
        values = values_of(z, self.gradients.job.ranges)
        return {name: np.asarray(part, float) for name, part in values.items()}

    def path(self, history: History, name: str) -> Float[np.ndarray, "steps ..."]:
        """A parameter at every step."""
        return self.values({name: jnp.asarray(history.array(f"z:{name}"))})[name]

    def go_on(self, history: History, save: Callable[[History], None]) -> History:
        """Do what is left of the steps."""
        import optax  # not at the top: importing hopjax stays light

        with promoting():
            structure = jax.tree.structure(self.optimiser.init(history.z))
        update = _updater(self.optimiser)
        saved = time.monotonic()
        with progress_bar(self.steps, "tune", self.progress, len(history), unit="step") as bar:
            while not history.reason:
                number = len(history)
                found = self._step(history.z, number)
                finite = found.finite
                silent = history.silent
                if number == 0:
                    silent = self.check_start(found, history.z, self._key(0))
                row = {
                    **{"loss": found.loss, "error": found.error, "gradient_norm": found.norm},
                    **{"diverged": found.diverged, "skipped": not finite},
                    "terms": np.array(found.terms),
                    **{f"z:{name}": np.asarray(value) for name, value in history.z.items()},
                    **{f"g:{name}": part for name, part in found.gradient.items()},
                }
                rows = {name: [*history.steps[name], row[name]] for name in row}
                if finite:
                    state = jax.tree.unflatten(structure, history.optimiser)
                    gradient = {
                        name: jnp.asarray(part, history.z[name].dtype)
                        for name, part in found.gradient.items()
                    }
                    loss = jnp.asarray(found.loss, jnp.result_type(float))
                    updates, state = update(gradient, state, history.z, loss)
                    z, good = optax.apply_updates(history.z, updates), history.z
                    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
                else:  # back, halfway to where it was finite
                    z = jax.tree.map(lambda a, b: (a + b) / 2, history.z, history.good)
                    good, leaves = history.good, history.optimiser
                history = History(rows, z, good, leaves, "", silent)
                history = replace(history, reason=self._reason(history))
                bar.set_postfix(loss=f"{found.loss:.4g}", refresh=False)
                bar.update()
                if history.reason or time.monotonic() - saved > _SAVE_EVERY:
                    save(history)
                    saved = time.monotonic()
        return history

    def _key(self, number: int) -> Key[Array, ""]:
        return self.keys.step(number if self.fresh else 0)

    def _step(self, z: Values, number: int) -> Found:
        return self.differentiate(z, self._key(number), f"step {number}")

    def last_step(self, history: History) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The loss and gradient of the last step, as they are there and computed again."""
        names = [name.removeprefix("z:") for name in history.steps if name.startswith("z:")]
        z = {name: jnp.asarray(history.steps[f"z:{name}"][-1]) for name in names}
        found = self._step(z, len(history) - 1)
        again = {"loss": found.loss, "error": found.error, "diverged": found.diverged}
        again |= {f"g:{name}": part for name, part in found.gradient.items()}
        stored = {name: np.asarray(history.steps[name][-1]) for name in again}
        return stored, {name: np.asarray(part, stored[name].dtype) for name, part in again.items()}

    def check_start(self, found: Found, z: Values, key: Key[Array, ""]) -> tuple[int, ...]:
        """Refuse to begin where there is no way down; the terms of the loss that do not say it.

        Of these it warns: where a term hardly changes even if a parameter is doubled, steps follow
        the others alone.
        """
        values = in_words({name: np.asarray(value, float) for name, value in self.start.items()})
        if not found.finite:
            what = "gradient" if np.isfinite(found.loss) else "loss"
            raise TuningError(
                f"The {what} at the start is not finite ({values}; {found.diverged} of "
                f"{self.gradients.trials} trials diverged there): begin elsewhere, or take a "
                "smaller dt."
            )
        least = _SILENT * abs(found.loss)
        silent = [n for n, part in found.gradient.items() if np.sqrt(np.sum(part**2)) <= least]
        if found.loss == 0 and len(silent) == len(found.gradient):
            raise TuningError(f"The loss at the start ({values}) is zero: nothing is left to tune.")
        if silent:
            raise TuningError(
                f"The loss at the start, {found.loss:.4g}, has no gradient by {', '.join(silent)} "
                f"({values}): it does not depend on it, or the network is silent there. Begin "
                "elsewhere, where the overlap is nearer to what is wanted, or raise the "
                "temperature of the loss."
            )
        lengths = self.gradients.lengths_by_term(z, key, self.label(z, "step 0"), found)
        silent = tuple(
            number
            for number, (norm, value) in enumerate(zip(lengths, found.terms, strict=True))
            if value != 0 and norm <= _FAINT * abs(value)
        )
        if silent:
            names = [term.name for term in self.gradients.terms]
            others = [name for number, name in enumerate(names) if number not in silent]
            follow = (
                f"the steps follow {' and '.join(others)} alone"
                if others
                else "the steps have next to nothing to follow"
            )
            where = " and ".join(
                f"{names[number]}, which is {found.terms[number]:.4g}" for number in silent
            )
            has = "has" if len(silent) == 1 else "have"
            warn(
                f"{where}, {has} all but no gradient at the start ({values}): {follow}. Begin "
                "elsewhere, where the overlap is nearer to what is wanted, or raise the "
                "temperature of the loss.",
            )
        return silent

    def _reason(self, history: History) -> str:
        """Why to stop; empty to go on."""
        number, window = len(history), self.window
        if number >= _PATIENCE and not history.fine[-_PATIENCE:].any():
            return f"the gradient was not finite in {_PATIENCE} steps in a row"
        if number % window == 0 and number >= 2 * window:
            loss, norm = history.array("loss"), history.array("gradient_norm")
            if (norm[-window:] <= _SILENT * np.abs(loss[-window:])).all():
                return f"the gradient vanished after {number} steps"
            if all(self._settled(history, name) for name in self.start):
                return f"converged after {number} steps"
        return f"all {number} steps were done" if number >= self.steps else ""

    def _settled(self, history: History, name: str) -> bool:
        """Whether a parameter stays, and not only because steps have become short."""
        path, window = self.path(history, name), self.window
        late, before = path[-window:].mean(axis=0), path[-2 * window : -window].mean(axis=0)
        size = max(np.abs(late).max(), np.abs(before).max())
        stays = np.abs(late - before) <= self.tolerance * size
        gradient = history.array(f"g:{name}")
        last = gradient[-2 * window :]
        error = last.std(axis=0, ddof=1) / np.sqrt(len(last))
        flat = np.abs(last.mean(axis=0)) <= np.maximum(
            3 * error, 0.01 * np.nanmax(np.abs(gradient), axis=0)
        )
        return bool((stays & flat).all())


def in_words(values: Numbers) -> str:
    """Parameters, to print."""
    texts = {
        name: np.array2string(np.asarray(value), precision=4, threshold=6)
        for name, value in values.items()
    }
    return ", ".join(f"{name} = {' '.join(text.split())}" for name, text in texts.items())


@contextlib.contextmanager
def promoting() -> Iterator[None]:
    """Optax mixes dtypes and ranks, which the user may have forbidden."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@functools.lru_cache(maxsize=8)
def _updater(optimiser: Any) -> Callable:
    import optax

    update = jax.jit(optax.with_extra_args_support(optimiser).update)

    def updater(gradient: Values, state: Any, z: Values, loss: Float[Array, ""]) -> Any:
        with promoting():
            return update(gradient, state, z, value=loss)

    return updater
