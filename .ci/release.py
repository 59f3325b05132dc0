"""Check the packages in dist/, with the Python that has the wheel installed and nothing else.

`python .ci/release.py [TAG]`: there is no picture in the source package, the version is that of the
tag, and the README's examples run as they stand, with warnings as errors.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 2 * 2**20  # bytes of a package


def main(tag: str | None = None) -> None:
    """Check all of it, and stop at the first that fails."""
    (source,), (wheel,) = ((ROOT / "dist").glob(end) for end in ("*.tar.gz", "*.whl"))
    with tarfile.open(source) as archive:
        inside = [name.partition("/")[2] for name in archive.getnames()]
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.namelist()
    pictures = [name for name in inside if name.startswith("figures/") and "." in name[8:]]
    check(not [name for name in pictures if not name.endswith((".json", ".md"))], "no pictures")
    check({"README.md", "LICENSE", "pyproject.toml"} <= set(inside), "README, LICENSE, pyproject")
    check("hopjax/py.typed" in packed, "a typed package")
    check("hopjax/command/examples/noise.toml" in packed, "examples of files")
    check({name.split("/")[0] for name in packed} == {"hopjax", wheel_info(packed)}, "one package")
    for package in (source, wheel):
        size = package.stat().st_size
        check(size < LARGEST, f"{package.name}: {size / 2**20:.2f} MiB")
    installed = version("hopjax")
    check(source.name == f"hopjax-{installed}.tar.gz", f"version {installed}")
    check(tag in (None, f"v{installed}"), f"tag {tag}")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "error", "-c", code]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        where = "import hopjax; print(hopjax.__file__)"
        found = subprocess.run(
            [sys.executable, "-c", where], cwd=folder, check=True, capture_output=True, text=True
        ).stdout
    check(str(ROOT / "hopjax") not in found, "the examples of the README, with the wheel")


def wheel_info(packed: list[str]) -> str:
    """The folder of what a wheel says of itself."""
    return next(name.split("/")[0] for name in packed if ".dist-info/" in name)


def check(holds: bool, what: str) -> None:
    """Say whether something holds, and stop if it does not."""
    print(("ok   " if holds else "FAIL ") + what, flush=True)
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main(*[argument for argument in sys.argv[1:] if argument])
