"""Tutorials are what their text makes: they run here in a small size, and whole every week."""

import json
import re
from pathlib import Path

import pytest

from docs import examples

PAGES = {page.stem: page for page in sorted(examples.TUTORIALS.glob("*.md"))}
PAGE = """<!-- quickly: trials = 2 -->
# A page

```python
import matplotlib.pyplot as plt

trials = 5
print(f"{trials} trials, a mean of {1 / trials}")
```

```text
what it was
```

In words, with `x = 1`:

```python
plt.plot([0, trials])
plt.figure()
```

![A line](figures/page-1.png)

```python
values = [trials]
```
"""


@pytest.mark.parametrize("name", PAGES)
def test_outputs_are_those_of_the_text(name):
    told = json.loads(examples.OUTPUTS.read_text("utf-8"))
    assert list(told) == sorted(PAGES)
    text = PAGES[name].read_text("utf-8")
    assert told[name]["text"] == examples.made_of(text), f"make tutorials, for {name}.md"


def test_pictures_are_those_of_the_pages():
    shown = [
        found
        for page in PAGES.values()
        for found in re.findall(r"\]\(figures/(\S+)\)", page.read_text("utf-8"))
    ]
    assert sorted(shown) == sorted(
        picture.name for picture in (examples.TUTORIALS / "figures").iterdir()
    )
    for page in PAGES.values():
        assert "![](" not in page.read_text("utf-8"), f"{page} has a picture without words"


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_small_tutorial_prints_the_words_of_the_page(name):
    page = PAGES[name]
    text = examples.quick(page.read_text("utf-8"))
    code = examples.blocks(page, text)
    ran = examples.run(code, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    assert examples.compare(code, ran, words_only=True) == []


@pytest.mark.slow
def test_a_page_gets_what_its_blocks_print_and_draw():
    page = Path("page.md")
    first, second, third = examples.run(examples.blocks(page, PAGE))
    assert first.printed == "5 trials, a mean of 0.2\n"
    assert [len(each.pictures) for each in (first, second, third)] == [0, 2, 0]
    text, pictures = examples.written(page, PAGE, [first, second, third])
    assert text == PAGE.replace("what it was", first.printed.strip()).replace(
        "(figures/page-1.png)\n", "(figures/page-1.png)\n\n![](figures/page-2.png)\n"
    )
    assert sorted(pictures) == ["page-1.png", "page-2.png"]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    # What came of a page does not count as its text, and is found there again.
    assert examples.made_of(text) == examples.made_of(PAGE)
    assert examples.compare(examples.blocks(page, text), [first, second, third]) == []
    assert len(examples.compare(examples.blocks(page, PAGE), [first, second, third])) == 2
    small = examples.blocks(page, examples.quick(text))
    ran = examples.run(small)
    assert ran[0].printed == "2 trials, a mean of 0.5\n"
    assert examples.compare(small, ran, words_only=True) == []
    with pytest.raises(RuntimeError, match=r'page\.md", line 3[\s\S]*UserWarning: no'):
        examples.run(
            examples.blocks(page, "# T\n```python\nimport warnings; warnings.warn('no')\n```\n")
        )


@pytest.mark.parametrize("change", ["trials = 6", "In other words", "# Another page"])
def test_another_text_is_seen(change):
    old = {"trials = 6": "trials = 5", "In other words": "In words", "# Another page": "# A page"}
    changed = PAGE.replace(old[change], change)
    assert changed != PAGE
    assert examples.made_of(changed) != examples.made_of(PAGE)


@pytest.mark.parametrize(
    ("printed", "promised", "strictly", "in_words"),
    [
        ("P = 0.951 [0.9, 1.0]", "P = 0.949 [0.9, 1.0]", True, True),
        ("P = 0.98 of 2000", "P = 0.95 of 2000", False, True),
        ("103 trials", "100 trials", False, True),
        ("loss 9.6e-05", "loss 0.001", False, True),
        ("median inf", "median 3.2", False, True),
        ("  kept   1", "kept 12", False, True),
        ("P = 0.95", "Q = 0.95", False, False),
        ("one\ntwo", "one", False, False),
    ],
)
def test_numbers_may_differ_by_rounding_and_words_not_at_all(printed, promised, strictly, in_words):
    assert (examples.difference(printed, promised) == "") is strictly
    assert (examples.difference(printed, promised, words_only=True) == "") is in_words


@pytest.mark.parametrize("line", ["steps = 3", "x = 2"])
def test_a_quick_run_replaces_assignments_that_there_are(line):
    page = PAGE.replace("trials = 2 -->", f"trials = 2; {line} -->")
    with pytest.raises(ValueError, match=rf"assigns `{line[:-4]}` 0 times"):
        examples.quick(page)
