"""Files of a tuning: the well-formed become the right one, mistakes are told by their place."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hopjax as hj
from hopjax.command import FileError, TuningArguments, read_tuning
from hopjax.store.identity import describe
from hopjax.tuning.descent import promoting

TOP = {"seed": "1", "t1": "1.0", "dt": "0.1", "trials": "4"}
TRIAL = {"num_neurons": "8", "num_memories": "2", "shown": "[0]", "start": '"memory"'}
LOSS = 'kind = "retrieval"'


def text(
    tune: str = "strength = 2.0", loss: str | None = LOSS, /, trial: Any = None, **top: str | None
) -> str:
    """A small file with some lines changed, or left out."""
    lines = [f"{name} = {value}" for name, value in (TOP | top).items() if value is not None]
    own = [f"{name} = {value}" for name, value in (TRIAL | (trial or {})).items()]
    more = [] if loss is None else ["[[loss]]", loss]
    return "\n".join([*lines, "[trial]", *own, "[tune]", tune, *more, ""])


def tuned(value: str, name: str = "strength") -> str:
    return text(f"{name} = {value}")


def losses(*tables: str) -> str:
    return text("strength = 2.0", "\n[[loss]]\n".join(tables))


def top(line: str) -> str:
    """With a line at the top in the place of the tables of losses."""
    return f"{line}\n{text('strength = 2.0', None)}"


def read(tmp_path, content: str | bytes) -> TuningArguments:
    path = tmp_path / "tune.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_tuning(path)


# Each with the beginning of the line that is to blame, if one is, and what is said of it.
MALFORMED: dict[str, tuple[str | bytes, str | None, str]] = {
    "no value": (text(seed=""), "seed =", r"is no TOML: Invalid value \(at line 1, column 8\)\."),
    "no text": (b"\xff\xfe\x00seed", None, r"is no text in UTF-8\."),
    "empty": ("", None, r"seed: is missing, a whole number\."),
    "no seed": (text(seed=None), None, r"seed: is missing, a whole number\."),
    "no t1": (text(t1=None), None, r"t1: is missing, in time constants of a neuron\."),
    "no dt": (text(dt=None), None, r"dt: is missing, in time constants of a neuron\."),
    "no tune": (
        text().replace("[tune]\nstrength = 2.0", ""),
        None,
        r"tune: is missing, a table \[tune\] of what is tuned and from where\.",
    ),
    "no loss": (
        text("strength = 2.0", None),
        None,
        r"loss: is missing, a table \[\[loss\]\] of what is to become small\.",
    ),
    "unknown key": (
        text(stesp="3"),
        "stesp",
        r"stesp: is no key that is known here: did you mean steps\?",
    ),
    "unknown far from all": (
        text(xyz="3"),
        "xyz",
        r"xyz: is no key that is known here: known are seed, t1, .*, tune, loss\.",
    ),
    "unknown table": (text() + "[cells]", "[cells]", "cells: is no key that is known here: known"),
    "a study's key": (text(paired='["noise"]'), "paired", "paired: is no key that is known here"),
    "unknown field": (
        text(trial={"nois": "1"}),
        "nois",
        r"\[trial\] nois: is no key that is known here: did you mean noise\?",
    ),
    "unknown criterion": (
        text() + "[criterion]\nlevel = 1",
        "level",
        r"\[criterion\] level: is no key that is known here: known are threshold, ",
    ),
    "tune a number": (
        text().replace("[tune]\nstrength = 2.0", "").replace("seed", "tune = 3\nseed"),
        "tune",
        r"tune: must be a table, \[tune\], got 3\.",
    ),
    "trial a list": (
        "trial = [1]\n" + text().replace("[trial]", "[criterion]"),
        "trial",
        r"trial: must be a table, \[trial\], got \[1\]\.",
    ),
    "seed negative": (text(seed="-1"), "seed", "seed: must be an integer of at least 0, got -1"),
    "seed too large": (
        text(seed="9223372036854775808"),
        "seed",
        r"seed: must be below 2\^63, got 9223372036854775808\.",
    ),
    "t1 text": (text(t1='"1"'), "t1", r"t1: must be a positive number, got '1' \(str\)\."),
    "t1 between steps": (text(t1="1.05"), "t1", "t1: must be a whole multiple of dt"),
    "dt no number": (text(dt="nan"), "dt", r"dt: must be a positive number, got nan\."),
    "save_every": (text(save_every="0.15"), "save_every", "save_every: must be"),
    "trials": (text(trials="0"), "trials", "trials: must be an integer of at least 1, got 0"),
    "steps": (text(steps="0"), "steps", r"steps: must be an integer of at least 1, got 0\."),
    "steps a fraction": (text(steps="2.5"), "steps", "steps: must be an integer of at least 1"),
    "verify": (text(verify="true"), "verify", "verify: must be an integer of at least 1, got True"),
    "window": (text(window='"2"'), "window", "window: must be an integer of at least 1, got '2'"),
    "tolerance": (text(tolerance="0"), "tolerance", "tolerance: must be a positive number, got 0"),
    "fresh": (text(fresh="1"), "fresh", r"fresh: must be True or False, got 1 \(int\)\."),
    "mode": (
        text(mode='"sideways"'),
        "mode",
        """mode: must be "forward", "reverse" or None, got 'sideways'""",
    ),
    "chunk": (text(chunk="0"), "chunk", r"chunk: must be an integer of at least 1, got 0\."),
    "unknown optimiser": (
        text(optimiser='"adamm"', learning_rate="0.1"),
        "optimiser",
        r"""optimiser: must be one of "adam", "lion", "rmsprop", "sgd", got 'adamm'\.""",
    ),
    "optimiser a list": (text(optimiser='["adam"]'), "optimiser", r"optimiser: .*got \['adam'\]\."),
    "optimiser without a rate": (
        text(optimiser='"adam"'),
        "optimiser",
        r"optimiser: must come with a learning_rate, a positive number\.",
    ),
    "rate without an optimiser": (
        text(learning_rate="0.1"),
        "learning_rate",
        r"learning_rate: must come with an optimiser\.",
    ),
    "no rate": (
        text(optimiser='"adam"', learning_rate="0"),
        "learning_rate",
        r"learning_rate: must be a positive number, got 0\.0\.",
    ),
    "settle": (
        text() + "[criterion]\nsettle = 5.0",
        "settle",
        r"\[criterion\] settle: must be at most t1",
    ),
    "no choice": (text(trial={"model": '"hebb"'}), "model", r"\[trial\] model: .*idp.*'hebb'"),
    "slope": (text(trial={"slope": "-1.0"}), "slope", r"\[trial\] slope: must be positive, got -1"),
    "shown": (text(trial={"shown": "[2]"}), "shown", r"\[trial\] shown: must be below .*2, got 2"),
    "onsets off the grid": (text(trial={"onsets": "[0.05]"}), "onsets", r"\[trial\] onsets: "),
    "too many": (
        text(trial={"num_memories": "9", "memories": '"orthogonal"'}),
        "num_memories",
        r"\[trial\] num_memories: ",
    ),
    "tuned twice": (
        text("slope = 5.0", trial={"slope": "2.0"}),
        "slope = 2",
        r"\[trial\] slope: is tuned too: give it once\.",
    ),
    "nothing tuned": (text(""), "[tune]", r"\[tune\]: must have at least one parameter\."),
    "unknown parameter": (
        tuned("1.0", "strenght"),
        "strenght",
        r"\[tune\] strenght: is no number of the trial that can be tuned: did you mean strength\?",
    ),
    "a whole number is tuned": (
        tuned("16", "num_neurons"),
        "num_neurons = 16",
        r"\[tune\] num_neurons: is no number of the trial that can be tuned: known are cor",
    ),
    "what fixes shapes is tuned": (
        tuned("0.5", "memory_load"),
        "memory_load",
        r"\[tune\] memory_load: is no number of the trial",
    ),
    "time is tuned": (tuned("2.0", "t1"), "t1 = 2.0", r"\[tune\] t1: is no number of the trial"),
    "start text": (
        tuned('"strong"'),
        "strength",
        r"\[tune\] strength: must be a finite number, got 'strong' \(str\)\.",
    ),
    "start a truth value": (
        tuned("true"),
        "strength",
        r"\[tune\] strength: must be a finite number, got True \(bool\)\.",
    ),
    "start infinite": (
        tuned("inf"),
        "strength",
        r"\[tune\] strength: must be a finite number, got inf\.",
    ),
    "start beyond all": (tuned("1" + "0" * 400), "strength", r"\[tune\] strength: must be a finit"),
    "start out of range": (
        tuned("{ start = -1.0 }"),
        "strength",
        r"\[tune\] strength: must be zero or positive, got -1\.0\.",
    ),
    "start several": (tuned("[1.0, 2.0]"), "strength", r"\[tune\] strength: must be a finite numb"),
    "start a date": (
        tuned("2025-01-01"),
        "strength",
        r"\[tune\] strength: must be a finite number",
    ),
    "a pair of three": (
        tuned("[1.0, 2.0, 3.0]", "dominant"),
        "dominant",
        r"\[tune\] dominant: must be a number or a pair \(low, high\)",
    ),
    "a pair of words": (
        tuned('["a", "b"]', "dominant"),
        "dominant",
        r"\[tune\] dominant: must be a finite number, got 'a' \(str\)\.",
    ),
    "bounds without a start": (
        tuned("{ low = 0.0 }"),
        "strength",
        r"\[tune\] strength: must be a number, or { start = 2\.0, low = 0\.0, high = 10\.0 } with "
        r"or without bounds, got {'low': 0\.0}\.",
    ),
    "unknown bound": (
        tuned("{ start = 2.0, hihg = 3.0 }"),
        "strength",
        r"\[tune\] strength: must be a number, or { start",
    ),
    "no table": (tuned("{}"), "strength", r"\[tune\] strength: must be a number, or { start"),
    "a bound of words": (
        tuned('{ start = 2.0, low = "zero" }'),
        "strength",
        r"\[tune\] strength: low must be a finite number, got 'zero' \(str\)\.",
    ),
    "a bound of no size": (
        tuned("{ start = 2.0, high = inf }"),
        "strength",
        r"\[tune\] strength: high must be a finite number, got inf\.",
    ),
    "bounds the other way round": (
        tuned("{ start = 2.0, low = 3.0, high = 1.0 }"),
        "strength",
        r"\[tune\] strength: must have its lower end below the upper one, got \(3, 1\)\.",
    ),
    "bounds at one place": (
        tuned("{ start = 2.0, low = 2.0, high = 2.0 }"),
        "strength",
        r"\[tune\] strength: must have its lower end below the upper one, got \(2, 2\)\.",
    ),
    "a start outside": (
        tuned("{ start = 2.0, low = 3.0 }"),
        "strength",
        r"\[tune\] strength: must be inside its bounds \(3\.0, None\), got 2\.0\.",
    ),
    "a start on a bound": (
        tuned("{ start = 0.0, low = 0.0 }"),
        "strength",
        r"\[tune\] strength: must be inside its bounds \(0\.0, None\), got 0\.0\.",
    ),
    "a table with a header": (
        text("[tune.strength]\nstart = 2.0\nlow = 3.0"),
        "[tune.strength]",
        r"\[tune\] strength: must be inside its bounds",
    ),
    "losses no tables": (top("loss = [1, 2]"), "loss", r"loss: must be tables, \[\[loss\]\]\."),
    "loss a number": (top("loss = 3"), "loss", r"loss: must be tables, \[\[loss\]\]\."),
    "loss a table": (
        text().replace("[[loss]]", "[loss]"),
        "[loss]",
        r"loss: must be tables, \[\[loss\]\]\.",
    ),
    "no losses": (
        top("loss = []"),
        "loss",
        r"loss: must be at least one table \[\[loss\]\]\.",
    ),
    "no kind": (
        losses("temperature = 0.1"),
        "[[loss]]",
        r'\[loss\] kind: is missing, one of "overlap", "retrieval", "time", "input_cost"\.',
    ),
    "unknown kind": (
        losses('kind = "retrieved"'),
        "kind",
        r"""\[loss\] kind: must be one of "overlap", .*"input_cost", got 'retrieved'\.""",
    ),
    "kind a list": (losses('kind = ["time"]'), "kind", r"\[loss\] kind: .*, got \['time'\]\."),
    "unknown option": (
        losses(LOSS + "\ntemperture = 0.1"),
        "temperture",
        r'\[loss\] temperture: is no key of the kind "retrieval": did you mean temperature\?',
    ),
    "an option of another kind": (
        losses('kind = "time"\ngoal = 0.9'),
        "goal",
        r'\[loss\] goal: is no key of the kind "time": known are kind, weight, '
        r"temperature\.",
    ),
    "weight": (
        losses(LOSS + '\nweight = "2"'),
        "weight",
        r"\[loss\] weight: must be a finite number, got '2' \(str\)\.",
    ),
    "goal": (
        losses(LOSS + "\ngoal = 1.5"),
        "goal",
        r"\[loss\] goal: must be from 0 to 1, got 1\.5\.",
    ),
    "goals": (
        losses(LOSS + "\ngoal = 0.5\nat_least = 0.5"),
        "at_least",
        r"\[loss\] at_least: must be None where `goal` is given\.",
    ),
    "temperature": (
        losses(LOSS + "\ntemperature = 0"),
        "temperature",
        r"\[loss\] temperature: must be a positive number, got 0\.0\.",
    ),
    **{
        f"{key} of a loss": (
            losses(LOSS, f'kind = "{kind}"\n{key} = {value}'),
            key,
            rf"\[loss\] {key}: belongs into the table \[criterion\], which all losses and the ",
        )
        for kind, key, value in (
            *(("overlap", "settle", "1.0"), ("retrieval", "threshold", "0.9")),
            *(("time", "since", "0.1"), ("input_cost", "mirror", "true")),
            *(("retrieval", "judge", '"mean"'), ("time", "amplitude", "0.5")),
        )
    },
    "judge": (
        text() + '[criterion]\njudge = "median"',
        "judge",
        r"""\[criterion\] judge: must be one of "mean", "instants", got 'median'\.""",
    ),
    "amplitude": (
        text() + "[criterion]\namplitude = -1",
        "amplitude",
        r"\[criterion\] amplitude: must be zero or positive, got -1\.",
    ),
    "targets": (
        text(trial={"target": "[0, 2]"}),
        "target",
        r"\[trial\] target: must be below the number of memories, 2, got 2\.",
    ),
    "no targets": (text(trial={"target": "[]"}), "target", r"\[trial\] target: must be a seq"),
    "since of what is not saved": (
        text("strength = 2.0\n[criterion]\nsince = 0.9", 'kind = "time"', save_every="0.4"),
        "since",
        r"\[criterion\] since: must be below the last saved time 0\.8 for a TimeLoss",
    ),
    "power": (
        losses('kind = "input_cost"\npower = 0.5'),
        "power",
        r"\[loss\] power: must be at least 1, got 0\.5\.",
    ),
    "the second loss": (
        losses(LOSS + "\ntemperature = 0.1", 'kind = "time"\ntemperature  = -1'),
        "temperature  =",
        r"\[loss\] temperature: must be a positive number, got -1\.0\.",
    ),
    "the kind of the second loss": (
        losses(LOSS, 'kind  = "tiem"'),
        "kind  =",
        r"\[loss\] kind: must be one of ",
    ),
    "a loss within a line": (
        top('loss = [{ kind = "time", power = 2 }]'),
        "loss",
        r'\[loss\] power: is no key of the kind "time"',
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_told_by_line_and_key(tmp_path, name):
    content, begin, match = MALFORMED[name]
    with pytest.raises(FileError) as error:
        read(tmp_path, content)
    place, _, message = str(error.value).partition(": ")
    assert "\n" not in message
    assert re.match(match, message), message
    path, _, line = place.removeprefix(str(tmp_path)).partition(":")
    assert path == "/tune.toml"
    if begin is None:
        assert line == ""
    else:
        assert isinstance(content, str)
        assert content.splitlines()[int(line) - 1].startswith(begin)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileError, match=r"none\.toml: cannot be read: No such file"):
        read_tuning(tmp_path / "none.toml")


def same(one, other) -> bool:
    """Whether two modules have the same numbers, or two optimisers make the same steps."""
    if not isinstance(one, optax.GradientTransformation):
        return describe(one) == describe(other)
    z = jnp.array([1.0, -2.0])
    with promoting():
        steps = [each.update(0.5 * z, each.init(z), z) for each in (one, other)]
    return bool(eqx.tree_equal(*steps))


@pytest.mark.slow
def test_a_file_is_what_it_says(tmp_path):
    content = text(
        "strength = { start = 2, low = 0 }\nnoise = { start = 1.5, low = 0.5, high = 3 }\n"
        "dominant = [2.0, 3.5]\nslope = { start = 10.0 }\n"
        "[tune.background]\nstart = 0.5\nhigh = 1.0\n"
        "[criterion]\nthreshold = 0.8\nmirror = false\nsettle = 0.5\njudge = 'instants'\n"
        "since = 0.1\nmixed = 0.25\namplitude = 0.4",
        'kind = "retrieval"\ntemperature = 0.1\nstraight_through = true\ngoal = 0.95\n'
        '[[loss]]\nkind = "overlap"\nat_least = 0.9\nweight = 2\n'
        '[[loss]]\nkind = "time"\ntemperature = 0.2\nweight = 0.5\n'
        '[[loss]]\nkind = "input_cost"\npower = 1',
        save_every="0.2",
        steps="7",
        verify="20",
        window="3",
        tolerance="0.01",
        fresh="false",
        mode='"reverse"',
        chunk="2",
        solver='"exponential"',
        optimiser='"rmsprop"',
        learning_rate="0.03",
    )
    trial, parameters, options = read(tmp_path, content)
    start = {"strength": 2, "noise": 1.5, "dominant": (2.0, 3.5), "slope": 10, "background": 0.5}
    assert parameters == start
    assert trial == hj.Retrieval(
        num_neurons=8, num_memories=2, shown=(0,), start="memory", **parameters
    )
    assert options.pop("bounds") == {
        **{"strength": (0, None), "noise": (0.5, 3), "background": (None, 1.0)}
    }
    loss = hj.WeightedSum(
        [
            hj.RetrievalLoss(temperature=0.1, straight_through=True, goal=0.95),
            hj.OverlapLoss(at_least=0.9),
            hj.TimeLoss(temperature=0.2),
            hj.InputCost(1),
        ],
        [1, 2, 0.5, 1],
    )
    expected = {
        "loss": loss,
        "optimiser": optax.rmsprop(0.03),
        "criterion": hj.Criterion(
            *(0.8,),
            **{"mixed": 0.25, "settle": 0.5, "since": 0.1, "mirror": False},
            judge="instants",
            amplitude=0.4,
        ),
    }
    for name, value in expected.items():
        assert same(options.pop(name), value)
    assert describe(options.pop("solver")) == describe(hj.ExponentialAdams())
    key = options.pop("key")
    np.testing.assert_array_equal(jax.random.key_data(key), [0, 1])
    assert options == {
        **{"t1": 1.0, "dt": 0.1, "save_every": 0.2, "trials": 4, "steps": 7, "verify": 20},
        **{"window": 3, "tolerance": 0.01, "fresh": False, "mode": "reverse", "chunk": 2},
    }


def test_what_is_left_out_is_as_in_tune(tmp_path):
    task, parameters, options = read(tmp_path, text())
    assert parameters == {"strength": 2.0}
    assert isinstance(task, hj.Retrieval)
    assert task.strength == 2.0
    assert {"t1", "dt", "key", "loss", "trials"} < set(options)
    assert options["bounds"] == {}
    assert options["optimiser"] is None
    assert options["solver"] is None
    assert not {"steps", "verify", "window", "tolerance", "fresh", "mode", "chunk"} & set(options)
    assert describe(options["criterion"]) == describe(hj.Criterion())


@pytest.mark.parametrize("name", ["adam", "lion", "rmsprop", "sgd"])
def test_optimisers_go_by_their_names(tmp_path, name):
    _, _, options = read(tmp_path, text(optimiser=f'"{name}"', learning_rate="0.1"))
    assert same(options["optimiser"], getattr(optax, name)(0.1))


def test_windows_line_ends_do_not_matter(tmp_path):
    content = losses(LOSS, 'kind = "tiem"').replace("\n", "\r\n")
    with pytest.raises(FileError, match=r"tune\.toml:15: \[loss\] kind: must be one of"):
        read(tmp_path, content)
