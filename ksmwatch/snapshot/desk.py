"""Requests to the daemon from other threads: from fronts and from the Unix socket.

Only the main thread touches the backend. Others ask it for a snapshot and wait. Requests that
come while one is being made share the next, so ten scrapers cost what one does.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from ksmwatch.errors import (
    NoDaemonError,
)
from ksmwatch.snapshot.model import Snapshot


class Desk:
    """Where other threads ask for snapshots and the main thread answers."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        # Rung to wake the main thread, which may wait for descriptors too.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._latest: Snapshot | None = None
        self._taken = 0.0
        self._wanted = False
        self._closed = False

    def ask(self, max_age: float) -> Snapshot:
        """A snapshot that is at most this many seconds old; 0 means made after this call."""
        return self.ask_dated(max_age)[0]

    def ask_dated(self, max_age: float) -> tuple[Snapshot, float]:
        """The same, and when it was begun (CLOCK_MONOTONIC)."""
        asked = time.monotonic()
        with self._condition:
            while self._latest is None or self._taken < asked - max_age:
                if self._closed:
                    raise NoDaemonError("The daemon is stopping.")
                self._wanted = True
                self.ring()
                self._condition.wait(1)
            return self._latest, self._taken

    def wait_for_request(self, seconds: float, descriptors: Iterable[int] = ()) -> bool:
        """For the main thread: sleep until a request comes, at most this many seconds.

        It ends as well when one of the descriptors is readable, or by `ring`.
        """
        poll = select.poll()
        for each in (self._bell, *descriptors):
            poll.register(each, select.POLLIN)
        poll.poll(0 if self._closed else seconds * 1000)
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        with self._condition:
            wanted, self._wanted = self._wanted, False
            return wanted

    def ring(self) -> None:
        """Wake the main thread. A signal handler may call it."""
        os.eventfd_write(self._bell, 1)

    def publish(self, make: Callable[[], Snapshot]) -> None:
        """For the main thread: make a snapshot and hand it to everyone who waits."""
        # Taken before the snapshot is made: requests that come meanwhile get the next one.
        taken = time.monotonic()
        snapshot = make()
        with self._condition:
            self._latest, self._taken = snapshot, taken
            self._condition.notify_all()

    @property
    def latest(self) -> tuple[Snapshot | None, float]:
        """The last snapshot, and when it was begun."""
        with self._condition:
            return self._latest, self._taken

    @property
    def ready(self) -> bool:
        """Whether the first snapshot, and with it the baseline, is done."""
        return self._latest is not None

    def close(self) -> None:
        """Wake all who wait. Requests fail from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self.ring()
