"""The steps of a solve, counted in whole numbers."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from hopjax._steps import first_step, last_step


class Grid(NamedTuple):
    """The steps of a solve, which are counted in integers on the host.

    Attributes:
        dt: the length of a step.
        num_steps: how many there are from 0 up to t1.
        stride: how many lie between saved times.
        start: the number of the step with which the solve starts.
    """

    dt: float
    num_steps: int
    stride: int
    start: int = 0

    @property
    def t1(self) -> float:
        """The end."""
        return self.num_steps * self.dt

    @property
    def save_steps(self) -> Int[np.ndarray, " T"]:
        """The steps at which something is saved: the start and later multiples of `stride`."""
        multiples = np.arange(self.start + self.lead, self.num_steps + 1, self.stride)
        return np.append(self.start, multiples) if self.lead else multiples

    @property
    def lead(self) -> int:
        """How many steps lie before the first multiple of `stride`."""
        return -self.start % self.stride

    @property
    def save_times(self) -> Float[np.ndarray, " T"]:
        """Their times."""
        return self.save_steps * self.dt

    def first_step(self, t: float) -> int:
        """The first step at a time or after it."""
        return first_step(t, self.dt)

    def last_step(self, t: float) -> int:
        """The last step at a time or before it."""
        return last_step(t, self.dt)

    def reaches(self, t: float) -> bool:
        """Whether a time is in [0, t1]."""
        return 0 <= t and self.first_step(t) <= self.num_steps

    def late(self, settle: float) -> Bool[np.ndarray, " T"]:
        """Which saved times are in the closed interval [t1 − settle, t1]; at least the last is."""
        first = self.num_steps - self.last_step(settle)
        return self.save_steps >= min(first, self.save_steps[-1])

    def times(
        self, steps: Int[np.ndarray, "*S"], ahead: Float[np.ndarray, "*S"] | float = 0.0
    ) -> Float[np.ndarray, "*S"]:
        """The times of steps, or `ahead` of them by parts of a step; infinite for −1 for never."""
        return np.where(steps < 0, np.inf, (steps - ahead) * self.dt)

    def times_since(
        self,
        steps: Int[np.ndarray, "*S"],
        since: float,
        ahead: Float[np.ndarray, "*S"] | float = 0.0,
    ) -> Float[np.ndarray, "*S"]:
        """How long after `since` times are that are not before it: 0 for its own step."""
        first = self.first_step(since)
        if first == self.last_step(since):
            return self.times(np.where(steps < 0, -1, steps - first), ahead)
        return self.times(steps, ahead) - since
