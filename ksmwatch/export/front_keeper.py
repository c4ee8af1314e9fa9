"""The daemon's side of a front: starts it, answers it, and restarts it if it dies.

A front begins by exec, so it gets from the daemon only the descriptors passed to it.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from ksmwatch.backoff import Backoff
from ksmwatch.child_process import Child, Errors
from ksmwatch.errors import NoDaemonError
from ksmwatch.export import front_channel
from ksmwatch.export.front_channel import Answer, Begin, SampleSender
from ksmwatch.export.web_config import WebConfig
from ksmwatch.log import logger

# If a front dies younger than this, the wait doubles.
_YOUNG_SECONDS = 60.0
# How long a front may take to read an answer.
_SEND_SECONDS = 60
# Nothing outside can make the daemon take snapshots more often than this.
_YOUNGEST_ANSWER_SECONDS = 1.0
# Time between two checks of the web configuration's files.
_LOOK_SECONDS = 1.0


class Files(Protocol):
    """The web configuration, which may change."""

    @property
    def current(self) -> WebConfig:
        """The configuration in use."""

    def look(self) -> bool:
        """Check for a change; returns whether `current` is new."""


class Keeper:
    """Keeps one front alive, from a separate thread."""

    def __init__(
        self,
        begin: Begin,
        answer: Callable[[float], Answer],
        losses: Counter[str],
        files: Files | None = None,
    ) -> None:
        self._begin = begin
        self._files = files
        # A snapshot of at most this age; raises NoDaemonError when there will be no more.
        self._answer = answer
        self._losses = losses
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        # The front's; None while there is no front.
        self.pid: int | None = None
        self._launched: Child | None = None
        self._next_look = 0.0
        self._thread = threading.Thread(target=self._keep, name="front", daemon=True)

    def launch(self) -> None:
        """Start the front's process, without answering it yet.

        Call it before the daemon gives up its capabilities, which must happen before threads start.
        """
        with suppress(OSError):
            # A failure here is tried again later, and logged then.
            self._launched = self._spawn()

    def start(self) -> None:
        """Begin to answer the front."""
        self._thread.start()

    def stop(self) -> None:
        """End the front; returns when it has ended."""
        self._stopping.set()
        with self._lock:
            if self._channel is not None:
                self._channel.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join()
        if self._launched is not None:
            self._launched.end()

    def _keep(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            began = time.monotonic()
            how = self._one_front()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > _YOUNG_SECONDS:
                backoff = Backoff()
            wait = backoff.next()
            self._losses["front_lost"] += 1
            logger.error(
                "a front ended; clients wait until it has been restarted",
                extra={"task": self._begin.task.name, "how": how, "next_in_seconds": wait},
            )
            self._stopping.wait(wait)

    def _one_front(self) -> str:
        """Start a front and answer it until it ends; returns how it ended."""
        try:
            child = self._launched or self._spawn()
        except OSError as error:
            return f"not started: {error.strerror}"
        self._launched = None
        self.pid = child.pid
        self._publish(child.channel)
        self._converse(child.channel)
        self._publish(None)
        how = child.end()
        self.pid = None
        return how

    def _publish(self, ours: socket.socket | None) -> None:
        """Let `stop` find the channel; a channel that comes too late is closed at once."""
        with self._lock:
            self._channel = ours
            if ours is not None and self._stopping.is_set():
                ours.shutdown(socket.SHUT_RDWR)

    def _spawn(self) -> Child:
        child = Child(
            "ksmwatch.export.front.main",
            descriptors=self._begin.task.sockets,
            errors=Errors.SHOWN,
            # Ctrl-C is for the daemon, which ends its front.
            own_group=True,
        )
        # struct timeval
        timeout = struct.pack("@ll", _SEND_SECONDS, 0)
        child.channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        with suppress(OSError):
            # If it has ended already, the first request will be missing.
            front_channel.send(child.channel, self._beginning())
        return child

    def _beginning(self) -> Begin:
        """The first message, with the current configuration."""
        task = self._begin.task
        if self._files is None or not isinstance(task, front_channel.WebTask):
            return self._begin
        return replace(self._begin, task=replace(task, config=self._files.current))

    def _wait(self, ours: socket.socket) -> None:
        """Wait until the front sends something. Meanwhile pass changes on to it."""
        while self._files is not None:
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + _LOOK_SECONDS
                if self._files.look():
                    front_channel.send(ours, self._files.current)
            if select.select([ours], [], [], self._next_look - now)[0]:
                return

    def _converse(self, ours: socket.socket) -> None:
        """Answer until either side has ended."""
        failed, answers = 0, SampleSender()
        try:
            while True:
                self._wait(ours)
                age, failures = front_channel.receive_question(ours)
                if failures > failed:
                    self._losses["textfile_unwritten"] += failures - failed
                    failed = failures
                # A NaN becomes the lowest age too.
                answers.send(ours, self._answer(max(_YOUNGEST_ANSWER_SECONDS, age)))
        except (EOFError, OSError, NoDaemonError):
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end HTTP for ever
            logger.error("a front's request failed", extra={"error": repr(error)})
