"""Progress: a bar on a terminal, lines in a log."""

import io
import re
import sys
import time
from typing import Any

import pytest
import small_study

import hopjax._progress
from hopjax._progress import Lines
from hopjax.engine import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Log:
    """What stderr got, which is no terminal here."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self.capsys, self.text = capsys, ""

    @property
    def lines(self) -> list[str]:
        self.text += self.capsys.readouterr().err
        return self.text.splitlines()

    def wait_for(self, number: int) -> list[str]:
        """So many lines, and whatever came with them."""
        end = time.monotonic() + 30
        while len(lines := self.lines) < number:
            assert time.monotonic() < end, "no line"
            time.sleep(0.005)
        return lines


@pytest.fixture
def log(capsys):
    return Log(capsys)


@pytest.fixture
def soon(monkeypatch):
    """Half a minute is short."""
    monkeypatch.setattr(hopjax._progress, "EVERY", 0.02)


LINE = r"study: {}% \({} of 1000 trials\), (\?|[\d.]+)(trial/s|s/trial), (\?|\d\d:\d\d) left"


def test_a_log_gets_lines_with_share_rate_and_time_left(soon, log):
    with progress_bar(1000, "study", True, done=200) as bar:
        assert isinstance(bar, Lines)
        first, *_ = log.wait_for(1)
        assert re.fullmatch(LINE.format(20, 200), first), first
        bar.update(50)
        bar.update()
        later = log.wait_for(len(log.lines) + 2)[-1]
        match = re.fullmatch(LINE.format(25, 251), later)
        assert match, later
        assert "?" not in match.groups()
    lines = log.lines
    assert lines[-1].startswith("study: 25% (251 of 1000 trials)")
    time.sleep(0.1)
    assert log.lines == lines


def test_a_line_says_what_is_set_beside(soon, log):
    with progress_bar(10, "tune", True, unit="step") as bar:
        bar.set_postfix(loss="0.25", refresh=False)
        bar.update()
        log.wait_for(2)
    assert re.match(r"tune: 10% \(1 of 10 steps, loss 0\.25\), ", log.lines[-1])


def test_what_is_soon_over_leaves_no_line(log):
    with progress_bar(10, "trials", True) as bar:
        bar.update(10)
    assert log.lines == []


def test_it_is_not_shown_where_it_shall_not_be(soon, log):
    with progress_bar(10, "trials", False) as bar:
        bar.update(10)
        bar.set_postfix(loss=1)
        time.sleep(0.1)
    assert log.lines == []


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(10, "trials", True, done=4) as bar:
        bar.update(6)
    assert re.search(r"trials: 100%\|.*\| 10/10 ", terminal.getvalue())


def test_a_bar_of_what_is_soon_over_may_be_left_out(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for delay in (30.0, 0.0):
        assert terminal.getvalue() == ""
        with progress_bar(10, "merging", True, unit="chunk", delay=delay) as bar:
            bar.update(10)
    assert re.search(r"merging: 100%\|.*\| 10/10 ", terminal.getvalue())


@pytest.mark.slow
def test_a_study_says_what_it_solves_and_what_it_merges(monkeypatch, tmp_path):
    bars: list[Any] = []

    def seen(*args: Any, **options: Any) -> Any:
        bars.append(progress_bar(*args, **options))
        return bars[-1]

    monkeypatch.setattr("hopjax.study.kept.progress_bar", seen)
    small_study.study().run(tmp_path)
    found = [(bar._about["prefix"], bar.done, bar._about["total"]) for bar in bars]
    assert found == [("study", 60, 60), ("merging", 18, 18)]


def test_a_log_that_was_closed_stops_nothing(soon, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bar(10, "trials", True) as bar:
        log.close()
        time.sleep(0.1)
        assert isinstance(bar, Lines)
        assert bar.printed
        bar.update()
