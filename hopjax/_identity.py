"""What a study is made of, as plain data: to hash it, to store it, and to say what differs."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import subprocess
import textwrap
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

PACKAGES = ("hopjax", "jax", "jaxlib", "diffrax", "equinox", "numpy")


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


def cell_key(key: Key[Array, ""], parameters: dict[str, Any]) -> Key[Array, ""]:
    """The base key with 128 bits of the hash of a cell's parameters folded in."""
    text = digest(parameters)
    for start in range(0, 32, 8):
        key = jax.random.fold_in(key, np.uint32(int(text[start : start + 8], 16)))
    return key


def describe(value: Any, name: str) -> Any:
    """Plain data that differs whenever what `value` computes differs, as far as can be told.

    Functions count with their source, their defaults and what they enclose, but not with the
    functions that they call.

    Raises:
        TypeError: for what has no description that outlives this process.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item, name) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return {"key": np.asarray(jax.random.key_data(value)).tolist()}
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.ndim == 0:
            return array.item()
        sha = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": sha}
    if isinstance(value, functools.partial):
        return {
            "function": describe(value.func, name),
            "arguments": describe(value.args, name),
            "keywords": describe(value.keywords, name),
        }
    if isinstance(value, types.MethodType):
        return {"method": value.__name__, "of": describe(value.__self__, name)}
    if isinstance(value, types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, types.FunctionType):
        code = inspect.getclosurevars(value)
        return {
            "function": value.__qualname__,  # not its module: a script's is __main__
            "source": _source(value),
            "defaults": describe([value.__defaults__, value.__kwdefaults__], name),
            "knows": _constants(code.globals, name),
            "encloses": {
                key: describe(item, f"{name}.{key}") for key, item in sorted(code.nonlocals.items())
            },
        }
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if callable(value) and hasattr(value, "__wrapped__"):  # such as jax.jit of a function
        return {"wrapped": describe(inspect.unwrap(value), name)}
    if dataclasses.is_dataclass(value):  # Equinox modules too
        kind = type(value)
        ours = kind.__module__.partition(".")[0] in PACKAGES  # its version is recorded
        fields = {
            field.name: describe(getattr(value, field.name), f"{name}.{field.name}")
            for field in dataclasses.fields(value)
        }
        about: dict[str, Any] = {"kind": kind.__qualname__, **fields}
        return about if ours else {"source": _source(kind), **about}
    raise TypeError(
        f"Argument `{name}` must be made of functions, numbers, strings, arrays and dataclasses, "
        f"so that a saved study can tell it from another, got {type(value).__name__}."
    )


def _constants(names: Any, name: str) -> dict[str, Any]:
    """The data that a function finds in its module; not the functions that it calls."""
    plain = (bool, int, float, str, list, tuple, dict, np.ndarray, np.generic, jax.Array)
    return {
        key: describe(value, f"{name}.{key}")
        for key, value in sorted(names.items())
        if isinstance(value, plain)
    }


def _source(value: Any) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):  # typed into a prompt
        code = getattr(value, "__code__", None)
        text = _code(code) if code else value.__qualname__
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code(code: types.CodeType) -> str:
    constants = [
        _code(item) if isinstance(item, types.CodeType) else repr(item) for item in code.co_consts
    ]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def environment() -> dict[str, Any]:
    """What the bits of a result may depend on besides its definition."""
    flags = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_force_host_platform_device_count")
    ]
    return {
        **{package: importlib.metadata.version(package) for package in PACKAGES},
        "device": jax.local_devices()[0].device_kind,
        "XLA_FLAGS": " ".join(flags),
        "matmul precision": str(getattr(jax.config, "jax_default_matmul_precision", None)),
        "optimised": not jax.config.read("jax_disable_most_optimizations"),
    }


def provenance() -> dict[str, Any]:
    """Where a study was begun: for the record only."""
    return {
        "python": platform.python_version(),
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
