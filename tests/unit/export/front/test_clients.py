"""Which connection must go if there are too many, and when one takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ksmwatch.export.front import limits
from ksmwatch.export.front.clients import ClientPhase, Clients
from ksmwatch.export.front.complaints import Complaints


class Stream:
    """Knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Loop:
    """A clock that is advanced by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.due.append((self.now + seconds, callback))

    def run_until(self, end: float) -> None:
        """Let time go on."""
        while self.due and min(self.due, key=lambda each: each[0])[0] <= end:
            self.due.sort(key=lambda each: each[0])
            self.now, callback = self.due.pop(0)
            callback()
        self.now = end


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def _never() -> None:
    raise AssertionError


# Where there is always room.
NO_DOOR = (_never, _never)


def opened(some: Clients, count: int = 1) -> list[Stream]:
    streams = [Stream() for _ in range(count)]
    for stream in streams:
        some.opened(stream)
    return streams


@pytest.mark.parametrize(
    ("phases", "seconds", "kind"),
    [
        ([], limits.HEADER_SECONDS, "slow"),
        ([ClientPhase.ANSWERING, ClientPhase.WRITING], limits.WRITE_SECONDS, "slow"),
        (
            [ClientPhase.ANSWERING, ClientPhase.WRITING, ClientPhase.IDLE],
            limits.IDLE_SECONDS,
            None,
        ),
    ],
)
def test_each_phase_has_its_limit(
    loop: Loop, phases: list[ClientPhase], seconds: float, kind: str | None
) -> None:
    complaints = Complaints()
    some = Clients(5, complaints, *NO_DOOR)
    (stream,) = opened(some)
    for phase in phases:
        some.enter(stream, phase)
    loop.run_until(seconds)
    assert not stream.closed
    loop.run_until(seconds + 1)
    assert stream.closed
    assert len(some) == 0
    assert {k: n for k, n in complaints.counts.items() if n} == ({kind: 1} if kind else {})
    # Nothing is checked while there are no connections.
    loop.run_until(seconds + 10)
    assert loop.due == []


def test_who_waits_for_us_is_not_slow(loop: Loop) -> None:
    some = Clients(5, Complaints(), *NO_DOOR)
    (stream,) = opened(some)
    some.enter(stream, ClientPhase.ANSWERING)
    loop.run_until(1e4)
    assert not stream.closed


def test_a_new_connection_is_new_until_its_first_request(loop: Loop) -> None:
    some = Clients(5, Complaints(), *NO_DOOR)
    (stream,) = opened(some)
    some.idle(stream)
    loop.run_until(limits.HEADER_SECONDS + 1)
    assert stream.closed


class Door:
    """Whether clients are accepted."""

    def __init__(self) -> None:
        self.open = True

    def pause(self) -> None:
        """No more."""
        self.open = False

    def resume(self) -> None:
        self.open = True


def test_room_is_made_by_those_who_have_said_nothing_for_a_while(loop: Loop) -> None:
    complaints, door = Complaints(), Door()
    some = Clients(4, complaints, door.pause, door.resume)
    answering, idle, silent = opened(some, 3)
    assert door.open
    some.enter(answering, ClientPhase.ANSWERING)
    some.enter(idle, ClientPhase.ANSWERING)
    some.idle(idle)
    loop.run_until(1.5)
    (young,) = opened(some)
    assert not door.open
    loop.run_until(1.9)
    assert (door.open, silent.closed) == (False, False)
    loop.run_until(2.5)
    assert door.open
    assert [s.closed for s in (answering, idle, silent, young)] == [False, False, True, False]
    assert complaints.counts["connections"] == 1


def test_else_room_is_made_by_the_idle_and_never_by_who_is_being_answered(loop: Loop) -> None:
    door = Door()
    some = Clients(4, Complaints(), door.pause, door.resume)
    streams = opened(some, 4)
    for stream in streams:
        some.enter(stream, ClientPhase.ANSWERING)
    loop.run_until(100)
    assert (door.open, len(some)) == (False, 4)
    for phase, stream in zip(
        (ClientPhase.WRITING, ClientPhase.IDLE, ClientPhase.IDLE), streams, strict=False
    ):
        some.enter(stream, phase)
        loop.now += 0.1
    loop.run_until(103)
    assert door.open
    assert [stream.closed for stream in streams] == [False, True, False, False]


def test_who_leaves_makes_room_too(loop: Loop) -> None:
    door = Door()
    some = Clients(2, Complaints(), door.pause, door.resume)
    streams = opened(some, 2)
    some.closed(streams[0])
    loop.run_until(0.5)
    assert (door.open, streams[1].closed) == (True, False)


def test_what_is_closed_twice_is_gone_once(loop: Loop) -> None:
    some = Clients(4, Complaints(), *NO_DOOR)
    (stream,) = opened(some)
    some.closed(stream)
    some.closed(stream)
    some.enter(stream, ClientPhase.WRITING)
    assert len(some) == 0


def test_a_kind_of_complaint_is_logged_once_in_a_while(warnings: list[dict[str, Any]]) -> None:
    now = [0.0]
    complaints = Complaints(lambda: now[0])
    for _ in range(1000):
        complaints.add("malformed", client="a")
    complaints.add("slow")
    assert warnings == [{"kind": "malformed", "client": "a"}, {"kind": "slow"}]
    now[0] = 601.0
    complaints.add("malformed", client="b")
    assert warnings[2] == {"kind": "malformed", "client": "b", "unlogged_before": 999}
    assert complaints.counts["malformed"] == 1001
