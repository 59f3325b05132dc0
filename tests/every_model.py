"""Each of the further networks, for several files of tests."""

from typing import Any

import pytest

import hopjax as hj

SLOPE = 1.5  # not so steep that ψ' underflows where drift and energy are compared
PSI = hj.Tanh(SLOPE)
POWER, SOFTMAX = hj.PowerSeparation(3.0), hj.SoftmaxSeparation(4.0)

# A network of each sort with the given memories of ±1.
MODELS: dict[str, Any] = {
    "rates": lambda m: hj.FiringRateHopfield((m + 1) / 2),
    "rates, classic": lambda m: hj.FiringRateHopfield((m + 1) / 2, input_as="current"),
    "attention": lambda m: hj.DynamicAttention(m, 0.3),
    "attention, nearest": lambda m: hj.DynamicAttention(m, 0.3, least_squares=True),
    "attention, no input": lambda m: hj.DynamicAttention(m, 0.3, input_as="nothing"),
    "dense": lambda m: hj.DenseHopfield(m, POWER, PSI),
    "dense, no input": lambda m: hj.DenseHopfield(m, POWER, PSI, input_as="nothing"),
    "dense, softmax": lambda m: hj.DenseHopfield(m, SOFTMAX, PSI),
    "two layers": lambda m: hj.TwoLayerHopfield(m, None, PSI),
    "two layers, zeroed": lambda m: hj.TwoLayerHopfield(m, None, PSI, self_coupling=False),
    "two layers, power": lambda m: hj.TwoLayerHopfield(m, POWER, PSI),
    "two layers, softmax": lambda m: hj.TwoLayerHopfield(m, SOFTMAX, PSI),
    "sequential": lambda m: hj.SequentialHopfield(m, PSI, time_constant=4.0),
    "sequential, open": lambda m: hj.SequentialHopfield(m, PSI, cyclic=False, self_coupling=True),
    "decorrelated": lambda m: hj.DecorrelatedHopfield(m, PSI),
    "decorrelated, projected": lambda m: hj.DecorrelatedHopfield(m, PSI, least_squares=False),
    "decorrelated, classic": lambda m: hj.DecorrelatedHopfield(m, PSI, input_as="current"),
}


def each_class(*in_every_run: str, decorrelated: str = "decorrelated") -> pytest.MarkDecorator:
    """A network of each class, for tests that compile long: only some in every run."""
    kinds = ("rates", "two layers", "attention", "dense", decorrelated)
    marks = {kind: () if kind in in_every_run else pytest.mark.long for kind in kinds}
    return pytest.mark.parametrize(
        "kind", [pytest.param(kind, marks=marks[kind]) for kind in kinds]
    )
