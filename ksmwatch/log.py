"""Structured logs on stderr: one line per event, as logfmt or JSON, for journald and Loki.

Not by `logging` of the standard library: most of it would be unused here, and it takes half a
megabyte in each process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

_Fields = Mapping[str, Any]

_LEVELS = ("debug", "info", "warning", "error")
_NONE: _Fields = {}


def fields(level: str, message: str, extra: _Fields, now: float) -> dict[str, Any]:
    """What a line says of an event."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    ts = f"{stamp}.{int(now % 1 * 1000):03d}Z"
    return {"ts": ts, "level": level, "msg": message, **extra}


def _value(value: Any) -> str:
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=')
    return text if plain and text else json.dumps(text)


FORMS: Mapping[str, Callable[[_Fields], str]] = {
    "json": lambda said: json.dumps(said, default=str),
    "logfmt": lambda said: " ".join(f"{name}={_value(value)}" for name, value in said.items()),
}


class Logger:
    """The log of this process. Until it is configured, it shows the text of warnings."""

    def __init__(self) -> None:
        self._shown = _LEVELS[_LEVELS.index("warning") :]
        self._line: Callable[[_Fields], str] = lambda said: str(said["msg"])

    def configure(self, level: str, form: str) -> None:
        """Show events of this level and above, in this form."""
        self._shown = _LEVELS[_LEVELS.index(level) :]
        self._line = FORMS[form]

    def info(self, message: str, extra: _Fields = _NONE) -> None:
        self._log("info", message, extra)

    def warning(self, message: str, extra: _Fields = _NONE) -> None:
        self._log("warning", message, extra)

    def error(self, message: str, extra: _Fields = _NONE) -> None:
        self._log("error", message, extra)

    def _log(self, level: str, message: str, extra: _Fields) -> None:
        if level not in self._shown:
            return
        line = self._line(fields(level, message, extra, time.time()))
        # In one piece, as other threads write too. The reader may have gone, or never been there,
        # which makes it None.
        with suppress(AttributeError, OSError):
            sys.stderr.write(f"{line}\n")


logger = Logger()
configure = logger.configure
