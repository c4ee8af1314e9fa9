"""A machine that is slowed down gets its share of the time, and goes on afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness.brake import Brake
from vmharness.cli import parser
from vmharness.session import BOOT_SECONDS, Console, Session


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_that_is_braked_is_stopped_and_let_go_again() -> None:
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as child:
        seen: set[str] = set()
        with Brake(child, 10):
            while not {"T", "R"} <= seen:
                seen.add(state(child.pid))
        # It is not left behind stopped.
        while state(child.pid) != "R":
            pass
        child.kill()


def test_without_a_factor_nothing_is_stopped() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        with Brake(child, 1) as brake:
            assert brake._thread.ident is None
        child.kill()


def test_a_slow_machine_gets_more_patience() -> None:
    session = Session("6.1", "t", Console())
    session.slow = 3
    assert session.deadline(None)[0] == 3 * BOOT_SECONDS


@pytest.mark.parametrize("text", ["0", "0.5", "-1", "x", "1000", "nan"])
def test_what_is_no_slowness_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--kernel", "6.1", f"--slow={text}"])
    assert ended.value.code == 125
    assert "--slow" in capsys.readouterr().err


def test_a_slowness_is_a_number() -> None:
    assert parser().parse_args(["--slow", "3"]).slow == 3.0
    assert parser().parse_args([]).slow == 1.0
