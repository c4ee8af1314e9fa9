"""Messages between the daemon and its fronts, the processes that hand out what it knows.

A request is a frame of fixed size in which only two numbers can be wrong: the daemon trusts no
front. Answers are pickled: a front must trust the daemon anyway.
"""

from __future__ import annotations

import math
import socket
import struct

# What pickle itself uses. It has the same code in Python as well, a quarter of a megabyte.
from _pickle import dumps, loads
from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ksmwatch.export.metric_family import LabelledValue, Samples, Spec, changed_values
from ksmwatch.export.web_config import WebConfig
from ksmwatch.snapshot.last_hour import HourPoints

# The age that an answer may have, in seconds; how often the front has failed to pass one on.
QUESTION = struct.Struct("!dI")
LENGTH = struct.Struct("!Q")


@dataclass(frozen=True)
class WebTask:
    """The task of serving HTTP. `sockets`: listening descriptors.

    `configured`: there is a web configuration, which may come to require passwords.
    """

    sockets: tuple[int, ...]
    telemetry_path: str
    max_requests: int
    max_connections: int
    config: WebConfig
    configured: bool

    name = "web"


@dataclass(frozen=True)
class TextfileTask:
    """The task of writing a file for node_exporter's textfile collector. `interval`: seconds."""

    directory: str
    interval: float

    name = "textfile"
    sockets = ()


@dataclass(frozen=True)
class Begin:
    """The first message. `user`: uid and gid to change to, None to keep the current ones."""

    task: WebTask | TextfileTask
    specs: tuple[Spec, ...]
    user: tuple[int, int] | None
    log_level: str
    log_format: str


@dataclass(frozen=True)
class Answer:
    """Samples, and when they were taken (CLOCK_MONOTONIC, which both processes share).

    `hour`: points of the last hour, for a front only the new ones; None if no history is kept.
    """

    taken: float
    samples: Samples
    hour: HourPoints | None = None


# Values by their places, if a family's labels are those of the last answer.
Values = dict[int, float]


@dataclass(frozen=True)
class SentAnswer:
    """An answer on the channel: how it differs from the last one.

    `families`: their names; None if they are the same, in the same order. `changed`: the samples of
    families that are new or whose labels are others, or else the values that are.
    """

    taken: float
    families: list[str] | None
    changed: dict[str, list[LabelledValue] | Values]
    hour: HourPoints | None


class SampleSender:
    """The daemon's end for answers: what has not changed is not sent again."""

    def __init__(self) -> None:
        self._sent: dict[str, list[LabelledValue]] = {}
        self._sent_until = -math.inf

    def send(self, sock: socket.socket, answer: Answer) -> None:
        """Send an answer. Raises OSError if the front is gone."""
        before, self._sent = self._sent, dict(answer.samples)
        changed: dict[str, list[LabelledValue] | Values] = {}
        for name, now in answer.samples:
            known = before.get(name)
            # Most are the same object, and most others are equal.
            if known is not now and known != now:
                values = None if known is None else changed_values(known, now)
                changed[name] = now if values is None else values
        families = None if list(before) == list(self._sent) else list(self._sent)
        send(sock, SentAnswer(answer.taken, families, changed, self._new(answer.hour)))

    def _new(self, hour: HourPoints | None) -> HourPoints | None:
        if not hour:
            return hour
        new = hour[bisect_right(hour, self._sent_until, key=attrgetter("at")) :]
        self._sent_until = hour[-1].at
        return new


class SampleReceiver:
    """The front's end."""

    def __init__(self) -> None:
        self._known: dict[str, list[LabelledValue]] = {}

    def whole(self, message: Any) -> Any:
        """The answer that was sent. Other messages are not changed."""
        if not isinstance(message, SentAnswer):
            return message
        for name, changed in message.changed.items():
            self._known[name] = self._with(name, changed)
        if message.families is not None:
            self._known = {name: self._known[name] for name in message.families}
        return Answer(message.taken, list(self._known.items()), message.hour)

    def _with(self, name: str, changed: list[LabelledValue] | Values) -> list[LabelledValue]:
        """The samples of a family, in a new list; unchanged ones are the same objects."""
        if isinstance(changed, list):
            return changed
        samples = list(self._known[name])
        for place, value in changed.items():
            samples[place] = samples[place][0], value
        return samples


def send(sock: socket.socket, message: Begin | SentAnswer | WebConfig) -> None:
    """For the daemon. Raises OSError if the front is gone."""
    data = dumps(message, -1)
    sock.sendall(LENGTH.pack(len(data)))
    sock.sendall(data)


def receive(sock: socket.socket) -> Any:
    """For a front, which blocks meanwhile. Raises EOFError if the daemon is gone."""
    (length,) = LENGTH.unpack(_exactly(sock, LENGTH.size))
    return loads(_exactly(sock, length))


def receive_question(sock: socket.socket) -> tuple[float, int]:
    """For the daemon. Raises EOFError if the front is gone."""
    max_age, failures = QUESTION.unpack(_exactly(sock, QUESTION.size))
    return max_age, failures


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = sock.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise EOFError
    return data
