"""`solve_ensemble` and the reductions refuse what they cannot keep."""

# pyright: reportArgumentType=false

from typing import Any, NamedTuple

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
from refusals import INF, KEY, MEMORIES, assert_refused, each, schedule, trial

import hopjax as hj
from hopjax.solving import Grid

DRAWS = np.random.default_rng(0)
PID = dfx.PIDController(rtol=1e-3, atol=1e-3)


def ensemble(shown: Any = None, **changes: Any) -> hj.Ensemble:
    """A correct call, but for the changes."""
    right: dict[str, Any] = {"trials": 4, "key": KEY, "t1": 0.2, "dt": 0.1}
    return hj.solve_ensemble(trial() if shown is None else shown, **(right | changes))


def measured(reduction: hj.AbstractReduction) -> Any:
    """What a reduction makes of one trial."""
    end, ok, grid = jnp.ones(8), jnp.array(True), Grid(0.1, 1, 2)
    return reduction.measure(
        trial(), hj.Trajectory(jnp.zeros(1), jnp.ones((1, 2)), end, ok, jnp.array(INF), grid)
    )


def histogram(**changes: Any) -> hj.Histogram:
    right: dict[str, Any] = {"function": is_fine, "low": 0.0, "high": 1.0, "bin_width": 0.1}
    return hj.Histogram(**(right | changes))


def reduced(**reductions: Any) -> hj.Ensemble:
    return ensemble(reductions=reductions)


def is_fine(trial, trajectory):
    return trajectory.ok


def named(trial, trajectory):
    return {"ok": trajectory.ok}


class WithAxes(NamedTuple):
    """Two arrays, and names of axes."""

    axes: dict[str, tuple[str, ...]]

    def __call__(self, trial, trajectory):
        return {"one": jnp.ones(2), "other": jnp.ones(3)}


def model_of_key(key):
    return hj.IDPHopfield(MEMORIES)


def no_key():
    return trial()


def condition(t, state, overlaps):
    return overlaps[0] > 0


MINE = "reductions['mine']"
OFF_GRID = trial(inputs=schedule([0.0, 0.15]), target=0)


@each(
    (lambda: ensemble(OFF_GRID), ValueError, "onsets", "got 0.15"),
    (
        lambda: ensemble(criterion=hj.Criterion(settle=0.3)),
        ValueError,
        "settle",
        "t1 = 0.2, got 0.3",
    ),
    (lambda: ensemble(criterion=hj.Criterion(since=0.2)), ValueError, "since", "t1 = 0.2, got 0.2"),
    (lambda: ensemble(passage_fn=condition), TypeError, "passage_fn", "got dtype bool"),
    (lambda: ensemble(model_of_key), TypeError, "trial", "IDPHopfield"),
    (lambda: ensemble(no_key), TypeError, "trial", "no_key"),
    (lambda: ensemble(trials=2**31), ValueError, "trials", "below 2^31, got 2147483648"),
    (lambda: ensemble(t1=0.25), ValueError, "t1", "got 0.25"),
    (lambda: ensemble(save_every=0.15), ValueError, "save_every", "got 0.15"),
    (lambda: ensemble(stepsize_controller=PID), ValueError, "stepsize_controller", "PIDController"),
    (lambda: ensemble(trajectories=True, max_bytes=100), ValueError, "trajectories", "(4, 3, 2)"),
    (lambda: ensemble(chunk=10**15), ValueError, "chunk", "got 1" + "0" * 15),
    (lambda: ensemble(devices=[]), ValueError, "devices", "got []"),
    (lambda: ensemble(devices=jax.devices()[0]), TypeError, "devices", "CpuDevice"),
    (lambda: ensemble(devices=["cpu"]), ValueError, "devices", "got ['cpu']"),
    (lambda: ensemble(devices=2 * jax.devices()[:1]), ValueError, "devices", "CpuDevice"),
    # reductions
    (lambda: reduced(mine=is_fine), TypeError, MINE, "is_fine"),
    (lambda: reduced(mine=hj.Moments), TypeError, MINE, "the class Moments"),
    (lambda: reduced(overlap=hj.Moments(is_fine)), ValueError, "reductions", "'overlap'"),
    (lambda: reduced(**{"my own": hj.Moments(is_fine)}), ValueError, "reductions", "'my own'"),
    (lambda: measured(hj.Moments(named)), TypeError, "function", "got dict"),
    (lambda: measured(histogram(function=named)), TypeError, "function", "got dict"),
    (lambda: measured(hj.PerTrial(lambda *_: (1.0, 1.0))), TypeError, "function", "got tuple"),
    (lambda: measured(hj.PerTrial(lambda *_: None)), TypeError, "function", "got None"),
    (
        lambda: measured(hj.PerTrial(WithAxes({"one": ("x", "y")}))),
        ValueError,
        "function.axes",
        "a name for each axis of a result, got x, y for one of shape (2,)",
    ),
    (
        lambda: measured(hj.PerTrial(WithAxes({"none": ("x",)}))),
        ValueError,
        "function.axes",
        "got x for none of shape None",
    ),
    (
        lambda: measured(hj.PerTrial(WithAxes({"one": ("x",), "other": ("x",)}))),
        ValueError,
        "function.axes",
        "of one length each, and not called like a result, got x in other of shape (3,)",
    ),
    (
        lambda: measured(hj.PerTrial(WithAxes({"one": ("other",)}))),
        ValueError,
        "function.axes",
        "not called like a result",
    ),
    (
        lambda: measured(hj.PerTrial(lambda *_: jnp.ones(2, jnp.bfloat16))),
        *(TypeError, "function", "got bfloat16"),
    ),
    (
        lambda: measured(hj.PerTrial(lambda *_: {"a/b": jnp.ones(2)})),
        *(ValueError, "function", "got 'a/b'"),
    ),
    (lambda: histogram(high=-1.0), ValueError, "high", "above low = 0.0, got -1.0"),
    (lambda: histogram(bin_width=1.5), ValueError, "bin_width", "high - low = 1, got 1.5"),
    (lambda: histogram(bin_width=1e-9), ValueError, "bin_width", "a million bins, got 1e-09"),
    # draws outside the key
    (
        lambda: ensemble(lambda key: trial(x0=DRAWS.normal(size=8))),
        *(ValueError, "trial", "two that differ in `x0`: draw from the trial's key instead"),
    ),
    (
        lambda: ensemble(trial(inputs=lambda t: t * DRAWS.normal(size=8), target=0)),
        *(ValueError, "trial", "`inputs`, which does not: draw from the trial's key instead"),
    ),
    (
        lambda: ensemble(trial(noise=hj.MultiplicativeNoise(lambda t, x: x * DRAWS.normal()))),
        *(ValueError, "trial", "`noise.diffusion`, which does not: draw"),
    ),
    (
        lambda: reduced(mine=hj.Moments(lambda *_: jnp.ones(2) * DRAWS.normal())),
        *(ValueError, MINE, "two measurements that differ: draw"),
    ),
)
def test_wrong_ensembles(row):
    assert_refused(row)
