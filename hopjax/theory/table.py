"""A report in print: a table of the memories, and what it says in sentences."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from hopjax.theory.states import State

ORTHOGONAL = 1e-6  # the largest overlap between memories that count as orthogonal
_ROWS = 20  # a longer table is summed up, and has ...
_MOST, _LEAST = 6, 3  # ... the most and the least salient memories, and those at other extremes
_NAMED = 8  # in a list; the others are counted


class Fate(NamedTuple):
    """Where the flow from a memory ends.

    Attributes:
        memory: its number.
        ends: the states, the likeliest first; none where it does not come to rest.
    """

    memory: int
    ends: tuple[State, ...]

    @property
    def kind(self) -> Literal["kept", "left", "restless"]:
        """Whether a state that begins in the memory stays there."""
        if not self.ends:
            return "restless"
        return "kept" if all(self.memory in end.holders for end in self.ends) else "left"

    @property
    def words(self) -> str:
        """As an entry of the table."""
        if self.kind == "restless":
            return "not at rest"
        if self.kind == "kept" and len(self.ends) == 1:
            return f"kept, {_overlap(self.ends[0], self.memory):.3f}"
        return "to " + " or ".join(dict.fromkeys(end.name for end in self.ends))


def fates(states: tuple[State, ...], ends: tuple[tuple[int, ...], ...]) -> list[Fate]:
    """Of all memories, from a `Landscape`."""
    return [Fate(memory, tuple(states[place] for place in end)) for memory, end in enumerate(ends)]


def by_saliency(saliency: Any) -> list[int]:
    """Memories, the most salient first."""
    return np.argsort(-np.asarray(saliency), kind="stable").tolist()


def table(report: Any) -> str:
    """All of a `Report` in lines."""
    order = by_saliency(report.saliency)
    columns = list(_columns(report))
    shown, lines = order, [report.title]
    if len(order) > _ROWS:
        shown = [memory for memory in order if memory in _extremes(report, order)]
        lines += [
            *_summary(report, columns),
            "the most and the least salient, and those at other extremes:",
        ]
    rows = [["", *(head for head, _ in columns)]]
    rows += [[f"memories[{m}]", *(entries[m] for _, entries in columns)] for m in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        aligned = (entry.rjust(width) for entry, width in zip(row, widths, strict=True))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join([*lines, *_conclusions(report)])


_Column = tuple[str, list[str]]  # a head, and an entry for each memory


def _columns(report: Any) -> Iterator[_Column]:
    yield "saliency", [f"{float(value):.3f}" for value in report.saliency]
    yield "state", list(report.kinds)
    yield "overlap", [_number(value, 3) for value in report.overlaps]
    if report.amplitudes is not None:
        yield "amplitude", [_number(value, 3) for value in report.amplitudes]
    yield "energy/N", [_number(value, 4) for value in report.energy]
    yield "growth", [_number(value, 3) for value in report.growth]
    theory = report.prediction
    if theory is not None:
        kinds = np.where(theory.stable, "stable", np.where(theory.exists, "saddle", "absent"))
        yield "theory", [str(kind) for kind in kinds]
        yield "σ_esc", [_number(value or np.nan, 3) for value in theory.escape_noise]
        yield "σ_c", [_number(value or np.nan, 3) for value in theory.critical_noise]
    quiet = fates(report.states, report.ends)
    if any(fate.kind != "kept" for fate in quiet):
        yield "flow", ["stays" if fate.kind == "kept" else fate.words for fate in quiet]
    if report.noisy_states is not None and np.any(report.noise):
        noisy = fates(report.noisy_states, report.noisy_ends)
        yield f"at {_strength(report)}", [fate.words for fate in noisy]


def _extremes(report: Any, order: list[int]) -> set[int]:
    """The memories whose rows a long table has."""
    found = {*order[:_MOST], *order[-_LEAST:]}
    for values in (report.overlaps, report.energy, report.growth):
        numbers = np.asarray(values, float)
        if np.isfinite(numbers).any():
            found |= {int(np.nanargmin(numbers)), int(np.nanargmax(numbers))}
    return found


def _summary(report: Any, columns: list[_Column]) -> Iterator[str]:
    """Counts and ranges of all memories."""
    yield f"{len(report.kinds)} memories: {_counts(report.kinds)}"
    for head, values, digits in (
        ("saliency", report.saliency, 3),
        ("overlap", report.overlaps, 3),
        *([] if report.amplitudes is None else [("amplitude", report.amplitudes, 3)]),
        ("energy/N", report.energy, 4),
        ("growth", report.growth, 3),
    ):
        numbers = np.asarray(values, float)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size:
            yield (
                f"  {head} from {numbers.min():.{digits}f} to {numbers.max():.{digits}f}, "
                f"median {np.median(numbers):.{digits}f}"
            )
    theory = report.prediction
    if theory is not None:
        kinds = dict(columns)["theory"]
        yield f"  theory: {_counts(kinds)}"
    told = {"kept": "stays in its memory", "left": "leaves it", "restless": "does not rest"}
    quiet = fates(report.states, report.ends)
    landscapes = [("without noise", quiet, report.states)]
    if report.noisy_states is not None and np.any(report.noise):
        noisy = fates(report.noisy_states, report.noisy_ends)
        landscapes.append((f"at {_strength(report)}", noisy, report.noisy_states))
    for where, found, states in landscapes:
        counts = Counter(told[fate.kind] for fate in found)
        flows = ", ".join(f"{word} in {counts[word]}" for word in told.values() if counts[word])
        some = "1 stable state" if len(states) == 1 else f"{len(states)} stable states"
        yield f"  {where} {some}; the flow {flows} of {len(found)}"


def _counts(kinds: Iterable[str]) -> str:
    counts = Counter(kinds)
    return ", ".join(f"{counts[k]} {k}" for k in ("stable", "saddle", "absent") if counts[k])


def _strength(report: Any) -> str:
    sigma = np.asarray(report.noise)
    if sigma.ndim == 0:
        return f"σ = {float(sigma):g}"
    return f"σ from {sigma.min():g} to {sigma.max():g}"


def _conclusions(report: Any) -> list[str]:
    """What the table says, in sentences."""
    strength = _strength(report).removeprefix("σ = ").removeprefix("σ ")
    quiet = fates(report.states, report.ends)
    lines = _restless(quiet)
    shared = [told for state in report.states for told in _sharing(state)]
    lines += shared[:_NAMED]
    if len(shared) > _NAMED:
        lines.append(f"{len(shared) - _NAMED} more states are shared")
    if np.any(report.noise):
        noise = f"noise of strength {strength}"
        if report.noisy_states is None:
            lines.append(
                f"{noise} is ignored, and all of this is said of the network without it: "
                f"{report.untold}"
            )
        else:
            found = fates(report.noisy_states, report.noisy_ends)
            order = by_saliency(report.saliency)
            told = _fate([found[memory] for memory in order], report.noisy_states)
            lines.append(f"{noise}, for many neurons{told}")
    if report.beyond is None:
        whose = "orthogonal" if report.crosstalk <= ORTHOGONAL else "decorrelated"
        overlap = f"two memories overlap by up to {float(report.crosstalk):.3f}"
        lines.append(f"theory: {whose} memories; here {overlap}")
    else:
        lines.append(f"no closed theory: {report.beyond}")
    return lines


def _restless(found: list[Fate]) -> list[str]:
    """Whose flow does not come to rest; nothing where all do."""
    some = [fate.memory for fate in found if fate.kind == "restless"]
    return [f"the flow from {_list(_names(some))} does not come to rest"] if some else []


def _sharing(state: State) -> Iterator[str]:
    """Which other memories have a large part in a state."""
    with_it = [m for m in state.memories if m not in state.holders]
    half = float(jnp.max(jnp.abs(state.overlaps))) / 2
    some = [m for m in with_it if abs(_overlap(state, m)) >= half]
    if some and state.name != "no memory":
        sharing = _list(f"memories[{m}] ({_overlap(state, m):.3f})" for m in some)
        whose = f"the state of {state.name}"
        if state.holders:
            whose += f" ({_overlap(state, state.holders[0]):.3f})"
        yield f"{whose} is shared by {sharing}"


def _fate(found: list[Fate], states: tuple[State, ...]) -> str:
    """Where noise leads, as the end of a sentence about it."""
    restless = _restless(found)
    told = _resting(found, states)
    if not told:
        return f": {restless[0]}"
    return ", " + "; ".join([" and ".join(told), *restless])


def _resting(found: list[Fate], states: tuple[State, ...]) -> list[str]:
    """What noise does to states in those memories whose flow comes to rest."""
    kept = [fate.memory for fate in found if fate.kind == "kept"]
    left = [fate for fate in found if fate.kind == "left"]
    if len(states) == 1 and len(kept) + len(left) == len(found):
        (state,) = states
        if state.name == "no memory":
            return ["ends in no memory"]
        sign = ""
        if state.mirrored and state.holders:
            sign = "±" if len(state.signs) > 1 else "" if state.signs == (1,) else "−"
        return [f"ends in {sign}{state.name}, {_shares(state)}"]
    if len(found) > _ROWS:
        told = [f"leaves a state in whichever of {len(kept)} memories it is"] if kept else []
        return [*told, *([f"takes it elsewhere from {len(left)}"] if left else [])]
    told = []
    if len(kept) == 1:
        told = [f"keeps a state in {_list(_names(kept))}"]
    elif kept:
        told = [f"leaves a state in whichever of {_list(_names(kept))} it is"]
    moved: dict[str, list[int]] = {}
    for fate in left:
        moved.setdefault(fate.words, []).append(fate.memory)
    taken = [f"takes {_list(_names(some))} {end}" for end, some in moved.items()]
    if not kept and taken:
        return [_list(taken)]
    return [*told, *taken]


def _overlap(state: State, memory: int) -> float:
    """With its sign, unless the mirror image is a state too."""
    overlap = float(state.overlaps[memory])
    return abs(overlap) if state.mirrored else overlap


def _shares(state: State) -> str:
    """The strongest overlaps of a state."""
    strength = np.abs(np.asarray(state.overlaps, float))
    if state.holders:
        strength[list(state.holders)] = 0
        text = f"overlap {_overlap(state, state.holders[0]):.3f}"
    else:
        text = "overlaps"
    second = int(np.argmax(strength))
    if strength[second] >= 0.1:  # worth a word
        text += f", {_overlap(state, second):.3f} with memories[{second}]"
    return text


def _names(memories: Iterable[int]) -> list[str]:
    return [f"memories[{memory}]" for memory in memories]


def _list(items: Iterable[str]) -> str:
    """With commas; of many the first few, and how many more."""
    items = list(items)
    if len(items) <= _NAMED + 1:
        return ", ".join(items)
    return ", ".join(items[:_NAMED]) + f" and {len(items) - _NAMED} more"


def _number(value: Any, digits: int) -> str:
    return f"{float(value):.{digits}f}" if np.isfinite(value) else "-"
