"""Connections of clients: how many are allowed, and how long each step may take."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from ksmwatch.export.front.complaints import Complaints
from ksmwatch.export.front.limits import (
    GRACE_SECONDS,
    HEADER_SECONDS,
    IDLE_SECONDS,
    WRITE_SECONDS,
)

_SWEEP_SECONDS = 1.0
# Without room: how often silent connections are looked for.
_PRESSURE_SECONDS = 0.25


class Stream(Protocol):
    """A connection that can be closed."""

    def close(self) -> None:
        """Close it at once."""


class ClientPhase(IntEnum):
    """What a connection is doing. A lower one has to make room sooner."""

    NEW = 0
    IDLE = 1
    WRITING = 2
    ANSWERING = 3


# Creating an answer has its own limit.
_LIMITS = {
    ClientPhase.NEW: HEADER_SECONDS,
    ClientPhase.IDLE: IDLE_SECONDS,
    ClientPhase.WRITING: WRITE_SECONDS,
}


@dataclass
class Client:
    """What a client does, and since when."""

    phase: ClientPhase
    since: float


class Clients:
    """All connections. For one event loop, whose clock it uses."""

    def __init__(
        self,
        limit: int,
        complaints: Complaints,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        """`pause` stops accepting, until `resume`."""
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self._complaints = complaints
        self._open: dict[Stream, Client] = {}
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, stream: Stream) -> None:
        """Add a connection. After the last for which there is room, accepting stops for a while.

        No connection is closed to accept another: in a flood, none would live to be answered.
        """
        self._open[stream] = Client(ClientPhase.NEW, _now())
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        if len(self._open) >= self._limit:
            self._pause()
            asyncio.get_running_loop().call_later(_PRESSURE_SECONDS, self._relieve)

    def enter(self, stream: Stream, phase: ClientPhase) -> None:
        """The connection enters another phase."""
        client = self._open.get(stream)
        if client is not None:
            client.phase, client.since = phase, _now()

    def idle(self, stream: Stream) -> None:
        """It may send a request. A new connection stays new until its first request."""
        client = self._open.get(stream)
        if client is not None and client.phase is not ClientPhase.NEW:
            self.enter(stream, ClientPhase.IDLE)

    def closed(self, stream: Stream) -> None:
        """The connection is closed."""
        self._open.pop(stream, None)

    def _relieve(self) -> None:
        """Make room: close silent connections, or else the idlest."""
        if len(self._open) >= self._limit:
            for stream in self._dispensable():
                self._close(stream, "connections")
        if len(self._open) < self._limit:
            self._resume()
        else:
            asyncio.get_running_loop().call_later(_PRESSURE_SECONDS, self._relieve)

    def _dispensable(self) -> list[Stream]:
        old = [
            (c.phase, c.since, s) for s, c in self._open.items() if c.since < _now() - GRACE_SECONDS
        ]
        new = [stream for phase, _, stream in old if phase is ClientPhase.NEW]
        if new:
            return new
        idle = [each for each in old if each[0] is not ClientPhase.ANSWERING]
        idle.sort(key=lambda each: each[:2])
        return [stream for _, _, stream in idle[: max(1, self._limit // 4)]]

    def _sweep(self) -> None:
        now = _now()
        for stream, client in list(self._open.items()):
            if now > client.since + _LIMITS.get(client.phase, math.inf):
                # An idle connection is no client error.
                self._close(stream, None if client.phase is ClientPhase.IDLE else "slow")
        self._sweeping = bool(self._open)
        if self._sweeping:
            asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _close(self, stream: Stream, kind: str | None) -> None:
        self.closed(stream)
        if kind is not None:
            self._complaints.add(kind)
        stream.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
