"""Rereads the web configuration and the files that it names when they change.

The daemon reads them, because a front's user must not have access to a key.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from ksmwatch.errors import ConfigError
from ksmwatch.export.tls import make_context
from ksmwatch.export.web_config import WebConfig
from ksmwatch.export.web_config_file import parse
from ksmwatch.log import logger

# Identifies the state of a file; None for a file that cannot be examined.
_Stamp = tuple[int, int, int] | None
_MAX_BYTES = 1 << 20


def load(path: Path, note: Callable[[Path], None] = lambda _: None) -> WebConfig:
    """Read and check everything; `note` is called with each file. Raises ConfigError."""

    def read(name: str) -> bytes:
        # Relative to the file that names it.
        found = path.parent / name
        note(found)
        return _read(found)

    note(path)
    try:
        made = parse(_read(path).decode(), read)
        if made.tls is not None:
            make_context(made.tls)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8.") from error
    except _UnreadableError:
        raise
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}.") from error
    return made


class _UnreadableError(ConfigError):
    """A file cannot be read; the message says which."""


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            # Opening a fifo would block, and reading a device might never end.
            raise _UnreadableError(f"{path} is not a regular file.")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > _MAX_BYTES:
        raise _UnreadableError(f"{path} is larger than {_MAX_BYTES} bytes.")
    return data


class WebFiles:
    """The configuration in use. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises ConfigError."""
        self._path = path
        self._stamps: dict[Path, _Stamp] = {}
        self._seen = self._stamps
        # Whether the files' contents are in use.
        self.valid = True
        self.current = self._load()

    def look(self) -> bool:
        """Apply changes; an invalid one changes nothing. Returns whether `current` is new.

        A change is applied at the second look that finds it. A program that rewrites a file empties
        it first, and an empty file would be valid, without TLS and passwords.
        """
        seen = {path: _stamp(path) for path in self._stamps}
        settled, self._seen = seen == self._seen, seen
        if seen == self._stamps or not settled:
            return False
        try:
            made = self._load()
        except ConfigError as error:
            self.valid = False
            logger.error(
                "the web configuration is invalid; the previous one stays in use",
                extra={"why": str(error)},
            )
            return False
        self.valid = True
        logger.info("web configuration reloaded", extra={"file": str(self._path)})
        new, self.current = made != self.current, made
        return new

    def _load(self) -> WebConfig:
        self._stamps = {}

        def note(path: Path) -> None:
            # Before the file is read, so that a change meanwhile is seen the next time.
            self._stamps[path] = _stamp(path)

        return load(self._path, note)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
