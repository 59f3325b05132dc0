"""When a passage is, from what decides it at every step."""

from collections.abc import Sequence

import numpy as np


def crossing(margins: Sequence[float] | np.ndarray, first: int = 0) -> float:
    """The step, or part of one, at which a line through margins crosses zero from `first` on."""
    for step in range(first, len(margins)):
        now, before = margins[step], margins[step - 1]
        if now > 0:
            return step if step == first else step - now / (now - before)
    return np.inf
