"""What merging saves: bounds, compared with processes whose truth is known."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch.owners.savings import Bounds, Forks, Who, pages_without_ksm, saved_pages
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.process import Process
from tests.made_up import process

PAGES = 4


@dataclass
class Mm:
    """By address: the class of kin, and the KSM page; None: a page of its own."""

    pid: int
    ppid: int
    start: int
    family: tuple[int, int]
    pages: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    moves: Counter[Movement] = field(default_factory=Counter)

    def seen(self) -> Process:
        """As the daemon sees it."""
        return process(
            pid=self.pid,
            ppid=self.ppid,
            start_time=self.start,
            family=self.family,
            mappings=sum(page is not None for _, page in self.pages.values()),
            zero_pages=0,
            movements=tuple(self.moves[m] for m in Movement),
        )


class World:
    """Processes that write, merge, fork and end."""

    def __init__(self) -> None:
        self.mms: dict[int, Mm] = {}
        self._kin = itertools.count()
        self._pids = itertools.count(2)
        self.now = 0

    def spawn(self) -> None:
        """A process after exec."""
        pid = next(self._pids)
        self.mms[pid] = Mm(pid, 1, self.now, (pid, pid + 7))

    def fork(self, mm: Mm) -> None:
        """A child with all PTEs."""
        pid = next(self._pids)
        child = Mm(pid, mm.pid, self.now, mm.family, dict(mm.pages))
        child.moves[Movement.FORKED] = child.seen().mappings
        self.mms[pid] = child

    def write(self, mm: Mm, address: int) -> None:
        """A page of its own from now on."""
        self._leave(mm, address, Movement.COPIED)
        mm.pages[address] = next(self._kin), None

    def unmap(self, mm: Mm, address: int) -> None:
        """No page any more."""
        self._leave(mm, address, Movement.UNMAPPED)
        mm.pages.pop(address, None)

    def merge(self, mm: Mm, address: int, content: str) -> None:
        """Also of a page that fork shares: kin stay kin."""
        kin, page = mm.pages.get(address, (None, ""))
        if kin is not None and page is None:
            mm.pages[address] = kin, content
            mm.moves[Movement.MERGED] += 1

    def exit(self, mm: Mm) -> None:
        """Its children are handed to init."""
        del self.mms[mm.pid]
        for other in self.mms.values():
            if other.ppid == mm.pid:
                other.ppid = 1

    def _leave(self, mm: Mm, address: int, why: Movement) -> None:
        if mm.pages.get(address, (0, None))[1] is not None:
            mm.moves[why] += 1

    def needed(self) -> int:
        """Pages that the KSM mappings would need without KSM."""
        return len({k for mm in self.mms.values() for k, p in mm.pages.values() if p is not None})


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["spawn", *["fork"] * 3, *["write"] * 4, "unmap", *["merge"] * 6, "exit"]),
        st.integers(0, 99),
        st.integers(0, PAGES - 1),
        st.sampled_from("ab"),
        st.booleans(),
    ),
    max_size=80,
)


@settings(max_examples=600, deadline=None)
@given(STEPS)
def test_the_truth_is_between_the_bounds(steps: list[tuple[str, int, int, str, bool]]) -> None:
    world, forks = World(), Forks()
    world.spawn()
    for step, whose, address, content, look in steps:
        world.now += 1
        mm = list(world.mms.values())[whose % len(world.mms)] if world.mms else None
        if step == "spawn" or mm is None:
            world.spawn()
        elif step == "merge":
            world.merge(mm, address, content)
        elif step in ("write", "unmap"):
            getattr(world, step)(mm, address)
        else:
            getattr(world, step)(mm)
        if look:
            seen = [each.seen() for each in world.mms.values()]
            found = pages_without_ksm(seen, forks.see(by_who(seen), world.now))
            assert found.least <= world.needed() <= found.most


def by_who(seen: list[Process]) -> dict[Who, Process]:
    return {(each.pid, each.start_time): each for each in seen}


def test_without_forks_both_bounds_are_the_truth() -> None:
    world = World()
    for _ in range(3):
        world.spawn()
    for mm in world.mms.values():
        for address in range(PAGES):
            world.write(mm, address)
            world.merge(mm, address, "a")
    seen = [mm.seen() for mm in world.mms.values()]
    assert pages_without_ksm(seen, Forks().see(by_who(seen), 0)) == Bounds(12, 12)


def prefork() -> list[Process]:
    """uksm#23: two with 5,003 equal pages, one forks nine children, which only read."""
    moves = (5003, 0, 0, 0, 0, 0, 0)
    twins = [
        process(pid=pid, ppid=1, mappings=5003, zero_pages=0, movements=moves, family=(pid, 9))
        for pid in (10, 20)
    ]
    forked = (0, 0, 0, 5003, 0, 0, 0)
    return [
        *twins,
        *(
            process(
                pid=pid,
                ppid=10,
                start_time=9100,
                mappings=5003,
                zero_pages=0,
                movements=forked,
                family=(10, 9),
            )
            for pid in range(100, 109)
        ),
    ]


def test_a_prefork_server_saves_what_it_saved_before() -> None:
    seen = prefork()
    need = pages_without_ksm(seen, Forks().see(by_who(seen), 0))
    assert saved_pages(need, 5003) == Bounds(5003, 5003)


def test_without_events_it_is_known_between_bounds() -> None:
    seen = [p._replace(movements=()) for p in prefork()]
    need = pages_without_ksm(seen, Forks().see(by_who(seen), 0))
    assert saved_pages(need, 5003) == Bounds(5003, 10 * 5003)


def test_what_the_parent_lost_before_the_fork_does_not_matter() -> None:
    """A daemon that was there before the fork knows what had gone by then."""
    parent, _, *children = prefork()
    busy = parent._replace(movements=(9003, 0, 0, 0, 4000, 0, 0))
    forks = Forks()
    forks.see(by_who([busy]), now=9050)
    seen = [busy, *children]
    assert pages_without_ksm(seen, forks.see(by_who(seen), 9200)) == Bounds(5003, 5003)
    # One that came later does not.
    assert pages_without_ksm(seen, Forks().see(by_who(seen), 9200)) == Bounds(5003, 5003 + 9 * 4000)


def test_a_child_that_was_handed_on_is_nobodys() -> None:
    parent, _, child, *_ = prefork()
    forks = Forks()
    assert forks.see(by_who([parent, child]), 9200)
    other = parent._replace(pid=11)
    moved = child._replace(ppid=11)
    assert forks.see(by_who([other, moved]), 9300) == {}


def test_a_child_that_execs_or_ends_shares_nothing_with_its_parent() -> None:
    parent, _, child, *_ = prefork()
    who = child.pid, child.start_time
    forks = Forks()
    assert forks.see(by_who([parent, child]), 9200) == {who: 5003}
    assert forks.see(by_who([parent, child._replace(family=(5, 5))]), 9300) == {}
    assert forks.see(by_who([parent, child]), 9400) == {who: 5003}
    assert forks.see(by_who([parent]), 9500) == {}


def test_a_child_shares_no_more_than_its_parent_has() -> None:
    parent, _, child, *_ = prefork()
    poor = parent._replace(mappings=100, movements=())
    assert [*Forks().see(by_who([poor, child]), 9200).values()] == [100]


def test_relatives_that_are_not_known_may_be_of_one_family() -> None:
    seen = [p._replace(family=None) for p in prefork()[:2]]
    assert pages_without_ksm(seen, {}) == Bounds(5003, 10006)
    assert pages_without_ksm([], {}, unnamed=7) == Bounds(0, 7)


@pytest.mark.parametrize(
    ("need", "shared", "saved"),
    [
        (Bounds(100, 120), 20, Bounds(80, 100)),
        (Bounds(100, 100), None, None),
        # All mappings went and ksmd has not noticed.
        (Bounds(5, 5), 20, Bounds(0, 0)),
    ],
)
def test_saved_pages(need: Bounds, shared: int | None, saved: Bounds | None) -> None:
    assert saved_pages(need, shared) == saved
