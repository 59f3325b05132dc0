"""A folder notices whatever changes its numbers, and nothing else: edits of the user's code."""

import collections
import copyreg
import fractions
import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import types
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from conftest import ROOT
from jax.experimental.sparse import BCOO

import hopjax as hj
from hopjax.ensemble import Asked, trial_program
from hopjax.program.code import digest_of, is_installed, reached
from hopjax.program.program import program_of

# A user's two files. Functions have their own names, so that edits are single replacements.
OTHER = """
import jax.numpy as jnp
SHIFT = 0.25

def imported(x):
    return x + SHIFT

def unused(x):
    return x
"""
CODE = '''
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import hopjax as hj
import the_others
from the_others import imported

GAIN = 1.5
TABLE = {"slope": 2.0, "list": [0.5, 0.25]}
LARGE = np.linspace(0.0, 1.0, 100_000)

def helper(x):
    return GAIN * x

@jax.jit
def compiled_helper(x):
    return x + TABLE["list"][0]

@jax.custom_jvp
def ruled(x):
    return 1.0 * x

@ruled.defjvp
def ruled_rule(primals, tangents):
    return primals[0] * 1.0, 1.0 * tangents[0]

def stop(x):
    return x * 1.0

class Own(hj.IDPHopfield):
    def drift(self, t, x, drive):
        return super().drift(t, x, drive) + 0.1 * self.bend(x)

    def bend(self, x):
        return jnp.tanh(helper(x))

class Tail(hj.AbstractReduction):
    scale: float = 2.0

    def measure(self, trial, trajectory):
        return trajectory.overlaps[-1, 0]

    def summarise(self, measured, ok):
        return {"sum": np.asarray(self.rescaled(measured[ok].sum()))}

    def rescaled(self, value):
        return self.scale * value

    def merge(self, first, second):
        return {"sum": first["sum"] + second["sum"]}

    def finish(self, total):
        return total

class Loss(hj.AbstractLoss):
    def measure(self, trial, trajectory, criterion):
        return trajectory.overlaps[-1, 0]

    def value(self, means):
        return (means - 0.5) ** 2

def size(trial, trajectory):
    return jnp.sum(trajectory.final_state**2)

def saved(t, state):
    return state[0] * 1.0

def trial(key, noise):
    """A retrieval."""
    memories = hj.random_memories(key, num_memories=2, num_neurons=8)
    u = hj.mixture(memories, jnp.array([TABLE["slope"], 0.5]))
    start = compiled_helper(u) + imported(0.0) + the_others.imported(0.0) + LARGE[99_998]
    return hj.Trial(Own(memories), stop(ruled(noise)) * u, start, hj.AdditiveNoise(0.5), target=0)

def study(**options):
    reductions = {"tail": Tail(), "size": hj.Moments(size)}
    settings = dict(trials=6, chunk=4, key=jax.random.key(1), t1=0.5, dt=0.1)
    settings |= dict(reductions=reductions, save_fn=saved) | options
    return hj.Study(trial, {"noise": [1.0]}, **settings)

def tune(**options):
    settings = dict(trials=4, steps=2, window=1, verify=4, key=jax.random.key(1), t1=0.5, dt=0.1)
    return hj.tune(trial, {"noise": 1.0}, loss=Loss(), progress=False, **settings | options)
'''
FILES = {"the_code": CODE, "the_others": OTHER}
# What changes the numbers, or may: a file, what is replaced there, and by what.
EDITS = {
    "trial": ("the_code", "0.5]))", "0.75]))"),
    "helper": ("the_code", "return GAIN * x", "return GAIN * x + 1"),
    "compiled helper": ("the_code", "return x + TABLE", "return x - TABLE"),
    "constant": ("the_code", "GAIN = 1.5", "GAIN = 1.25"),
    "entry of a constant": ("the_code", '"list": [0.5', '"list": [0.6'),
    "large array": ("the_code", "LARGE = np.linspace(0.0, 1.0", "LARGE = np.linspace(0.0, 2.0"),
    "class": ("the_code", "0.1 * self.bend", "0.2 * self.bend"),
    "method": ("the_code", "jnp.tanh(helper(x))", "jnp.sin(helper(x))"),
    "constant of another file": ("the_others", "SHIFT = 0.25", "SHIFT = 0.5"),
    "function of another file": ("the_others", "return x + SHIFT", "return x - SHIFT"),
    "imported name": ("the_code", "import imported\n", "import unused as imported\n"),
    "other order": ("the_code", "return GAIN * x", "return x * GAIN"),
}
OF_STUDIES = {
    "save_fn": ("the_code", "state[0] * 1.0", "state[0] * 2.0"),
    "measure of ours": ("the_code", "jnp.sum(trajectory.final", "jnp.mean(trajectory.final"),
    "measure": ("the_code", "overlaps[-1, 0]\n\n    def summ", "overlaps[-1, 1]\n\n    def summ"),
    "summarise": ("the_code", "measured[ok].sum()", "measured[ok].max()"),
    "method of summarise": ("the_code", "self.scale * value", "self.scale + value"),
    "merge": ("the_code", 'first["sum"] + second', 'first["sum"] - second'),
}
OF_TUNINGS = {
    "measure": ("the_code", "overlaps[-1, 0]\n\n    def value", "overlaps[-1, 1]\n\n    def value"),
    "value": ("the_code", "means - 0.5", "means - 0.25"),
    "rule of a derivative": ("the_code", "1.0 * tangents[0]", "2.0 * tangents[0]"),
    "function behind a rule": ("the_code", "return 1.0 * x", "return 3.0 * x"),
    "stop_gradient": (
        *("the_code", "return x * 1.0\n\nclass Own"),
        "return 0.5 * x * 1.0 + 0.5 * jax.lax.stop_gradient(x) * 1.0\n\nclass Own",
    ),
}
HARMLESS = {
    "remark": ("the_code", "    memories = hj", "    # Two of them.\n    memories = hj"),
    "docstring": ("the_code", '"""A retrieval."""', '"""Another word."""'),
    "local name": ("the_code", "start", "beginning"),
    "name of a helper": ("the_code", "helper", "assistant"),
    "name of a compiled helper": ("the_code", "compiled_helper", "assistant"),
    "name of the trial": ("the_code", "trial(key, noise)", "retrieval(key, noise)"),
    "name of a class": ("the_code", "Own", "Mine"),
    "what is not used": ("the_others", "    return x\n", "    return 2 * x\n"),
}


FAST = ("constant of another file", "method", "summarise", "stop_gradient", "value", "remark")
FAST += ("name of a helper",)


def some(names: Any, *fast: str) -> list[Any]:
    """All names, of which the tests of a few are not slow."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the files, with one edit, and import them."""
    monkeypatch.syspath_prepend(tmp_path)
    number = 0

    def write(edit: tuple[str, str, str] | None = None, *, run_again: bool = False) -> Any:
        nonlocal number
        number += 1
        texts = dict(FILES)
        if edit is not None:
            file, old, new = edit
            assert old in texts[file]
            texts[file] = texts[file].replace(old, new)
            if old == "trial(key, noise)":
                texts[file] = texts[file].replace("(trial, {", "(retrieval, {")
        folder = tmp_path / f"version {number}"
        folder.mkdir()
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(text)
        if run_again:  # a notebook's cell: the same module, and its functions are rebound
            module = sys.modules["the_code"]
            path = folder / "the_code.py"
            exec(compile(path.read_text(), path, "exec"), vars(module))
            return module
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        for name in ("the_others", "the_code"):
            sys.modules.pop(name, None)
        return importlib.import_module("the_code")

    yield write
    for name in FILES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A folder with the study of the first version, and what it found; not to be changed."""
    return begun(tmp_path_factory.mktemp("studied"), lambda code, folder: code.study().run(folder))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The same with a tuning."""
    folder = tmp_path_factory.mktemp("tuned")
    return begun(folder, lambda code, folder: code.tune(folder=folder).history)


def begun(place: Path, run: Any) -> tuple[Path, xr.Dataset]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        for name, text in FILES.items():
            (place / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        code = importlib.import_module("the_code")
        dataset = run(code, place / "folder")
    for name in FILES:
        sys.modules.pop(name)
    return place / "folder", dataset


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.mark.slow
@pytest.mark.parametrize("edit", some(EDITS | OF_STUDIES, *FAST))
def test_a_study_notices_an_edit(write, studied, edit):
    folder, _ = studied
    code, before = write((EDITS | OF_STUDIES)[edit]), content(folder)
    with pytest.raises(hj.StudyError, match="holds a study whose code has changed, or was written"):
        code.study().run(folder)
    assert content(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("edit", some([*OF_TUNINGS, "helper", "class"], *FAST))
def test_a_tuning_notices_an_edit(write, tuned, edit):
    folder, _ = tuned
    code, before = write((EDITS | OF_TUNINGS)[edit]), content(folder)
    with pytest.raises(hj.StudyError, match="holds a tuning whose code has changed, or was writ"):
        code.tune(folder=folder)
    assert content(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("edit", some(HARMLESS, *FAST))
def test_what_computes_the_same_goes_on(write, studied, tmp_path, edit):
    folder = Path(shutil.copytree(studied[0], tmp_path / "copy"))
    code = write(HARMLESS[edit])
    xr.testing.assert_identical(code.study().run(folder), studied[1])


@pytest.mark.slow
def test_a_tuning_goes_on_after_remarks(write, tuned, tmp_path):
    folder = Path(shutil.copytree(tuned[0], tmp_path / "copy"))
    code = write(HARMLESS["remark"])
    xr.testing.assert_identical(code.tune(folder=folder).history, tuned[1])


@pytest.mark.slow
def test_the_refusal_shows_what_differs(write, studied):
    with pytest.raises(hj.StudyError) as error:
        write(EDITS["helper"]).study().run(studied[0])
    first, *lines = str(error.value).split("\n")
    assert "what computes the cell noise = 1 is another program" in first
    assert "--accept-changes same" in first
    assert lines[-2:] == ["-    return GAIN * x", "+    return GAIN * x + 1"]
    with pytest.raises(hj.StudyError) as error:
        write(EDITS["constant"]).study().run(studied[0])
    assert str(error.value).split("\n")[-2:] == ["-GAIN = 1.5", "+GAIN = 1.25"]


# In one process: what JAX has kept of the code before it was edited.


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit", some(["helper", "constant", "class", "compiled helper", "trial"], "helper")
)
def test_code_that_is_redefined_is_what_runs(write, tmp_path, edit):
    code = write()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "size", code.size)
        one = code.study().run(tmp_path / "one")
        write(EDITS[edit], run_again=True)
        other = code.study().run(tmp_path / "other")
        in_memory = code.study().run()
    assert not np.array_equal(one.final_overlap, other.final_overlap)
    np.testing.assert_array_equal(other.final_overlap, in_memory.final_overlap)
    with pytest.raises(hj.StudyError, match="whose code has changed"):
        code.study().run(tmp_path / "one")


def rebound(code: Any, run: Any) -> tuple[Any, Any, Any]:
    """What is found at first, with another helper behind the same functions, and back again."""
    first = run()
    original = code.helper
    code.helper = lambda x: 3.0 * x
    second = run()
    code.helper = original
    return first, second, run()


@pytest.mark.slow
def test_a_helper_that_is_rebound_counts_at_once(write):
    code = write()
    key = jax.random.key(0)
    options: dict[str, Any] = {"t1": 0.5, "dt": 0.1}

    def ensemble() -> np.ndarray:
        trial = jax.tree_util.Partial(code.trial, noise=1.0)
        return hj.solve_ensemble(trial, trials=3, key=key, **options).final_overlap

    model = code.Own(hj.random_memories(key, num_memories=2, num_neurons=8))

    def single() -> np.ndarray:
        u = model.memories[0]
        return np.asarray(hj.solve(model, u, u, **options).final_state)

    for run in (ensemble, single):
        first, second, third = rebound(code, run)
        np.testing.assert_array_equal(first, third)
        assert not np.allclose(first, second)


@pytest.mark.slow
def test_nothing_is_traced_anew_while_nothing_changes(write, monkeypatch):
    code, original, traced = write(), hj.IDPHopfield.drift, []

    def drift(self, t, x, drive):
        traced.append(1)
        return original(self, t, x, drive)

    monkeypatch.setattr(hj.IDPHopfield, "drift", drift)  # which no user's code is looked for in
    memories = hj.random_memories(jax.random.key(0), num_memories=2, num_neurons=8)
    options: dict[str, Any] = {"t1": 0.5, "dt": 0.1, "noise": None, "key": None}
    for scale in (1.0, 2.0):
        before = len(traced)
        hj.solve(code.Own(memories), scale * memories[0], memories[0], **options)
    assert 0 < len(traced) == before


def test_code_that_counts_how_often_it_is_traced_is_traced_once():
    traced = []

    def save(t, state):
        traced.append(t)
        return state[0]

    memories = hj.random_memories(jax.random.key(0), num_memories=2, num_neurons=8)
    options: dict[str, Any] = {"t1": 0.5, "dt": 0.1, "noise": None, "key": None}
    found = [
        hj.solve(hj.IDPHopfield(memories), *(memories[0],) * 2, save_fn=save, **options)
        for _ in range(3)
    ]
    assert len(found) == 3
    once = len(traced)
    hj.solve(hj.IDPHopfield(-memories), *(memories[0],) * 2, save_fn=save, **options)
    assert len(traced) == once


def rebinding_summary(code: Any) -> hj.AbstractReduction:
    class Rebinds(code.Tail):
        def summarise(self, measured, ok):
            code.GAIN = -0.5
            return super().summarise(measured, ok)

    return Rebinds()


@pytest.mark.long
def test_what_host_code_rebinds_is_no_part_of_tracing(write):
    code, key = write(), jax.random.key(0)
    trial = jax.tree_util.Partial(code.trial, noise=1.0)
    options: dict[str, Any] = {"trials": 3, "key": key, "t1": 0.5, "dt": 0.1}
    first = hj.solve_ensemble(trial, reductions={"tail": rebinding_summary(code)}, **options)
    code.GAIN = 1.5
    plain = hj.solve_ensemble(trial, **options)
    code.GAIN = -0.5
    second = hj.solve_ensemble(trial, **options)
    np.testing.assert_array_equal(first.final_energy, plain.final_energy)
    assert not np.allclose(first.final_energy, second.final_energy)


# Going on after a change.


@pytest.fixture
def folder(studied, tmp_path):
    return Path(shutil.copytree(studied[0], tmp_path / "study"))


@pytest.mark.slow
def test_a_rewrite_that_gives_the_same_bits_is_accepted_as_such(write, folder, studied):
    # Of two numbers the product has no order.
    code = write(EDITS["other order"])
    found = code.study().run(folder, accept_changes="same")
    xr.testing.assert_equal(found, studied[1])
    xr.testing.assert_identical(code.study().run(folder), found)
    xr.testing.assert_equal(write().study().run(folder), found)  # both are known now


@pytest.mark.slow
@pytest.mark.parametrize("edit", ["helper", "summarise"])
def test_other_numbers_are_not_accepted_as_the_same(write, folder, edit):
    code, before = write((EDITS | OF_STUDIES)[edit]), content(folder)
    match = r"cannot go on with accept_changes=\"same\": the cell noise = 1 has other numbers now, "
    with pytest.raises(hj.StudyError, match=match + r"the first in \w+/\w+, \S+ there and"):
        code.study().run(folder, accept_changes="same")
    assert content(folder) == before


@pytest.mark.slow
def test_a_damaged_chunk_cannot_be_tried(write, folder):
    path = next(folder.glob("chunks/*/000000.npz"))
    with np.load(path) as arrays:
        parts = dict(arrays)
    parts["about"] = np.array(f"another {str(parts['about']).split(' ', 1)[1]}")
    np.savez_compressed(path, **parts)
    with pytest.raises(
        hj.StudyError, match=r'"same": .* is damaged \(it belongs to another .*: move'
    ):
        write(EDITS["trial"]).study().run(folder, accept_changes="same")


@pytest.mark.slow
def test_redo_computes_anew_and_keeps_what_was_there_aside(write, folder, tmp_path):
    code = write(EDITS["helper"])
    chunks = {path.name: path.read_bytes() for path in folder.glob("chunks/*/*")}
    found = code.study(trials=10).run(folder, accept_changes="redo")
    xr.testing.assert_equal(found, code.study(trials=10).run(tmp_path / "fresh"))
    aside = sorted(path.read_bytes() for path in (folder / "replaced").iterdir())
    assert aside == sorted(chunks.values())
    with pytest.raises(hj.StudyError, match="whose code has changed"):
        write().study().run(folder)


@pytest.mark.slow
def test_a_chunk_of_another_program_is_never_merged(write, folder, tmp_path, studied):
    one = next(folder.glob("chunks/*/000000.npz"))
    write(EDITS["helper"]).study().run(tmp_path / "other")
    other = tmp_path / "other" / one.relative_to(folder)
    shutil.copy(other, one)
    code = write()
    with pytest.warns(UserWarning, match="it was computed by another program"):
        found = code.study().run(folder)
    xr.testing.assert_identical(found, studied[1])


@pytest.mark.slow
def test_a_tuning_goes_on_after_a_change(write, tuned, tmp_path):
    folder = Path(shutil.copytree(tuned[0], tmp_path / "tuning"))
    found = write(EDITS["other order"]).tune(folder=folder, accept_changes="same").history
    xr.testing.assert_equal(found, tuned[1])
    code = write(OF_TUNINGS["value"])
    with pytest.raises(hj.StudyError, match=r"other numbers now, the first in its last step/loss"):
        code.tune(folder=folder, accept_changes="same")
    anew = code.tune(folder=folder, accept_changes="redo").history
    xr.testing.assert_equal(anew, code.tune().history)
    assert [path.name for path in (folder / "replaced").iterdir()] == ["steps.npz"]


def edit_manifest(folder: Path, place: str) -> None:
    """As if all had been computed in another environment."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["environment"]["jaxlib"] = "0.0.1"
    for known in manifest["programs"].values():
        ((_, digests),) = known.items()
        known.clear()
        known[place] = digests
    path.write_text(json.dumps(manifest))


@pytest.mark.slow
def test_in_a_new_environment_the_program_is_recorded_unless_the_source_differs(
    write, folder, studied
):
    edit_manifest(folder, "another place")
    changed, unchanged = write(EDITS["constant"]), write()
    with pytest.raises(hj.StudyError, match="was begun elsewhere"):
        unchanged.study().run(folder)
    with pytest.raises(hj.StudyError, match="whose code has changed"):
        changed.study().run(folder, elsewhere=True)
    xr.testing.assert_equal(unchanged.study().run(folder, elsewhere=True), studied[1])
    known = json.loads((folder / "manifest.json").read_text())["programs"]
    assert all(len(places) == 2 for places in known.values())
    # Known here from now on.
    with pytest.raises(hj.StudyError, match="whose code has changed"):
        write(EDITS["trial"]).study().run(folder, elsewhere=True)


@pytest.mark.slow
def test_what_was_computed_elsewhere_cannot_be_tried(write, folder):
    edit_manifest(folder, "another place")
    match = r"nothing of the cell noise = 1 was computed in this environment"
    path = next(folder.glob("chunks/*/000000.npz"))
    for path in folder.glob("chunks/*/*.npz"):
        with np.load(path) as arrays:
            parts = dict(arrays)
        *label, program, _ = str(parts["about"]).split(" ")
        parts["about"] = np.array(" ".join([*label, program, "another"]))
        np.savez_compressed(path, **parts)
    with pytest.raises(hj.StudyError, match=match):
        write(EDITS["trial"]).study().run(folder, elsewhere=True, accept_changes="same")


@pytest.mark.slow
def test_an_older_folder_is_refused_in_one_line_and_left_alone(write, folder):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    before = content(folder)
    with pytest.raises(hj.StudyError, match=r"written in the format 1 of .* this one reads 5") as e:
        write().study().run(folder)
    assert "\n" not in str(e.value)
    assert content(folder) == before


@pytest.mark.long
def test_whole_numbers_beside_a_fractional_one_are_computed_anew_and_called_so(tmp_path):
    def trial(key, noise):
        memories = hj.random_memories(key, num_memories=2, num_neurons=8)
        return hj.Trial(hj.IDPHopfield(memories), memories[0], memories[0], hj.AdditiveNoise(noise))

    settings: dict[str, Any] = {"trials": 2, "key": jax.random.key(0), "t1": 0.2, "dt": 0.1}
    hj.Study(trial, {"noise": [1, 2]}, **settings).run(tmp_path)
    with pytest.warns(UserWarning, match="was computed with other kinds of parameters") as told:
        found = hj.Study(trial, {"noise": [1, 2, 0.5]}, **settings).run(tmp_path)
    assert len(told) == 2
    assert len(list((tmp_path / "replaced").iterdir())) == 2
    fresh = hj.Study(trial, {"noise": [1, 2, 0.5]}, **settings).run()
    xr.testing.assert_equal(found, fresh)


# What the program does not tell.


def doubled(x):
    return np.asarray(2 * x, x.dtype)


def calling_back(key, noise):
    memories = jnp.asarray(np.eye(2, 8) * 2 - 1, float)
    shape = jax.ShapeDtypeStruct((), memories.dtype)
    factor = jax.pure_callback(doubled, shape, noise, vmap_method="sequential")
    jax.debug.print("{}", noise)
    return hj.Trial(hj.IDPHopfield(memories), memories[0] * factor, memories[0], target=0)


@pytest.mark.slow
def test_callbacks_need_a_version(tmp_path, capfd):
    settings: dict[str, Any] = {"trials": 2, "key": jax.random.key(0), "t1": 0.2, "dt": 0.1}
    with pytest.raises(ValueError, match=r"`version` must be a text .* pure_callback of doubled"):
        hj.Study(calling_back, {"noise": [1.0]}, **settings).run(tmp_path / "study")
    first = hj.Study(calling_back, {"noise": [1.0]}, version="1", **settings)
    first.run(tmp_path / "study")
    first.run(tmp_path / "study")
    other = hj.Study(calling_back, {"noise": [1.0]}, version="2", **settings)
    with pytest.raises(hj.StudyError, match=r"differs in version \(\"1\" there, \"2\" here\)"):
        other.run(tmp_path / "study")
    capfd.readouterr()


def called_back(function: Any, call: Any = jax.pure_callback) -> tuple[str, ...]:
    def run(_: None, x: Any) -> Any:
        struct = jax.ShapeDtypeStruct((), x.dtype)
        if call is jax.pure_callback:
            return call(function, struct, x)
        return call(function, x, result_shape_dtypes=struct)

    return program_of(run, None, np.ones(())).hidden


def test_a_callback_of_a_package_may_hide_the_users_data():
    table = {"xp": [0.0, 1.0], "fp": [0.0, 2.0]}
    assert len(called_back(functools.partial(np.interp, **table))) == 1
    assert len(called_back(np.vectorize(lambda x: 2 * x))) == 1
    assert len(called_back(lambda x: 2 * x, eqx.filter_pure_callback)) == 1
    assert called_back(np.linalg.norm) == ()


@pytest.mark.slow
def test_rules_of_batches_are_part_of_the_program():
    def program(factor: float) -> str:
        @jax.custom_batching.custom_vmap
        def same(x):
            return x

        @same.def_vmap
        def rule(axis_size, in_batched, x):
            return factor * x, True

        def make(key, parameters):
            memories = jnp.asarray(np.eye(2, 8) * 2 - 1, float)
            u = same(memories[0] * jax.random.uniform(key, ()))
            return hj.Trial(hj.IDPHopfield(memories), u, memories[0], target=0)

        return trial_program(make, Asked(t1=0.2, dt=0.1).plan(2), {}).digest

    assert program(1.0) != program(2.0)


@pytest.mark.long
def test_compiled_functions_on_the_host_are_those_that_are_there_now(write, tmp_path):
    code = write()
    code.factor = lambda x: x
    total = jax.jit(lambda x: code.factor(x))
    code.Tail.rescaled = lambda self, value: np.asarray(total(value))
    first = code.study().run(tmp_path / "first").tail_sum
    code.factor = lambda x: 2.0 * x
    for folder in (tmp_path / "second", None):
        np.testing.assert_array_equal(code.study().run(folder).tail_sum, 2.0 * first)


@pytest.mark.parametrize("value", ["", 3, True])
def test_a_version_is_a_text(value):
    with pytest.raises(TypeError, match="`version` must be a text that is not empty"):
        hj.Study(
            *(calling_back, {"noise": [1.0]}),
            **{"trials": 1, "key": jax.random.key(0), "t1": 0.2, "dt": 0.1},
            version=value,
        )


@pytest.mark.parametrize("value", ["yes", True, 1])
def test_what_is_accepted_is_one_of_two_words(value, tmp_path, write):
    with pytest.raises(ValueError, match='`accept_changes` must be "same", "redo" or None, got'):
        write().study().run(tmp_path / "study", accept_changes=value)


@pytest.mark.slow
def test_the_program_is_the_same_in_every_process(studied, tmp_path):
    """Whatever the order of Python's sets."""
    folder = Path(shutil.copytree(studied[0], tmp_path / "copy"))
    script = f"""
        import sys, jax
        sys.path[:0] = [{str(ROOT)!r}, {str(studied[0].parent)!r}]
        for name, value in {settings_of_jax()!r}.items():
            jax.config.update(name, value)
        import the_code
        the_code.study().run({str(folder)!r}, devices=jax.local_devices()[:1])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONHASHSEED": "12"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def settings_of_jax() -> dict[str, Any]:
    """As these tests have them, on which numbers depend."""
    optimised = jax.config.read("jax_disable_most_optimizations")
    double = jnp.result_type(float) == jnp.float64
    return {"jax_enable_x64": double, "jax_disable_most_optimizations": optimised}


# What is reached, and in how many ways.


def test_the_code_of_packages_counts_by_name():
    tree = (hj.IDPHopfield(jnp.ones((1, 4))), hj.AdditiveNoise(1.0), {"t1": 1.0})
    assert digest_of(tree) == ""
    assert digest_of((tree, reads_constant)) == digest_of((tree, reads_constant)) != ""
    assert reached(jnp.sin, hj.solve, np.sort).digest == ""


CONSTANT = 1.0


def reads_constant():
    return CONSTANT


def test_all_ways_to_a_function_reach_it(monkeypatch):
    class Holder(eqx.Module):
        function: Any = reads_constant

        def method(self):
            return self.function()

        @property
        def prop(self):
            return reads_constant()

    ways = {
        "function": reads_constant,
        "partial": jax.tree_util.Partial(reads_constant),
        "jit": jax.jit(reads_constant),
        "filter_jit": eqx.filter_jit(reads_constant),
        "vmap": jax.vmap(reads_constant),
        "grad": jax.grad(reads_constant),
        "checkpoint": jax.checkpoint(reads_constant),
        "custom_jvp": jax.custom_jvp(reads_constant),
        "custom_vjp": jax.custom_vjp(reads_constant),
        "closure": (lambda f: lambda: f())(reads_constant),
        "default": eval("lambda f=g: f()", {"g": reads_constant, "__name__": __name__}),
        "list": [reads_constant],
        "dict": {"a": reads_constant},
        "instance": Holder(),
        "class": Holder,
        "method": Holder().method,
        "inside": lambda: (lambda: reads_constant())(),
        "comprehension": lambda: [reads_constant() for _ in range(2)],
    }
    before = {name: reached(way).digest for name, way in ways.items()}
    assert all(before.values()), before
    assert before == {name: reached(way).digest for name, way in ways.items()}
    monkeypatch.setitem(globals(), "CONSTANT", 2.0)
    after = {name: reached(way).digest for name, way in ways.items()}
    assert [name for name in ways if before[name] == after[name]] == []


class Namespace:
    """Whose attributes fail in a way of their own."""

    def __init__(self, **values: Any):
        vars(self)["values"] = values

    def __getattr__(self, name: str) -> Any:
        return self.values[name]

    def method(self) -> Any:
        return self.values["gain"]


def test_whatever_holds_a_number_is_looked_into():
    def holders(number: float) -> dict[str, Any]:
        def function():
            return function.gain  # pyright: ignore[reportFunctionMemberAccess]

        function.gain = number  # pyright: ignore[reportFunctionMemberAccess]
        return {
            "namespace": types.SimpleNamespace(gain=number),
            "own attributes": Namespace(gain=number),
            "bound method": Namespace(gain=number).method,
            "method of a list": [number].index,
            "deque": collections.deque([number]),
            "fraction": fractions.Fraction(number),
            "slice": slice(0, int(number)),
            "range": range(int(number)),
            "sparse matrix": BCOO.fromdense(jnp.full((1, 1), number)),
            "attribute of a function": function,
            "partial method": functools.partialmethod(reads_constant, number),
        }

    digests = [
        {name: reached(reads_constant, each).digest for name, each in holders(number).items()}
        for number in (1.0, 1.0, 2.0)
    ]
    assert digests[0] == digests[1]
    assert [name for name in digests[0] if digests[0][name] == digests[2][name]] == []


def test_an_attribute_is_not_the_variable_of_that_name():
    def code(mean: Any) -> Any:
        known = {"mean": mean, "__name__": __name__}
        exec("def function(x):\n    return x.mean()", known)
        return known["function"]

    assert reached(code(1.0)).digest == reached(code(object())).digest
    assert reached(code(object())).hidden == ()


def test_a_walk_may_be_long():
    known: dict[str, Any] = {"__name__": __name__}
    chain = "\n".join(f"def f{place}(x):\n    return f{place + 1}(x)" for place in range(999))
    exec(chain, known)
    digests = []
    for text in ("x", "x", "2 * x"):
        exec(f"def f999(x):\n    return {text}", known)
        digests.append(reached(known["f0"]).digest)
    assert digests[0] == digests[1] != digests[2]


def test_what_is_imported_inside_a_function_is_reached_before_it_is_imported(tmp_path, monkeypatch):
    def late(x):
        import imported_late  # pyright: ignore[reportMissingImports]

        return imported_late.scaled(x)

    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for factor in (2.0, 3.0):
        more = " " * int(factor)  # of another size: Python looks at the time in seconds
        (tmp_path / "imported_late.py").write_text(f"def scaled(x):\n    return {factor} * x{more}")
        sys.modules.pop("imported_late", None)
        importlib.invalidate_caches()
        digests.append(reached(late).digest)
        late(1.0)
        assert reached(late).digest == digests[-1]
    sys.modules.pop("imported_late")
    assert digests[0] != digests[1]


def test_a_module_of_the_user_may_have_the_name_of_one_of_python(tmp_path, monkeypatch):
    path = tmp_path / "antigravity.py"
    path.write_text("def function():\n    return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("antigravity")
    assert reached(module.function).digest
    sys.modules.pop("antigravity")
    is_installed.cache_clear()


def test_what_refers_to_itself_ends():
    def one():
        return other()

    def other():
        return one()

    known: dict[str, Any] = {"one": one}
    known["self"] = known
    assert reached(one, known).digest == reached(one, known).digest


def test_pickling_changes_no_code():
    class Kept:
        """Of the user's: pickling and copying note its slots in the class."""

    before = reached(Kept).digest
    copyreg._slotnames(Kept)  # pyright: ignore[reportAttributeAccessIssue]  # as both do
    assert "__slotnames__" in vars(Kept)
    assert reached(Kept).digest == before != ""


def test_where_something_is_computed_is_no_code():
    class Own(Executor):
        """Of the user's, with a state that moves."""

        def __init__(self):
            self.moves = np.random.default_rng()

    assert digest_of({"executor": Own(), "trials": 3}) == ""
    assert digest_of({"executor": Own().submit}) != ""
