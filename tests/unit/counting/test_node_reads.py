"""When it is read on which nodes mappings lie: what is unknown, on its allowance, with patience."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.node_reads import NodeReads
from tests.fakes import Clock

KNOWN = (3, 4)


def count(pid: int, **changes: Any) -> Count:
    values = {"account": 1, "mappings": 7, "exact": True, "moves": (), "nodes": None}
    return Count(mm=pid * 64, pid=pid, start_ticks=9, **{**values, **changes})


class World:
    """A process is known once it can be read, which takes some CPU time."""

    def __init__(self) -> None:
        self.clock, self.cpu = Clock(), Clock(0.0)
        self.read: list[int] = []
        self.unreadable: set[int] = set()
        self.seconds = 0.0
        self.reads = NodeReads(self._read, Host(clock=self.clock, cpu=self.cpu))
        # The allowance that has accrued.
        self.clock.now += 1

    def _read(self, pid: int) -> bool:
        self.read.append(pid)
        self.cpu.now += self.seconds
        return pid not in self.unreadable

    def turn(self, seconds: float = 1.0) -> list[int]:
        """What is read after some time."""
        self.read = []
        self.clock.now += seconds
        while self.reads.due():
            self.reads.read_next()
        return self.read


@pytest.fixture
def world() -> World:
    return World()


def test_only_exact_counts_with_unknown_nodes_are_read(world: World) -> None:
    world.reads.see(
        [
            count(10),
            count(11, nodes=KNOWN),
            count(12, exact=False),
            count(13, mappings=0),
            count(0),
        ]
    )
    assert world.turn() == [10]
    assert world.turn() == []


def test_reads_take_a_hundredth_of_a_core(world: World) -> None:
    world.seconds = 0.05
    world.reads.see([count(pid) for pid in range(10, 20)])
    read = [len(world.turn()) for _ in range(30)]
    # The first one is paid for afterwards.
    assert 0.05 * sum(read) <= 0.01 * 31 + 0.05
    assert sum(read) >= 6


def test_what_cannot_be_read_is_tried_again_later_and_later(world: World) -> None:
    world.unreadable = {10}
    tried = []
    for second in range(200):
        world.reads.see([count(10), count(11)] if second == 0 else [count(10)])
        if 10 in world.turn():
            tried.append(second)
    assert tried == [0, 10, 30, 70, 150]
    world.unreadable.clear()
    world.reads.see([count(10)])
    assert world.turn(600) == [10]


def test_it_is_tried_again_although_no_count_has_changed(world: World) -> None:
    world.unreadable = {10}
    counts = [count(10), count(11)]
    tried = []
    for second in range(200):
        world.reads.see(counts)
        tried += [(second, pid) for pid in world.turn()]
    assert tried == [(0, 10), (0, 11), *((second, 10) for second in (10, 30, 70, 150))]


def test_an_account_that_has_gone_is_not_waited_for(world: World) -> None:
    world.unreadable = {10}
    world.reads.see([count(10)])
    assert world.turn() == [10]
    world.reads.see([count(11, nodes=KNOWN)])
    # Another account of the same process.
    world.reads.see([count(10, account=2)])
    assert world.turn() == [10]
