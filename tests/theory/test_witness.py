"""Theory believes a class only what its methods do: subclasses with other equations are refused."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from numpy.testing import assert_allclose
from odd_models import Runaway

import hopjax as hj
from hopjax import theory
from hopjax.theory import flow, states
from hopjax.theory.witness import closed_form, why_not

KEY = jax.random.key(0)
MEMORIES = np.asarray(hj.orthogonal_memories(num_memories=3, num_neurons=64))
ALPHA = np.array([3.0, 1.0, 0.5])
SHOWN = ALPHA @ MEMORIES
KINDS: dict[str, Any] = {
    "IDPHopfield": hj.IDPHopfield,
    "ClassicHopfield": hj.ClassicHopfield,
    "DecorrelatedHopfield": hj.DecorrelatedHopfield,
}


def changed(kind: Any, **methods: Any) -> Any:
    return type("Changed", (kind,), methods)(MEMORIES)


def leaks(kind):
    return lambda self, t, x, drive: kind.drift(self, t, x, drive) - 0.01 * x


def written_in(kind):
    """Its own activation instead of the field."""

    def drift(self, t, x, drive):
        fixed = eqx.tree_at(lambda model: model.activation, self, hj.Tanh(10.0))
        return kind.drift(fixed, t, x, drive)

    return drift


# What is another network, and what is said of it; whether its noise still averages out.
OTHERS: dict[str, tuple[str, Any, str, bool]] = {
    "an extra leak": ("drift", leaks, "drift is", False),
    "the other sign": (
        "drift",
        lambda kind: lambda self, t, x, drive: -kind.drift(self, t, x, drive),
        "drift is",
        False,
    ),
    "in its own time": (
        "drift",
        lambda kind: lambda self, t, x, drive: 0.999 * kind.drift(self, t, x, drive),
        "drift is",
        False,
    ),
    "an activation of its own": ("drift", written_in, "drift is", False),
    "later": (
        "drift",
        lambda kind: lambda self, t, x, drive: kind.drift(self, t, x, drive) + 1e-3 * t,
        "drift is",
        True,
    ),
    "a scaled drive": (
        "drive",
        lambda kind: lambda self, u: jax.tree.map(lambda leaf: 1.01 * leaf, kind.drive(self, u)),
        "drift is",
        True,
    ),
    "other overlaps": (
        "overlaps",
        lambda kind: lambda self, x: kind.overlaps(self, x) * jnp.abs(kind.overlaps(self, x)),
        "overlaps are",
        False,
    ),
    "another energy": (
        "energy",
        lambda kind: lambda self, x, u: jnp.sum(x**2),
        "energy is",
        True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", OTHERS)
def test_a_subclass_with_another_equation_has_no_closed_form(how, kind):
    method, override, told, averages = OTHERS[how]
    model = changed(KINDS[kind], **{method: override(KINDS[kind])})
    u = jnp.asarray(SHOWN)
    reason = closed_form(model, u)
    if kind == "DecorrelatedHopfield" and method == "overlaps":
        told = "drift is"  # which is made of them
    assert isinstance(reason, str)
    assert reason.startswith(f"this model's {told} not ")
    assert "\n" not in reason
    assert (why_not(model) is None) == averages


def harmless(kind: Any) -> Any:
    return changed(
        kind,
        drift=lambda self, t, x, drive: kind.drift(self, t, x, drive),
        overlaps=lambda self, x: kind.overlaps(self, x),
        strongest=lambda self, x: jnp.argmax(self.overlaps(x)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_harmless_subclass_is_believed(kind, dtype):
    cast = lambda model: jax.tree.map(lambda leaf: leaf.astype(dtype), model)  # noqa: E731
    for model in (cast(KINDS[kind](MEMORIES)), cast(harmless(KINDS[kind]))):
        form = closed_form(model, jnp.asarray(SHOWN, dtype))
        assert not isinstance(form, str)
        assert why_not(model) is None
        expected = np.ones(3) if kind == "ClassicHopfield" else ALPHA
        assert_allclose(form.alpha, expected, rtol=1e-5)


@pytest.mark.slow
def test_alike_memories_all_but_dependent_are_believed_in_single_precision():
    memories = np.repeat(MEMORIES, 2, axis=0).astype(np.float32)
    memories[[1, 3, 5], [5, 6, 7]] *= -1  # copies but for one neuron
    for model in (hj.DecorrelatedHopfield(memories), hj.IDPHopfield(memories)):
        assert not isinstance(closed_form(model, jnp.asarray(3 * memories[0])), str)


@pytest.mark.slow
def test_other_saliencies_that_the_whole_network_has_are_those_of_the_theory():
    doubled = changed(hj.IDPHopfield, saliency=lambda self, u: 2 * hj.IDPHopfield.saliency(self, u))
    form = closed_form(doubled, jnp.asarray(SHOWN))
    assert not isinstance(form, str)
    assert_allclose(form.alpha, 2 * ALPHA)
    # Of a network that listens to others than it tells, nothing is believed.
    told = changed(
        hj.IDPHopfield,
        saliency=lambda self, u: 2 * hj.IDPHopfield.saliency(self, u),
        drive=lambda self, u: hj.IDPHopfield.saliency(self, u),
    )
    assert closed_form(told, jnp.asarray(SHOWN)) == "this model's drift is not −x + W(u)Ψ(x)"


def test_a_drift_that_asks_for_more_than_an_activation_is_not_believed():
    class Fixed(hj.IDPHopfield):
        @property
        def steep(self):
            return self.activation.slope  # pyright: ignore

        def drift(self, t, x, drive):
            return super().drift(t, x, drive) * jnp.sign(self.steep)

    fixed: Any = Fixed
    reason = closed_form(fixed(MEMORIES), jnp.asarray(SHOWN))
    assert isinstance(reason, str)
    assert reason.startswith("this model fails where its activation is another one (AttributeError")


@pytest.fixture(scope="module")
def leaking():
    return changed(hj.IDPHopfield, drift=leaks(hj.IDPHopfield))


def test_the_theory_of_noise_refuses_it_wherever_it_is_asked(leaking):
    told = r"`model`.*Changed: its drift is not −x plus something of the activities Ψ\(x\) alone"
    options: dict[str, Any] = {"t1": 1.0, "dt": 0.1}
    with pytest.raises(ValueError, match=told):
        theory.noisy_flow(leaking, SHOWN, MEMORIES[0], noise=1.0, **options)
    with pytest.raises(ValueError, match=told):
        theory.noisy_model(leaking, 1.0)
    with pytest.raises(ValueError, match=told):
        theory.stable_states(leaking, SHOWN, noise=1.0)


@pytest.mark.slow
def test_the_report_says_what_it_does_not_believe_and_what_it_ignores(leaking):
    report = theory.report(leaking, SHOWN, noise=1.0)
    assert report.prediction is None
    assert report.noisy_states is None
    # What is found numerically is right for the network as it is: 1.01 x = α m − S m.
    x = np.asarray(report.states[0].state)
    right = (ALPHA[0] - ALPHA.sum() / 64) * np.tanh(10 * abs(x[0])) / 1.01
    assert_allclose(abs(x), right, rtol=1e-6)
    ignored, none = str(report).splitlines()[-2:]
    assert none == "no closed theory: this model's drift is not −x + W(u)Ψ(x)"
    assert ignored == (
        "noise of strength 1 is ignored, and all of this is said of the network without it: its "
        "drift is not −x plus something of the activities Ψ(x) alone"
    )


@pytest.mark.slow
def test_a_traced_model_is_looked_at_when_it_runs(leaking):
    def mean(model):
        noisy: Any = theory.noisy_model(model, jnp.asarray(1.0))
        return noisy.activation(jnp.asarray(0.3))

    right = hj.IDPHopfield(MEMORIES)
    assert_allclose(eqx.filter_jit(mean)(right), mean(right))
    with pytest.raises(eqx.EquinoxRuntimeError, match="`model` must be one whose noise averages"):
        eqx.filter_jit(mean)(leaking)


@pytest.mark.slow
def test_a_flow_that_grows_without_bounds_is_left_alone_and_said_so():
    report = theory.report(Runaway(jnp.asarray(MEMORIES[:2]), hj.Tanh()), np.zeros(64))
    assert report.states == ()
    assert report.ends == ((), ())
    assert "the flow from memories[0], memories[1] does not come to rest" in str(report)


class Spinning(hj.AbstractBipolarHopfield):
    """Two neurons that circle a million times in a time constant."""

    memories: Float[Array, "P N"]
    activation: hj.AbstractActivation = eqx.field(default_factory=hj.Tanh)

    def drive(self, u):
        return u

    def drift(self, t, x, drive):
        del t, drive
        return 1e6 * jnp.stack([x[1], -x[0]])

    def energy(self, x, u):
        del u
        return x @ x


@pytest.mark.slow
def test_a_flow_is_followed_for_so_many_steps_only(monkeypatch):
    monkeypatch.setattr(flow, "_STEPS", 500)
    followed = []
    search = states._follow_all
    monkeypatch.setattr(states, "_follow_all", lambda *args: followed.append(1) or search(*args))
    found = theory.stable_states(Spinning(jnp.ones((1, 2))), np.zeros(2))
    assert found == ((), ((),))
    assert len(followed) == 1  # and not again and again


def test_what_is_lost_does_not_stop_the_others(monkeypatch):
    """Of a batch some flows may grow without bounds while others take several rounds to rest."""
    size = 8
    shape = (size, 1)
    equilibrium: Any = theory.Equilibrium
    resting: Any = states._Rest
    rounds = iter([([1, 0, 0, 0, 0, 0, 0, 0], 0), ([9, 1, 1, 1, 1, 1, 1, 9], 1)])
    starts = []

    def follow_all(flow, u, batch, elapsed):
        found, last = next(rounds)
        starts.append(np.asarray(batch).ravel().tolist())
        at_rest = np.array(found, bool)
        ends = np.arange(size, dtype=float).reshape(shape) + 10 * (1 + last)
        exact = equilibrium(ends, np.ones(shape), np.zeros(size), np.zeros(size), at_rest)
        lost = np.arange(size) == size - 1
        still = np.zeros(size)
        return resting(ends, ~lost, still, still + 1, exact, still, np.ones(shape, bool))

    monkeypatch.setattr(states, "_follow_all", follow_all)
    model = hj.IDPHopfield(jnp.ones((1, 1)))
    search = states._Search(flow.Flow(model), jnp.zeros(1))
    monkeypatch.setattr(search, "place", lambda rest: int(rest.end[0]))
    rests = search.follow(np.zeros(shape), 0.0)
    assert rests == [10, *range(21, 27), None]
    assert starts[1] == [10, *range(11, 17), 11]  # the last is lost, and the second stands in
