"""Times become step numbers: on the host, in float64, once, before anything is solved.

Inside a solve time is counted in steps, in whole numbers, and no time is compared with another. A
time is either one of a step (t1, save_every, onsets, pulses), which is refused unless it is a whole
multiple of dt, or it says from when on something counts (settle, since), and then chooses steps.
Only times that are computed under a trace become steps on the device, with a runtime check.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hopjax._checks import check_array, check_number, check_values, is_traced
from hopjax._errors import ArgumentError

ON_GRID = 1e-3  # a time that must lie on a step may miss it by this fraction of a step
TYPED = 1e-7  # one that need not is on it if it misses it by this fraction of itself
ROUNDED = 1e-12  # what arithmetic in float64 makes of a time, where no step is known
_MOST = 2.0**53  # steps, beyond which float64 tells no step from the next

Times = Float[Array | np.ndarray, "*S"]


def _slack(count: float) -> float:
    """What typing times as decimals, in single precision or in double, makes of a number of steps.

    It is relative: 0.1 + 0.2 is 0.3, but a time above 0, however small, is not 0.
    """
    return min(TYPED * count, ON_GRID)


def first_step(t: float, dt: float) -> int:
    """The first step at a time or after it: the least n with n·dt ≥ t, but for rounding."""
    return math.ceil(t / dt - _slack(t / dt))


def last_step(t: float, dt: float) -> int:
    """The last step at a time or before it: the largest n with n·dt ≤ t, but for rounding."""
    return math.floor(t / dt + _slack(t / dt))


def multiple_of(value: Any, name: str, dt: float) -> int:
    """The number of steps in a static time that must be a positive whole multiple of dt.

    Raises:
        TypeError, ValueError: naming the argument, unless it is one.
    """
    number = check_number(value, name, positive=True)
    count = number / dt
    if count >= _MOST:
        raise ArgumentError(name, f"below 2^53 steps of dt = {dt}", number, fits=("dt",))
    if count < 1 - ON_GRID or abs(count - round(count)) > ON_GRID:
        below = max(1, math.floor(count))
        raise ArgumentError(
            name,
            f"a whole multiple of dt = {dt:g}",
            f"{number:g}",
            hint=f"the nearest are {below * dt:g} and {(below + 1) * dt:g}",
            fits=("dt",),
        )
    return round(count)


class Steps(eqx.Module):
    """Times as numbers of steps of dt, which may be traced without losing a step."""

    numbers: Int[Array | np.ndarray, "*S"]
    dt: float = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers."""
        return self.numbers.shape

    @property
    def times(self) -> Times:
        """The times; in float64 unless they are traced."""
        if is_traced(self.numbers):
            return self.numbers.astype(jnp.result_type(float)) * self.dt
        return np.asarray(self.numbers, float) * self.dt


def check_times(value: Any, name: str, *shapes: tuple[int | str, ...]) -> Times:
    """Finite times: on the host, in float64 or in the float dtype of an array, unless traced.

    Raises:
        TypeError, ValueError: for what is no array of numbers of one of the shapes.
    """
    if is_traced(value):
        return check_array(value, name, *shapes)
    with jax.ensure_compile_time_eval():  # numbers stay on the host inside a trace too
        check_array(value, name, *shapes)
    kept = getattr(value, "dtype", None) in (jnp.float32, jnp.float64)
    return np.array(value, value.dtype if kept else float)


def numpy_of(value: Any) -> Any:
    """NumPy for what is on the host, in float64, and jax.numpy for what is traced."""
    return jnp if is_traced(value) else np


def latest_step() -> int:
    """Steps are counted up to here, beyond all ends, so that sums fit into an integer as well."""
    return (np.iinfo(jnp.result_type(int)).max + 1) // 2


def steps_of(times: Times | Steps, name: str, dt: float) -> Steps:
    """Times as numbers of steps: on the host, in float64, or on the device if they are traced.

    Raises:
        ValueError: if one misses its step by more than a thousandth of a step and by more than the
            rounding of its dtype explains, or if so much rounding hides on which step it is.
    """
    if isinstance(times, Steps):
        if times.dt == dt:
            return times
        times = times.times
    numpy = numpy_of(times)
    exact = (times if is_traced(times) else np.asarray(times, float)) / dt
    rounding = 4 * np.finfo(times.dtype).eps * abs(exact)
    slack = numpy.minimum(ON_GRID + rounding, 0.25)
    # Beyond all steps that a float tells apart every time is a multiple, and never comes.
    bad = ~(abs(exact - exact.round()) <= slack)
    times = check_values(times, bad, name, f"whole multiples of dt = {dt}", fits=("dt",))
    # From the checked times: what a check returns must be used.
    numbers = (times if is_traced(times) else np.asarray(times, float)) / dt
    numbers = numpy.clip(numbers.round(), -latest_step(), latest_step())
    return Steps(numbers.astype(int), dt)
