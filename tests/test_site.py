"""The site is built without a warning, and what is generated is what its sources say."""

import subprocess
import sys

import pytest
from conftest import ROOT

from experiments import gallery


@pytest.mark.slow
def test_the_page_of_figures_is_that_of_their_numbers():
    # Some measured values are computed from the numbers, and rounded otherwise elsewhere.
    assert gallery.PAGE.read_text(encoding="utf-8") == gallery.page() + "\n"


@pytest.mark.slow
def test_the_site_is_built_strictly():
    pytest.importorskip("zensical")
    run = subprocess.run(
        [sys.executable, ROOT / "docs" / "build.py"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    pages = ROOT / "build" / "site"
    assert (pages / "how-to" / "input-noise.html").exists()
    for page in pages.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text  # nothing comes from a network
        assert 'rel="stylesheet" href="http' not in text
