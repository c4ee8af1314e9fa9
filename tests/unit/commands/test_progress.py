"""The bar on a terminal, the budget, and Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from ksmwatch.commands import progress
from ksmwatch.commands.progress import Progress, StoppedError
from ksmwatch.kernel.syscalls import same_memory
from tests.fakes import Clock


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "_now", clock)
    return clock


def test_the_bar_says_what_is_done_and_how_long_it_takes(
    now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = Progress(60)
    shown.begin("reading", 100)
    now.now += 10
    shown.tick(25)
    assert terminal.getvalue() == "\r\x1b[K[#######.......................] reading, 30 s left"
    shown.tick(1)
    assert terminal.getvalue().count("reading") == 1
    shown.end()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(60)
    shown.begin("reading", 0)
    shown.tick(0)
    shown.end()
    assert capsys.readouterr().err == ""


def test_the_budget_ends_a_stage_that_has_one() -> None:
    shown = Progress(1e-9)
    shown.begin("reading", 10)
    shown.tick(1)
    shown.begin("looking", 10, 0.5)
    with pytest.raises(StoppedError, match="the budget of 1e-09 s of CPU was too small"):
        shown.tick(1)
    assert shown.left == 0


def test_ctrl_c_ends_it_at_the_next_step() -> None:
    # In the background of a shell it is ignored.
    before = signal.getsignal(signal.SIGINT)
    shown = Progress(60)
    shown.begin("reading", 10)
    with shown.interruptible():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(StoppedError, match="it was interrupted"):
            shown.tick(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_processes_with_one_address_space_are_known() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert same_memory(os.getpid(), os.getpid())
        assert not same_memory(os.getpid(), other.pid)
        assert not same_memory(os.getpid(), 1 << 30)
        other.communicate(b"\n")
