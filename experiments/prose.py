"""Text for the pages that are made of numbers: tables, enumerations, lines of one width."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.claims import show

WIDTH = 100


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, *rows)]
    first, *others = (f"| {line} |" for line in lines)
    return "\n".join([first, "|" + "---|" * len(head), *others])


def listed(found: Sequence[Any], form: str = ".3f") -> str:
    """Several that were measured, each with its interval."""
    return f"{show(*found[:-1], form=form)} and {show(found[-1], form=form)}"


def filled(paragraph: str) -> str:
    """A paragraph in lines of one width, with the sign for minus; a table as it is.

    An estimate and its interval stay in one line.
    """
    if paragraph.startswith("|"):
        return paragraph
    text = re.sub(r"(?<![\w.)])-(?=\d)", "−", paragraph)
    text = re.sub(r" \[(\S+), (\S+)\]", "\u00a0[\\1,\u00a0\\2]", text)
    lines = textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\u00a0", " ")
