"""The site is built without a warning, and what is generated is what its sources say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from experiments import gallery
from experiments.reproduce import find_experiments


@pytest.mark.slow
@pytest.mark.parametrize("page", gallery.PAGES, ids=lambda page: page.parent.name)
def test_pages_of_figures_and_experiments_are_those_of_their_numbers(page):
    # Some measured values are computed from the numbers, and rounded otherwise elsewhere.
    assert page.read_text(encoding="utf-8") == gallery.PAGES[page]()


def test_every_experiment_has_a_place_in_one_chapter():
    names = [name for chapter in gallery.CHAPTERS for name in chapter.names]
    assert sorted(names) == sorted([*(each.name for each in find_experiments()), gallery.BENCHMARK])


READ = ["README.md", "CONTRIBUTING.md", "figures/README.md", "experiments/README.md"]
READ += sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))


def anchors(page: Path) -> set[str]:
    """What a link may name behind a #: the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", READ)
def test_links_lead_somewhere_where_the_repository_is_read(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text)
    targets = [((ROOT / page).parent / path if path else ROOT / page, at) for path, at in links]
    assert [target for target, _ in targets if not target.exists()] == []
    assert [(target, at) for target, at in targets if at and at not in anchors(target)] == []


@pytest.mark.slow
def test_the_site_is_built_strictly():
    pytest.importorskip("zensical")
    run = subprocess.run(
        [sys.executable, ROOT / "docs" / "build.py"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    pages = ROOT / "build" / "site"
    for page in ("how-to/input-noise", "gallery", "experiments", "speed"):
        assert (pages / f"{page}.html").exists()
    for page in pages.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text  # nothing comes from a network
        assert 'rel="stylesheet" href="http' not in text
