"""The front that writes a file for node_exporter's textfile collector.

What is in the file is shown as being of now, whatever its age: so a file that cannot be written
anew is removed, and so it is at the end, even where the daemon was killed.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.front_channel import QUESTION, Answer, Begin, TextfileTask, receive
from ksmwatch.export.metric_family import Spec
from ksmwatch.log import logger

NAME = "ksmwatch.prom"
# Not read by the collector, which takes *.prom.
_TEMPORARY = f"{NAME}.new"


class File:
    """The file in a directory that may be full, read-only or gone."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._temporary = directory / _TEMPORARY
        # How often it could not be written.
        self.failures = 0
        self._failing = False

    def write(self, data: bytes) -> None:
        """Replace it whole. A failure is counted; the first, and the end of them, is logged."""
        try:
            try:
                self._replace(data)
            except OSError:
                # Room for both there is not; what the old one takes may do.
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
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._temporary, flags, 0o644), "wb") as file:
            # For node_exporter, which is another user, whatever our umask is.
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._temporary.rename(self._path)

    def remove(self) -> None:
        """None is better than an old one."""
        for path in (self._path, self._temporary):
            with suppress(OSError):
                path.unlink()


def text(specs: tuple[Spec, ...], answer: Answer) -> bytes:
    """What the file says. process_* is node_exporter's own, and twice would be an error there."""
    ours = [each for each in answer.samples if each[0].startswith("ksmwatch_")]
    return Exposition(specs, ours).page().body


def serve(
    begin: Begin, task: TextfileTask, channel: socket.socket, made: Callable[[Path], File] = File
) -> None:
    """Write until the daemon is gone."""
    file = made(Path(task.directory))
    # Of a front that was killed.
    file.remove()
    with suppress(EOFError, ConnectionError):
        while True:
            channel.sendall(QUESTION.pack(task.interval, file.failures))
            file.write(text(begin.specs, receive(channel)))
            # What can be read here without a question is the end.
            select.select([channel], [], [], task.interval)
    file.remove()
