"""Claims as data: what was measured, what it is compared with, and the verdict by its interval.

A check holds where the whole 95% interval lies on the claimed side, fails where it lies on the
other side, and is open where the bound is inside it: then there are too few trials to tell. A
number without an interval counts as it is: it is exact, or its error is far below the bound's.
"""

import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Measured(NamedTuple):
    """A number and the ends of its 95% interval, which equal it where there is no error."""

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        value, low, high = (format(number, form or ".3f") for number in self)
        return value if self.low == self.high else f"{value} [{low}, {high}]"

    def over(self, other: Any) -> "Measured":
        """The ratio of two positive numbers, at its widest."""
        other = measured(other)
        return Measured(self.value / other.value, self.low / other.high, self.high / other.low)

    def times(self, factor: float, plus: float = 0.0) -> "Measured":
        """In other units."""
        value, *ends = (factor * number + plus for number in self)
        return Measured(value, *sorted(ends))


def measured(found: Any) -> Measured:
    """From JSON: a proportion, a mean with its ends or half width, (value, low, high), a number."""
    if isinstance(found, Measured):
        return found
    if isinstance(found, dict):
        value = number(found["p"] if "p" in found else found["mean"])
        if "half_width" in found:
            half = number(found["half_width"])
            return Measured(value, value - half, value + half)
        return Measured(value, number(found["low"]), number(found["high"]))
    if isinstance(found, Sequence):
        return Measured(*map(number, found))
    return Measured(*[number(found)] * 3)


def number(value: float | None) -> float:
    """A number as it was before it became JSON: null stands for what is not finite."""
    return np.nan if value is None else float(value)


def show(*found: Any, form: str = ".3f", joined: str = ", ") -> str:
    """Numbers for a table, each as estimate [low, high]."""
    return joined.join(format(measured(each), form) for each in found)


class Check(NamedTuple):
    """One comparison: the bound and what was measured, in words, and the verdict."""

    wanted: str
    measured: str
    holds: bool
    fails: bool


class Claim(NamedTuple):
    """A statement beside what was measured; it holds if all its checks do."""

    statement: str
    checks: tuple[Check, ...]
    source: str = "paper"  # or the noise theory, or studies, here

    @property
    def measured(self) -> str:
        return "; ".join(check.measured for check in self.checks if check.measured)

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)

    @property
    def fails(self) -> bool:
        """Whether a check is refuted; a claim that neither holds nor fails is open."""
        return any(check.fails for check in self.checks)

    @property
    def verdict(self) -> str:
        return "yes" if self.holds else "NO" if self.fails else "open"


def claim(statement: str, *checks: Check, source: str = "paper") -> Claim:
    """A claim, whose statement has {} where the bounds of its checks are to stand, in order."""
    wanted = [check.wanted for check in checks if check.wanted]
    return Claim(statement.format(*wanted), checks, source)


def above(found: Any, bound: Any, text: str | None = None, *, symbol: str = "P") -> Check:
    """What was measured, each of several in a list, is above a bound or what else was measured.

    In the text the first {} is the one of several that is least so, the second one the bound. The
    symbol stands for what was measured where the text, or the bound in a statement, names it.
    """
    limit = measured(bound)
    ahead = [(one.low - limit.high, limit.low - one.high) for one in several(found)]
    return _beyond(found, limit, ahead, text, symbol, ">≥")


def below(found: Any, bound: Any, text: str | None = None, *, symbol: str = "P") -> Check:
    """What was measured, each of several in a list, is below a bound or what else was measured."""
    limit = measured(bound)
    ahead = [(limit.low - one.high, one.low - limit.high) for one in several(found)]
    return _beyond(found, limit, ahead, text, symbol, "<≤")


def _beyond(
    found: Any,
    limit: Measured,
    ahead: list[tuple[float, float]],
    text: str | None,
    symbol: str,
    signs: str,
) -> Check:
    """From by how much each is surely on the claimed side, and surely on the other side."""
    right, wrong = np.array(ahead).T
    if text is None:
        text = f"{symbol} {signs[1] if isinstance(found, list) else '='} {{}}"
    return Check(
        f"{symbol} {signs[0]} {short(limit.value)}" if limit.low == limit.high else "",
        text.format(several(found)[int(np.argmin(right))], limit),  # what is not finite comes first
        bool(np.all(right > 0)),
        bool(np.any(wrong >= 0)),
    )


def within(found: Any, low: float, high: float, text: str = "P = {}") -> Check:
    """The whole interval of each lies between two bounds; {} is the farthest from the middle."""
    each, middle = several(found), (low + high) / 2
    farthest = max(each, key=lambda one: max(middle - one.low, one.high - middle))
    return Check(
        f"{short(low)} to {short(high)}",
        text.format(farthest),
        all(low <= one.low and one.high <= high for one in each),
        any(one.high < low or one.low > high for one in each),
    )


def near(found: Any, expected: Any, tolerance: float, text: str) -> Check:
    """Each is what was expected, or else was measured, up to the tolerance."""
    wanted = measured(expected)
    each = [
        Measured(one.value, one.low - wanted.high, one.high - wanted.low) for one in several(found)
    ]
    return Check(
        f"±{short(tolerance)}",
        text.format(*several(found), wanted),
        all(-tolerance <= one.low and one.high <= tolerance for one in each),
        any(one.high < -tolerance or one.low > tolerance for one in each),
    )


def agrees(found: Any, expected: Any, text: str) -> Check:
    """What was measured cannot be told from what was expected, or else was measured."""
    first, second = measured(found), measured(expected)
    overlap = first.low <= second.high and second.low <= first.high
    return Check("", text.format(first, second), overlap, not overlap)


def every(count: int, total: int, text: str = "{} of {}") -> Check:
    """All of what was looked at is so: a count, not an estimate."""
    return Check("", text.format(count, total), count == total, count != total)


def several(found: Any) -> list[Measured]:
    """A list stands for several that were measured; a triple is one, with its ends."""
    return [measured(each) for each in (found if isinstance(found, list) else [found])]


def short(bound: float) -> str:
    """As bounds are written: .9, −.5, 12."""
    return re.sub(r"^(−?)0\.", r"\1.", f"{bound:.3g}".replace("-", "−"))


def print_claims(claims: list[Claim]) -> None:
    """The table *claim | measured here | holds?*, with a heading for each source of claims."""
    rows, rules = [], []
    for source in dict.fromkeys(claim.source for claim in claims):
        rules.append(len(rows))
        rows.append((f"claim of the {source}", "measured here, with 95% interval", "holds?"))
        rows += [
            (claim.statement, claim.measured, claim.verdict)
            for claim in claims
            if claim.source == source
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for place, row in enumerate(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(" | ".join(cells).rstrip())
        if place in rules:
            print(" | ".join("-" * width for width in widths))
    sys.stdout.flush()
