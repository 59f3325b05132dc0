"""Each check at the door by itself: what it lets through, what it refuses, and in which words.

How numbers of every kind become arrays is tested in `test_numbers`.
"""

import copy
import functools
import pickle
import re
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hopjax as hj
from hopjax import _checks
from hopjax._checks import (
    check_array,
    check_count,
    check_fits,
    check_flag,
    check_index,
    check_instance,
    check_key,
    check_number,
    check_positive,
    check_sides,
    check_takes,
    check_values,
    collect_bad_values,
)
from hopjax._errors import ArgumentError, ArgumentTypeError

KEY = jax.random.key(0)
INF, NAN = float("inf"), float("nan")


def refused(error: type[Exception], right: str, got: Any, check: Any, *args: Any, **options: Any):
    """Assert that a check of `x` refuses a value as of a wrong kind, or as a wrong value."""
    with pytest.raises(ArgumentError) as caught:
        check(*args, **options)
    assert isinstance(caught.value, TypeError) == (error is TypeError)
    assert (caught.value.name, caught.value.right) == ("x", right)
    assert got in caught.value.got if got else caught.value.got is None
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Argument `x` must be right."),
        ({"got": 3}, "Argument `x` must be right, got 3."),
        ({"got": "a\n  b"}, "Argument `x` must be right, got a b."),
        ({"got": 3, "must": "not have"}, "Argument `x` must not have right, got 3."),
        ({"got": 3, "hint": "take 4"}, "Argument `x` must be right, got 3: take 4."),
        ({"hint": "is it y?"}, "Argument `x` must be right: is it y?"),
        ({"hint": "Known are y."}, "Argument `x` must be right: Known are y."),
        ({"instead": "which it is not"}, "Argument `x` must be right, which it is not."),
    ],
)
def test_the_sentence_of_an_error(options, text):
    error = ArgumentError("x", "right", **options)
    assert str(error) == text == f"Argument `x` {error.predicate}"
    assert str(error.at("In 1.")) == f"{text} (In 1.)"
    assert str(error) == text
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is ArgumentError
        assert (str(again), again.got, again.hint) == (text, error.got, error.hint)


def test_an_error_of_the_kind_is_a_type_error_too():
    assert issubclass(ArgumentError, ValueError)
    assert not issubclass(ArgumentError, TypeError)
    error = ArgumentTypeError("x", "right", fits=("y",)).at("Here.")
    assert isinstance(error, (hj.ArgumentError))
    assert isinstance(error, TypeError)
    assert error.fits == ("y",)


@pytest.mark.parametrize("value", [2, 2.0, np.int8(2), np.float32(2), np.array(2.0), jnp.array(2)])
def test_a_number(value):
    for positive in (False, True):
        found = check_number(value, "x", positive=positive)
        assert type(found) is float
        assert found == 2.0


NO_NUMBERS = {
    "'2'": "2",
    "None (NoneType)": None,
    "True (bool)": True,
    "[2.0] (list)": [2.0],
    "2j (complex)": 2j,
    "dtype complex128": np.complex128(2),
    "dtype bool": np.array(True),
    "dtype <U1": np.array("2"),
    "dtype key<fry>": KEY,
    "shape (2,)": np.ones(2),
    "an array of dtype int64 and shape (1,)": jnp.ones(1, int),
}


@pytest.mark.parametrize("got", NO_NUMBERS)
def test_no_number(got):
    refused(TypeError, "a finite number", got, check_number, NO_NUMBERS[got], "x")
    refused(TypeError, "a positive number", got, check_number, NO_NUMBERS[got], "x", positive=True)


@pytest.mark.parametrize("value", [NAN, INF, -INF, 10**400, np.float32("nan"), jnp.array(INF)])
def test_a_number_that_is_not_finite(value):
    got = "inf" if isinstance(value, int) else str(float(value))
    refused(ValueError, "a finite number", got, check_number, value, "x")
    refused(ValueError, "a positive number", got, check_number, value, "x", positive=True)


@pytest.mark.parametrize("value", [0, -0.0, -1, np.float64(-0.1)])
def test_a_number_that_is_not_positive(value):
    assert check_number(value, "x") == value
    got = str(float(value))
    refused(ValueError, "a positive number", got, check_number, value, "x", positive=True)


@pytest.mark.parametrize("value", [0, 2, np.int8(2), np.uint64(2), np.array(2), jnp.array(2)])
def test_a_count(value):
    assert type(check_count(value, "x", minimum=0)) is int
    assert check_count(value, "x", minimum=0) == value


@pytest.mark.parametrize(
    "value", [2.0, "2", None, True, np.True_, [2], np.ones(2, int), np.array(2.0), KEY, jnp.sin]
)
def test_no_count(value):
    got = "dtype" if eqx.is_array(value) else type(value).__name__
    refused(TypeError, "an integer of at least 1", got, check_count, value, "x")


def test_a_count_below_the_least():
    for value, minimum, got in (
        (0, 1, "0"),
        (-1, 0, "-1"),
        (1, 2, "1"),
        (-(10**5000), 1, "what is too large to print"),
    ):
        right = f"an integer of at least {minimum}"
        refused(ValueError, right, got, check_count, value, "x", minimum)


def test_an_index():
    assert [check_index(value, "x", 2, "rows") for value in (0, np.int64(1))] == [0, 1]
    refused(ValueError, "below the number of rows, 2", "2", check_index, 2, "x", 2, "rows")
    refused(ValueError, "an integer of at least 0", "-1", check_index, -1, "x", 2, "rows")
    refused(TypeError, "an integer of at least 0", "0.0", check_index, 0.0, "x", 2, "rows")


def test_sides():
    assert check_sides(3, "x") == (3, 3)
    assert check_sides((3, np.int64(4)), "x") == check_sides([3, 4], "x") == (3, 4)
    right = "one count or (rows, columns)"
    for value in ((), (3,), [3, 4, 5]):
        refused(ValueError, right, repr(value), check_sides, value, "x")
    refused(TypeError, "an integer of at least 1", "'3'", check_sides, "3", "x")
    for value, error, argument in (
        ((3, 0), ValueError, "x[1]"),
        ((0.5, 3), TypeError, "x[0]"),
        (("3", 3), TypeError, "x[0]"),
    ):
        with pytest.raises(error, match=rf"^Argument `{re.escape(argument)}` must "):
            check_sides(value, "x")


def test_a_flag():
    for value in (True, False, np.True_):
        assert type(check_flag(value, "x")) is bool
    for value in (1, 0, None, "yes", np.array(True), jnp.array(True)):
        got = "dtype bool" if eqx.is_array(value) else repr(value)
        refused(TypeError, "True or False", got, check_flag, value, "x")


def test_an_instance():
    check_instance(hj.Tanh(), hj.AbstractActivation, "x", "an activation")
    check_instance(1.0, (int, float), "x", "a number")
    for value, got in (
        (hj.Tanh, "the class Tanh"),
        (None, "None (NoneType)"),
        ("a" * 1000, "aaa..."),
        (np.ones(8), "an array of dtype float64 and shape (8,)"),
        (dfx.Euler(), "Euler() (Euler)"),
    ):
        refused(
            TypeError,
            "an activation",
            got,
            check_instance,
            *(value, hj.AbstractActivation, "x", "an activation"),
        )


def test_a_function_that_takes():
    def takes_one(t):
        return t

    check_takes(takes_one, "x", "a time", 0.0)
    check_takes(lambda *args, **kwargs: None, "x", "anything", 0.0, s=1)
    check_takes(functools.partial(max, 1), "x", "what is not known", 1, 2, 3)
    for args, kwargs in (((), {}), ((0.0, 1.0), {}), ((0.0,), {"s": 1})):
        error = refused(
            *(TypeError, "a time", "takes_one", check_takes, takes_one, "x", "a time"),
            *args,
            **kwargs,
        )
        assert error.must == "take"
        assert error.hint


def test_a_key():
    typed = check_key(KEY, "x")
    legacy = jax.random.PRNGKey(0)
    assert (jax.random.key_data(check_key(legacy, "x")) == jax.random.key_data(typed)).all()
    assert check_key(np.asarray(legacy), "x").dtype == typed.dtype
    right = "one threefry key as from jax.random.key(0)"
    split = jax.random.split(KEY, 3)
    for value, got in (
        (0, "0 (int)"),
        (None, "None"),
        (np.zeros(2), "float64"),
        (np.zeros(2, np.int32), "int32"),
        (np.zeros((3, 2), np.uint32), "(3, 2)"),
        (np.zeros(4, np.uint32), "(4,)"),
    ):
        refused(TypeError, right, got, check_key, value, "x")
    assert "jax.vmap" in refused(ValueError, right, "(3,) keys", check_key, split, "x").hint
    for implementation in ("rbg", "unsafe_rbg"):
        other = jax.random.key(0, impl=implementation)
        refused(ValueError, right, f"`{implementation}`", check_key, other, "x")


@pytest.mark.parametrize("check", [check_number, check_count, check_flag, check_key])
def test_what_is_static_is_not_traced(check):
    with pytest.raises(ArgumentTypeError) as caught:
        jax.jit(lambda value: check(value, "x"))(1)
    assert caught.value.name == "x"
    assert "traced" in str(caught.value)


SHAPES: list[tuple[tuple, tuple, str]] = [
    ((3,), (), "one number"),
    ((), (3,), "of shape (3,)"),
    ((2,), (3,), "of shape (3,)"),
    ((3, 3), (3,), "of shape (3,)"),
    ((3,), ("P", 3), "of shape (P, 3)"),
    ((3, 2), ("P", 3), "of shape (P, 3)"),
]


@pytest.mark.parametrize(("given", "wanted", "right"), SHAPES)
def test_a_shape(given, wanted, right):
    sizes = tuple(2 if isinstance(size, str) else size for size in wanted)
    for check in (check_array, check_positive):
        assert check(np.ones(sizes), "x", wanted).shape == sizes
        assert check(np.ones(given), "x").shape == given
        assert check(np.ones(given), "x", wanted, given).shape == given
        got = f"shape {given}"
        refused(ValueError, right, got, check, np.ones(given), "x", wanted)
        refused(ValueError, right, got, jax.jit(lambda a: check(a, "x", wanted)), np.ones(given))  # noqa: B023
    error = refused(*(ValueError, right, got, check_array, np.ones(given), "x", wanted), hint="try")
    assert error.hint == "try"


def test_several_shapes():
    right = "one number or of shape (8,)"
    refused(ValueError, right, "shape (7,)", check_array, np.ones(7), "x", (), (8,))


def test_entries_that_are_refused_have_a_place():
    array = np.ones((2, 3))
    array[1, 0] = array[1, 2] = -2.0
    refused(ValueError, "positive", "-2.0 at index [1, 0]", check_positive, array, "x")
    refused(ValueError, "positive", "0.0", check_positive, 0.0, "x")
    array[0, 1] = NAN
    refused(ValueError, "finite", "nan at index [0, 1]", check_array, array, "x")
    refused(ValueError, "finite", "inf", check_positive, INF, "x")
    assert np.isnan(check_array(array, "x", finite=False)[0, 1])
    # One condition of a whole array, and what else may be at fault.
    error = refused(
        *(ValueError, "shorter", "-2.0", check_values, np.array(-2.0), True, "x", "shorter"),
        fits=("y",),
    )
    assert error.fits == ("y",)


def test_traced_entries_are_refused_at_run_time():
    @eqx.filter_jit
    def both(values):
        return check_positive(values, "x"), check_array(values, "y")

    def one(value):
        return check_positive(value, "x")

    both(jnp.ones(2))
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"Argument `x` must be positive\."):
        both(jnp.array([1.0, -1.0]))
    with pytest.raises(eqx.EquinoxRuntimeError, match=r"Argument `x` must be finite\."):
        eqx.filter_jit(jax.vmap(one))(jnp.array([1.0, NAN]))


def test_traced_entries_are_collected_as_data():
    def run(values):
        with collect_bad_values() as found:
            kept = check_positive(values, "x")
            inner = jax.vmap(lambda value: check_values(value, value > 5, "z", "small"))
            jax.eval_shape(inner, values)  # another trace, whose checks are its own
        assert found.wrong == [("x", "finite"), ("x", "positive")]
        return kept, found.bad

    for values, wanted in (([1.0, 2.0], [False, False]), ([1.0, -INF], [True, True])):
        kept, bad = jax.jit(run)(jnp.array(values))
        assert kept.tolist() == values
        assert [bool(each) for each in bad] == wanted


def test_what_does_not_fit_into_memory(monkeypatch):
    monkeypatch.setattr(_checks, "machine_memory", lambda: 2.0**34)
    check_fits(2**34, "x", "it", 1)
    right = "it in the 16 GiB of this machine"
    got = "9, which takes 32 GiB at least"
    assert refused(ValueError, right, got, check_fits, 2**35, "x", "it", 9).must == "leave"
    refused(ValueError, right, "more than 1e20 GiB", check_fits, 2**200, "x", "it", 9)
    monkeypatch.setattr(_checks, "machine_memory", lambda: INF)
    check_fits(2**200, "x", "it", 9)
