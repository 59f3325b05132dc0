"""Run the examples of pages, and write what they print and draw into the tutorials.

The python blocks of a page run in order, in one process, in an empty folder, with warnings as
errors. What a block prints stands below it in a text block, and below that what it draws. `make
tutorials` (`python -m docs.examples`) does so for the tutorials whose text, package or versions are
not those of docs/tutorials/outputs.json, and writes outputs and figures; `make tutorials-check`
runs all of them and compares.

A page that says `<!-- quickly: trials = 40; steps = 5 -->` has these lines in place of its own
assignments `trials = ...` and `steps = ...` in a quick run, as in the tests.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
OUTPUTS = TUTORIALS / "outputs.json"
DPI = 110

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n"
    r"(?:\n```text\n(?P<printed>.*?)^```\n)?"
    r"(?P<pictures>(?:\n!\[[^\]]*\]\(figures/\S+\)\n)*)",
    re.MULTILINE | re.DOTALL,
)
_FENCE = re.compile(r"(^```python\n.*?^```)", re.MULTILINE | re.DOTALL)
_QUICKLY = re.compile(r"<!-- quickly: (.*?) -->")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


class Block(NamedTuple):
    """Code, and what is said to come of it."""

    file: str
    line: int  # of the file, at which the code begins
    code: str
    printed: str
    captions: list[str]  # of its pictures


class Ran(NamedTuple):
    """What came of a block."""

    printed: str
    pictures: list[bytes]


def blocks(file: Path, text: str) -> list[Block]:
    """The python blocks of a page, with the text blocks and pictures right below them."""
    return [
        Block(
            file=str(file),
            line=text.count("\n", 0, found.start("code")) + 1,
            code=found["code"],
            printed=found["printed"] or "",
            captions=re.findall(r"!\[([^\]]*)\]", found["pictures"]),
        )
        for found in _BLOCK.finditer(text)
    ]


def quick(text: str) -> str:
    """A page with the smaller numbers that it names for a quick run."""
    smaller = [line for found in _QUICKLY.findall(text) for line in found.split("; ")]
    parts = _FENCE.split(text)  # every second one is code
    for line in smaller:
        name = line.partition(" = ")[0]
        own = re.compile(rf"^{name} = .*$", re.MULTILINE)
        changed = [own.subn(line, part) for part in parts[1::2]]
        if (count := sum(times for _, times in changed)) != 1:
            raise ValueError(f"The page assigns `{name}` {count} times, and not once.")
        parts[1::2] = [part for part, _ in changed]
    return "".join(parts)


def run(code: Sequence[Block], **environment: str) -> list[Ran]:
    """What the blocks print and draw, in a process of their own.

    Raises:
        RuntimeError: where one of them fails, with what Python says about it.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {"MPLBACKEND": "agg", "PYTHONPATH": path, **environment}
    with tempfile.TemporaryDirectory() as outside, tempfile.TemporaryDirectory() as folder:
        answer = Path(outside) / "answer"
        process = subprocess.run(
            [sys.executable, "-P", "-W", "error", __file__, "--answer", str(answer)],
            input=json.dumps([block[:3] for block in code]),
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | environment,
            check=False,
        )
        if process.returncode != 0:
            raise RuntimeError(process.stderr)
        return [Ran(*each) for each in pickle.loads(answer.read_bytes())]


def _run_here(answer: Path) -> None:
    """In that process: the blocks that stdin has, each with the file and line of its code."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    results = []
    for file, line, code in json.load(sys.stdin):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, file, "exec"), vars(main))
        results.append((printed.getvalue(), _drawn()))
    answer.write_bytes(pickle.dumps(results))


def _drawn() -> list[bytes]:
    """All open figures, which are closed."""
    if "matplotlib.pyplot" not in sys.modules:
        return []
    import matplotlib.pyplot as plt

    pictures = []
    for number in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(number).savefig(picture, dpi=DPI, metadata={"Software": None})
        pictures.append(picture.getvalue())
    plt.close("all")
    return pictures


def difference(printed: str, promised: str, *, words_only: bool = False) -> str:
    """The first line in which they differ, to print; nothing where they do not.

    Rounding differs between processors, so words are compared exactly and numbers to two digits
    or 2%. Or words only, for a quick run: other numbers are aligned in other ways too.
    """
    same = _same_words if words_only else _same
    lines = itertools.zip_longest(printed.splitlines(), promised.splitlines(), fillvalue="")
    told = (f"printed: {got!r}, the page: {said!r}" for got, said in lines if not same(got, said))
    return next(told, "")


def _same(printed: str, promised: str) -> bool:
    if _NUMBER.sub("#", printed) != _NUMBER.sub("#", promised):
        return False
    numbers = (map(float, _NUMBER.findall(text)) for text in (printed, promised))
    return all(abs(a - b) < 0.02 * max(1, abs(b)) for a, b in zip(*numbers, strict=True))


def _same_words(printed: str, promised: str) -> bool:
    one, other = (
        re.sub(r"#e#|\binf\b|\bnan\b", "#", _NUMBER.sub("#", text)).split()
        for text in (printed, promised)
    )
    return one == other


def compare(code: Sequence[Block], ran: Sequence[Ran], *, words_only: bool = False) -> list[str]:
    """What differs from what the blocks say, by the lines of their files."""
    found = []
    for block, each in zip(code, ran, strict=True):
        wrong = difference(each.printed, block.printed, words_only=words_only)
        if len(each.pictures) != len(block.captions):
            wrong = wrong or f"drew {len(each.pictures)} pictures, not {len(block.captions)}"
        if wrong:
            found.append(f"{block.file}:{block.line}: {wrong}")
    return found


def written(page: Path, text: str, ran: Sequence[Ran]) -> tuple[str, dict[str, bytes]]:
    """The page with what came of its blocks, and its pictures by their names."""
    outcomes, pictures = zip(blocks(page, text), ran, strict=True), {}

    def with_outcome(_: re.Match) -> str:
        block, each = next(outcomes)
        parts = [f"```python\n{block.code}```\n"]
        if each.printed:
            parts.append(f"```text\n{each.printed.rstrip()}\n```\n")
        # Captions are written by hand.
        for picture, caption in itertools.zip_longest(each.pictures, block.captions):
            if picture is not None:
                name = f"{page.stem}-{len(pictures) + 1}.png"
                pictures[name] = picture
                parts.append(f"![{caption or ''}](figures/{name})\n")
        return "\n".join(parts)

    return _BLOCK.sub(with_outcome, text), pictures


def made_of(text: str) -> str:
    """The hash of a page's code and prose, without what came of them."""
    own = _BLOCK.sub(lambda found: found["code"], text)
    return hashlib.sha256(own.encode()).hexdigest()


def package() -> str:
    """The hash of the package's source."""
    total = hashlib.sha256()
    for file in sorted((ROOT / "hopjax").rglob("*.py")):
        total.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def main() -> int:
    """The command line."""
    from experiments.numbers import versions

    parser = argparse.ArgumentParser(description="Run the tutorials that are not up to date.")
    parser.add_argument("pages", nargs="*", type=Path, help="all by default")
    parser.add_argument("--force", action="store_true", help="also what is up to date")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    known = json.loads(OUTPUTS.read_text("utf-8")) if OUTPUTS.exists() else {}
    here = {"package": package(), "versions": versions()}
    stale = False
    for page in arguments.pages or sorted(TUTORIALS.glob("*.md")):
        text = page.read_text("utf-8")
        now = {"text": made_of(text)} | here
        if not (arguments.force or arguments.check) and known.get(page.stem) == now:
            print(f"{page.stem}: is up to date")
            continue
        start = time.perf_counter()
        code = blocks(page, text)
        ran = run(code)
        seconds = time.perf_counter() - start
        if arguments.check:
            wrong = compare(code, ran)
            stale = stale or bool(wrong)
            print(f"{page.stem}: {seconds:.0f} s", *wrong, sep="\n  ", flush=True)
            continue
        text, pictures = written(page, text, ran)
        page.write_text(text, "utf-8")
        folder = page.parent / "figures"
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{page.stem}-*.png"):
            old.unlink()
        for name, picture in pictures.items():
            (folder / name).write_bytes(picture)
        known[page.stem] = now | {"text": made_of(text)}
        OUTPUTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", "utf-8")
        print(f"{page.stem}: {seconds:.0f} s", flush=True)
    return int(stale)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--answer"]:  # as `run` starts it
        _run_here(Path(sys.argv[2]))
    else:
        sys.exit(main())
