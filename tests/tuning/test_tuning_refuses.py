"""`tune` refuses, before anything is solved, what it cannot tune."""

# pyright: reportArgumentType=false

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from refusals import INF, KEY, MEMORIES, NAN, assert_refused, each, trial

import hopjax as hj

DRAWS = np.random.default_rng(0)
RETRIEVAL = hj.Retrieval(num_neurons=8, num_memories=2)
SIGMA = "noise.strength"
OF_SIGMA = "parameters['noise.strength']"
OF_STRENGTH = "parameters['strength']"
BOUNDS = "bounds['noise.strength']"


def tuned(parameters: Any = None, **changes: Any) -> hj.Tuning:
    """A correct call, but for the changes."""
    right: dict[str, Any] = {
        "trial": trial(),
        "parameters": {SIGMA: 0.5} if parameters is None else parameters,
        "loss": hj.OverlapLoss(),
        "key": KEY,
        "t1": 0.2,
        "dt": 0.1,
        "trials": 2,
    }
    right |= changes
    return hj.tune(right.pop("trial"), right.pop("parameters"), **right)


def bounded(*pair: Any) -> hj.Tuning:
    return tuned(bounds={SIGMA: pair})


def of_arguments(key, strength=1.0, loss=1.0, x=1.0, x_low=1.0, x_0=1.0):
    return trial(inputs=strength * MEMORIES[0])


def tuned_arguments(**parameters: Any) -> hj.Tuning:
    return tuned(parameters, trial=of_arguments)


def model_of_key(key):
    return hj.IDPHopfield(MEMORIES)


class Measured(hj.AbstractLoss):
    """A loss that measures what it is made of, or has that value."""

    what: Any = None
    is_value: bool = False

    def measure(self, trial, trajectory, criterion):
        return trajectory.ts[0] if self.is_value else self.what

    def value(self, means):
        return self.what if self.is_value else jnp.zeros(())


class Drawn(hj.AbstractLoss):
    def measure(self, trial, trajectory, criterion):
        return trajectory.ts[-1] * DRAWS.normal()

    def value(self, means):
        return means


@each(
    (lambda: tuned(trial=hj.IDPHopfield(MEMORIES)), TypeError, "trial", "IDPHopfield"),
    (lambda: tuned({SIGMA: None}, trial=model_of_key), TypeError, "trial", "IDPHopfield"),
    (lambda: tuned({SIGMA: None}, trial=lambda: trial()), TypeError, "trial", "<lambda>"),
    (
        lambda: tuned({"s": 1.0}, trial=lambda key, s: trial(x0=s * DRAWS.normal(size=8))),
        *(ValueError, "trial", "two that differ in `x0`: draw"),
    ),
    # names of parameters
    (lambda: tuned({}), ValueError, "parameters", "at least one parameter, got none"),
    (lambda: tuned({0: 1.0}), TypeError, "parameters", "got 0"),
    (lambda: tuned({"noise strength": 1.0}), ValueError, "parameters", "got 'noise strength'"),
    (lambda: tuned_arguments(stregth=1.0), ValueError, "parameters", "did you mean 'strength'?"),
    (lambda: tuned_arguments(voltage=1.0), ValueError, "parameters", "known are strength, "),
    (lambda: tuned({"s": 1.0}, trial=lambda key: trial()), ValueError, "parameters", "takes none"),
    (lambda: tuned({"nois": 1.0}, trial=RETRIEVAL), ValueError, "parameters", "mean 'noise'?"),
    (
        lambda: tuned({"memory_load": 0.5}, trial=RETRIEVAL),
        ValueError,
        "parameters",
        "'memory_load'",
    ),
    (
        lambda: tuned({"stregth": 1.0}, trial=eqx.Partial(of_arguments, loss=1.0)),
        *(ValueError, "parameters", "did you mean 'strength'?"),
    ),
    (lambda: tuned({"noise.strenght": 1.0}), ValueError, "parameters", "did you mean 'strength'?"),
    (lambda: tuned({"modl.activation.slope": 1.0}), ValueError, "parameters", "mean 'model'?"),
    (lambda: tuned({"inputs.values": None}), ValueError, "parameters", "trial.inputs has no"),
    (
        lambda: tuned({SIGMA: 1.0}, trial=trial(noise=None)),
        *(ValueError, "parameters", "trial.noise has no"),
    ),
    (lambda: tuned({"target": 1.0}), ValueError, "parameters", "which is of int32"),
    (lambda: tuned({"model.activation": 1.0}), ValueError, "parameters", "which is Tanh"),
    (lambda: tuned_arguments(loss=1.0), ValueError, "parameters", "got 'loss'"),
    (lambda: tuned_arguments(x=1.0, x_low=1.0), ValueError, "parameters", "got 'x_low'"),
    (lambda: tuned_arguments(x=[1.0, 2.0], x_0=1.0), ValueError, "parameters", "got 'x_0'"),
    # starts
    (lambda: tuned({"x0": np.ones(7)}), ValueError, "parameters['x0']", "got (7,)"),
    (
        lambda: tuned({"x0": None}, trial=trial(x0=np.full(8, INF))),
        *(ValueError, "parameters['x0']", "got inf at index [0]"),
    ),
    (lambda: tuned_arguments(strength=None), TypeError, OF_STRENGTH, "got None"),
    (lambda: tuned({SIGMA: True}), TypeError, OF_SIGMA, "got True"),
    (lambda: tuned_arguments(strength=[[1.0], [1.0, 2.0]]), TypeError, OF_STRENGTH, "[1.0, 2.0]]"),
    (lambda: tuned_arguments(strength=np.array([["a"]])), TypeError, OF_STRENGTH, "'a'"),
    (lambda: tuned({SIGMA: NAN}), ValueError, OF_SIGMA, "got nan"),
    (lambda: tuned_arguments(strength=[]), ValueError, OF_STRENGTH, "got shape (0,)"),
    # bounds
    (lambda: tuned(bounds={"noise.strenth": (0, 1)}), ValueError, "bounds", "'noise.strength'?"),
    (lambda: tuned(bounds={SIGMA: 0.0}), TypeError, BOUNDS, "got 0.0"),
    (lambda: bounded(0, 1, 2), TypeError, BOUNDS, "got (0, 1, 2)"),
    (lambda: tuned(bounds={SIGMA: "01"}), TypeError, BOUNDS, "got '01'"),
    (lambda: bounded("0", None), TypeError, BOUNDS, "got '0'"),
    (lambda: bounded(NAN, None), ValueError, BOUNDS, "got nan"),
    (lambda: bounded(0.0, INF), ValueError, BOUNDS, "got inf"),
    (lambda: bounded(1.0, 0.0), ValueError, BOUNDS, "got (1, 0)"),
    (lambda: bounded(0.5, 0.5), ValueError, BOUNDS, "got (0.5, 0.5)"),
    (lambda: bounded(1.0, None), ValueError, OF_SIGMA, "(1.0, None), got 0.5"),
    (lambda: bounded(0.5, 1.0), ValueError, OF_SIGMA, "(0.5, 1.0), got 0.5"),
    (lambda: bounded(None, 0.5), ValueError, OF_SIGMA, "(None, 0.5), got 0.5"),
    (
        lambda: tuned({"x0": np.linspace(0, 1, 8)}, bounds={"x0": (-1.0, 0.9)}),
        *(ValueError, "parameters['x0']", "got 1.0 at index [7]"),
    ),
    # how
    (lambda: tuned(optimiser=optax.lbfgs()), TypeError, "optimiser", "this one fails"),
    (lambda: tuned(mode="both"), ValueError, "mode", "got 'both'"),
    (lambda: tuned(verify=2**31), ValueError, "verify", "below 2^31, got 2147483648"),
    (lambda: tuned(steps=2**31), ValueError, "steps", "below 2^31, got 2147483648"),
    (lambda: tuned(tolerance=0), ValueError, "tolerance", "positive number, got 0.0"),
    (lambda: tuned(criterion=hj.Criterion(settle=0.25)), ValueError, "settle", "got 0.25"),
    (lambda: tuned(t1=0.25), ValueError, "t1", "got 0.25"),
    (lambda: tuned(save_every=0.3), ValueError, "save_every", "got 0.3"),
)
def test_wrong_tuning(row):
    assert_refused(row)


@each(
    (lambda: tuned(loss=Drawn()), ValueError, "loss", "two measurements that differ: draw"),
    (lambda: tuned(loss=Measured()), TypeError, "loss", "`measure` of real numbers, got None"),
    (lambda: tuned(loss=Measured(jnp.ones(2))), TypeError, "loss", "got f64[2]"),
    (lambda: tuned(loss=Measured(jnp.ones((), int))), TypeError, "loss", "got i64[]"),
    (lambda: tuned(loss=Measured(None, True)), TypeError, "loss", "`value` of real numbers"),
    (lambda: tuned(loss=Measured([jnp.ones(2)], True)), TypeError, "loss", "f64[2]"),
    (
        lambda: tuned(
            **{"loss": hj.InputCost() + hj.TimeLoss(), "criterion": hj.Criterion(since=0.25)},
            **{"t1": 0.3, "save_every": 0.2},
        ),
        *(ValueError, "since", "last saved time 0.2"),
    ),
    (lambda: hj.OverlapLoss(goal=1.1), ValueError, "goal", "from 0 to 1, got 1.1"),
    (lambda: hj.RetrievalLoss(goal=-0.1), ValueError, "goal", "from 0 to 1, got -0.1"),
    (lambda: hj.OverlapLoss(at_least=2), ValueError, "at_least", "from 0 to 1, got 2"),
    (lambda: hj.RetrievalLoss(goal=0.9, at_least=0.8), ValueError, "at_least", "`goal` is given"),
    (lambda: hj.RetrievalLoss(temperature=0.0), ValueError, "temperature", "got 0.0"),
    (lambda: hj.TimeLoss(temperature=-1.0), ValueError, "temperature", "got -1.0"),
    (lambda: hj.InputCost(0.5), ValueError, "power", "at least 1, got 0.5"),
    (lambda: hj.WeightedSum(hj.InputCost()), TypeError, "losses", "InputCost"),
    (lambda: hj.InputCost().__add__(1.0), TypeError, "losses", "got 1.0"),
    (lambda: hj.WeightedSum([]), ValueError, "losses", "got none"),
    (
        lambda: hj.WeightedSum([hj.InputCost()], [1.0, 2.0]),
        ValueError,
        "weights",
        "1 losses, got 2",
    ),
    (lambda: hj.WeightedSum([hj.InputCost()], 2.0), TypeError, "weights", "got 2.0"),
    (lambda: NAN * hj.InputCost(), ValueError, "weight", "got nan"),
)
def test_wrong_losses(row):
    assert_refused(row)
