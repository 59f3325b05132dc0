"""One program for every number of memories up to a capacity."""

# pyright: reportArgumentType=false, reportCallIssue=false

from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from every_model import POWER, PSI, SOFTMAX
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal
from refusals import assert_refused, each

import hopjax as hj

N, DT, CAPACITY = 12, 0.1, 6
ROUNDING = 1e-12  # of sums of a few dozen float64 terms, in ten steps
keys = jax.random.split(jax.random.key(5), 4)
PATTERNS = np.asarray(hj.random_memories(keys[0], num_memories=7, num_neurons=N))
U = np.asarray(hj.mixture(PATTERNS[:3], jnp.array([2.0, 1.0, 0.5])))
X0 = np.asarray(jax.random.normal(keys[1], (N,)))
NOISE = hj.AdditiveNoise(0.5)
EXPONENTIAL = hj.ExponentialAdams()


def idp(count: int = 3) -> hj.IDPHopfield:
    return hj.IDPHopfield(PATTERNS[:count], PSI)


def two_layers(separation: Any = None, count: int = 3) -> hj.TwoLayerHopfield:
    return hj.TwoLayerHopfield(PATTERNS[:count], separation, PSI)


def solve(model: Any, **changes: Any) -> hj.Trajectory:
    options: dict[str, Any] = {"t1": 1.0, "dt": DT, "noise": NOISE, "key": keys[2]}
    if "state0" not in changes:
        options["x0"] = X0
    return hj.solve(model, U, **(options | {"save_every": 0.5, "capacity": CAPACITY} | changes))


def assert_alike(found: hj.Trajectory, expected: hj.Trajectory) -> None:
    """The same but for rounding, and nothing of absent memories."""
    for name in ("overlaps", "final_state"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.shape == other.shape
        assert_allclose(one, other, rtol=EXACT, atol=ROUNDING)


class Counting(hj.AbstractActivation):
    """Counts how often it is traced."""

    traces: ClassVar[int] = 0

    def __call__(self, x):
        Counting.traces += 1
        return jnp.tanh(1.5 * x)

    def antiderivative(self, x):
        return x


# --- compiling -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_learning_and_forgetting_compile_nothing_anew(layers):
    kind, solver = (hj.IDPHopfield, None) if layers == 1 else (hj.TwoLayerHopfield, EXPONENTIAL)
    model, traces, shapes = kind(PATTERNS[:1]), [], []

    def count(t, state):
        traces.append(t)
        return t

    def asked(model, **changes):
        return solve(model, solver=solver, save_fn=count, **changes)

    asked(model)
    first = len(traces)
    for pattern in PATTERNS[1:CAPACITY]:
        trajectory = asked(model)
        shapes.append((trajectory.overlaps.shape, trajectory.final_state.shape[0]))
        model = model.with_memory(pattern)
    assert shapes == [((3, size), N + size * (layers - 1)) for size in range(1, CAPACITY)]
    forgetful = asked(model.without_memory(0).without_memory(2))
    assert forgetful.overlaps.shape == (3, 4)
    full = asked(model)
    assert len(traces) == first > 0
    # A full network has no absent memories, and no other program gives other numbers.
    assert_alike(full, asked(model, capacity=None))
    assert len(traces) > first


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_a_capacity_changes_nothing_but_rounding(layers):
    model, solver = (idp(), None) if layers == 1 else (two_layers(SOFTMAX), EXPONENTIAL)
    expected = solve(model, solver=solver, capacity=None)
    assert_alike(solve(model, solver=solver), expected)
    if layers == 1:
        assert_alike(solve(model, capacity=4), expected)


@pytest.mark.slow
def test_a_memory_that_weighs_nothing_changes_no_bit():
    memories = hj.orthogonal_memories(num_memories=4, num_neurons=N, key=keys[3])
    model = hj.IDPHopfield(memories[:3], PSI)
    options = {"x0": X0, "t1": 1.0, "dt": DT, "noise": NOISE, "key": keys[2], "capacity": CAPACITY}
    shown = 2 * memories[0]  # the saliencies of the others are 0, exactly
    few, more = (
        hj.solve(each, shown, **options) for each in (model, model.with_memory(memories[3]))
    )
    assert_array_equal(more.final_state, few.final_state)
    assert_array_equal(more.overlaps[:, :3], few.overlaps)


@pytest.mark.parametrize(
    "law",
    [hj.Gaussian(), hj.Gaussian(refinement=1), hj.Gaussian(full_precision=True), hj.TwoPoint()],
    ids=["gaussian", "refined", "full precision", "two-point"],
)
def test_the_noise_of_an_entry_does_not_depend_on_how_many_there_are(law):
    few, many = (
        law.path(keys[2], size, jnp.float64, 10.0, 1.0, dfx.BrownianIncrement)
        for size in (N + 3, N + CAPACITY)
    )
    for step in range(3):
        step = jnp.asarray(step)
        assert_array_equal(many.increment(step)[: N + 3], few.increment(step))


@pytest.mark.slow
def test_nor_does_that_of_a_tree():
    model, tree = two_layers(), hj.AdditiveNoise(0.5, "tree")
    assert_alike(solve(model, noise=tree), solve(model, noise=tree, capacity=None))


def growing(t, x):
    return 0.1 + x**2


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["each layer", "multiplicative"])
def test_the_state_and_its_noise_have_entries_for_absent_memory_neurons(noise):
    model, state0 = two_layers(POWER), np.append(X0, [0.3, -0.2, 0.5])
    strength = model.noise_strength(features=0.4, memory_neurons=0.7)
    noises = {
        "each layer": hj.AdditiveNoise(strength),
        "multiplicative": hj.MultiplicativeNoise(growing),
    }
    options = {"noise": noises[noise], "state0": state0}
    assert_alike(solve(model, **options), solve(model, **options, capacity=None))


def whole(t, state):
    return state


def absent_overlaps(t, state, overlaps):
    return jnp.max(jnp.abs(overlaps[3:]), initial=-1.0)


@pytest.mark.slow
def test_functions_inside_see_absent_memories_as_zeros():
    trajectory = solve(two_layers(), save_fn=whole, passage_fn=absent_overlaps)
    assert trajectory.saved.shape == (3, N + CAPACITY)
    assert_array_equal(trajectory.saved[:, N + 3 :], 0)
    assert_array_equal(trajectory.saved[-1, : N + 3], trajectory.final_state)
    assert trajectory.passage_step == -1  # never above 0


# --- going on, and transformations ---------------------------------------------------------------


@pytest.mark.slow
def test_a_network_that_goes_on_keeps_its_capacity():
    model = hj.IDPHopfield(PATTERNS[:3], Counting())
    first = solve(model, t1=0.5)
    second = first.resume(t1=1.0)
    assert_array_equal(second.final_state, solve(model).final_state)
    traces = []
    for count in (4, 5):
        model = model.with_memory(PATTERNS[count])
        learnt = first.resume(t1=1.0, model=model)
        assert learnt.overlaps.shape == (2, count)
        traces.append(Counting.traces)
    assert traces[0] == traces[1]
    with pytest.raises(ValueError, match="`capacity` must be at least the number of memories, 7"):
        first.resume(t1=1.0, model=hj.IDPHopfield(PATTERNS, Counting()))


@pytest.mark.slow
def test_the_entries_of_memory_neurons_stay_where_they_are():
    first, expected = (solve(two_layers(), t1=0.5, capacity=size) for size in (CAPACITY, None))
    assert_alike(first.resume(t1=1.0), expected.resume(t1=1.0))


def loss(scale: Any, capacity: int | None) -> Any:
    def one(memories):
        trajectory = solve(hj.DynamicAttention(scale * memories, 0.3), capacity=capacity)
        return trajectory.final_state @ X0 + jnp.sum(trajectory.overlaps)

    return jnp.sum(jax.vmap(one)(jnp.stack([PATTERNS[:3], PATTERNS[3:6]])))


@pytest.mark.slow
def test_under_vmap_jit_and_grad():
    run = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    found, expected = (run(1.1, capacity) for capacity in (CAPACITY, None))
    assert_allclose(found, expected, rtol=EXACT)


# --- refusals ------------------------------------------------------------------------------------


class Unaware(hj.IDPHopfield):
    """It has all that its base has, and may compute anything."""


class OwnSeparation(hj.AbstractSeparation):
    """Memory neurons that inhibit each other."""

    def lagrangian(self, h, alpha):
        return jnp.sum(h) ** 2 / 2

    def gate(self, alpha):
        return alpha

    def sent(self, h, alpha):
        return alpha * jnp.sum(h)


class Aware(hj.AbstractOneLayerHopfield):
    """A network of the user's own: the state tends to the mean of the memories."""

    memories: Float[Array, "P N"]
    present: Any = eqx.field(default=None, init=False)

    @property
    def overlap_measures_size(self) -> bool:
        return True

    def saliency(self, u):
        return self.memories @ u

    def drive(self, u):
        return self.saliency(u)

    def overlaps(self, x):
        return self.memories @ x

    def drift(self, t, x, drive):
        count = (
            float(len(self.memories))
            if self.present is None
            else jnp.sum(self.present.astype(x.dtype))
        )
        return jnp.sum(self.memories, axis=0) / count - x

    def energy(self, x, u):
        return jnp.zeros(())


@pytest.mark.slow
def test_a_network_of_the_users_own_that_says_so():
    model = Aware(jnp.asarray(PATTERNS[:3]))
    assert_alike(solve(model), solve(model, capacity=None))
    on_host = Aware(PATTERNS[:4])
    assert_alike(solve(model.with_memory(PATTERNS[3])), solve(on_host))


@each(
    (lambda: solve(idp(), capacity=2), ValueError, "capacity", "number of memories, 3, got 2"),
    (lambda: solve(idp(7)), ValueError, "capacity", "7, got 6: ask for more from the first solve"),
    (
        lambda: solve(idp(), capacity=6.0),
        TypeError,
        "capacity",
        "an integer of at least 1, got 6.0",
    ),
    (lambda: solve(idp(), capacity=0), ValueError, "capacity", "an integer of at least 1, got 0"),
    (
        lambda: solve(Unaware(PATTERNS[:3])),
        *(ValueError, "capacity", "None for Unaware, which does not know absent memories, got 6"),
    ),
    (
        lambda: solve(two_layers(OwnSeparation())),
        *(ValueError, "capacity", "None for OwnSeparation, which does not know absent memories"),
    ),
    (
        lambda: solve(
            two_layers(),
            **{"noise": None, "stepsize_controller": dfx.PIDController(rtol=1e-3, atol=1e-3)},
        ),
        *(ValueError, "capacity", "None with adaptive steps for TwoLayerHopfield"),
    ),
)
def test_wrong_capacities(row):
    assert_refused(row)
