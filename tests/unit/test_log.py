"""One line per record, whatever is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch import log

STEADY = settings(deadline=None, derandomize=True, max_examples=300)
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: |$)')
HEAD = "ts=2023-11-14T22:13:20.250Z level=warning"


@pytest.fixture(autouse=True, scope="module")
def _as_before() -> Iterator[None]:
    before = dict(vars(log.logger))
    yield
    vars(log.logger).update(before)


def formatted(form: str, message: str, **extra: object) -> str:
    """A warning of 2023."""
    return log.FORMS[form](log.fields("warning", message, extra, 1700000000.25))


def parse(line: str) -> dict[str, str]:
    """Logfmt, strictly."""
    found = {}
    at = 0
    while at < len(line):
        field = FIELD.match(line, at)
        assert field is not None, line[at:]
        text = field[2]
        found[field[1]] = json.loads(text) if text.startswith('"') else text
        at = field.end()
    return found


def test_logfmt_to_the_letter() -> None:
    line = formatted("logfmt", "it drifted", pid=42, drift=-3, who="a=b", empty="", where="/run")
    assert line == f'{HEAD} msg="it drifted" pid=42 drift=-3 who="a=b" empty="" where=/run'


def test_json_to_the_letter() -> None:
    assert json.loads(formatted("json", "it drifted", pid=42, counted=None)) == {
        "ts": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "msg": "it drifted",
        "pid": 42,
        "counted": None,
    }


@STEADY
@given(st.text(), st.text())
def test_logfmt_is_one_line_and_loses_nothing(message: str, value: str) -> None:
    line = formatted("logfmt", message, comm=value)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    fields = parse(line)
    assert (fields["msg"], fields["comm"]) == (message, value)
    assert set(fields) == {"ts", "level", "msg", "comm"}


@STEADY
@given(st.text(), st.text())
def test_json_is_one_line_and_loses_nothing(message: str, value: str) -> None:
    line = formatted("json", message, comm=value)
    assert len(line.splitlines()) == 1
    fields = json.loads(line)
    assert (fields["msg"], fields["comm"]) == (message, value)


def test_what_json_cannot_say_is_text() -> None:
    line = formatted("json", "m", path=Path("/run"))
    assert json.loads(line)["path"] == "/run"


def test_level_and_stream(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", "logfmt")
    log.logger.info("not this")
    log.logger.warning("this")
    # Again, as at a reload.
    log.configure("warning", "logfmt")
    log.logger.warning("that")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [parse(line)["msg"] for line in shown.err.splitlines()] == ["this", "that"]


def test_commands_that_configure_nothing_show_the_text_of_warnings() -> None:
    program = "from ksmwatch.log import logger; logger.info('a'); logger.warning('b', {'why': 'c'})"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "b\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_log_that_cannot_be_written_stops_nothing(redirection: str) -> None:
    program = "from ksmwatch.log import logger; logger.error('a'); logger.error('b'); print('c')"
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == "c\n"
