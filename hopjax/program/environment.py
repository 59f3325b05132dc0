"""Where a program runs: what the bits of its results may depend on beside it."""

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("hopjax", "jax", "jaxlib", "diffrax", "equinox", "lineax", "optimistix", "numpy")
# Flags of a processor that say which instructions a compiler may take.
_SETS = re.compile(r"(sse|ssse|avx|fma|f16c|bmi|abm|amx|asimd|neon|sve|fphp)\w*")


@functools.cache  # workers say it with every answer
def version_of(package: str) -> str:
    """As it was installed; a package that only lies on the path has none that is known."""
    try:
        # None where there is metadata without a version, or in later Pythons a KeyError.
        return importlib.metadata.version(package) or "unknown"
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return "unknown"


def environment() -> dict[str, Any]:
    """What the bits of a result may depend on besides its definition."""
    flags = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_force_host_platform_device_count")
    ]
    model, sets = _processor()
    return {
        **{package: version_of(package) for package in PACKAGES},
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "device": jax.local_devices()[0].device_kind,
        "processor": model,
        "instruction sets": sets,
        "XLA_FLAGS": " ".join(flags),
        "matmul precision": str(getattr(jax.config, "jax_default_matmul_precision", None)),
        "optimised": not jax.config.read("jax_disable_most_optimizations"),
    }


@functools.cache
def _processor() -> tuple[str, str]:
    """The model of the processor, and the instruction sets that it has beyond the common ones."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on Linux
        return _told_by("machdep.cpu.brand_string") or platform.processor(), _told_by("hw.optional")
    return described(text)


def described(text: str) -> tuple[str, str]:
    """The same from what Linux says in /proc/cpuinfo; an ARM has numbers for a model."""
    entries = dict(re.findall(r"^([^\t:]+?)\s*: *(.*)$", text.split("\n\n")[0], re.MULTILINE))
    parts = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part")
    model = entries.get("model name") or " ".join(entries.get(part, "") for part in parts)
    flags = (entries.get("flags") or entries.get("Features") or "").split()
    sets = sorted(each for each in flags if _SETS.fullmatch(each))
    return model.strip() or platform.machine(), " ".join(sets)


def _told_by(name: str) -> str:
    """What macOS says of its processor; of a group of entries those that it has."""
    try:
        answer = subprocess.run(["sysctl", name], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    pairs = [line.split(": ", 1) for line in answer.stdout.splitlines() if ": " in line]
    if len(pairs) == 1:
        return pairs[0][1]
    return " ".join(key.rpartition(".")[2] for key, value in pairs if value == "1")
