"""The measurement of steps: its noise has the laws that it should, and its errors add up."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import hopjax as hj
from experiments import work_precision
from experiments.step_problems import Composed, Coupled, Statistic

DRAWS = 4000


def increments(law: hj.AbstractLaw, steps: int) -> np.ndarray:
    path = law.path(jax.random.key(5), 64, jnp.float32, np.inf, 1.0, dfx.BrownianIncrement)
    starts = jnp.arange(steps, dtype=jnp.float32)
    return np.asarray(jax.vmap(lambda t: path.evaluate(t, t + 1))(starts), float)


@pytest.mark.slow
def test_composed_noise_is_that_of_the_finer_steps():
    """An Ornstein-Uhlenbeck process, whose steps are exact, goes the same way in either."""
    dt, parts = 0.05, 5

    def process(dt: float, noise: np.ndarray) -> list[np.ndarray]:
        states = [np.zeros(64)]
        for each in noise:
            spread = np.sqrt((1 - np.exp(-2 * dt)) / 2)
            states.append(np.exp(-dt) * states[-1] + spread * each)
        return states

    fine = process(dt, increments(hj.Gaussian(), 60))
    for law, same in ((Composed(parts, dt), True), (Composed(parts, 10 * dt), False)):
        coarse = process(parts * dt, increments(law, 60 // parts))
        assert np.allclose(coarse, fine[::parts], atol=1e-5) == same


def test_composed_noise_is_normal():
    found = increments(Composed(3, 0.1), 60)
    assert stats.kstest(found.ravel(), "norm").pvalue > 1e-4
    assert np.linalg.norm(Composed(3, 0.1).weights) == pytest.approx(1)


@pytest.mark.parametrize(("signs", "together"), [(1, np.sqrt(2 / np.pi)), (8, 0.98)])
def test_coupled_noise_has_its_own_law_and_is_near_to_normal_numbers(signs, together):
    law = Coupled(signs)
    below = stats.norm.cdf([-np.inf, *law.bounds, np.inf])
    np.testing.assert_allclose(np.diff(below), stats.binom.pmf(range(signs + 1), signs, 0.5))
    found, normal = increments(law, 60), increments(hj.Gaussian(), 60)
    levels = (2 * np.arange(signs + 1) - signs) / np.sqrt(signs)
    assert set(np.round(np.unique(found), 5)) <= set(np.round(levels, 5))
    # Four standard errors of a correlation are .01 or less, of a variance of these .09.
    assert np.corrcoef(found.ravel(), normal.ravel())[0, 1] == pytest.approx(together, abs=0.01)
    assert found.var() == pytest.approx(1, abs=0.09)


def test_a_difference_has_the_error_of_its_pairs():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2, DRAWS))
    first, second = ({"m": shared + 0.1 * rng.normal(size=shared.shape)} for _ in range(2))
    statistic = Statistic("m", "overlap", "m")
    found = work_precision.difference(first, second, statistic)
    assert found.value == pytest.approx((first["m"] - second["m"]).mean())
    assert found.variance == pytest.approx(0.02 / (2 * DRAWS), rel=0.1)
    one_cell = work_precision.difference(first, second, statistic._replace(cell=1))
    assert one_cell.value == pytest.approx((first["m"][1] - second["m"][1]).mean())
    median = work_precision.difference(first, second, statistic._replace(kind="time"))
    # Of independent medians the variance would be π.
    assert 0.02 / (2 * DRAWS) < median.variance < 0.5 * np.pi / (2 * DRAWS)


def test_where_no_pair_differs_a_probability_still_may():
    same = {"P": np.zeros((1, 100), bool)}
    found = work_precision.difference(same, same, Statistic("P", "probability", "P"))
    assert found.value == 0
    assert 1.96 * np.sqrt(found.variance) == pytest.approx(2.8 / 100, rel=0.02)


def test_times_that_are_never_are_later_than_all():
    assert work_precision.middle(np.array([1.0, np.inf, 2.0])) == 2
    assert work_precision.middle(np.array([1.0, np.inf, np.inf])) == np.inf


def row(method: str, dt: float, *errors: tuple[float, float, float]) -> dict:
    names = ("mean", "low", "high")
    return {
        "method": method,
        "dt": dt,
        "errors": [dict(zip(names, each, strict=True)) for each in errors],
    }


SMALL, LARGE, UNKNOWN = (0.1, -0.5, 0.7), (2.0, 1.5, 2.5), (0.1, -1.5, 1.7)
OVERLAP: work_precision.Group = ("overlap", False)
PROBABILITY: work_precision.Group = ("probability", True)
KINDS = [
    {"kind": "overlap", "late": False},
    {"kind": "overlap", "late": False},
    {"kind": "probability", "late": True},
    {"kind": "overlap", "late": True},
]


def test_a_step_is_safe_where_all_shorter_ones_are():
    rows = [
        row("a", 0.2, SMALL, SMALL, SMALL, LARGE),  # by luck
        row("a", 0.1, SMALL, LARGE, UNKNOWN, LARGE),
        row("a", 0.05, SMALL, SMALL, SMALL, LARGE),
        row("a", 0.01, SMALL, SMALL, SMALL, LARGE),
        row("b", 0.01, LARGE, SMALL, SMALL, LARGE),
        row("c", 0.01, (np.nan, np.nan, np.nan), SMALL, SMALL, SMALL),
    ]
    numbers = {"problems": {"p": {"statistics": KINDS, "errors": rows}}}
    assert work_precision.safe_step(numbers, "a", "p", OVERLAP) == 0.05
    assert work_precision.safe_step(numbers, "a", "p", PROBABILITY) == 0.05
    assert work_precision.safe_step(numbers, "b", "p", OVERLAP) == 0
    assert work_precision.safe_step(numbers, "b", "p", PROBABILITY) == 0.01
    assert work_precision.safe_step(numbers, "c", "p", OVERLAP) == 0
    assert work_precision.safe_step(numbers, "d", "p", OVERLAP) is None


def test_an_error_may_exceed_eulers_by_less_than_a_tolerance():
    def check(mine, euler, apart=(0.0, -9.0, 9.0)):
        rows = [row("a", 0.05, mine), row(work_precision.EULER, 0.01, euler)]
        rows[0]["from_euler"] = row("a", 0.05, apart)["errors"]
        problem = {"statistics": KINDS[:1], "errors": rows}
        return work_precision.no_worse({"problems": {"p": problem}}, "a", 1)

    assert check((1.5, 1.2, 1.8), (-1.5, -1.7, -1.3)).holds  # each is off by as much
    assert check(SMALL, (0.0, -0.1, 0.1)).holds
    assert not check(LARGE, SMALL).fails  # by a tolerance perhaps
    assert not check(LARGE, SMALL).holds
    assert check(LARGE, (2.0, 0.0, 4.0), apart=SMALL).holds  # wherever the limit is
    assert check((-3.0, -3.5, -2.5), SMALL, apart=(-3.1, -3.5, -2.7)).fails


def test_eulers_errors_are_extrapolated_to_no_step():
    rows = [
        row(work_precision.EULER, 0.0025, (0.5, 0.4, 0.6)),
        row(work_precision.EULER, 0.01, (2.0, 1.6, 2.4)),
    ]
    (limit,) = work_precision.extrapolated({"problems": {"p": {"errors": rows}}})
    assert limit.value == pytest.approx(0, abs=1e-12)  # as they are in proportion to dt
    assert limit.high == pytest.approx(np.hypot(0.4 / 3, 0.4 / 3))
