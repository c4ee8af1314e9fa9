"""The front that writes a file for node_exporter's textfile collector.

The collector presents a file's contents as current, whatever its age. So a file that cannot be
replaced is removed. It is also removed at the end, even if the daemon was killed.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.front_channel import (
    QUESTION,
    Answer,
    Begin,
    SampleReceiver,
    TextfileTask,
    receive,
)
from ksmwatch.log import logger

NAME = "ksmwatch.prom"
# The collector reads only *.prom, so not this file.
_TEMPORARY = f"{NAME}.new"


class File:
    """The file in a directory that may be full, read-only or gone."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._temporary = directory / _TEMPORARY
        # How often the file could not be written.
        self.failures = 0
        self._failing = False

    def write(self, data: bytes) -> None:
        """Replace the whole file. Failures are counted; the first, and their end, are logged."""
        try:
            try:
                self._replace(data)
            except OSError:
                # There may be no room for both files, but room for the new one once the old is
                # gone.
                self.remove()
                self._replace(data)
        except OSError as error:
            self.failures += 1
            self.remove()
            if not self._failing:
                logger.error(
                    "the textfile cannot be written",
                    extra={"file": str(self._path), "why": error.strerror},
                )
            self._failing = True
            return
        if self._failing:
            logger.info("the textfile can be written again", extra={"file": str(self._path)})
        self._failing = False

    def _replace(self, data: bytes) -> None:
        # A file or link of another user by that name is an error, after which it is removed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._temporary, flags, 0o644), "wb") as file:
            # node_exporter, which is another user, must be able to read it, whatever our umask is.
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._temporary.rename(self._path)

    def remove(self) -> None:
        """No file is better than an old one."""
        for path in (self._path, self._temporary):
            with suppress(OSError):
                path.unlink()


def text(exposition: Exposition, answer: Answer) -> bytes:
    """The file's text. node_exporter has its own process_*, and duplicates are an error there."""
    exposition.take([each for each in answer.samples if each[0].startswith("ksmwatch_")])
    return exposition.page().body


def serve(
    begin: Begin, task: TextfileTask, channel: socket.socket, made: Callable[[Path], File] = File
) -> None:
    """Write until the daemon is gone."""
    file = made(Path(task.directory))
    exposition, answers = Exposition(begin.specs), SampleReceiver()
    # A killed front may have left it.
    file.remove()
    with suppress(EOFError, ConnectionError):
        while True:
            channel.sendall(QUESTION.pack(task.interval, file.failures))
            file.write(text(exposition, answers.whole(receive(channel))))
            # Readable data without a request can only be the end.
            select.select([channel], [], [], task.interval)
    file.remove()
