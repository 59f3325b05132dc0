"""Files about a function of the user's own: the same numbers as in Python, mistakes in one line."""

import itertools
import re
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from conftest import ROOT
from numpy.testing import assert_array_equal
from test_cli import Call

import hopjax as hj
from hopjax.command import FileError, read_study, read_tuning
from hopjax.study.study import Estimate

MODULE = '''
import functools
import jax.numpy as jnp
import hopjax as hj
from helper_of_own import HALF

class Kind:
    """Something else."""

number = 3
task = hj.Retrieval(num_neurons=8, num_memories=2)

def trial(key, noise, number, *, weight=3.0, name="idp"):
    memories = hj.random_memories(key, num_memories=number, num_neurons=8)
    shown = hj.mixture(memories, HALF * weight * jnp.linspace(1.0, 0.0, number))
    return hj.Trial(hj.IDPHopfield(memories), shown, 0.1 * memories[1], hj.AdditiveNoise(noise))

def without_names(key, **parameters):
    return trial(key, **parameters)

def failing(key, noise):
    raise ValueError("it is so")

Kind.inside = staticmethod(trial)
'''
STUDY = """
trial = "MODULE:trial"
trials = 3
seed = 2
t1 = 0.2
dt = 0.1
static = ["number"]

[parameters]
weight = 2.0

[sweep]
noise = [1, 2]
number = [2]
"""
TUNE = """
trial = "MODULE:trial"
trials = 2
seed = 2
t1 = 0.2
dt = 0.1
steps = 1
window = 1
verify = 2

[parameters]
number = 2
noise = 0.5

[tune]
weight = 2.0

[[loss]]
kind = "overlap"
"""
NUMBERS = itertools.count()


class Files:
    """A folder with files and a module of a name of its own."""

    def __init__(self, folder: Path):
        self.folder, self.module = folder, f"own_{next(NUMBERS)}"
        (folder / f"{self.module}.py").write_text(MODULE)
        (folder / "helper_of_own.py").write_text("HALF = 0.5\n")

    def write(self, text: str, *changes: str) -> Path:
        """The file, with texts in the place of others."""
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "file.toml"
        path.write_text(text.replace("MODULE", self.module))
        return path


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = {*sys.modules}
    yield Files(tmp_path)
    for name in {*sys.modules} - known:
        if name.startswith(("own_", "helper_of_own")):
            del sys.modules[name]


@pytest.mark.slow
def test_a_study_of_a_function_goes_through_the_command(files, monkeypatch, capsys):
    call, path, folder = Call(monkeypatch, capsys), files.write(STUDY), files.folder / "out"
    code, said, errors = call("study", path, "--out", folder)
    assert (code, errors[-1]) == (0, f"saved {folder / 'result.nc'}")
    assert said.splitlines()[1].split()[:2] == ["1", "2"]  # noise and number
    # Showing needs no function, going on does, and knows what was set.
    (files.folder / f"{files.module}.py").rename(files.folder / "gone.py")
    del sys.modules[files.module]
    assert call("show", folder)[1] == said
    code, _, errors = call("study", path, "--out", folder)
    assert (code, len(errors)) == (2, 1)
    assert f"file.toml:2: trial: there is no module {files.module} in " in errors[0]
    (files.folder / "gone.py").rename(files.folder / f"{files.module}.py")
    files.write(STUDY, "weight = 2.0", "weight = 2.5")
    code, _, errors = call("study", path, "--out", folder)
    assert code == 2
    assert "another study, which differs in trial.keywords.weight (2 there, 2.5 her" in errors[-1]
    # And a dry run of it, but for the work.
    cost = Estimate(2, 6, 4, 1.0, 10, 10)
    monkeypatch.setattr(hj.Study, "estimate", lambda *_: cost)
    code, said, errors = call("study", path, "--dry-run")
    assert (code, errors) == (0, ["measuring ..."])
    assert said.splitlines()[:2] == ["noise = 1, number = 2", "noise = 2, number = 2"]


@pytest.mark.slow
def test_a_study_of_a_function_is_that_of_python(files):
    work = read_study(files.write(STUDY))._work
    function = sys.modules[files.module].trial

    def trial(key, noise, number):
        return function(key, noise, number, weight=2.0)

    settings: dict[str, Any] = {"trials": 3, "key": jax.random.key(2), "t1": 0.2, "dt": 0.1}
    sweep = {"noise": [1, 2], "number": [2]}
    mine = hj.Study(trial, sweep, static=["number"], **settings)._work
    assert {*work.code().digests.values()} == {*mine.code().digests.values()}
    for one, other in zip(work.cells, mine.cells, strict=True):
        assert_array_equal(jax.random.key_data(one.key), jax.random.key_data(other.key))


def test_a_tuning_of_a_function_is_that_of_python(files):
    trial, parameters, options = read_tuning(files.write(TUNE))
    assert parameters == {"weight": 2.0}
    assert options["trials"] == 2
    key, function = jax.random.key(0), sys.modules[files.module].trial
    for weight in (2.0, 3.0):
        made, expected = trial(key, weight=weight), function(key, 0.5, 2, weight=weight)
        assert_array_equal(made.inputs, expected.inputs)
        assert made.noise.strength == expected.noise.strength


@pytest.mark.parametrize("name", ["Kind.inside", "without_names"])
def test_functions_inside_others_and_of_any_parameters(files, name):
    study = read_study(files.write(STUDY, "MODULE:trial", f"MODULE:{name}"))
    assert [cell["noise"] for cell in study.cells] == [1, 2]


def test_a_task_with_its_own_static_fields(files):
    changes = ("MODULE:trial", "MODULE:task", 'static = ["number"]\n', "")
    changes += ("number = [2]", "num_memories = [2]", "weight", "slope")
    study = read_study(files.write(STUDY, *changes))
    assert study.cells[1] == {"noise": 2.0, "num_memories": 2}
    trial: Any = study._work.trial
    assert trial.keywords == {"slope": 2.0}


def test_the_module_may_be_in_the_working_directory(files, tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("elsewhere") / "file.toml"
    path.write_text(files.write(STUDY).read_text())
    monkeypatch.chdir(files.folder)
    assert len(read_study(path).cells) == 2


MISTAKES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no module": (
        STUDY,
        ("MODULE:", "nowhere_at_all:"),
        ":2: trial: there is no module nowhere_at",
    ),
    "no inner module": (STUDY, ("MODULE:", "MODULE.inner:"), ":2: trial: there is no module own_"),
    "no function": (STUDY, (":trial", ":trail"), r":2: trial: there is no trail in .*own_.*\.py\."),
    "no colon": (STUDY, ("MODULE:trial", "MODULE"), ":2: trial: must be a table, .* got 'own_"),
    "a path": (STUDY, ("MODULE:", "./MODULE.py:"), ":2: trial: must be a table, .*module:function"),
    "empty": (STUDY, ("MODULE:trial", ""), ":2: trial: must be a table, .*, got ''"),
    "a number": (STUDY, (":trial", ":number"), ":2: trial: .*:number must be a function, got 3"),
    "a class": (STUDY, (":trial", ":Kind"), ":2: trial: .* must be a function, got the class Kind"),
    "a table too": (STUDY, ("[parameters]", "[trial]"), "is no TOML"),
    "no text": (STUDY, ('"MODULE:trial"', "3"), r":2: trial: must be a table, \[trial\], got 3"),
    "unknown set": (
        *(STUDY, ("weight", "weigth")),
        r":10: \[parameters\] weigth: is no parameter of own_\d+:trial: did you mean weight\?",
    ),
    "unknown swept": (
        *(STUDY, ("noise = [1, 2]", "sigma = [1.0]")),
        r":13: \[sweep\] sigma: is no parameter of own_.*: known are noise, number, weight, name,",
    ),
    "swept and set": (STUDY, ("weight = 2.0", "noise = 1.0"), ":10: .* noise: is swept too"),
    "missing": (
        *(STUDY, ("noise = [1, 2]\n", "")),
        r":2: trial: own_\d+:trial needs noise too, neither set in \[parameters\] nor swept; its "
        r"parameters are noise, number, weight, name\.",
    ),
    "not static": (
        *(STUDY, ('static = ["number"]\n', "")),
        r'static: must be \["number"\]: parameter `number` fixes a shape or a choice\. \(In the',
    ),
    "static unknown": (STUDY, ('["number"]', '["weight"]'), ":7: static: must name swept"),
    "failing": (
        *(
            STUDY,
            (":trial", ":failing", "number = [2]\n", "", "weight = 2.0\n", "", '["number"]', "[]"),
        ),
        r"it is so \(In the cell noise = 1",
    ),
    "no function for parameters": (
        *(STUDY, ('trial = "MODULE:trial"\n', "")),
        r":8: parameters: belongs to a function, trial = ",
    ),
    "tuned unknown": (
        *(TUNE, ("weight =", "weigth =")),
        r":16: \[tune\] weigth: is no parameter of own_\d+:trial: did you mean weight\?",
    ),
    "tuned and set": (TUNE, ("noise =", "weight ="), r"weight: is tuned too: give it once"),
    "tuned missing": (TUNE, ("noise = 0.5", ""), r"needs noise too, .* nor tuned; its parameters"),
    "tuned shape": (
        *(TUNE, ("number = 2\n", "", "weight = 2.0", "number = 2")),
        r"num_memories: must be an integer of at least 1, got an array of dtype",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_of_the_key(files, name):
    text, changes, says = MISTAKES[name]
    path = files.write(text, *changes)
    with pytest.raises(FileError, match=f"^{re.escape(str(path))}.*{says}") as error:
        (read_tuning if "tune" in text else read_study)(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import nowhere_at_all", "imports nowhere_at_all: No module named 'nowhere_at_all'"),
        ("def (", "cannot be imported: SyntaxError: "),
        ("\n1 / 0", r"cannot be imported: ZeroDivisionError: division by zero \(.*own.*, line 2\)"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported(files, body, says):
    (files.folder / f"{files.module}.py").write_text(body)
    with pytest.raises(FileError, match=f":2: trial: {files.module} {says}") as error:
        read_study(files.write(STUDY))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_files_of_the_page_are_read(files):
    text = (ROOT / "docs" / "how-to" / "command-line.md").read_text("utf-8")
    (function,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    standard, own, tuned = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (files.folder / f"{files.module}.py").write_text(function)
    study = read_study(files.write(own, "mine", "MODULE"))
    assert [cell["noise"] for cell in study.cells] == [0.5, 1.0, 2.0, 3.0]
    assert len(read_study(files.write(standard)).cells) == 22
    paired = re.search(r"paired.*\n", standard)
    assert paired is not None
    rest = standard.partition("[sweep]")[0].replace(paired[0], "")
    assert read_tuning(files.write(rest + tuned)).parameters == {"strength": 1.5}
