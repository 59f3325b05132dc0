"""Values of parameters as plain data, and what they are called in a dataset."""

import math
from typing import Any

import jax
import numpy as np

from hopjax._errors import ArgumentError, ArgumentTypeError
from hopjax.store.identity import canonical


def plain(value: Any, name: str) -> Any:
    """A value of a parameter as plain data, sequences as tuples; `name` is what errors call it."""
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return tuple(plain(item, name) for item in value)
    if value is not None and not isinstance(value, (bool, int, float, str)):
        right = "numbers, strings, truth values, None or sequences of numbers"
        raise ArgumentTypeError(name, right, type(value).__name__)
    if isinstance(value, float) and not math.isfinite(value):
        raise ArgumentError(name, "finite", value)
    return value


def text(value: Any) -> str:
    """A value for print."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def label(value: Any) -> str:
    """How a value is called in a dataset: texts as they are, anything else in JSON."""
    return value if isinstance(value, str) else canonical(value)


def labels(values: list[Any]) -> list[Any]:
    """A coordinate: numbers, or truth values, as they are if there is nothing else; or labels."""
    truths = [isinstance(value, bool) for value in values]
    numbers = [isinstance(value, (int, float)) for value in values]
    if all(truths) or (all(numbers) and not any(truths)):
        return values
    return [label(value) for value in values]
