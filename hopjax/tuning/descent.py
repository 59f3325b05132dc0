"""Going down a loss along its gradient: the steps, when to stop, and what was found."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from scipy import stats

from hopjax._checks import warn
from hopjax.engine import OutOfRangeError, progress_bar
from hopjax.program import Program, program_of
from hopjax.statistics import Interval
from hopjax.tuning.gradient import Found, Gradients, weighted_sum
from hopjax.tuning.parameters import Values, count, values_of

REFINED_AT_MOST = 4  # numbers that get an interval: it takes two gradients for each
BATCHES = 8  # of fresh trials, for that interval
_STEP = 0.02  # of the finite difference of gradients there, in free coordinates
_NEWTON_STEPS = 4  # at most
_SHARE = 0.3  # of a parameter in a direction that makes it one of those that lie along it
_NEAR = 1e-4  # a shorter one, in free coordinates, is the last
_CANDIDATES = 3  # of the result
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
    keys: tuple[Key[Array, ""], ...]  # of the steps, and of what comes after them
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

    @property
    def gradients_at_the_end(self) -> int:
        """How many `best` and `refine` take at most."""
        numbers = count(self.start)
        if numbers > REFINED_AT_MOST:
            return _CANDIDATES + BATCHES
        return _CANDIDATES + BATCHES * (2 * numbers + _NEWTON_STEPS)

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
        return jax.random.fold_in(self.keys[0], number if self.fresh else 0)

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

    def best(self, history: History) -> Values:
        """The free coordinates that are the result: the first of these, unless another is better.

        The mean over the windows where it settled, that over the window of the lowest loss, and the
        step of the lowest loss; which is better is seen on the same fresh trials. (A mean over
        steps on both sides of a cliff may lie beyond it.)
        """
        loss = np.where(history.fine, history.array("loss"), np.inf)
        lowest = int(np.argmin(loss))
        single = self._mean(history, slice(lowest, lowest + 1))
        if not self.fresh:
            return single
        window = min(self.window, len(history))
        windows = [slice(end - window, end) for end in range(len(history), window - 1, -window)]

        def mean_loss(steps: slice) -> float:
            fine = history.fine[steps]
            return loss[steps][fine].mean() if fine.any() else np.inf

        lowest_window = min(windows, key=mean_loss)
        candidates = [single]
        if history.fine[lowest_window].any():
            candidates.insert(0, self._mean(history, lowest_window))
        if history.reason.startswith("converged"):
            settled = slice(len(history) - 2 * window, None)
            candidates.insert(0, self._mean(history, settled))
        key = jax.random.fold_in(self.keys[1], 2)
        found = [self.differentiate(each, key, "the choice of the best") for each in candidates]
        best = 0
        for place, each in enumerate(found):
            if not np.isfinite(found[best].loss) or each.loss < found[best].loss - each.error:
                best = place
        return candidates[best]

    def _mean(self, history: History, steps: slice) -> Values:
        """The free coordinates' mean over those of some steps that were not skipped."""
        fine = history.fine[steps]
        return {
            name: jnp.asarray(history.array(f"z:{name}")[steps][fine].mean(axis=0), part.dtype)
            for name, part in history.z.items()
        }

    def refine(self, z: Values) -> "Refined":
        """The minimum, and how far it is known, by Newton steps on batches of fresh trials.

        A loss is a function of means, so the minimum of a single batch is biased. The batches are
        pooled, and the scatter is that of their pseudo-values (the jackknife, Miller, Biometrika
        61, 1, 1974), whose mean is free of that bias to first order.
        """
        names = list(z)
        shapes = [np.shape(z[name]) for name in names]
        start = np.concatenate([np.ravel(np.asarray(z[name], float)) for name in names])
        known = start.size <= REFINED_AT_MOST
        gradients = self.gradients.forward() if known else self.gradients

        def unflat(vector: np.ndarray) -> Values:
            parts = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
            return {
                name: jnp.asarray(part.reshape(shape), z[name].dtype)
                for name, part, shape in zip(names, parts, shapes, strict=True)
            }

        def batches(point: np.ndarray) -> list[Found]:
            key = jax.random.fold_in(self.keys[1], 1)
            at = unflat(point)
            return [
                gradients(at, jax.random.fold_in(key, batch), self.label(at, f"batch {batch}"))
                for batch in range(BATCHES)
            ]

        def slope(found: list[Found], kept: list[int]) -> Float[np.ndarray, " n"]:
            pooled = [found[batch] for batch in kept]
            means = np.mean([each.means for each in pooled], axis=0)
            by_mean = gradients.evaluate(means.tolist())[1]
            parts = [weighted_sum(by_mean, each.slopes) for each in pooled]
            return np.mean([np.concatenate([np.ravel(p[n]) for n in names]) for p in parts], axis=0)

        def unknown(why: str) -> Refined:
            nothing = unflat(np.full(start.size, np.nan))
            return Refined(z, nothing, _loss(at_start), self._ends(at_start), why, {})

        point, at_start = start, batches(start)
        found = at_start
        if not known:
            return unknown(f"it is looked for only of up to {REFINED_AT_MOST} numbers")
        try:
            sides = [
                (batches(start + step), batches(start - step))
                for step in _STEP * np.eye(start.size)
            ]

            def curvature(kept: list[int]) -> Float[np.ndarray, "n n"]:
                rows = [slope(high, kept) - slope(low, kept) for high, low in sides]
                matrix = np.stack(rows) / (2 * _STEP)
                return np.nan_to_num(matrix + matrix.T) / 2

            def least_curvature(kept: list[int]) -> Float[np.ndarray, " 1"]:
                return np.linalg.eigvalsh(curvature(kept))[:1]

            def minimum(kept: list[int]) -> Float[np.ndarray, " n"]:
                return point - np.linalg.solve(curvature(kept), slope(found, kept))

            # Along a valley whose slope is lost in the noise nothing says where the minimum is.
            least, low, high = _spread(least_curvature)[:, 0]
            if high < 0:
                return unknown("no minimum is near, as the loss curves downwards")
            if not low > 0:
                along = np.abs(np.linalg.eigh(curvature([*range(BATCHES)]))[1][:, 0])
                shares = unflat(along / along.max())
                flat = {
                    name: bool(np.max(np.asarray(part)) >= _SHARE) for name, part in shares.items()
                }
                why = f"the loss curves by {least:.2g} [{low:.2g}, {high:.2g}]"
                return unknown(why)._replace(flat=flat)
            for number in range(_NEWTON_STEPS):
                found = batches(point) if number else found
                reached, low, high = _spread(minimum)
                half, step = (high - low) / 2, np.abs(reached - point)
                # Beyond where the loss is a parabola, a Newton step means nothing.
                near = np.abs(reached - start) <= np.maximum(half, 5 * _STEP)
                if not (near.all() and half.max() <= 0.5):
                    return unknown("the minimum is further away than the loss is a parabola")
                point = reached
                if (step <= np.maximum(half / 4, _NEAR)).all():
                    ends = self._ends(found)
                    return Refined(unflat(point), unflat(half), _loss(found), ends, "", {})
        except OutOfRangeError:
            return unknown("values beside it are out of its range")
        except np.linalg.LinAlgError:
            return unknown("the loss does not curve there")
        return unknown("Newton's steps do not settle")

    def _ends(self, found: list[Found]) -> list["Ending"]:
        """What each term of the loss measured in batches of trials."""
        endings = []
        for number, places in enumerate(self.gradients.places()):
            alone = len(places) == 1
            each = [one.means[places[0]] if alone else one.terms[number] for one in found]
            error = np.std(each, ddof=1) / np.sqrt(len(each))
            endings.append(Ending(float(np.mean(each)), float(error)))
        return endings


def _spread(
    estimate: Callable[[list[int]], Float[np.ndarray, " n"]],
) -> Float[np.ndarray, "3 n"]:
    """The jackknife: what is estimated from all batches, and the ends of its interval."""
    whole = estimate([*range(BATCHES)])
    parts = [[*range(left_out), *range(left_out + 1, BATCHES)] for left_out in range(BATCHES)]
    pseudo = [BATCHES * whole - (BATCHES - 1) * estimate(part) for part in parts]
    return _of_batches(np.array(pseudo))


def _loss(found: list[Found]) -> Interval:
    """The loss that such a batch has, which is also that of a step."""
    return Interval(*_of_batches(np.array([each.loss for each in found])))


def _of_batches(values: Float[np.ndarray, "batches *n"]) -> Float[np.ndarray, "3 *n"]:
    """The mean and the ends of its 95% interval, by Student's distribution."""
    count, middle = len(values), values.mean(axis=0)
    half = stats.t.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return np.stack([middle, middle - half, middle + half])


class Ending(NamedTuple):
    """The mean of what a term of the loss measured in the end; of several numbers its share."""

    measured: float
    error: float  # its standard error


class Refined(NamedTuple):
    """The minimum and its interval from fresh batches, and the loss there."""

    z: Values
    half: Values  # half the width of the interval in z; NaN if there is none
    loss: Interval
    endings: list[Ending]  # of the terms of the loss
    why: str  # why there is no interval; empty where there is one
    flat: dict[str, bool]  # the parameters along which the loss does not curve, if that is why


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
