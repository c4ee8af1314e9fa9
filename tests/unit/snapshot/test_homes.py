"""The own node of memory of a process: by its CPUs, or else by its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.counting.ledger import Count
from ksmwatch.snapshot.homes import Homes, largest_node
from ksmwatch.snapshot.ksmd_numbers import CountKey, key_of
from tests.fakes import Clock

MAPS = """\
7f0000000000 default anon=30 dirty=30 N0=10 N1=20 kernelpagesize_kB=4
7f1000000000 bind:0 file=/usr/bin/N1=9 mapped=15 N0=15 kernelpagesize_kB=4
7f2000000000 default
"""


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (MAPS, 0),
        (MAPS.replace("N0=15", "N0=9"), 1),
        ("7f0000000000 default huge anon=1 N1=1 kernelpagesize_kB=2048\n" + MAPS, 1),
        ("7f2000000000 default\n", None),
        # Equal: the same one each time.
        ("7f default anon=2 N1=1 N0=1 kernelpagesize_kB=4\n", 0),
    ],
)
def test_the_node_with_most_memory(text: str, node: int | None) -> None:
    assert largest_node(text) == node


class World:
    """Two nodes with two CPUs each."""

    def __init__(self, path: Path) -> None:
        self.proc = path / "proc"
        for node, cpus in {0: "0-1", 1: "2-3"}.items():
            directory = path / f"sys/devices/system/node/node{node}"
            directory.mkdir(parents=True)
            (directory / "cpulist").write_text(cpus + "\n")
        self.bound: dict[int, set[int]] = {}
        self.clock, self.seconds = Clock(), 0.0
        self.sys = path / "sys"
        self.homes = Homes((0, 1), self.proc, self.sys, self.clock, self._affinity)

    def _affinity(self, pid: int) -> set[int]:
        self.clock.now += self.seconds
        if pid not in self.bound:
            raise ProcessLookupError(3, "No such process")
        return self.bound[pid]

    def process(self, pid: int, cpus: set[int], maps: str) -> dict[CountKey, Count]:
        """A process, and its count."""
        (self.proc / str(pid)).mkdir(parents=True, exist_ok=True)
        (self.proc / str(pid) / "numa_maps").write_text(maps)
        self.bound[pid] = cpus
        count = Count(pid * 64, 1, pid, 9, mappings=7, exact=True, moves=())
        return {key_of(count): count}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_who_is_bound_to_the_cpus_of_a_node_is_at_home_there(world: World) -> None:
    counts = world.process(10, {2, 3}, MAPS) | world.process(11, {1, 2}, MAPS)
    assert world.homes.update(counts) == counts.keys()
    assert [world.homes.of(pid) for pid in (10, 11, 12)] == [1, 0, None]


def test_it_is_looked_at_again_after_minutes(world: World) -> None:
    counts = world.process(10, {1, 2}, MAPS)
    world.homes.update(counts)
    world.bound[10] = {3}
    world.clock.now += 299
    assert world.homes.update(counts) == set()
    world.clock.now += 1
    assert world.homes.update(counts) == counts.keys()
    assert world.homes.of(10) == 1
    assert world.homes.update(counts) == set()


def test_who_comes_later_is_looked_at_then(world: World) -> None:
    counts = world.process(10, {3}, MAPS)
    idle = {key: count._replace(mappings=0) for key, count in world.process(11, {0}, MAPS).items()}
    assert world.homes.update(counts | idle) == counts.keys()
    both = counts | world.process(11, {0}, MAPS)
    assert world.homes.update(both) == idle.keys()
    world.homes.update(both)
    assert [world.homes.of(pid) for pid in (10, 11)] == [1, 0]


def test_what_there_is_no_time_for_is_looked_at_later(world: World) -> None:
    counts = world.process(10, {3}, MAPS) | world.process(11, {0}, MAPS)
    world.seconds = 1.0
    assert [len(world.homes.update(counts)) for _ in range(3)] == [1, 1, 0]
    assert [world.homes.of(pid) for pid in (10, 11)] == [1, 0]
    # One that has gone is not looked at any more.
    more = counts | world.process(12, {0}, MAPS) | world.process(13, {0}, MAPS)
    world.homes.update(more)
    world.homes.update(counts)
    assert [world.homes.of(pid) for pid in (12, 13)] == [None, None]


def test_who_cannot_be_looked_at_has_none(world: World) -> None:
    counts = world.process(10, {1, 2}, MAPS)
    del world.bound[10]
    world.homes.update(counts)
    assert world.homes.of(10) is None


def test_who_has_gone_is_forgotten(world: World) -> None:
    counts = world.process(10, {3}, MAPS)
    world.homes.update(counts)
    world.homes.update({})
    assert world.homes.of(10) is None


def test_nothing_is_looked_at_on_a_host_with_one_node(world: World) -> None:
    homes = Homes((), world.proc, world.sys, world.clock, world._affinity)
    assert homes.update(world.process(10, {3}, MAPS)) == set()
    assert homes.of(10) is None
