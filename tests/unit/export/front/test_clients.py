"""Which connection must go if there are too many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ksmwatch.export.front import clients
from ksmwatch.export.front.clients import ClientPhase, Clients
from ksmwatch.export.front.complaints import Complaints


@dataclass(eq=False)
class Client:
    """Knows whether it has to go."""

    phase: ClientPhase = ClientPhase.NEW
    since: float = 0.0
    gone: bool = False

    def hang_up(self) -> None:
        """Its end."""
        self.gone = True


@dataclass
class Hall:
    """So many clients, and a clock that is set by hand."""

    limit: int
    now: float = 0.0
    complaints: Complaints = field(default_factory=Complaints)

    def __post_init__(self) -> None:
        self.clients = Clients(self.limit, self.complaints, lambda: self.now)

    def enter(self, *phases: ClientPhase) -> list[Client]:
        """Clients in these phases since now."""
        made = [Client(phase, self.now) for phase in phases]
        for client in made:
            self.clients.opened(client)
        return made


NEW, IDLE, READING, WRITING, ANSWERING = ClientPhase


def test_with_room_nobody_has_to_go() -> None:
    hall = Hall(3)
    clients = hall.enter(NEW, IDLE)
    hall.now = 1e4
    hall.clients.make_room()
    assert not hall.clients.full
    assert [client.gone for client in clients] == [False, False]


def test_room_is_made_by_those_who_have_said_nothing_for_a_while() -> None:
    hall = Hall(4)
    old = hall.enter(ANSWERING, IDLE, NEW)
    hall.now = 1.5
    (young,) = hall.enter(NEW)
    for hall.now, full in ((1.9, True), (2.5, False)):
        hall.clients.make_room()
        assert hall.clients.full is full
    assert [client.gone for client in (*old, young)] == [False, False, True, False]
    assert hall.complaints.counts["connections"] == 1


@pytest.mark.parametrize(
    ("phases", "first"),
    [
        ((ANSWERING, WRITING, READING, IDLE), 3),
        ((READING, ANSWERING, ANSWERING, WRITING), 0),
        ((WRITING, ANSWERING, ANSWERING, ANSWERING), 0),
    ],
)
def test_else_room_is_made_by_the_idlest(phases: tuple[ClientPhase, ...], first: int) -> None:
    hall = Hall(4)
    clients = hall.enter(*phases)
    hall.now = 3.0
    hall.clients.make_room()
    assert not hall.clients.full
    assert [client.gone for client in clients] == [number == first for number in range(4)]


def test_of_two_idle_ones_who_has_been_so_for_longer() -> None:
    hall = Hall(2)
    (late,), hall.now = hall.enter(IDLE), -1.0
    (early,), hall.now = hall.enter(IDLE), 3.0
    hall.clients.make_room()
    assert (early.gone, late.gone) == (True, False)


def test_who_is_being_answered_never_has_to_go() -> None:
    hall = Hall(2)
    clients = hall.enter(ANSWERING, ANSWERING)
    hall.now = 1e4
    hall.clients.make_room()
    assert hall.clients.full
    assert [client.gone for client in clients] == [False, False]


def test_who_leaves_makes_room_too() -> None:
    hall = Hall(2)
    clients = hall.enter(NEW, NEW)
    # Once more is no harm: both its thread and who makes room may say it.
    for _ in range(2):
        hall.clients.closed(clients[0])
        assert len(hall.clients) == 1
    hall.now = 1e4
    hall.clients.make_room()
    assert not clients[1].gone


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


def test_after_a_crowd_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    hall = Hall(100)
    monkeypatch.setattr(clients, "give_memory_back", lambda: given.append(len(hall.clients)))
    for count in (17, 16, 17):
        for client in hall.enter(*[IDLE] * count):
            hall.clients.closed(client)
    assert given == [1, 1]
