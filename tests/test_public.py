"""What holds of every public name: it is used where users look, and says how it is called."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

import hopjax as hj
from hopjax import plotting, statistics, theory

PUBLIC = {"hj": hj, "theory": theory, "plotting": plotting, "statistics": statistics}
TWICE = {"statistics.Interval"}  # is hj.Interval


def public() -> Iterator[tuple[str, Any]]:
    """Every name that is defined here, with what it stands for."""
    for place, module in PUBLIC.items():
        for name, value in vars(module).items():
            home = getattr(value, "__module__", module.__name__)
            inside = home == module.__name__ or (
                module in (hj, theory, plotting) and home.startswith("hopjax")
            )
            if not name.startswith("_") and inside and not inspect.ismodule(value):
                yield f"{place}.{name}", value


DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "how-to").glob("*.md")),
    *(DOCS / "tutorials").glob("*.md"),
    *(ROOT / "experiments").glob("*.py"),
]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_every_public_name_is_used_on_a_page_or_in_an_experiment():
    names = [name for name, _ in public() if name not in TWICE]
    assert len(names) > 90
    # With its module, between backticks or in an import: as code, and not as a word.
    unused = [
        name
        for name in names
        for place, _, last in [name.partition(".")]
        if not re.search(rf"(\b{place}\.|`|import .*\b){last}\b", TEXT)
    ]
    assert unused == []


def test_every_public_name_has_one_place_in_the_reference():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    places = re.findall(r"^::: hopjax\.(?:command\.)?(\S+)$", text, re.MULTILINE)
    names = [name.removeprefix("hj.") for name, _ in public() if name not in TWICE]
    own = [*names, "read_study", "read_tuning", "save_page", "TuningArguments"]
    own = [name for name in own if not name.split(".")[-1].isupper()]  # constants of `plotting`
    assert sorted(places) == sorted(own)


def by_keyword(function: Any) -> tuple[int, list[str]]:
    """How many arguments a callable takes by position, and which only by keyword."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # exceptions
        return 0, []
    names = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    return sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters), names


CALLABLES = {
    name: value
    for name, value in public()
    if callable(value) and by_keyword(value)[1]
    # Errors are for reading.
    if not (isinstance(value, type) and issubclass(value, Exception))
}


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_too_many_arguments_by_position_are_told_which_are_given_by_keyword(name):
    function: Callable = CALLABLES[name]
    positional, keywords = by_keyword(function)
    with pytest.raises(TypeError) as caught:
        function(*range(positional + 2))
    call = f"{name.partition('.')[2]}() takes at most {positional} arguments by position"
    told = f"{call}, got {positional + 2}; these must be given by keyword: {', '.join(keywords)}."
    assert str(caught.value) == told


def test_nothing_is_said_of_calls_that_python_refuses_for_another_reason():
    message = "missing 2 required keyword-only arguments: 't1' and 'dt'"
    with pytest.raises(TypeError, match=message):
        hj.solve(hj.IDPHopfield(np.ones((1, 2))), np.ones(2), np.ones(2))  # pyright: ignore[reportCallIssue]
