"""A study refuses what it cannot sweep or keep."""

# pyright: reportArgumentType=false

from typing import Any

import numpy as np
from refusals import KEY, MEMORIES, NAN, assert_refused, each, trial

import hopjax as hj

DRAWS = np.random.default_rng(0)


def study(function: Any, sweep: Any, **options: Any) -> hj.Study:
    return hj.Study(function, sweep, trials=2, key=KEY, t1=0.2, dt=0.1, **options)


def swept(*values: Any) -> hj.Study:
    return study(lambda key, s: trial(), {"s": list(values)})


def of_arguments(key, x=1.0, x_low=1.0, x_0=1.0):
    return trial(inputs=x * MEMORIES[0])


MANY = {name: np.arange(200.0).tolist() for name in ("x", "x_low", "x_0")}
NO_QUANTILES = (
    *("01", "", b"01", {}, {0.5}, {0.5: 1}, 0.5, None, [True], [0, True], ["0.5"]),
    *([[0.5]], [0.5, 0.5], [0.9, 0.1], [-0.1], [1.1], [NAN], (0.5, None)),
)


@each(
    (lambda: swept(None, "null"), ValueError, "sweep['s']", "got 'null' and None"),
    (lambda: swept(1, 2**63), ValueError, "sweep['s']", "9223372036854"),
    (lambda: swept("a", "b\0"), ValueError, "sweep['s']", r"got 'b\x00'"),
    (lambda: swept("a", "\ud800"), ValueError, "sweep['s']", r"\ud800"),
    (lambda: study(of_arguments, MANY), ValueError, "sweep", "got 8000000"),
    (
        lambda: study(lambda key, s: trial(x0=DRAWS.normal(size=8) * s), {"s": [1.0, 2.0]}),
        *(ValueError, "trial", "two that differ in `x0`: draw"),
    ),
    *(
        (
            lambda levels=levels: study(of_arguments, {"x": [1.0]}, quantiles=levels),
            *(ValueError, "quantiles", f"got {levels!r}"),
        )
        for levels in NO_QUANTILES
    ),
)
def test_wrong_studies(row):
    assert_refused(row)
