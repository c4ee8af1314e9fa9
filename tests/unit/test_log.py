"""One line per record, whatever is in it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch import log

STEADY = settings(deadline=None, derandomize=True, max_examples=300)
FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "=]+)(?: |$)')
HEAD = "ts=2023-11-14T22:13:20.250Z level=warning"


@pytest.fixture(autouse=True, scope="module")
def _as_before() -> Iterator[None]:
    before = log.logger.handlers[:], log.logger.level, log.logger.propagate
    yield
    log.logger.handlers[:], level, log.logger.propagate = before
    log.logger.setLevel(level)


def formatted(form: str, message: str, **extra: object) -> str:
    """A warning of 2023, as configured."""
    log.configure("info", form)
    record = log.logger.makeRecord("ksmwatch", 30, "f", 1, message, (), None, extra=extra)
    record.created, record.msecs = 1700000000.25, 250.0
    return log.logger.handlers[0].format(record)


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


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_an_exception_is_a_field_of_the_same_line(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", form)
    try:
        int("two\nlines")
    except ValueError:
        log.logger.exception("it failed", extra={"pid": 1})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    fields = json.loads(lines[0]) if form == "json" else parse(lines[0])
    assert fields["level"] == "error"
    assert fields["exception"].startswith("Traceback (most recent call last):\n")
    assert fields["exception"].endswith(r"with base 10: 'two\nlines'")


def test_what_json_cannot_say_is_text() -> None:
    line = formatted("json", "m", path=logging.Handler)
    assert json.loads(line)["path"] == "<class 'logging.Handler'>"


def test_level_and_stream(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", "logfmt")
    log.logger.info("not this")
    log.logger.warning("this")
    # Again: the handler is replaced, not added.
    log.configure("warning", "logfmt")
    log.logger.warning("that")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [parse(line)["msg"] for line in shown.err.splitlines()] == ["this", "that"]
