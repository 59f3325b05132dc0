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
    shutil.copytree(
        DOCS, BUILT, ignore=shutil.ignore_patterns("*.py", "*.toml", "*.json", "__pycache__")
    )
    (BUILT / "figures").mkdir()
    for picture in [*(ROOT / "figures").glob("*.png"), *(ROOT / "figures").glob("*.gif")]:
        shutil.copy(picture, BUILT / "figures")
    reference = "\n".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    names = set(re.findall(r"^::: hopjax\.(\S+)$", reference, re.MULTILINE))
    for page in BUILT.rglob("*.md"):
        page.write_text(placed(linked(page.read_text(encoding="utf-8"), names)), encoding="utf-8")
    for folder, name in (("figures", "gallery"), ("experiments", "experiments")):
        text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\(([\w.]+\.(?:png|gif))\)", r"](figures/\1)", text)
        text = re.sub(r"\[(\w+\.json)\]\(\1\)", r"`figures/\1`", text)
        (BUILT / f"{name}.md").write_text(placed(text), encoding="utf-8")


def placed(text: str) -> str:
    """The text of a page with the links of the site, where figures are one folder nearer."""
    text = re.sub(r"\]\(\.\./((?:\.\./)*)(figures|experiments)/", r"](\1\2/", text)
    text = re.sub(r"\]\(((?:\.\./)*)figures/README\.md", r"](\1gallery.md", text)
    text = re.sub(r"\]\(((?:\.\./)*)experiments/README\.md", r"](\1experiments.md", text)
    return text.replace("](../docs/", "](")


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
