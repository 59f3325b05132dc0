"""Study files: what is well-formed becomes the right study, what is not is told by its place."""

import re
from typing import Any

import jax
import pytest

import hopjax as hj
from hopjax.command import FileError, read_study

TOP = {"trials": "4", "seed": "1", "t1": "1.0", "dt": "0.1"}
TRIAL = {"num_neurons": "8", "num_memories": "2", "shown": "[0]"}
SWEEP = "[sweep]\nnoise = [0.5, 1.0]\n"


def text(tables: str = SWEEP, /, criterion: str = "", trial: Any = None, **top: str | None) -> str:
    """A small study file with some lines changed, or left out."""
    lines = [f"{name} = {value}" for name, value in (TOP | top).items() if value is not None]
    own = [f"{name} = {value}" for name, value in (TRIAL | (trial or {})).items()]
    if criterion:
        lines += ["[criterion]", criterion]
    return "\n".join([*lines, "", "[trial]", *own, "", tables])


def read(tmp_path, content: str | bytes, **options: Any) -> hj.Study:
    path = tmp_path / "study.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_study(path, **options)


def sweep(line: str) -> str:
    return text(f"[sweep]\n{line}\n")


def cells(*lines: str) -> str:
    return text("\n".join(f"[[cells]]\n{line}" for line in lines))


# Each with the beginning of the line that is to blame, and what the message says.
MALFORMED: dict[str, tuple[str | bytes, str | None, str]] = {
    "no value": (text(seed=""), "seed =", "is no TOML"),
    "no end": (text(seed='"1'), "seed =", "is no TOML"),
    "key twice": (text() + "noise = [1.0]", None, "is no TOML: Cannot overwrite"),
    "table twice": (text() + "[trial]", None, "is no TOML"),
    "no text": (b"\xff\xfe\x00trials", None, "no text in UTF-8"),
    "a huge number": (text(seed="1" * 5000), None, "seed|is no TOML"),
    "empty": ("", None, "trials: is missing|sweep: give"),
    "unknown key": (text(trails="3"), "trails", "trails: .*did you mean trials"),
    "unknown far from all": (text(xyz="3"), "xyz", "xyz: .*known are trials, seed"),
    "unknown table": (text() + "[trails]", "[trails]", "trails: .*did you mean trial"),
    "unknown field": (text(trial={"nois": "1"}), "nois", r"\[trial\] nois: .*did you mean noise"),
    "unknown swept": (sweep("slop = [1.0]"), "slop", r"\[sweep\] slop: .*did you mean slope"),
    "unknown in cells": (cells("nose = 1.0"), "nose", r"\[cells\] nose: .*did you mean noise"),
    "unknown criterion": (text(criterion="level = 1"), "level", r"\[criterion\] level: .*known"),
    "nested table": (text(trial={"a.b": "1"}), "a.b|[trial]", r"\[trial\] a: "),
    "nested header": (text() + "[trial.slope]\nx = 1", "[trial", r"\[trial\] slope: "),
    "no trials": (text(trials=None), None, "trials: is missing"),
    "no seed": (text(seed=None), None, "seed: is missing"),
    "no t1": (text(t1=None), None, "t1: is missing"),
    "no dt": (text(dt=None), None, "dt: is missing"),
    "no sweep": (text(""), None, "sweep: give .*not both"),
    "both": (text(SWEEP + "[[cells]]\nnoise = 1.0"), "[sweep]", "sweep: give .*not both"),
    "empty sweep": (text("[sweep]"), "[sweep]", r"\[sweep\].*at least one parameter"),
    "empty cells": (text("[[cells]]"), "[[cells]]", r"\[cells\].*at least one parameter"),
    "cells in a list": (text("", cells="[1]"), "cells =", "cells: must be tables"),
    "cells a table": (text("[cells]\nnoise = 1.0"), "[cells]", "cells: must be tables"),
    "sweep a number": (text("", sweep="3"), "sweep =", "sweep: must be a table"),
    "trial a list": ("trial = [1]\n[sweep]\nnoise = [1.0]", "trial =", "trial: must be a table"),
    "criterion a number": (text(**{"criterion ": "3"}), "criterion", "criterion: must be a table"),
    "different cells": (cells("noise = 1.0", "slope = 2.0"), "[[cells]]", "same parameters"),
    "a cell twice": (cells("noise = 1.0", "noise = 1"), "[[cells]]", "no cell twice"),
    "trials a fraction": (text(trials="4.0"), "trials", "trials: must be an integer"),
    "trials a truth value": (text(trials="true"), "trials", "trials: must be an integer"),
    "no trial": (text(trials="0"), "trials", "trials: must be an integer of at least 1, got 0"),
    "trials text": (text(trials='"4"'), "trials", "trials: must be an integer"),
    "trials without end": (text(trials="1" + "0" * 30), "trials", "trials: must be"),
    "seed negative": (text(seed="-1"), "seed", "seed: must be an integer of at least 0, got -1"),
    "seed a fraction": (text(seed="1.5"), "seed", "seed: must be an integer"),
    "seed too large": (text(seed="9223372036854775808"), "seed", "seed: must be below"),
    "t1 text": (text(t1='"1"'), "t1", "t1: must be a positive number"),
    "t1 a truth value": (text(t1="true"), "t1", "t1: must be a positive number"),
    "t1 negative": (text(t1="-1.0"), "t1", "t1: must be a positive number, got -1.0"),
    "t1 infinite": (text(t1="inf"), "t1", "t1: must be a positive number, got inf"),
    "t1 between steps": (text(t1="1.05"), "t1", "t1: must be a whole multiple of dt"),
    "t1 beyond all": (text(t1="1" + "0" * 400), "t1", "t1: must be a positive number"),
    "dt no number": (text(dt="nan"), "dt", "dt: must be a positive number, got nan"),
    "dt beyond t1": (text(dt="2.0"), None, "t1|dt"),
    "dt a list": (text(dt="[0.1]"), "dt", "dt: must be"),
    "save_every": (text(save_every="0.15"), "save_every", "save_every: must be"),
    "solver": (text(solver='"heun"'), "solver", "solver: must be one of .*'heun'"),
    "solver a number": (text(solver="1"), "solver", "solver: must be one of .*got 1"),
    "chunk": (text(chunk="0"), "chunk", "chunk: must be an integer of at least 1, got 0"),
    "paired text": (text(paired='"noise"'), "paired", "paired: must be a sequence of names"),
    "paired unknown": (text(paired='["slope"]'), "paired", "paired: must name swept parameters"),
    "quantiles": (text(quantiles="[0.9, 0.1]"), "quantiles", "quantiles: must be increasing"),
    "quantiles a number": (text(quantiles="0.5"), "quantiles", "quantiles: must be increasing"),
    "a date": (text(trials="2025-01-01"), "trials", "trials: must be an integer"),
    "threshold": (text(criterion="threshold = -1.0"), "threshold", r"\[criterion\] threshold: "),
    "threshold text": (text(criterion='threshold = "a"'), "threshold", r"\[criterion\] threshold"),
    "mirror": (text(criterion="mirror = 1"), "mirror", r"\[criterion\] mirror: must be True or"),
    "settle": (
        text(criterion="settle = 5.0"),
        "settle",
        r"\[criterion\] settle: must be at most t1",
    ),
    "mixed": (text(criterion="mixed = 2.0"), "mixed", r"\[criterion\] mixed: must be at most"),
    "no choice": (text(trial={"model": '"hebb"'}), "model", r"\[trial\] model: .*idp.*'hebb'"),
    "choice a list": (text(trial={"model": '["idp"]'}), "model", r"\[trial\] model: must be one"),
    "neurons a fraction": (text(trial={"num_neurons": "8.5"}), "num_neurons", "num_neurons: "),
    "neurons without end": (
        text(trial={"num_neurons": "1" + "0" * 20}),
        "num_neurons",
        "num_neurons: must be",
    ),
    "a table for a number": (text(trial={"slope": "{ a = 1 }"}), "slope", r"\[trial\] slope: "),
    "a truth value for a number": (text(trial={"slope": "true"}), "slope", r"\[trial\] slope: "),
    "slope": (text(trial={"slope": "-1.0"}), "slope", r"\[trial\] slope: must be positive, got -1"),
    "slope text": (
        text(trial={"slope": '"steep"'}),
        "slope",
        r"\[trial\] slope: must be a finite number",
    ),
    "slope infinite": (
        text(trial={"slope": "inf"}),
        "slope",
        r"\[trial\] slope: must be a finite number, got inf",
    ),
    "load": (
        text(trial={"memory_load": "1.5"}),
        "memory_load",
        r"\[trial\] memory_load: must be at most 1, got 1.5",
    ),
    "load zero": (
        text(trial={"memory_load": "0"}),
        "memory_load",
        r"\[trial\] memory_load: must be a positive number",
    ),
    "corruption": (text(trial={"corruption": "1.5"}), "corruption", "corruption: must be from 0"),
    "dominant": (text(trial={"dominant": "[3, 2]"}), "dominant", "dominant: .*lower end first"),
    "three ends": (text(trial={"dominant": "[1, 2, 3]"}), "dominant", "dominant: must be "),
    "total": (text(trial={"total_weight": '"even"'}), "total_weight", 'total_weight: .*"balanced"'),
    "onsets off the grid": (
        text(trial={"onsets": "[0.0, 0.55]", "shown": "[0, 1]"}),
        "onsets",
        "onsets: ",
    ),
    "onsets not from 0": (text(trial={"onsets": "[0.1]"}), "onsets", "onsets: "),
    "onsets back": (
        text(trial={"onsets": "[0.0, 0.5, 0.2]", "shown": "[0, 1, 0]"}),
        "onsets",
        "onsets: ",
    ),
    "onsets too few": (
        text(trial={"shown": "[0, 1]"}),
        "shown",
        r"\[trial\] shown: does not fit: `onsets` must have one time for each",
    ),
    "shown": (text(trial={"shown": "[2]"}), "shown", r"\[trial\] shown: must be below .*2, got 2"),
    "shown a number": (text(trial={"shown": "0"}), "shown", r"\[trial\] shown: must be a sequence"),
    "shown nothing": (text(trial={"shown": "[]"}), "shown", r"\[trial\] shown: must be a sequence"),
    "target": (text(trial={"target": "7"}), "target", r"\[trial\] target: must be below .*got 7"),
    "start_memory": (text(trial={"start_memory": "-1"}), "start_memory", "start_memory: must be"),
    "too many": (
        text(trial={"num_memories": "9", "memories": '"orthogonal"'}),
        "num_memories",
        "num_memories: ",
    ),
    "not a power of two": (
        text(trial={"num_neurons": "9", "memories": '"orthogonal"'}),
        "num_neurons",
        "num_neurons: ",
    ),
    "swept number": (sweep("noise = 0.5"), "noise", r"\[sweep\] noise: must be a list of values"),
    "swept nothing": (sweep("noise = []"), "noise", r"\[sweep\] noise: must be a list of values"),
    "swept twice": (sweep("noise = [1, 1.0]"), "noise", r"\[sweep\] noise: .*no value twice"),
    "swept nan": (
        sweep("noise = [nan]"),
        "noise",
        r"\[sweep\] noise: must be (a finite number|finite), got nan",
    ),
    "swept text": (sweep('noise = [0.5, "a"]'), "noise", r"\[sweep\] noise: "),
    "swept table": (sweep("noise = [{ a = 1 }]"), "noise", r"\[sweep\] noise: "),
    "swept date": (sweep("noise = [2025-01-01]"), "noise", r"\[sweep\] noise: "),
    "swept negative": (sweep("noise = [0.5, -1.0]"), "noise", r"\[sweep\] noise: .*got -1.0"),
    "swept truth value": (sweep("noise = [0.5, true]"), "noise", r"\[sweep\] noise: "),
    "swept beyond all": (sweep(f"noise = [0.5, 1{'0' * 400}]"), "noise", r"\[sweep\] noise: "),
    "swept choice": (sweep('model = ["idp", "hebb"]'), "model", r"\[sweep\] model: .*'hebb'"),
    "swept step": (sweep("t1 = [1.0, 1.05]"), "t1", "t1.*is swept|t1: .*(given|whole multiple)"),
    "given and swept": (
        text("[sweep]\nslope = [1.0]", trial={"slope": "2.0"}),
        "slope = 2",
        r"\[trial\] slope: is swept too",
    ),
    "range without num": (
        sweep("noise = { start = 0, stop = 1 }"),
        "noise",
        r"\[sweep\] noise: must be { start",
    ),
    "range of one": (
        sweep("noise = { start = 0, stop = 1, num = 1 }"),
        "noise",
        r"\[sweep\] noise: .*at least 2, got 1",
    ),
    "range of a fraction": (
        sweep("noise = { start = 0, stop = 1, num = 2.0 }"),
        "noise",
        r"\[sweep\] noise: .*got 2.0",
    ),
    "range with steps": (
        sweep("noise = { start = 0, stop = 1, step = 0.1 }"),
        "noise",
        r"\[sweep\] noise: must be { start",
    ),
    "range of text": (
        sweep('noise = { start = "0", stop = 1, num = 3 }'),
        "noise",
        r"\[sweep\] noise: must be { start",
    ),
    "range of truth values": (
        sweep("noise = { start = false, stop = 1, num = 3 }"),
        "noise",
        r"\[sweep\] noise: must be { start",
    ),
    "range to infinity": (
        sweep("noise = { start = 0, stop = inf, num = 3 }"),
        "noise",
        r"\[sweep\] noise: must be ",
    ),
    "visits": (
        text(SWEEP + "[visits]\nenter = 2.0"),
        "enter",
        r"\[visits\] enter: must be between",
    ),
    "visits unknown": (text(SWEEP + "[visits]\nexit = 0.2"), "exit", r"\[visits\] exit: is no key"),
    "range of no width": (
        sweep("noise = { start = 1, stop = 1, num = 3 }"),
        "noise",
        r"\[sweep\] noise: must have no value twice",
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_told_by_line_and_key(tmp_path, name):
    content, begin, match = MALFORMED[name]
    with pytest.raises(FileError) as error:
        read(tmp_path, content)
    message = str(error.value)
    assert "\n" not in message
    place = f"{tmp_path / 'study.toml'}:"
    assert message.startswith(place)
    assert re.search(match, message), message
    if begin is not None:
        assert isinstance(content, str)
        lines = content.splitlines()
        starts = tuple(begin.split("|"))
        known = [str(n) for n, line in enumerate(lines, 1) if line.startswith(starts)]
        assert known
        assert message.removeprefix(place).split(":")[0] in known, message


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileError, match=r"none\.toml: cannot be read: No such file"):
        read_study(tmp_path / "none.toml")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read_study(tmp_path)


@pytest.mark.slow
def test_a_file_is_the_study_that_it_says(tmp_path):
    content = text(
        '[sweep]\nnoise = [0, 1.5]\nmodel = ["idp", "classic"]\ndominant = [2, [2.0, 3.5]]\n',
        criterion="threshold = 0.8\nsettle = 0.5\nmirror = false\nsince = 0.1\nmixed = 0.2",
        trial={"law": '"two_point"', "previous": "[0.2, 0.6]", "self_coupling": "true"},
        paired='["noise"]',
        chunk="3",
        quantiles="[0.5]",
        save_every="0.2",
        solver='"exponential"',
    )
    task = hj.Retrieval(
        num_neurons=8,
        num_memories=2,
        shown=(0,),
        law="two_point",
        previous=(0.2, 0.6),
        self_coupling=True,
    )
    expected = hj.Study(
        task,
        {"noise": [0.0, 1.5], "model": ["idp", "classic"], "dominant": [2.0, (2.0, 3.5)]},
        trials=4,
        key=jax.random.key(1),
        t1=1.0,
        dt=0.1,
        save_every=0.2,
        paired=["noise"],
        chunk=3,
        quantiles=[0.5],
        solver=hj.ExponentialAdams(),
        criterion=hj.Criterion(0.8, settle=0.5, mirror=False, since=0.1, mixed=0.2),
    )
    found = read(tmp_path, content)
    assert found.cells == expected.cells
    assert len(found.cells) == 8
    assert found.trials == 4
    assert found._work.quantiles == (0.5,)
    left, right = found._work.definition(), expected._work.definition()
    # The first cell fills what is swept.
    for definition in (left, right):
        for name in ("noise", "model", "dominant"):
            definition["trial"].pop(name, None)
    assert left == right
    assert read(tmp_path, content, trials=9).trials == 9


def test_ranges_have_both_ends_and_the_digits_that_one_would_write(tmp_path):
    found = read(tmp_path, sweep("noise = { start = 0.1, stop = 0.5, num = 5 }"))
    assert [cell["noise"] for cell in found.cells] == [0.1, 0.2, 0.3, 0.4, 0.5]
    found = read(tmp_path, sweep("noise = { start = 2, stop = 0, num = 3 }"))
    assert [cell["noise"] for cell in found.cells] == [2.0, 1.0, 0.0]


def test_cells_one_by_one(tmp_path):
    found = read(tmp_path, cells('noise = 1\nmodel = "idp"', 'noise = 0.5\nmodel = "classic"'))
    assert found.cells == [{"noise": 1.0, "model": "idp"}, {"noise": 0.5, "model": "classic"}]
    # In cells too a time can be swept.
    content = "[[cells]]\nt1 = 1\ndt = 0.1\n[[cells]]\nt1 = 2\ndt = 0.05\n"
    assert len(read(tmp_path, text(content, t1=None, dt=None)).cells) == 2


def test_what_is_swept_together_may_fit_though_the_rest_alone_does_not(tmp_path):
    # Memory 1 is shown, and only the cells have two memories.
    content = text("[sweep]\nnum_memories = [2, 4]\n", trial={"shown": "[1]"})
    content = content.replace("num_memories = 2\n", "")
    assert [cell["num_memories"] for cell in read(tmp_path, content).cells] == [2, 4]


def test_windows_line_ends_do_not_matter(tmp_path):
    content = text().replace("\n", "\r\n")
    assert len(read(tmp_path, content).cells) == 2
    assert read(tmp_path, content).cells == read(tmp_path, text()).cells


SEQUENCE = {
    "model": '"sequential"',
    **{"activation": '"hard_tanh"', "slope": "1.0", "self_coupling": "true"},
    **{"num_neurons": "64", "num_memories": "4", "memories": '"orthogonal"'},
    **{"gain": "5.0", "time_constant": "4.0", "noise": "0.05"},
    **{"strength": "0.0", "start": '"memory"'},
}


@pytest.mark.slow
def test_a_sequence_of_memories_in_a_file(tmp_path):
    tables = "[sweep]\ngain = [2.0, 5.0]\n[visits]\nmax_visits = 5\n"
    trial = {name: value for name, value in SEQUENCE.items() if name != "gain"}
    content = text(tables, trial=trial, t1="30.0", save_every="0.5", solver='"exponential"')
    dataset = read(tmp_path, content).run(progress=False)
    dies, lives = (dataset.sel(gain=gain) for gain in (2.0, 5.0))
    assert (dies.visits_collapse < 30).all()
    assert (lives.visits_run >= 2).all()
    assert (lives.visits_order[:, :3] == [0, 1, 2]).all()


@pytest.mark.slow
def test_visits_of_a_network_without_transitions_need_them(tmp_path):
    trial = {name: SEQUENCE[name] for name in ("num_neurons", "num_memories")}
    content = text("[sweep]\nnoise = [0.1]\n[visits]\nmax_visits = 5\n", trial=trial)
    with pytest.raises(
        FileError, match=r"toml:\d+: visits: needs transitions, .* model = 'idp'\.$"
    ):
        read(tmp_path, content)
    swept = content.replace("noise = [0.1]", 'model = ["sequential", "classic"]')
    with pytest.raises(
        FileError, match=r"toml:\d+: visits: needs transitions, .* model = 'classic'"
    ):
        read(tmp_path, swept)
    content += "transitions = [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]\n"
    assert len(read(tmp_path, content).cells) == 1


@pytest.mark.slow
def test_a_sequence_that_goes_as_the_file_says(tmp_path):
    """Backwards, and from the memory whose saliency is the largest at the start."""
    trial = SEQUENCE | {
        "initial_saliencies": "[0, 0, 5, 0]",
        "transitions": "[[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]",
        "start": '"normal"',
    }
    del trial["time_constant"]
    tables = "[sweep]\ntime_constant = [3.0, 4.0]\n[visits]\nmax_visits = 5\n"
    content = text(tables, trial=trial, t1="20.0", save_every="0.5", solver='"exponential"')
    dataset = read(tmp_path, content).run(progress=False)
    assert (dataset.visits_order[..., :3] == [2, 1, 0]).all()
