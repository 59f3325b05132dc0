"""The examples of README and docs run as they stand and print what these say they print."""

import pytest
from conftest import ROOT

from docs import examples

PAGES = ["README.md", "docs/index.md", "docs/equations.md", "docs/theory.md"]
PAGES += [f"docs/how-to/{page.name}" for page in sorted((ROOT / "docs" / "how-to").glob("*.md"))]
PAGES = [page for page in PAGES if "```python" in (ROOT / page).read_text("utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_the_page_says(page):
    text = (ROOT / page).read_text("utf-8")
    code = examples.blocks(ROOT / page, text)
    assert sum(bool(block.printed) for block in code) == text.count("```text\n")
    ran = examples.run(code)
    printed, promised = ("".join(each.printed for each in part) for part in (ran, code))
    assert examples.difference(printed, promised) == ""
