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


def collect() -> None:
    """Copy pages and figures."""
    shutil.rmtree(BUILT, ignore_errors=True)
    shutil.copytree(DOCS, BUILT, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (BUILT / "figures").mkdir()
    for picture in [*(ROOT / "figures").glob("*.png"), *(ROOT / "figures").glob("*.gif")]:
        shutil.copy(picture, BUILT / "figures")
    for page in BUILT.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        # One folder less to climb: figures are inside here.
        page.write_text(re.sub(r"\]\(\.\./((?:\.\./)*)figures/", r"](\1figures/", text), "utf-8")
    gallery = (ROOT / "figures" / "README.md").read_text(encoding="utf-8")
    gallery = re.sub(r"\]\(([\w.]+\.(?:png|gif))\)", r"](figures/\1)", gallery)
    gallery = re.sub(r"\[(\w+\.json)\]\(\1\)", r"`figures/\1`", gallery)
    (BUILT / "gallery.md").write_text(gallery, encoding="utf-8")


def main() -> int:
    """Collect, and build; any warning fails."""
    collect()
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
