"""Numbers for JSON: proportions, means, bands and settings, and what they were made with."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

import hopjax as hj
from hopjax.statistics import wilson_interval


def proportion(condition: np.ndarray) -> dict[str, float | int]:
    """A count of trials as an estimate with its Wilson 95% interval."""
    successes, trials = int(np.sum(condition)), int(np.size(condition))
    estimate, low, high = (round(float(end), 4) for end in wilson_interval(successes, trials))
    return {"count": successes, "trials": trials, "p": estimate, "low": low, "high": high}


def constants(module: dict[str, Any], names: str) -> dict[str, Any]:
    """Constants of a module, given as its `globals()`, by their names in small letters."""
    return {name.lower(): module[name] for name in names.split()}


def bands(values: np.ndarray, digits: int = 3) -> dict[str, Any]:
    """Median and 10%-90% band over trials, the first axis."""
    ends = zip(
        ("low", "median", "high"), np.nanquantile(values, [0.1, 0.5, 0.9], axis=0), strict=True
    )
    return {name: rounded(end, digits) for name, end in ends}


def mean(values: np.ndarray, digits: int = 4) -> dict[str, Any]:
    """A mean over the finite values with the half width of its 95% interval."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return {"mean": None, "half_width": None}
    half_width = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": rounded(values.mean(), digits), "half_width": rounded(half_width, digits)}


def rounded(values: Any, digits: int = 4) -> Any:
    """Numbers for JSON; what is not finite becomes null."""
    values = np.asarray(values, float).round(digits)
    return np.where(np.isfinite(values), values.astype(object), np.array(None)).tolist()


def write_json(path: Path, numbers: dict[str, Any]) -> None:
    """Write aside and move into place: an interrupted run leaves the old file."""
    aside = path.with_suffix(".json.tmp")
    aside.write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    aside.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What an earlier run has written."""
    if not path.exists():
        raise SystemExit(f"{path} does not exist: run without --redraw first.")
    return json.loads(path.read_text())


def versions() -> dict[str, str]:
    """Of what the numbers were made with."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "diffrax", "equinox", "numpy")}
    return {
        "hopjax": hj.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        **packages,
    }
