"""Samples that have not changed are neither made nor sent again, and are right all the same."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.run_state import RunState
from ksmwatch.export import front_channel
from ksmwatch.export.front_channel import Answer, SampleReceiver, SampleSender
from ksmwatch.export.samples import KeptSamples, Series, samples
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.rollup import OwnerKey
from ksmwatch.owners.savings import Who
from ksmwatch.owners.sums import RunningSums
from ksmwatch.snapshot.history_state import HistoryState
from ksmwatch.snapshot.last_hour import HourPoint, HourPoints
from ksmwatch.snapshot.model import Reload, Snapshot
from ksmwatch.snapshot.process import Confidence, Process
from tests.made_up import UNIT, nothing, numbers, process, snapshot

VM = Owner(OwnerKind.VM, "web", "proxmox/100", manager="proxmox")
MOVED: dict[OwnerKey, tuple[int, ...]] = {UNIT.key: (1,) * 7, VM.key: (2,) * 7}

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("process"),
            st.tuples(st.integers(1, 4), st.sampled_from([UNIT, VM]), st.integers(0, 9)),
        ),
        st.tuples(st.just("moved"), st.integers(0, 3)),
        st.tuples(st.just("rooms"), st.sampled_from([{}, {"/a": 7}, {"/a": 8}])),
        st.tuples(st.just("unnamed"), st.integers(0, 2)),
        st.tuples(st.just("shared"), st.integers(0, 2)),
        st.tuples(st.just("zeros"), st.integers(0, 2)),
        st.tuples(st.just("available"), st.integers(0, 2)),
        st.tuples(st.just("top"), st.integers(0, 2)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS)
def test_kept_samples_are_those_that_are_made_anew(steps: list[tuple[str, Any]]) -> None:
    running, owners, top = RunningSums(), KeptSamples(), 50
    processes: dict[Who, Process] = {}
    moved: dict[OwnerKey, tuple[int, ...]] = MOVED
    given_: dict[str, Any] = {"rooms": {}, "unnamed": 0}
    ksm = {"pages_shared": 1, "pages_sharing": 2, "ksm_zero_pages": 0}
    meminfo = {"MemAvailable": 100}
    # After each step, so that each change is seen alone.
    look: tuple[str, Any] = ("look", None)
    for what, how in (each for step in steps for each in (step, look)):
        match what:
            case "process":
                pid, owner, mappings = how
                made = process(pid=pid, owner=owner, mappings=mappings, cgroup="/a/b")
                processes[pid, made.start_time] = made
            case "moved":
                moved = {**moved, UNIT.key: (how,) * 7}
            case "rooms" | "unnamed":
                given_[what] = how
            case "shared":
                ksm = {**ksm, "pages_shared": how}
            case "zeros":
                ksm = {**ksm, "ksm_zero_pages": how}
            case "available":
                meminfo = {"MemAvailable": how}
            case "top":
                top = how
            case "look":
                seen = snapshot(
                    processes=tuple(processes.values()),
                    given_sums=running.update(dict(processes), {}),
                    moved=moved,
                    numbers=numbers(ksm=ksm, meminfo=meminfo),
                    **given_,
                )
                series = Series(top)
                kept = samples(seen, series, owners)
                assert kept == samples(seen, series)
                again = samples(seen, series, owners)
                same = [name for (name, a), (_, b) in zip(kept, again, strict=True) if a is b]
                assert (top == 0) == ("ksmwatch_owner_mappings" not in same)


# Of each field of a snapshot, another value.
OTHERS: dict[str, Any] = {
    "time": 5.0,
    "clock": 90.0,
    "duration": 0.5,
    "version": "9.9",
    "kernel": "9.9-test",
    "mode": Mode.POLL,
    "mode_reason": "nobody knows",
    "asleep": True,
    "doubt": "3 events",
    "processes": (process(pid=9, mappings=3, confidence=Confidence.ESTIMATED),),
    "unnamed": 8,
    "moved": {UNIT.key: (9,) * 7},
    "rooms": {"/system.slice/tenant.service": 9},
    "numbers": numbers(ksm={"pages_shared": 1}, meminfo={"MemAvailable": 1, "KsmPages": 2}),
    "totals": {name: number + 1 for name, number in snapshot().totals.items()},
    "events": None,
    "losses": {"events_lost": 9},
    "probes": (),
    "map_state": None,
    "run": RunState(0, 9.0, 1.0),
    "audit": None,
    "reload": Reload(successful=False, taken_at=9.0),
    "kin": {},
    "given_sums": None,
    "ksmd_stood_still": True,
    "ksmd_read_at": 2.0,
    "live_attempts": 9,
    "live_awaited": True,
    "ages": None,
    "history": HistoryState(written=9),
}


@given(st.lists(st.sampled_from(sorted(OTHERS)), max_size=12), st.booleans())
def test_samples_follow_each_field_of_a_snapshot(steps: list[str], every: bool) -> None:  # noqa: FBT001
    assert set(OTHERS) == {field.name for field in dataclasses.fields(Snapshot)}
    kept, changed = KeptSamples(), dict[str, Any]()
    sender, receiver = SampleSender(), SampleReceiver()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for name in ("", *steps):
            if name in changed:
                del changed[name]
            elif name:
                changed[name] = OTHERS[name]
            seen, series = snapshot(**changed), Series(processes=every)
            found = samples(seen, series, kept)
            assert found == samples(seen, series)
            answer = Answer(1.0, found)
            sender.send(ours, answer)
            assert receiver.whole(front_channel.receive(theirs)) == answer


def test_what_has_not_changed_is_not_sent_again() -> None:
    ours, theirs = socket.socketpair()
    owners, sender, receiver = KeptSamples(), SampleSender(), SampleReceiver()
    sums = RunningSums().update({(42, 9000): process()}, {})
    sizes = []
    with ours, theirs:
        for time in (1.0, 2.0, 3.0):
            seen = snapshot(time=time, moved=MOVED, given_sums=sums)
            answer = Answer(time, samples(seen, Series(), owners))
            sender.send(ours, answer)
            message = front_channel.receive(theirs)
            sizes.append(sum(map(len, message.changed.values())))
            assert receiver.whole(message) == answer
        # A kernel without KSM has no owners, and one that has it again sends them again.
        for seen in (nothing(), snapshot(moved=MOVED, given_sums=sums)):
            answer = Answer(4.0, samples(seen, Series(), owners))
            sender.send(ours, answer)
            assert receiver.whole(front_channel.receive(theirs)) == answer
    assert sizes[0] - sizes[1] >= 15
    assert sizes[1] == sizes[2]


def test_other_messages_pass() -> None:
    message = object()
    assert SampleReceiver().whole(message) is message


def test_points_of_the_last_hour_are_sent_once() -> None:
    ours, theirs = socket.socketpair()
    sender, receiver = SampleSender(), SampleReceiver()
    points = [
        HourPoint(at, joined=True, mapped_bytes=1, saved_bytes=None, copied=at, ksmd_cpu=0.1)
        for at in (0.0, 10.0, 20.0, 30.0, 40.0)
    ]
    seen = []
    with ours, theirs:
        for hour in (None, (), points[:2], points[:2], points[1:5]):
            sender.send(ours, Answer(1.0, [], None if hour is None else HourPoints(hour)))
            got = receiver.whole(front_channel.receive(theirs)).hour
            seen.append(None if got is None else [*got])
    assert seen == [None, [], points[:2], [], points[2:5]]
