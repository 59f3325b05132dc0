"""Every key of both files with values of every kind, through the command itself.

The rule: what is right goes on to the work, which is left out here; what is wrong is one line on
standard error and exit code 2, and names the file, the line and the key that was written.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import pytest
from file_cases import STUDY, TUNE, WITH, cases, written

from hopjax import _checks
from hopjax.command import cli, study_file as _study_file, trial as _trial, tune_file as _tune_file
from hopjax.ensemble import plan
from hopjax.study import OF_THE_SOLVE
from hopjax.tuning import prepared


class Command:
    """Runs the command up to the work."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, kind: str, content: str) -> tuple[int, str, str]:
        self.path.write_text(content)
        said, errors = io.StringIO(), io.StringIO()
        sys.argv = ["hopjax", kind, str(self.path), "--dry-run"]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                with pytest.raises(SystemExit) as exit:
                    cli.main()
        code = exit.value.code or 0
        assert isinstance(code, int)
        return code, said.getvalue(), errors.getvalue()


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    # The work; and whether trials draw from anything but their key, which those of files do not.
    for name in ("_print_estimate", "_print_cost"):
        monkeypatch.setattr(cli, name, lambda *_: None)
    for module in (plan, prepared):
        monkeypatch.setattr(module, "check_draws", lambda *_args, **_options: None)
    # A laptop: what fits into a large machine would have to be tried.
    monkeypatch.setattr(_checks, "machine_memory", lambda: 2**34)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # thousands of files
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Command(Path(folder) / "file.toml")


KEYS = [
    (kind, table, key)
    for kind, tables in (("study", STUDY), ("tune", TUNE))
    for table, keys in tables.items()
    for key in keys
]


def test_all_keys_are_tried():
    tried = {(kind, table): set() for kind, table, _ in KEYS}
    for kind, table, key in KEYS:
        tried[kind, table].add(key)
    assert tried["study", ""] == set(_study_file._TOP)
    assert tried["tune", ""] == set(_tune_file._TOP)
    for kind in ("study", "tune"):
        assert tried[kind, "criterion"] == set(_trial.CRITERION)
        (left,) = set(_trial.FIELDS) - tried[kind, "trial"]
        assert left in tried["study", "sweep"] | tried["tune", "tune"] | {"strength"}
    for table in ("sweep", "cells"):
        assert tried["study", table] == {*_trial.FIELDS, *OF_THE_SOLVE}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "table", "key"), KEYS, ids=lambda part: part or "top")
def test_each_key_with_every_value(command, kind, table, key):
    wrong, accepted = [], 0
    for text, right in cases(kind, table, key):
        content, line = written(kind, table, key, text)
        code, said, errors = command(kind, content)
        accepted += code == 0
        if right is not None and (code == 0) != right:
            wrong.append(f"{text[:60]}: {code}, {errors[:300]}")
        if code == 0:
            if errors or said:
                wrong.append(f"{text[:60]}: {errors} {said}")
            continue
        names = "|".join({key, *WITH.get(key, ())})
        where = rf"(\[\w+\] )?({names}): "
        place = rf"hopjax: {re.escape(str(command.path))}:\d+: "
        found = re.match(place + where, errors)
        fine = found and (found[2] != key or f":{line}: " in errors)
        if code != 2 or said or not fine or errors.count("\n") != 1 or len(errors) > 600:
            wrong.append(f"{text[:60]} on line {line}: {code}, {errors[:600]}")
    assert not wrong, "\n".join([f"{len(wrong)} of {key}", *wrong])
    assert accepted


# What is not one value of one key: the file, how the line to blame begins, what is said of it.
STUDY_TEXT, TUNE_TEXT = (
    written(kind, "", "seed", "1")[0].replace("[criterion]\n", "") for kind in ("study", "tune")
)
TOO_LARGE = r"must be of a size up to 3\.4e\+38, the largest of float32, got 1e\+"
INFINITE = "must make an input that is finite in float32, got "


def study(*lines: str, of: str = "[trial]", instead: str = "", **top: str) -> tuple[str, str]:
    """A study with lines at the beginning of a table, or instead of one line, or at the top."""
    more = "\n".join(lines)
    text = STUDY_TEXT.replace(instead, more) if instead else STUDY_TEXT.replace(of, f"{of}\n{more}")
    return "study", "".join(f"{key} = {value}\n" for key, value in top.items()) + text


def tune(*lines: str, of: str = "[trial]", instead: str = "", **top: str) -> tuple[str, str]:
    more = "\n".join(lines)
    text = TUNE_TEXT.replace(instead, more) if instead else TUNE_TEXT.replace(of, f"{of}\n{more}")
    return "tune", "".join(f"{key} = {value}\n" for key, value in top.items()) + text


EXAMPLES: dict[str, tuple[tuple[str, str], str, str]] = {
    "noise beside a tuned strength": (
        tune("noise = 1e39"),
        "noise",
        rf"\[trial\] noise: {TOO_LARGE}39",
    ),
    "settle of a loss": (
        tune("settle = 0.5", of="[[loss]]"),
        "settle",
        r"\[loss\] settle: belongs into the table \[criterion\]",
    ),
    "a weight beyond float32": (
        tune("weight = 1e39", of="[[loss]]"),
        "weight",
        rf"\[loss\] weight: {TOO_LARGE}39",
    ),
    "a rate beyond float32": (
        tune(optimiser='"adam"', learning_rate="1e39"),
        "learning_rate",
        rf"learning_rate: {TOO_LARGE}39",
    ),
    "a bound beyond float32": (
        tune("strength = { start = 2.0, high = 1e39 }", instead="strength = 2.0"),
        "strength",
        rf"\[tune\] strength: {TOO_LARGE}39",
    ),
    "fresh trials beyond their keys": (
        tune(verify="3000000000"),
        "verify",
        r"verify: must be below 2\^31, got 3000000000\.",
    ),
    "a weight of a memory beyond float32": (
        study("dominant = 1e300"),
        "dominant",
        rf"\[trial\] dominant: {TOO_LARGE}300",
    ),
    "weights whose sum is infinite": (
        study("dominant = 3e38", "background = 3e38"),
        "dominant",
        rf"\[trial\] dominant: {INFINITE}3e\+38",
    ),
    "weights that sum to zero": (
        study("total_weight = 1.0", "dominant = -1.0", "background = 1.0"),
        "total_weight",
        rf"\[trial\] total_weight: {INFINITE}1\.0",
    ),
    "a strength that makes them infinite": (
        study("strength = 3e38"),
        "strength",
        rf"\[trial\] strength: {INFINITE}3e\+38",
    ),
    "a swept number beyond float32": (
        study("noise = [0.5, 1e39]", instead="noise = [0.5]"),
        "noise",
        rf"\[sweep\] noise: {TOO_LARGE}39",
    ),
    "an integer of any size": (study("total_weight = 3000000000"), "", ""),
    "integers of any size": (study("dominant = [3000000000, 1000000000000]"), "", ""),
    "no quantiles": (study(quantiles="[]"), "", ""),
    "more cells than anyone can wait for": (
        study(
            *(f"{name} = {{ start = 1, stop = 2, num = 9999 }}" for name in ("noise", "slope")),
            instead="noise = [0.5]",
        ),
        "[sweep]",
        r"sweep: must have at most 1000000 cells, got 99980001\.",
    ),
    "more memories than memory": (
        study("num_memories = 2147483647", instead="num_memories = 2"),
        "num_memories",
        r"\[trial\] num_memories: must leave the memories in the .* GiB of this machine, got 21474",
    ),
    "a chunk beyond memory": (
        study(chunk="1000000000000"),
        "chunk",
        r"chunk: must leave a chunk of trials in the .* GiB of this machine, got 1000000",
    ),
    "a table in a line": (
        study("[criterion]", instead="[sweep]\nnoise = [0.5]", sweep="{ noise = [-1.0] }"),
        "sweep",
        r"\[sweep\] noise: must be zero or positive, got -1\.0\.",
    ),
    "a key of a table": (
        study(**{"criterion.mixed": "2.0"}),
        "criterion.mixed",
        r"\[criterion\] mixed: must be at most the threshold",
    ),
    "what was not written does not fit": (
        study("onsets = [0.0, 0.5]", "shown = [0, 1]", 'model = "classic_pulsed"'),
        "onsets",
        r"\[trial\] onsets: does not fit: `pulse` must be shorter than every window",
    ),
    "a line like the head of a table": (
        study("onsets = [\n  [0.0]\n]", "slope = [-1.0]", instead="noise = [0.5]"),
        "slope",
        r"\[sweep\] slope: must be positive, got -1\.0\.",
    ),
    "a table nested without end": (
        study("noise = [0.5]", f"[trial.slope{'.a' * 3000}]", "b = 1", instead="noise = [0.5]"),
        "[trial",
        r"\[trial\] slope: must not be nested in more than 3 levels\.",
    ),
    "a key of two lines": (study(**{'"a\\nb"': "1"}), "", r"'a\\nb': is no key that is known"),
    "a long key": (study(**{"a" * 10**6: "1"}), "aaa", r"'a{70,}\.\.\.: is no key that is known"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_further_mistakes_in_float32(command, name):
    (kind, content), begin, match = EXAMPLES[name]
    with jax.enable_x64(False):
        code, said, errors = command(kind, content)
    assert said == ""
    assert (code, errors.count("\n")) == ((2, 1) if match else (0, 0)), errors
    if match:
        lines = content.splitlines()
        numbers = [str(n) for n, line in enumerate(lines, 1) if begin and line.startswith(begin)]
        place = re.escape(str(command.path)) + (f":({'|'.join(numbers)})" if begin else "")
        assert re.match(f"hopjax: {place}: {match}", errors), errors
