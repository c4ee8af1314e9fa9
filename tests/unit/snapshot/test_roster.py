"""A roster that is brought up to date is the roster that is made anew."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch.counting.backend import Evidence
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.residue import residue
from ksmwatch.counting.run_state import RunState
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.processes import Identity
from ksmwatch.owners.rollup import Turnover
from ksmwatch.snapshot.ksmd_numbers import Book, CountKey, key_of
from ksmwatch.snapshot.roster import Inputs, Roster
from tests.made_up import STRAY, UNIT
from tests.plain_sums import PlainTurnover

VM = Owner(OwnerKind.VM, "web", "proxmox/100", manager="proxmox")
PIDS = range(10, 14)
MMS = range(1, 7)


class World:
    """Counts, names and ksmd's numbers, with what a snapshot is told of their changes."""

    def __init__(self) -> None:
        self.identities: dict[int, Identity] = {}
        # By mm: an mm has one account at a time.
        self.counts: dict[int, Count] = {}
        self.listed: dict[CountKey, Count] = {}
        self.books: dict[CountKey, Book] = {}
        self.read: set[CountKey] = set()
        self.evidence: dict[tuple[int, int], Evidence] = {}
        self.forgotten: set[int] | None = set()
        self.run = RunState(1, 0.0, 0.0)
        self.shared = 5
        self.clock = 0
        self.roster = self.new_roster()

    def new_roster(self) -> Roster:
        """One that knows nothing."""
        return Roster(
            self.identities.get,
            lambda key: self.books[key],
            lambda count: self.evidence.get((count.mm, count.account), Evidence()),
        )

    def name(self, pid: int, **changes: Any) -> None:
        """A process comes, or changes its name, owner, cgroup, ..."""
        known = self.identities.get(pid) or Identity(1, pid, "c", "n", b"0::/a", UNIT, (1, 1))
        self.identities[pid] = replace(known, **changes)
        self._forget(pid)

    def end(self, pid: int, *, told: bool = True) -> None:
        """A process ends. Its counts may stay for a while."""
        if self.identities.pop(pid, None) is not None and told:
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        if self.forgotten is not None:
            self.forgotten.add(pid)

    def count(self, mm: int, pid: int, mappings: int, *, exact: bool, anew: bool) -> None:
        """An account is opened, moves, is named after another process, or is another one."""
        known = self.counts.get(mm)
        self.clock += 1
        account = self.clock if known is None or anew else known.account
        before = (0,) * 7 if known is None or anew else known.moves
        moves = (before[0] + mappings, *before[1:])
        self.counts[mm] = Count(mm, account, pid, pid, mappings, exact, moves)

    def settle(self, mm: int, stray: tuple[Any, ...] | None) -> None:
        """An exact read: the count is another object, because its baseline is."""
        if mm in self.counts:
            count = self.counts[mm] = self.counts[mm]._replace(exact=True)
            self.clock += 1
            found = Evidence(float(self.clock), count.moves, stray)
            self.evidence[mm, count.account] = found

    def look(self, *, scans: bool) -> Inputs:
        """What the next snapshot is told."""
        listed = {key_of(count): count for count in self.counts.values()}
        # As the ledger does it.
        if [*map(id, listed.values())] != [*map(id, self.listed.values())]:
            self.listed = listed
        wanted = listed.keys()
        self.books = {key: book for key, book in self.books.items() if key in wanted}
        read = {key for key in wanted if key not in self.books or scans}
        for key in read:
            self.clock += 1
            self.books[key] = Book(key[0], None, float(self.clock))
        forgotten, self.forgotten = self.forgotten, set()
        return Inputs(self.listed, read, forgotten, self.run, self.shared)


WHOSE = st.sampled_from(PIDS)
STEPS = st.one_of(
    st.tuples(st.just("name"), WHOSE, st.sampled_from([{}, {"owner": VM}, {"owner": UNIT}])),
    st.tuples(st.just("name"), WHOSE, st.sampled_from([{"cgroup": b"0::/b"}, {"ppid": 2}])),
    # The number is given to another process.
    st.tuples(st.just("name"), WHOSE, st.sampled_from([{"start_ticks": 99}])),
    st.tuples(st.just("end"), WHOSE, st.just(None)),
    st.tuples(
        st.just("count"),
        st.sampled_from(MMS),
        st.tuples(WHOSE, st.integers(-2, 5), st.booleans(), st.booleans()),
    ),
    st.tuples(st.just("close"), st.sampled_from(MMS), st.just(None)),
    st.tuples(st.just("settle"), st.sampled_from(MMS), st.sampled_from([None, (), (STRAY,)])),
    st.tuples(st.just("lose events"), st.just(0), st.just(None)),
    st.tuples(st.just("run"), st.sampled_from([0, 1, 2, 2]), st.sampled_from([0, 5])),
    st.tuples(st.sampled_from(["look", "look", "scan"]), st.just(0), st.just(None)),
)


def act(world: World, what: str, which: int, how: Any) -> None:
    match what:
        case "name":
            world.name(which, **how)
        case "end":
            world.end(which)
        case "count":
            pid, mappings, exact, anew = how
            world.count(which, pid, mappings, exact=exact, anew=anew)
        case "close":
            world.counts.pop(which, None)
        case "settle":
            world.settle(which, how)
        case "lose events":
            world.forgotten = None
        case "run":
            world.clock += 1
            world.run, world.shared = RunState(which, 0.0, float(world.clock)), how


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([0, len(PIDS) - 2, len(PIDS)]), st.lists(STEPS, max_size=40))
def test_what_is_brought_up_to_date_is_what_is_made_anew(
    named: int, steps: list[tuple[str, int, Any]]
) -> None:
    world, turnover, plain = World(), Turnover(), PlainTurnover()
    # Some processes have two accounts.
    for pid, mm in zip(cycle(PIDS[:named]), MMS, strict=False):
        world.name(pid)
        world.count(mm, pid, 3, exact=True, anew=False)
    for step in [("look", 0, None), *steps, ("look", 0, None)]:
        act(world, *step)
        if step[0] in ("look", "scan"):
            inputs = world.look(scans=step[0] == "scan")
            world.roster.update(inputs)
            anew = world.new_roster()
            anew.update(inputs)
            assert world.roster.processes == anew.processes
            for each in anew.everyone:
                assert each.residue == residue(world.run, world.shared, each.read_at)
            assert sorted(world.roster.unnamed) == sorted(anew.unnamed)
            moved = turnover.see(world.roster.moved, world.roster.gone)
            assert moved == plain.see(anew.moved)


@pytest.fixture
def still() -> World:
    world = World()
    for pid in PIDS:
        world.name(pid)
        world.count(pid - 9, pid, 3, exact=True, anew=False)
    world.roster.update(world.look(scans=False))
    return world


def test_where_nothing_has_changed_nothing_is_made(still: World) -> None:
    before = still.roster.processes
    still.roster.update(still.look(scans=False))
    assert still.roster.processes is before
    assert still.roster.moved == []


def test_what_has_not_changed_is_the_same_process(still: World) -> None:
    before = still.roster.processes
    still.count(1, 10, 7, exact=True, anew=False)
    still.roster.update(still.look(scans=False))
    now = still.roster.processes
    assert now[10, 10].mappings == 7
    assert [who for who in now if now[who] is not before[who]] == [(10, 10)]


def test_an_account_that_waited_for_its_process_is_not_of_the_last_one(still: World) -> None:
    still.counts[6] = still.counts[1]._replace(mm=6, account=99, start_ticks=99)
    still.roster.update(still.look(scans=False))
    assert still.roster.unnamed == [3]
    del still.counts[1]
    still.name(10, start_ticks=99)
    inputs = still.look(scans=False)
    still.roster.update(inputs)
    anew = still.new_roster()
    anew.update(inputs)
    assert still.roster.processes == anew.processes
    assert [start for pid, start in still.roster.processes if pid == 10] == [99]


def test_a_change_that_is_not_told_is_not_seen(still: World) -> None:
    """So the tests above would see a lost tell."""
    still.end(10, told=False)
    still.roster.update(still.look(scans=False))
    assert (10, 10) in still.roster.processes
