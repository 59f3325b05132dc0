"""What a report prints: of many memories a summary, of a function of time what it is at a time."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hopjax as hj
from hopjax import theory
from hopjax.theory.states import State
from hopjax.theory.table import Fate, fates

MEMORIES = np.asarray(hj.orthogonal_memories(num_memories=3, num_neurons=32))
MODEL = hj.IDPHopfield(MEMORIES)
WEIGHTS = np.array([1.5, 3.0, 0.02])


@functools.cache
def small() -> Any:
    return theory.report(MODEL, WEIGHTS @ MEMORIES)


def state(holders: tuple[int, ...], overlaps: Any, mirrored: bool = True) -> State:
    zero, overlaps = jnp.zeros(()), jnp.asarray(overlaps, float)
    return State(jnp.zeros(4), zero, overlaps, zero, zero, holders, (), mirrored, ())


def many(number: int) -> Any:
    """As if two thirds of so many memories were held, and the rest went to the first."""
    held = 2 * number // 3
    rows = np.full(number, np.nan)
    rows[:held] = np.linspace(0.99, 0.8, held)
    states = tuple(state((m,), rows[m] * np.eye(number)[m]) for m in range(held))
    ends = tuple((m,) if m < held else (0,) for m in range(number))
    return dataclasses.replace(
        small(),
        title="many",
        saliency=jnp.asarray(np.linspace(3.0, 0.01, number)),
        kinds=tuple("stable" if m < held else "absent" for m in range(number)),
        overlaps=jnp.asarray(rows),
        energy=jnp.asarray(-rows),
        growth=jnp.asarray(-rows),
        residual=jnp.asarray(0 * rows),
        states=states,
        ends=ends,
        noisy_states=states[:1],
        noisy_ends=tuple((0,) for _ in range(number)),
        noise=jnp.asarray(0.5),
        prediction=None,
        beyond="these are made up",
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [20, 21, 200])
def test_many_memories_are_summed_up(number):
    report = many(number)
    lines = str(report).splitlines()
    rows = [line.split()[0] for line in lines if line.lstrip().startswith("memories[")]
    if number == 20:
        assert rows == [f"memories[{memory}]" for memory in range(20)]
        assert not any("median" in line for line in lines)
        return
    held = 2 * number // 3
    assert len(lines) < 25
    assert max(map(len, lines)) < 400
    # The most and the least salient, and the last that is held, at the other end of its overlap.
    shown = [*range(6), held - 1, *range(number - 3, number)]
    assert rows == [f"memories[{memory}]" for memory in shown]
    text = "\n".join(lines)
    assert f"{number} memories: {held} stable, {number - held} absent\n" in text
    assert "\n  saliency from 0.010 to 3.000, median 1.505\n" in text
    assert "\n  overlap from 0.800 to 0.990, median 0.895\n" in text
    flow = f"the flow stays in its memory in {held}, leaves it in {number - held} of {number}"
    assert f"\n  without noise {held} stable states; {flow}\n" in text
    assert "\n  at σ = 0.5 1 stable state; the flow stays in its memory in 1, leaves it " in text


def test_each_fate_has_its_kind_and_its_words():
    own, other = state((0,), [0.9, 0.1]), state((1,), [0.2, 0.8])
    found = fates((own, other), ((0,), (0, 1), (), (1,)))
    assert [fate.kind for fate in found] == ["kept", "left", "restless", "left"]
    words = ["kept, 0.900", "to memories[0] or memories[1]", "not at rest", "to memories[1]"]
    assert [fate.words for fate in found] == words
    # Of a state without a mirror image the overlap has its sign.
    assert Fate(0, (state((0,), [-0.9, 0.1], mirrored=False),)).words == "kept, -0.900"
    # A memory called "kept" is no fate.
    assert Fate(1, (state((), [0.5, 0.5]),)).kind == "left"


@pytest.mark.slow
def test_what_does_not_rest_is_said_in_one_way_with_noise_and_without():
    two = many(3)
    told = "the flow from memories[2] does not come to rest"
    report = dataclasses.replace(
        two, ends=((0,), (1,), ()), noisy_states=two.states, noisy_ends=((0,), (1,), ())
    )
    noise = "noise of strength 0.5, for many neurons"
    *_, quiet, noisy, _ = str(report).splitlines()
    assert quiet == told
    kept = "leaves a state in whichever of memories[0], memories[1] it is"
    assert noisy == f"{noise}, {kept}; {told}"
    restless = dataclasses.replace(report, noisy_states=(), noisy_ends=((), (), ()))
    names = "memories[0], memories[1], memories[2]"
    assert f"{noise}: the flow from {names} does not come to rest" in str(restless)


@pytest.mark.slow
def test_a_report_at_a_time_is_that_of_the_input_then():
    u = WEIGHTS @ MEMORIES
    schedule = hj.Schedule([0.0, 0.1, 0.3], np.stack([0 * u, u, -u]))
    single = hj.Schedule(
        np.array([0.0, 0.1, 0.3], np.float32), np.stack([0 * u, u, -u]).astype(np.float32)
    )
    shown = [
        (schedule, 0.1, u),
        (schedule, 0.2, u),
        (schedule, 0.3, -u),
        (schedule, 7, -u),
        (schedule, 0, 0 * u),
        (single, 0.1, u),  # which is above .1 in single precision
        (lambda t: t * jnp.asarray(u), 2.0, 2 * u),
    ]
    for inputs, at, expected in shown:
        trial = hj.Trial(MODEL, inputs, MEMORIES[0], target=0)
        np.testing.assert_allclose(trial.input_at(at), expected, rtol=1e-6)
        report = theory.report(MODEL, inputs, at=at)
        np.testing.assert_allclose(report.saliency, MEMORIES @ expected / 32, rtol=1e-6)
        assert str(report).splitlines()[0].endswith(f", d = 10, input at t = {at:g}")
    assert "input at" not in str(small())


@pytest.mark.slow
def test_a_state_that_its_overlap_does_not_measure_has_an_amplitude():
    memories = hj.random_memories(jax.random.key(0), num_memories=8, num_neurons=16)
    for model, shown in (
        (hj.DynamicAttention(memories, 0.5), True),
        (hj.IDPHopfield(memories), False),
    ):
        found = theory.report(model, 0.2 * memories[0])
        assert (" amplitude " in repr(found)) == shown == (found.amplitudes is not None)
        if found.amplitudes is not None:
            (state,) = (state for state in found.states if 0 in state.holders)
            reach = memories[0] @ model.features(state.state) / 16
            assert found.amplitudes[0] == pytest.approx(abs(float(reach)), rel=1e-5)
            assert found.overlaps[0] > 0.9 > 0.1 > found.amplitudes[0]
