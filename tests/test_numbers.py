"""What a user gives becomes an array of JAX in one place, where no number wraps or is lost."""

# Lists are given where a type checker wants arrays: that they work is tested here.
# pyright: reportArgumentType=false

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hopjax as hj
from hopjax import statistics
from hopjax._checks import check_array, check_host_array

INTEGERS = [np.dtype(kind + size) for kind in "iu" for size in "1248"]
FLOATS = [np.dtype(name) for name in ("float32", "float64", "longdouble")]
OTHERS = ["float16", "complex64", "complex128", "S3", "U3", "datetime64[s]", "timedelta64[s]", "V4"]
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "scalars": lambda row: list(row),  # of scalars
    "array": lambda row: row,
    "list of rows": lambda row: [row, row],
    "tuple in a list": lambda row: [tuple(row)],
    "list of arrays without axes": lambda row: [np.array(entry) for entry in row],
    "rows of rows": lambda row: np.stack([row, row])[None],
    "read from the back": lambda row: row[::-1],
    "in the other order of bytes": lambda row: row.astype(row.dtype.newbyteorder()),
}
X64 = pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])


def integers(dtype: np.dtype) -> np.ndarray:
    """Those at the edges of this and of other dtypes."""
    edges = [
        2**power + more for power in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63) for more in (-1, 0, 1)
    ]
    info = np.iinfo(dtype)
    wanted = {0, info.min, info.max, *edges, *(-edge for edge in edges)}
    return np.array([value for value in sorted(wanted) if info.min <= value <= info.max], dtype)


def numbers(values: Any) -> list[Any]:
    """The numbers of nested sequences as Python sees them, one after the other."""
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in numbers(value)]
    return [entry.item() if isinstance(entry, np.generic) else entry for entry in np.ravel(values)]


def is_nearest(found: Any, exact: Any) -> bool:
    """Whether a float is what a number rounds to, within half of its last digit."""
    half = Fraction(float(np.spacing(np.abs(found)))) / 2
    return abs(Fraction(float(found)) - Fraction(exact)) <= half


@X64
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_become_the_nearest_float(dtype, form, x64):
    with jax.enable_x64(x64):
        given = FORMS[form](integers(dtype))
        found = check_array(given, "number")
        assert found.dtype == jnp.result_type(float)
        assert not found.weak_type
        assert found.shape == np.shape(given)
        assert all(map(is_nearest, np.ravel(found), numbers(given)))
        exact = check_host_array(given, "number")
        assert exact.dtype == np.float64
        assert all(map(is_nearest, np.ravel(exact), numbers(given)))


@X64
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_single_integers_become_the_nearest_float(dtype, x64):
    with jax.enable_x64(x64):
        for number in integers(dtype):
            for given in (number, np.array(number), int(number)):
                found = check_array(given, "number", ())
                assert found.dtype == jnp.result_type(float)
                assert is_nearest(found, int(number))


@X64
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_keep_their_value(dtype, form, x64):
    with jax.enable_x64(x64):
        row = np.array([0.0, -0.0, 1.0, 0.1, -3e38, 1e-30, np.inf, -np.inf, np.nan], dtype)
        given = FORMS[form](row)
        found = check_array(given, "number", finite=False)
        kept = np.float32 if dtype == np.float32 else jnp.result_type(float)
        assert found.dtype == kept
        np.testing.assert_array_equal(found, np.asarray(given).astype(kept))
        with pytest.raises(ValueError, match=r"^Argument `number` must be finite, got -?(inf|nan)"):
            check_array(given, "number")


@X64
def test_truth_values_are_0_and_1(x64):
    with jax.enable_x64(x64):
        for given in (True, np.True_, np.array(True), [True, False], np.array([[True, False]])):
            found = check_array(given, "number")
            assert found.dtype == jnp.result_type(float)
            np.testing.assert_array_equal(found, np.asarray(given).astype(float))


@X64
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", OTHERS)
def test_other_kinds_are_refused(dtype, form, x64):
    given = FORMS[form](np.zeros(2, dtype))
    with jax.enable_x64(x64), pytest.raises(TypeError) as error:
        check_array(given, "number", ("n",))
    assert str(error.value).startswith(
        "Argument `number` must be an array of real numbers (float32"
    )
    assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match=r"^Argument `number` must be one real number"):
        check_array(np.zeros((), dtype)[()], "number", ())


NO_NUMBERS = {
    "none": None,
    "text": "1.0",
    "texts": ["1.0"],
    "numbers and texts": [1.0, "1.0"],
    "bytes": b"1",
    "a dict": {"a": 1.0},
    "a set": {1.0},
    "a generator": (value for value in (1.0,)),
    "a function": abs,
    "a fraction": Fraction(1, 2),
    "numbers and nothing": [1, None],
    "ragged": [[1, 2], [3]],
    "ragged at the end": [[1.0], [[2.0]]],
    "objects": np.array([1, 2], object),
    "one object": np.array(1, object),
    "masked": np.ma.array([1, 2], mask=[False, True]),
    "half precision": jnp.ones(2, jnp.float16),
    "brain floats": jnp.ones(2, jnp.bfloat16),
    "a key": jax.random.key(0),
    "traced beside text": [jnp.ones(()), "a"],
    "ragged of JAX": [jnp.ones(2), jnp.ones(3)],
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_is_no_number_is_refused(name):
    with pytest.raises(
        TypeError, match=r"^Argument `number` must be an array of real numbers"
    ) as e:
        check_array(NO_NUMBERS[name], "number")
    assert "\n" not in str(e.value)


BEYOND = {
    "float64": (np.float64(1e39), np.float64(-1e300)),
    "python": (1e39, -(10**39), 10**400, -(10**5000)),
    "longdouble": (np.longdouble("1e39"), -np.longdouble("1e4000")),
}


@pytest.mark.parametrize("kind", BEYOND)
@X64
def test_what_the_dtype_cannot_hold_is_refused_with_its_value(kind, x64):
    with jax.enable_x64(x64):
        largest = np.finfo(jnp.result_type(float)).max
        for value in BEYOND[kind]:
            exact = value if isinstance(value, int) else Fraction(*value.as_integer_ratio())
            for given in (value, [1.0, value], [[value], [1]], [jnp.ones(()), value]):
                if abs(exact) <= Fraction(float(largest)):
                    assert (
                        is_nearest(np.ravel(check_array(given, "number")).max(), abs(exact))
                        or exact < 0
                    )
                    continue
                with pytest.raises(ValueError, match=r"^Argument `number` must be ") as error:
                    check_array(given, "number", finite=False)
                right = f"of a size up to {largest:.3g}, the largest of {largest.dtype}"
                message = str(error.value)
                assert message.startswith(f"Argument `number` must be {right}, got ")
                assert len(message) < 250
                assert (
                    str(value)[:20] in message if abs(exact) < 10**4000 else "too large" in message
                )


@X64
def test_lists_of_numbers_here_and_traced(x64):
    large = 2**32 + 1
    with jax.enable_x64(x64):

        @jax.jit
        def made(traced, whole):
            return check_array(
                [[traced, np.int64(large)], [whole, np.float64(0.5)]], "number", finite=False
            )

        found = made(jnp.asarray(2.0), jnp.asarray(3))
        assert found.dtype == jnp.result_type(float)
        np.testing.assert_array_equal(found, np.array([[2, large], [3, 0.5]], found.dtype))


@X64
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint32", "bool", "float32"])
def test_arrays_of_jax(dtype, x64):
    with jax.enable_x64(x64):
        array = jnp.asarray([0, 1, 1], dtype)
        kept = jnp.float32 if dtype == "float32" else jnp.result_type(float)
        traced = jax.jit(functools.partial(check_array, name="number", finite=False))
        for found in (
            check_array(array, "number"),
            traced(array),
            check_array(list(array), "number"),
        ):
            assert found.dtype == kept
            np.testing.assert_array_equal(found, [0, 1, 1])


MEMORIES = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, 1, -1, 1, -1, 1, -1]])


@X64
@pytest.mark.parametrize("large", [np.int64(2**32 + 1), np.uint64(2**63 + 1), 2**70 + 1], ids=str)
def test_what_wrapped_before_has_its_value(large, x64):
    with jax.enable_x64(x64):
        near = np.asarray(float(large), jnp.result_type(float))
        assert hj.AdditiveNoise(large).strength == near
        assert (hj.mixture(MEMORIES[:1], [large]) == near * MEMORIES[0]).all()
        schedule = hj.Schedule([0, large], [MEMORIES[0] * 0, np.full(8, large)])
        assert schedule.onsets[1] == float(large)  # times stay in float64 on the host
        assert (schedule.values[1] == near).all()
        trial = hj.Trial(hj.IDPHopfield(MEMORIES), schedule, [large] * 8, target=0)
        assert (trial.x0 == near).all()
        assert (trial.input_at(large) == near).all()
        # Counts are exact whatever JAX's default float is.
        estimate, low, high = statistics.wilson_interval([large // 2, large], large)
        assert estimate.tolist() == [float(large // 2) / float(large), 1.0]
        assert low[0] < 0.5 < high[0]


@X64
def test_what_is_measured_does_not_wrap(x64):
    with jax.enable_x64(x64):
        measure = hj.PerTrial(
            lambda *_: {"large": np.int64(2**32 + 1), "small": np.int64(7)}
        ).measure
        found = measure(None, None)
        assert found["large"] == np.asarray(2.0**32 + 1, found["large"].dtype)
        assert found["small"].dtype.kind == "i"
        assert found["small"] == 7
        shown = hj.Trial(
            *(hj.IDPHopfield(MEMORIES), lambda t: np.full(8, 2**32 + 1), MEMORIES[0]), target=0
        )
        assert (shown.input_at(0.0) == np.asarray(2.0**32 + 1, shown.model.memories.dtype)).all()


def test_counts_are_not_rounded_to_float32():
    with jax.enable_x64(False), pytest.raises(ValueError, match="at most the number of trials"):
        statistics.wilson_interval(2**24 + 1, 2**24)
