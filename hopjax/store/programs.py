"""Which programs the numbers in a folder were computed by, and what is to be done after a change.

A manifest has, for every program of a study or tuning, the digests that it had in each environment
it ran in. Those of one program all stand for the same numbers.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hopjax._errors import ArgumentError, ArgumentTypeError
from hopjax.program import Program, Reached, remember
from hopjax.store.identity import digest

ACCEPT = ("same", "redo")
_SHOWN = 24  # lines of a difference between sources


class Code(NamedTuple):
    """The programs of a run, and what it was made from.

    Attributes:
        digests: of each program, by its name.
        sources: the texts of the user's functions and classes.
        place: the digest of the environment.
    """

    digests: dict[str, str]
    sources: dict[str, str]
    place: str


def check_accept(value: Any) -> str | None:
    """What is to be done after a change."""
    if value is not None and (not isinstance(value, str) or value not in ACCEPT):
        right = ", ".join(f'"{name}"' for name in ACCEPT)
        raise ArgumentError("accept_changes", f"{right} or None", repr(value))
    return value


def check_version(value: Any) -> str | None:
    """The user's name for what the program does not tell."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ArgumentTypeError("version", "a text that is not empty", repr(value))
    return value


def make_code(
    programs: Mapping[str, Program],
    host: Reached,
    sources: Mapping[str, str],
    version: str | None,
    environment: dict[str, Any],
) -> Code:
    """What a run computes.

    Args:
        programs: by name.
        host: what runs on the host, outside of these programs.
        sources: the texts of the user's functions and classes.
        version: the user's name for what can be told from neither.
        environment: the present one.

    Raises:
        ValueError: where something needs a version that is not given.
    """
    hidden = [*dict.fromkeys(name for each in programs.values() for name in each.hidden)]
    hidden += host.hidden
    if hidden and version is None:
        right = "a text of your choice where what is computed cannot be told from the program"
        hint = "change it whenever that changes"
        raise ArgumentError("version", f"{right}, as in {hidden[0]}", "None", hint=hint)
    beside = [host.digest, version]
    digests = {name: digest([each.digest, *beside]) for name, each in programs.items()}
    for name, each in programs.items():
        remember(digests[name], each.mark)
    return Code(digests, dict(sources), place_of(environment))


def place_of(environment: dict[str, Any]) -> str:
    """What an environment is called in files."""
    return digest(environment)[:16]


def accepted(manifest: dict[str, Any], name: str) -> set[str]:
    """The digests of a program, of any environment, whose numbers are those of the folder."""
    known = manifest["programs"].get(name, {})
    return {each for digests in known.values() for each in digests}


def changed(manifest: dict[str, Any], code: Code) -> list[str]:
    """The programs that are others than those of the folder, or may be."""
    moved = manifest["sources"] != code.sources
    found = []
    for name, each in code.digests.items():
        known = manifest["programs"].get(name)
        # In a new environment another text of the program says nothing.
        if known and (each not in known[code.place] if code.place in known else moved):
            found.append(name)
    return found


def record(manifest: dict[str, Any], code: Code, anew: Iterable[str] = ()) -> dict[str, Any]:
    """The manifest with these programs; what is known of those in `anew` is forgotten."""
    programs = {
        name: dict(known) for name, known in manifest["programs"].items() if name not in set(anew)
    }
    for name, each in code.digests.items():
        known = programs.setdefault(name, {})
        known[code.place] = [*dict.fromkeys([*known.get(code.place, []), each])]
    return manifest | {"programs": programs, "sources": code.sources}


def source_difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """What differs between texts by name, line by line; empty if nothing does."""
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        there, here = (source.get(name, "").splitlines() for source in (old, new))
        titles = (f"{name}, there", f"{name}, here")
        lines += difflib.unified_diff(there, here, *titles, lineterm="", n=1)
    more = [f"... ({len(lines) - _SHOWN} more lines)"] if len(lines) > _SHOWN else []
    return "\n".join(lines[:_SHOWN] + more)


def first_difference(
    stored: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Where two summaries of a chunk are not the same to the bit, to print."""
    for name in dict.fromkeys([*stored, *found]):
        for field in dict.fromkeys([*stored.get(name, {}), *found.get(name, {})]):
            old, new = (each.get(name, {}).get(field) for each in (stored, found))
            if old is None or new is None:
                return f"{name}/{field} here or there only"
            old, new = np.asarray(old), np.asarray(new)
            if old.shape != new.shape or old.dtype != new.dtype:
                return (
                    f"{name}/{field} of {old.dtype}{old.shape} there, {new.dtype}{new.shape} here"
                )
            if old.tobytes() != new.tobytes():
                ones = (np.frombuffer(each.tobytes(), np.uint8) for each in (old, new))
                first = int(np.argmax(np.not_equal(*ones))) // old.itemsize
                there, here = old.ravel()[first], new.ravel()[first]
                return f"the first in {name}/{field}, {there} there and {here} here"
    return None
