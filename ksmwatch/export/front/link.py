"""The front's end of the channel to the daemon."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ksmwatch.export.front_channel import QUESTION, Answer, SampleReceiver, receive


class Link:
    """Asks the daemon. Requests during a wait share the answer if it is young enough.

    One thread receives; any thread may ask.
    """

    def __init__(self, channel: socket.socket, take: Callable[[Any], None]) -> None:
        self._channel = channel
        # Called with every message, before those who wait for it go on.
        self._take = take
        self._answers = SampleReceiver()
        # Of what follows.
        self._answered = threading.Condition()
        self._taken: float | None = None
        self._asked = False

    @property
    def ready(self) -> bool:
        """Whether the daemon has ever answered, which means that its baseline is done."""
        return self._taken is not None

    def begin(self) -> None:
        """Ask, so that the front learns when the daemon is ready."""
        with self._answered:
            self._question(float("inf"))

    def receive(self) -> None:
        """Take the next message. Raises EOFError or ConnectionError if the daemon is gone."""
        message = self._answers.whole(receive(self._channel))
        self._take(message)
        if isinstance(message, Answer):
            with self._answered:
                self._taken, self._asked = message.taken, False
                self._answered.notify_all()

    def ask(self, max_age: float, seconds: float) -> None:
        """Returns once there is an answer of at most this age. Raises TimeoutError."""
        now = time.monotonic()
        wanted, end = now - max_age, now + seconds
        with self._answered:
            while self._taken is None or self._taken < wanted:
                if not self._asked:
                    self._question(max_age)
                if not self._answered.wait(end - time.monotonic()):
                    raise TimeoutError

    def _question(self, max_age: float) -> None:
        self._asked = True
        # If the daemon is gone, `receive` says so. The channel may be closed already.
        with suppress(OSError):
            self._channel.sendall(QUESTION.pack(max_age, 0))
