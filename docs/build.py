"""Build the site into build/site: `make docs`, or `python docs/build.py`.

Pages link to the figures beside this folder, as they do where the repository is read; they are
copied together with these to build/docs, which the site is made of.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS, BUILT = ROOT / "docs", ROOT / "build" / "docs"
SHIM = "https://unpkg.com/iframe-worker/shim"  # which is in docs/assets


def collect() -> None:
    """Copy pages and figures."""
    shutil.rmtree(BUILT, ignore_errors=True)
    shutil.copytree(DOCS, BUILT, ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
    (BUILT / "figures").mkdir()
    for picture in [*(ROOT / "figures").glob("*.png"), *(ROOT / "figures").glob("*.gif")]:
        shutil.copy(picture, BUILT / "figures")
    reference = "\n".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    names = set(re.findall(r"^::: hopjax\.(\S+)$", reference, re.MULTILINE))
    for page in BUILT.rglob("*.md"):
        text = linked(page.read_text(encoding="utf-8"), names)
        # One folder less to climb: figures are inside here.
        page.write_text(re.sub(r"\]\(\.\./((?:\.\./)*)figures/", r"](\1figures/", text), "utf-8")
    gallery = (ROOT / "figures" / "README.md").read_text(encoding="utf-8")
    gallery = re.sub(r"\]\(([\w.]+\.(?:png|gif))\)", r"](figures/\1)", gallery)
    gallery = re.sub(r"\[(\w+\.json)\]\(\1\)", r"`figures/\1`", gallery)
    (BUILT / "gallery.md").write_text(gallery, encoding="utf-8")


def linked(text: str, names: set[str]) -> str:
    """The text of a page in which `hj.solve` and `theory.report` are links, but not in examples."""

    def link(found: re.Match) -> str:
        name = found.group(1)
        return f"[{found.group(0)}][hopjax.{name}]" if name in names else found.group(0)

    code = re.compile(r"(?<!\[)`(?:hj\.(?=\w)|(?=theory\.))([\w.]+)(?:\([^`]*\))?`(?!\])")
    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else code.sub(link, part) for part in parts)


def main() -> int:
    """Collect, and build; any warning fails."""
    collect()
    shutil.copy(DOCS / "zensical.toml", BUILT.parent)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    code = subprocess.run(command, cwd=BUILT.parent, check=False).returncode
    site = BUILT.parent / "site"
    for page in site.rglob("*.html"):  # what searches in a folder comes with the site too
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SHIM, f"{up}assets/iframe-worker/shim.js"), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
