"""Sums by difference are the sums: whatever comes, goes and changes, in whatever order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch.counting.residue import Residue
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.rollup import EXACT
from ksmwatch.owners.savings import Forks, Who
from ksmwatch.owners.sums import RunningSums, full
from ksmwatch.snapshot.process import Confidence, Process
from tests.made_up import STRAY, UNIT, process
from tests.plain_sums import PlainForks, plain_full

VM = Owner(OwnerKind.VM, "web", "proxmox/100", manager="proxmox")
# The same owner, of whom other processes know other things.
HELPER = replace(VM, name="", container="a", uuid="1-2")
PIDS = range(10, 16)

CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "mappings": st.integers(-2, 9),
    "owner": st.sampled_from([UNIT, VM, HELPER]),
    "cgroup": st.sampled_from([None, "/a", "/a/b"]),
    "family": st.sampled_from([None, (1, 1), (2, 2)]),
    "ppid": st.sampled_from([1, *PIDS]),
    "confidence": st.sampled_from([Confidence.EXACT, Confidence.ESTIMATED]),
    "residue": st.sampled_from(list(Residue)),
    "kernel_merging_pages": st.none() | st.integers(0, 9),
    "zero_pages": st.none() | st.integers(0, 9),
    "stray": st.sampled_from([None, (), (STRAY,)]),
    "kernel_at": st.floats(0, 9),
    "nodes": st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)),
    "home": st.none() | st.integers(0, 1),
    "movements": st.just(()) | st.tuples(*[st.integers(0, 6)] * 7),
}


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, str, dict[str, Any]]:
    """Who comes, goes, is another process, or has another value."""
    pid = draw(st.sampled_from(PIDS))
    what = draw(st.sampled_from(["change"] * 5 + ["go", "be another", "fork"]))
    names = draw(st.lists(st.sampled_from(list(CHANGES)), max_size=3))
    return pid, what, {name: draw(CHANGES[name]) for name in names}


LOOKS = st.lists(st.lists(changes(), max_size=8), max_size=12)


class World:
    """Processes that change; those that do not are the same objects."""

    def __init__(self, bystanders: int) -> None:
        # They do not change, so that those that do are many of all, or few.
        everybody = (process(pid=100 + n, owner=(UNIT, VM)[n % 2]) for n in range(bystanders))
        self.processes: dict[Who, Process] = {(p.pid, p.start_time): p for p in everybody}
        self.now = 100

    def find(self, pid: int) -> Process | None:
        """Who has this number."""
        return next((p for p in self.processes.values() if p.pid == pid), None)

    def change(self, pid: int, what: str, values: dict[str, Any]) -> None:
        self.now += 1
        found = self.find(pid)
        if found is not None and what in ("go", "be another"):
            del self.processes[found.pid, found.start_time]
            found = None
        if what == "go":
            return
        if found is None:
            found = process(pid=pid, start_time=self.now, mappings=3, family=(1, 1))
        if what == "fork" and (parent := self.find(found.ppid)) is not None:
            found = found._replace(family=parent.family, movements=(0, 0, 0, 9, 0, 0, 0))
        self.processes[pid, found.start_time] = found._replace(**values)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([0, 12, 40]), LOOKS)
def test_sums_by_difference_are_the_full_sums(
    bystanders: int, looks: list[list[tuple[int, str, dict[str, Any]]]]
) -> None:
    world = World(bystanders)
    running, forks, plain = RunningSums(), Forks(), PlainForks()
    for look in looks:
        for change in look:
            world.change(*change)
        seen = dict(world.processes)
        kin = forks.see(seen, world.now)
        assert kin == plain.see(list(seen.values()), world.now)
        sums = running.update(seen, kin)
        assert sums == plain_full(seen.values(), kin)
        assert sums == full(seen.values(), kin)
        # Nothing has changed.
        assert forks.see(seen, world.now) is kin
        plain.see(list(seen.values()), world.now)
        assert running.update(seen, kin) is sums
        assert running.update(dict(seen), dict(kin)) is sums


def test_a_snapshot_keeps_the_sums_that_it_was_given() -> None:
    """Other threads look at it while the next one is made."""
    running, seen = RunningSums(), {(42, 9000): process()}
    before = running.update(seen, {})
    running.update({(42, 9000): process(mappings=7, cgroup="/b", owner=VM)}, {})
    assert before == full(seen.values(), {})


def test_what_is_called_exact_is_what_snapshots_call_so() -> None:
    assert Confidence.EXACT == EXACT
