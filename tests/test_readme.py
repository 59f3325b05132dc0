"""The examples of README and docs run as they stand and print what these say they print."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


PAGES = ["README.md", "docs/index.md", "docs/equations.md", "docs/theory.md"]
PAGES += [f"docs/how-to/{page.name}" for page in sorted((ROOT / "docs" / "how-to").glob("*.md"))]
PAGES = [page for page in PAGES if "```python" in (ROOT / page).read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_the_page_says(page, tmp_path):
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```(python|text)\n(.*?)```", text, re.DOTALL)
    code = "".join(body for kind, body in blocks if kind == "python")
    expected = "".join(body for kind, body in blocks if kind == "text")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    # Rounding differs between processors: the words exactly, the numbers to two digits or 2%.
    assert NUMBER.sub("#", run.stdout) == NUMBER.sub("#", expected)
    printed, promised = (list(map(float, NUMBER.findall(s))) for s in (run.stdout, expected))
    assert all(abs(a - b) < 0.02 * max(1, abs(b)) for a, b in zip(printed, promised, strict=True))
