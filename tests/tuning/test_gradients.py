"""Gradients of every network: central differences, plain solves, and the same bits."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import EXACT
from jax.core import Tracer
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal

import hopjax as hj
from hopjax.tuning.gradient import Found
from hopjax.tuning.parameters import make_ranges
from hopjax.tuning.prepared import prepare as _prepare, sorted_out

KEY = jax.random.key(3)
NUM_NEURONS, DT, STEPS = 8, 0.1, 6
SWITCH = 0.3  # when the second input begins
TRIALS, CHUNK = 5, 2  # neither a whole number of chunks, nor of pairs of chunks for two devices
MEMORIES = np.array([[1, 1, 1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, 1]], float)
X0 = np.linspace(-0.4, 0.7, NUM_NEURONS) * MEMORIES[0] + 0.3


class Wave(eqx.Module):
    """u(t) = (1 + rate t) v."""

    vector: Float[Array, " N"]
    rate: Float[Array, ""]

    def __call__(self, t):
        return (1 + self.rate * t) * self.vector


class Proportional(eqx.Module):
    """σ(t, x) = σ sqrt(1 + x²)."""

    sigma: Float[Array, ""]

    def __call__(self, t, x):
        del t
        return self.sigma * jnp.sqrt(1 + x**2)


def make_model(kind: str, memories: Any, p: dict[str, Any]) -> hj.AbstractHopfield:
    """A network whose numbers are those in `p`, or others."""
    tanh = hj.Tanh(p.get("slope", 2.0))
    input_as = "current" if "classic" in kind else "plasticity"
    match kind.split(",")[0]:
        case "classic":
            return hj.ClassicHopfield(memories, tanh)
        case "decorrelated":
            return hj.DecorrelatedHopfield(memories, tanh, input_as=input_as)
        case "two layers":
            tau = p.get("tau", 0.3)
            linear = "power" not in kind
            separation = None if linear else hj.PowerSeparation(p["power"])
            return hj.TwoLayerHopfield(
                memories, separation, tanh, memory_time_constant=tau, self_coupling=not linear
            )
        case "dense":
            separations = {
                "linear": lambda: hj.LinearSeparation(),
                "power": lambda: hj.PowerSeparation(p["power"]),
                "softmax": lambda: hj.SoftmaxSeparation(p["beta"]),
            }
            return hj.DenseHopfield(
                memories, separations[kind.split(", ")[1]](), hj.Erf(p["slope"])
            )
        case "attention":
            return hj.DynamicAttention(memories, p["beta"], least_squares=True)
        case "rates":
            return hj.FiringRateHopfield((memories + 1) / 2, slope=p["slope"], input_as=input_as)
        case _:
            return hj.IDPHopfield(memories, tanh)


def trial(key: Any, *, kind: str, law: str, dtype: Any, **p: Any) -> hj.Trial:
    """A trial with a start of its own, shown an input that changes, or grows."""
    memories = jnp.asarray(MEMORIES, dtype)
    model = make_model(kind, memories, p)
    shown = hj.mixture(model.memories, p["weights"].astype(dtype))
    strengths = p.get("strengths", p.get("strength"))
    if "rate" in p:
        inputs: Any = Wave(shown, p["rate"].astype(dtype))
    elif strengths is None:
        inputs = shown
    else:
        strengths = jnp.broadcast_to(strengths, (2,)).astype(dtype)
        inputs = hj.Schedule([0.0, SWITCH], jnp.outer(strengths, shown))
    start = jax.random.normal(key, (NUM_NEURONS,), jnp.float32).astype(dtype)
    kind_of_noise = hj.MultiplicativeNoise if "multiplicative" in kind else hj.AdditiveNoise
    sigma = Proportional(p["sigma"]) if "multiplicative" in kind else p["sigma"]
    return hj.Trial(
        model,
        inputs,
        jnp.asarray(p.get("x0", X0), dtype) + 0.1 * start,
        kind_of_noise(sigma, law),  # pyright: ignore[reportArgumentType]
        target=0,
    )


OVERLAP = hj.OverlapLoss(goal=0.5)
RETRIEVAL = hj.RetrievalLoss(temperature=0.3, goal=0.9)
TIME = hj.TimeLoss(temperature=0.3)
MIRROR = hj.OverlapLoss(at_least=1.0)
CRITERION = hj.Criterion(0.4, settle=0.2, since=0.1, mirror=False, judge="instants")
END = hj.Criterion(0.4)
# Every term of the margin counts in some trial or other.
DEMANDING = hj.Criterion(0.2, mixed=0.2, settle=0.3, amplitude=0.4)


@dataclasses.dataclass(frozen=True)
class Case:
    """Which numbers a network has, where they begin, and how it is judged."""

    start: dict[str, Any]
    loss: hj.AbstractLoss
    law: str = "gaussian"
    criterion: hj.Criterion = CRITERION
    bounds: dict[str, Any] = dataclasses.field(default_factory=dict)


EVERY = {"weights": [1.5, 0.4], "sigma": 0.3, "x0": X0, "model.memories": None}
PER_ENTRY = {"sigma": np.linspace(0.2, 0.5, NUM_NEURONS)}
SCHEDULE = {"strengths": [1.2, 0.7]}
CASES = {
    "idp": Case(
        {**EVERY, **SCHEDULE, "slope": 2.0},
        OVERLAP + 0.5 * RETRIEVAL + 0.2 * TIME + 0.1 * hj.InputCost(),
        bounds={"sigma": (0.0, None), "slope": (None, 9.0), "strengths": (-1.0, 4.0)},
    ),
    "idp, two-point": Case({**EVERY, **SCHEDULE, **PER_ENTRY}, RETRIEVAL, "two_point"),
    "idp, multiplicative": Case({**EVERY, "strength": 1.1}, OVERLAP),
    "classic": Case({**EVERY, **SCHEDULE, "slope": 2.0}, TIME, "two_point"),
    "classic, wave": Case({**EVERY, "rate": 0.5}, OVERLAP + 0.1 * hj.InputCost(1.5)),
    "decorrelated": Case({**EVERY, "strength": 1.1, "slope": 2.0}, MIRROR, criterion=DEMANDING),
    "decorrelated, classic": Case({**EVERY, **SCHEDULE}, OVERLAP, "two_point", END),
    "two layers": Case(
        {
            **{**EVERY, **SCHEDULE, "slope": 2.0, "tau": 0.4},
            "sigma": np.linspace(0.2, 0.5, NUM_NEURONS + 2),
        },
        OVERLAP,
    ),
    "two layers, power": Case(
        {**EVERY, "strength": 2.0, "tau": 0.4, "power": 2.5}, OVERLAP, "two_point"
    ),
    "dense, linear": Case({**EVERY, **SCHEDULE, "slope": 2.0}, RETRIEVAL, "two_point"),
    "dense, power": Case(
        {**EVERY, **SCHEDULE, "slope": 2.0, "power": 2.5}, OVERLAP, bounds={"power": (2.0, None)}
    ),
    "dense, softmax": Case({**EVERY, **SCHEDULE, "slope": 2.0, "beta": 3.0}, TIME),
    "attention": Case({**EVERY, "beta": 0.5}, OVERLAP),
    "attention, half closed": Case({"weights": [1.5, -0.4], "sigma": 0.3, "beta": 0.5}, OVERLAP),
    "rates": Case({**EVERY, **SCHEDULE, "slope": 2.0, "model.density": None}, OVERLAP, "two_point"),
    "rates, classic": Case(
        {**EVERY, "strengths": [0.3, 0.2], "slope": 2.0, "model.density": None}, OVERLAP
    ),
}


def prepare(
    kind: str, mode: str = "forward", *, dtype: Any = jnp.float64, **changes: Any
) -> tuple[Callable[..., Found], dict[str, Any]]:
    """The gradient that `tune` goes along, as a function of z and the key, and z at the start."""
    case = CASES[kind]
    settings: dict[str, Any] = {
        "loss": case.loss,
        "bounds": case.bounds,
        "criterion": case.criterion,
        "t1": STEPS * DT,
        "dt": DT,
        "save_every": DT,
        "trials": TRIALS,
        "chunk": CHUNK,
        "mode": mode,
        "devices": jax.local_devices()[:1],
    }
    one = eqx.Partial(trial, kind=kind, law=case.law, dtype=dtype)
    asked = sorted_out(settings | changes)
    descent = _prepare(one, case.start, KEY, *asked).descent
    return (lambda z, key=KEY: descent.gradients(z, key, "here")), descent.begin().z


def assert_alike(found: Any, expected: Any, relative: float) -> None:
    """Each parameter's gradient, to its largest entry."""
    assert found.keys() == expected.keys()
    for name in expected:
        scale = np.abs(expected[name]).max()
        assert scale > 1e-7, f"{name} does nothing"
        assert_allclose(found[name], expected[name], rtol=0, atol=relative * scale, err_msg=name)


# Central differences.


def kinds(*fast: str) -> list[Any]:
    """All networks, of which some are tested always."""
    return [kind if kind in fast else pytest.param(kind, marks=pytest.mark.long) for kind in CASES]


ONE_OF_EACH = ("idp", "classic", "decorrelated", "two layers", "dense, power", "attention", "rates")


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds(*ONE_OF_EACH))
def test_gradients_are_central_differences(kind):
    gradient, z = prepare(kind)
    found = gradient(z)
    luck, step = np.random.default_rng(0), 1e-3
    slopes, expected = {}, {}
    for name, value in z.items():
        direction = luck.choice([-1.0, 1.0], value.shape) * luck.uniform(0.5, 1, value.shape)
        losses = [gradient({**z, name: value + k * step * direction}).loss for k in (-2, -1, 1, 2)]
        expected[name] = np.array([1, -8, 8, -1]) @ losses / (12 * step)  # of fourth order
        slopes[name] = np.sum(found.gradient[name] * direction)
    assert_alike(slopes, expected, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds("two layers", "attention"))
def test_reverse_mode_is_forward_mode(kind):
    (forward, z), (reverse, _) = prepare(kind, "forward"), prepare(kind, "reverse")
    one, other = forward(z), reverse(z)
    assert_alike(other.gradient, one.gradient, 1e-9)
    assert_allclose([other.loss, other.error], [one.loss, one.error], rtol=EXACT)
    assert_allclose(other.means, one.means, rtol=EXACT)


@pytest.mark.long
def test_the_gate_counts_where_it_is_open():
    # With u the mixture of weights w, least squares find w again, and z = max(w, 0).
    gradient, z = prepare("attention, half closed")
    weights = gradient(z).gradient["weights"]
    assert abs(weights[0]) > 1e-3
    assert abs(weights[1]) < 1e-12


@pytest.mark.long
@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("solver", [dfx.Heun(), dfx.ShARK()], ids=["Heun", "ShARK"])
def test_other_solvers_can_be_differentiated(mode, solver):
    gradient, z = prepare("attention", mode, solver=solver)
    found, step = gradient(z), 1e-4
    high, low = (gradient({**z, "beta": z["beta"] + h}).loss for h in (step, -step))
    assert found.gradient["beta"] == pytest.approx((high - low) / (2 * step), rel=1e-6)
    plain, _ = prepare("attention", mode)
    assert abs(found.gradient["beta"] / plain(z).gradient["beta"] - 1) > 1e-3


# Float32.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("attention", "forward"),
        *(
            pytest.param(kind, mode, marks=pytest.mark.long)
            for kind, mode in (
                *((kind, "forward") for kind in CASES if kind != "attention"),
                *((kind, "reverse") for kind in ("idp, two-point", "two layers", "attention")),
            )
        ),
    ],
)
def test_float32_gradients_are_those_of_float64(kind, mode):
    (exact, z), (rounded, _) = prepare(kind, mode), prepare(kind, mode, dtype=jnp.float32)
    one, other = exact(z), rounded(z)
    assert_alike(other.gradient, one.gradient, 1e-4)
    assert_allclose([other.loss, other.error], [one.loss, one.error], rtol=1e-4)
    assert other.loss != one.loss  # and it was in float32


# Trial by trial.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def measured_alone(number: int) -> list[float]:
    """What the loss of "idp" measures in one trial, from a plain solve, in NumPy."""
    start = {
        name: jnp.asarray(value) for name, value in CASES["idp"].start.items() if "." not in name
    }
    setting_key, noise_key = jax.random.split(jax.random.fold_in(KEY, number))
    one = trial(setting_key, kind="idp", law="gaussian", dtype=jnp.float64, **start)
    alone = hj.solve(
        one.model, one.inputs, one.x0,
        t1=STEPS * DT, dt=DT, noise=one.noise, key=noise_key, save_every=DT,
    )  # fmt: skip
    overlaps, ts = np.asarray(alone.overlaps), DT * np.arange(STEPS + 1)
    late = ts > 0.399  # of 0.6, the last 0.2 with its beginning
    margin = np.minimum(overlaps[:, 0] - 0.4, overlaps[:, 0] - abs(overlaps[:, 1]))
    without = sigmoid(-margin / 0.3)
    since = np.maximum(ts, 0.1)
    power = np.mean(np.asarray(one.inputs.values) ** 2, axis=1)
    return [
        overlaps[late, 0].mean(),
        sigmoid(margin[late] / 0.3).mean(),
        float(np.sum((without[1:] + without[:-1]) / 2 * np.diff(since))),
        float(SWITCH * power[0] + (STEPS * DT - SWITCH) * power[1]),
    ]


def naive_loss(means: Any) -> Any:
    return (means[0] - 0.5) ** 2 + 0.5 * (means[1] - 0.9) ** 2 + 0.2 * means[2] + 0.1 * means[3]


@pytest.mark.slow
def test_loss_and_its_error_are_those_of_plain_solves_with_the_documented_keys():
    gradient, z = prepare("idp")
    found = gradient(z)
    measured = np.array([measured_alone(number) for number in range(TRIALS)])
    means = measured.mean(axis=0)
    # Another batch shape: rounding.
    assert_allclose(found.means, means, rtol=1e-10)
    assert found.loss == pytest.approx(naive_loss(means), rel=1e-10)
    # By the delta method; the slopes of the loss by central differences.
    slopes = [(naive_loss(means + h) - naive_loss(means - h)) / 2e-5 for h in 1e-5 * np.eye(4)]
    error = np.sqrt(slopes @ np.cov(measured.T) @ np.transpose(slopes) / TRIALS)
    assert found.error == pytest.approx(error, rel=1e-8)
    assert found.diverged == 0
    norm = np.linalg.norm(np.concatenate([np.ravel(part) for part in found.gradient.values()]))
    assert found.norm == pytest.approx(norm, rel=EXACT)


@pytest.mark.long
def test_a_single_trial_has_no_error():
    gradient, z = prepare("attention", trials=1, chunk=1)
    found = gradient(z)
    assert np.isfinite(found.loss)
    assert np.isnan(found.error)


# The same bits.


def assert_same_bits(one: Found, other: Found) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(assert_array_equal, one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("idp", "forward"),
        ("two layers", "reverse"),
        pytest.param("idp", "reverse", marks=pytest.mark.long),  # which solves twice
    ],
)
def test_one_device_gives_the_bits_of_two(kind, mode):
    (alone, z), (both, _) = prepare(kind, mode), prepare(kind, mode, devices=jax.local_devices())
    assert len(jax.local_devices()) == 2
    assert_same_bits(alone(z), both(z))


@pytest.mark.long
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("kind", ["idp", "two layers", "attention", "rates"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_one_device_gives_the_bits_of_two_in_optimised_code(mode, kind):
    jax.clear_caches()
    settings: dict[str, Any] = {"trials": 70, "chunk": 16, "t1": 4.0}
    alone, z = prepare(kind, mode, **settings)
    both, _ = prepare(kind, mode, **settings, devices=jax.local_devices())
    assert_same_bits(alone(z), both(z))
    jax.clear_caches()


@pytest.mark.long
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_another_chunk_size_changes_the_rounding_only(mode):
    (one, z), (other, _) = prepare("attention", mode), prepare("attention", mode, chunk=3)
    first, second = one(z), other(z)
    assert_alike(second.gradient, first.gradient, 1e-12)
    assert_allclose([second.loss, second.error], [first.loss, first.error], rtol=1e-12)


@pytest.mark.slow
def test_further_trials_leave_the_first_ones_alone():
    # What each further trial adds to the sum over trials, of a loss that is linear in them.
    added, last = {}, {}
    for chunk in (1, CHUNK):
        sums = []
        for trials in range(3, 8):
            gradient, z = prepare("classic", trials=trials, chunk=chunk)
            found = last[chunk] = gradient(z)
            sums.append(trials * np.array([found.loss, *found.gradient["x0"]]))
        added[chunk] = np.diff(sums, axis=0)
    assert np.ptp(added[1], axis=0).min() > 1e-5  # trials differ
    # Another chunk size is another rounding.
    assert_allclose(added[CHUNK], added[1], rtol=0, atol=1e-13)
    assert_alike(last[CHUNK].gradient, last[1].gradient, 1e-12)
    assert last[CHUNK].error == pytest.approx(last[1].error, rel=1e-12)


# Nothing is compiled anew.


class Counted(eqx.Module):
    """A trial that counts how often it is traced."""

    sigma: Float[Array, ""]
    traces: ClassVar[int] = 0

    def __call__(self, key, strength):
        Counted.traces += isinstance(strength, Tracer)
        memories = jnp.asarray(MEMORIES)
        return hj.Trial(
            hj.IDPHopfield(memories),
            strength * hj.mixture(memories, jnp.array([1.5, 0.4])),
            X0 + 0.1 * jax.random.normal(key, (NUM_NEURONS,)),
            hj.AdditiveNoise(self.sigma),
        )


@pytest.mark.slow
def test_other_numbers_compile_nothing():
    settings: dict[str, Any] = {"t1": STEPS * DT, "dt": DT, "trials": TRIALS, "chunk": CHUNK}
    settings["devices"] = jax.local_devices()[:1]

    def run(one: Any, start: float, bounds: Any, loss: hj.AbstractLoss, seed: int) -> None:
        key = jax.random.key(seed)
        asked = sorted_out({**settings, "bounds": {"strength": bounds}, "loss": loss})
        descent = _prepare(one, {"strength": start}, key, *asked).descent
        descent.differentiate(descent.begin().z, key, "here")

    loss = hj.RetrievalLoss(temperature=0.1, goal=0.9) + 2.0 * hj.TimeLoss(temperature=0.1)
    run(Counted(jnp.array(0.5)), 1.0, (0.0, 4.0), loss, 0)
    traces = Counted.traces
    assert traces > 0
    run(Counted(jnp.array(0.7)), 1.3, (0.1, 5.0), loss, 1)
    other = hj.RetrievalLoss(temperature=0.2, goal=0.8) + 3.0 * hj.TimeLoss(temperature=0.2)
    run(Counted(jnp.array(0.0)), 2.0, (0.0, 4.0), other, 0)
    assert Counted.traces == traces


# Bounds.


@pytest.mark.parametrize(
    ("bounds", "value"),
    [
        ((None, None), lambda z: np.sqrt(4.25) * z),
        ((1.0, None), lambda z: 1 + np.sqrt(1.25) * np.exp(z)),
        ((None, 4.0), lambda z: 4 - np.sqrt(4.25) * np.exp(z)),
        ((1.0, 4.0), lambda z: 1 + 3 * sigmoid(z)),
    ],
    ids=["free", "above", "below", "between"],
)
def test_bounds_are_a_transformation_with_the_documented_scale(bounds, value):
    # The root mean square of the start, or of its distance from the bound.
    start = jnp.array([1.5, 2.5])
    found = make_ranges({"p": start}, {"p": bounds})["p"]
    assert_allclose(found.value(found.free(start)), start, rtol=EXACT)
    z = np.array([-0.7, 0.4])
    assert_allclose(found.value(jnp.asarray(z)), value(z), rtol=EXACT)


def test_a_start_of_zero_has_the_scale_of_one():
    found = make_ranges({"p": jnp.zeros(2)}, None)["p"]
    assert_array_equal(found.value(jnp.array([0.5, -2.0])), [0.5, -2.0])
