"""What a study is made of, as plain data: to hash it, to store it, and to say what differs."""

import dataclasses
import functools
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def canonical(value: Any) -> str:
    """JSON with sorted keys and floats of 12 digits: equal text for equal values, 8 and 8.0 too."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(name): plain(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, float):
            value = float(f"{value:.12g}")
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        return value

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def describe(value: Any) -> Any:
    """Plain data of what something is made of, by which two are told apart in words.

    What functions compute is told by the program that they are part of: here they only show that
    they are there.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return {"key": np.asarray(jax.random.key_data(value)).tolist()}
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.ndim == 0:
            return array.item()
        sha = hashlib.sha256(array.tobytes()).hexdigest()
        return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # Equinox modules too
        fields = dataclasses.fields(value)
        about = {field.name: describe(getattr(value, field.name, None)) for field in fields}
        return {"kind": type(value).__qualname__} | about
    if isinstance(value, functools.partial):
        about = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return {"kind": "partial", **describe(about)}
    return "a function" if callable(value) else type(value).__qualname__


def provenance() -> dict[str, Any]:
    """Where a study was begun: for the record only."""
    return {
        "python version": platform.python_version(),
        "platform": platform.platform(),
        "git commit": _commit(Path.cwd()),
    }


def _commit(folder: Path) -> str:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    return answer.stdout.strip() if answer.returncode == 0 else "none"


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The places at which two descriptions differ, with both values where they are short."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in dict.fromkeys([*old, *new]):
            if key not in old or key not in new:
                found.append(f"{name}{key}")
            else:
                found += differences(old[key], new[key], f"{name}{key}.")
        return found
    if canonical(old) == canonical(new):
        return []
    texts = [canonical(value) for value in (old, new)]
    shown = f" ({texts[0]} there, {texts[1]} here)" if max(map(len, texts)) < 40 else ""
    return [f"{name.rstrip('.')}{shown}"]
