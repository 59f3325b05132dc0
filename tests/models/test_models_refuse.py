"""Networks and activations refuse what they cannot be made of."""

# pyright: reportArgumentType=false

from typing import Any

import numpy as np
import pytest
from refusals import (
    MEMORIES,
    ONES,
    RATES,
    assert_refused,
    assert_refused_at_run_time,
    each,
    with_entry,
)

import hopjax as hj

SILENT = np.zeros(8)


def idp(memories: Any) -> hj.IDPHopfield:
    return hj.IDPHopfield(memories)


def rates(memories: Any = RATES, *args: Any, **options: Any) -> hj.FiringRateHopfield:
    return hj.FiringRateHopfield(memories, *args, **options)


def attention(memories: Any = MEMORIES, beta: Any = 1.0, **options: Any) -> hj.DynamicAttention:
    return hj.DynamicAttention(memories, beta, **options)


def dense(memories: Any) -> hj.DenseHopfield:
    return hj.DenseHopfield(memories, hj.LinearSeparation())


def two_layers(*args: Any, **options: Any) -> hj.TwoLayerHopfield:
    return hj.TwoLayerHopfield(MEMORIES, *args, **options)


def decorrelated(*rows: Any) -> hj.DecorrelatedHopfield:
    return hj.DecorrelatedHopfield(np.stack(rows or tuple(MEMORIES)))


@each(
    (lambda: hj.Tanh(0), ValueError, "slope", "positive, got 0.0"),
    (lambda: hj.Erf(-1.0), ValueError, "slope", "positive, got -1.0"),
    (lambda: hj.Tanh(ONES), ValueError, "slope", "one number, got shape (8,)"),
    # memories
    (lambda: idp(with_entry(MEMORIES, 0.0)), ValueError, "memories", "got 0.0 at index [1, 7]"),
    (lambda: idp(MEMORIES[0]), ValueError, "memories", "(P, N), got shape (8,)"),
    (lambda: idp(MEMORIES[None]), ValueError, "memories", "(P, N), got shape (1, 2, 8)"),
    (lambda: idp(np.ones((2, 0))), ValueError, "memories", "one neuron, got shape (2, 0)"),
    (lambda: hj.ClassicHopfield(RATES), ValueError, "memories", "-1 or +1 in every entry"),
    (lambda: dense(RATES), ValueError, "memories", "got 0.0 at index [0, 4]"),
    (lambda: hj.TwoLayerHopfield(RATES), ValueError, "memories", "got 0.0 at index [0, 4]"),
    (lambda: decorrelated(*RATES), ValueError, "memories", "got 0.0 at index [0, 4]"),
    (
        lambda: decorrelated(MEMORIES[0], MEMORIES[0]),
        *(ValueError, "memories", "memories[0] and memories[1], which are identical"),
    ),
    (
        lambda: decorrelated(*MEMORIES, -MEMORIES[0]),
        *(ValueError, "memories", "memories[0] and memories[2], which are mirror images"),
    ),
    (
        lambda: hj.DecorrelatedHopfield(np.ones((5, 4)) - 2 * np.eye(5, 4)),
        *(ValueError, "memories", "memories[4], each of which is all but a mixture of the others"),
    ),
    # rates
    (lambda: rates(MEMORIES), ValueError, "memories", "0 or 1 in every entry"),
    (lambda: rates(RATES[0]), ValueError, "memories", "(P, N), got shape (8,)"),
    (lambda: rates([RATES[0], SILENT]), ValueError, "memories", "got 0.0 at index [1, 0]"),
    (lambda: rates([ONES, RATES[0]]), ValueError, "memories", "got 1.0 at index [0, 0]"),
    (lambda: rates(RATES, 0.0), ValueError, "density", "between 0 and 1, got 0.0"),
    (lambda: rates(RATES, 1), ValueError, "density", "between 0 and 1, got 1.0"),
    (lambda: rates(RATES, [0.5, 0.5]), ValueError, "density", "one number, got shape (2,)"),
    (lambda: rates(slope=0), ValueError, "slope", "positive, got 0.0"),
    (lambda: rates(slope=ONES), ValueError, "slope", "one number, got shape (8,)"),
    # attention
    (lambda: attention([MEMORIES[0], SILENT]), ValueError, "memories", "got 0.0 at index [1, 0]"),
    (lambda: attention(MEMORIES[0]), ValueError, "memories", "(P, N), got shape (8,)"),
    (
        lambda: attention([[1.0, 2.0], [2.0, 4.0]], least_squares=True),
        *(ValueError, "memories", "memories[1], one of which is a multiple of the other"),
    ),
    (lambda: attention(beta=0), ValueError, "beta", "positive, got 0.0"),
    (lambda: attention(beta=[1.0, 2.0]), ValueError, "beta", "one number, got shape (2,)"),
    # separations, and two layers
    (lambda: hj.PowerSeparation(1.5), ValueError, "power", "at least 2, got 1.5"),
    (lambda: hj.PowerSeparation([2.0, 3.0]), ValueError, "power", "one number, got shape (2,)"),
    (lambda: hj.SoftmaxSeparation(0.0), ValueError, "beta", "positive, got 0.0"),
    (lambda: hj.SoftmaxSeparation([1.0]), ValueError, "beta", "one number, got shape (1,)"),
    (lambda: two_layers(memory_time_constant=0), ValueError, "memory_time_constant", "got 0.0"),
    (lambda: two_layers(memory_time_constant=ONES), ValueError, "memory_time_constant", "(8,)"),
    (
        lambda: two_layers(hj.PowerSeparation(2.0), self_coupling=False),
        *(ValueError, "self_coupling", "got False with PowerSeparation"),
    ),
    (lambda: two_layers().noise_strength(features=ONES), ValueError, "features", "shape (8,)"),
    (
        lambda: two_layers().noise_strength(memory_neurons=ONES),
        ValueError,
        "memory_neurons",
        "shape (8,)",
    ),
    # memories learnt and forgotten
    (lambda: idp(MEMORIES).with_memory(np.ones(7)), ValueError, "pattern", "(8,), got shape (7,)"),
    (lambda: idp(MEMORIES).with_memory(MEMORIES), ValueError, "pattern", "(8,), got shape (2, 8)"),
    (lambda: idp(MEMORIES).with_memory(RATES[0]), ValueError, "pattern", "0.0 at index [2, 4]"),
    (lambda: rates().with_memory(MEMORIES[0]), ValueError, "pattern", "-1.0 at index [2, 4]"),
    (lambda: rates().with_memory(SILENT), ValueError, "pattern", "0.0 at index [2, 0]"),
    (lambda: attention().with_memory(SILENT), ValueError, "pattern", "0.0 at index [2, 0]"),
    (
        lambda: decorrelated().with_memory(-MEMORIES[1]),
        *(ValueError, "pattern", "memories[1] and memories[2], which are mirror images"),
    ),
    (lambda: idp(MEMORIES).without_memory(2), ValueError, "index", "of memories, 2, got 2"),
    (lambda: idp(MEMORIES[:1]).without_memory(0), ValueError, "index", "got 0, the only one"),
)
def test_wrong_networks(row):
    assert_refused(row)


@pytest.mark.slow
def test_wrong_networks_under_a_trace():
    assert_refused_at_run_time(
        (lambda d: hj.Tanh(d).slope, 1.0, -1.0, "`slope` must be positive"),
        (lambda d: hj.Erf(d).slope, 1.0, np.nan, "`slope` must be finite"),
        (
            lambda memories: idp(memories).memories,
            *(MEMORIES, with_entry(MEMORIES, 0.0), "`memories` must be -1 or +1 in every entry"),
        ),
        (
            lambda memories: rates(memories, 0.5).memories,
            *(RATES, with_entry(RATES, 2.0), "`memories` must be 0 or 1 in every entry"),
        ),
        (
            lambda memories: rates(memories, 0.5).memories,
            *(RATES, [RATES[0], SILENT], "`memories` must be neither all 0 nor all 1 in any row"),
        ),
        (lambda p: rates(RATES, p).density, 0.5, 1.0, "`density` must be between 0 and 1"),
        (
            lambda memories: attention(memories).memories,
            *(MEMORIES, [MEMORIES[0], SILENT], "`memories` must be not zero in all of a row"),
        ),
        (lambda beta: attention(beta=beta).beta, 1.0, -1.0, "`beta` must be positive"),
        (lambda n: hj.PowerSeparation(n).power, 3.0, 1.0, "`power` must be at least 2"),
        (
            lambda tau: two_layers(memory_time_constant=tau).memory_time_constant,
            *(0.1, 0.0, "`memory_time_constant` must be positive"),
        ),
        (
            lambda memories: hj.DecorrelatedHopfield(memories).memories,
            *(MEMORIES, MEMORIES[[0, 0]], "`memories` must be linearly independent"),
        ),
        (
            lambda pattern: two_layers().with_memory(pattern).memories,
            *(MEMORIES[0], RATES[0], "`memories` must be -1 or +1 in every entry"),
        ),
    )
