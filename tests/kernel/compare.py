"""The central comparison: the daemon's snapshot against the page tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from tests import oracle
from tests.waiting import Deadline, Pace

# How long to wait at a quiescent point until no process is estimated any more. Beside pages in swap
# space that can take 30 s after hooks were attached.
_SETTLE_SECONDS = 60
# How long ksmd may take to do what a test waits for.
_MERGE_SECONDS = 300


Truth = TypeVar("Truth")
Seen = TypeVar("Seen")


class Counting(Protocol):
    """A daemon, however it runs."""

    def snapshot(self) -> dict[str, Any]:
        """The snapshot document."""


def mappings(document: dict[str, Any]) -> dict[int, int]:
    """Mappings by pid, of the processes that have any."""
    return {p["pid"]: p["mappings"] for p in document["processes"] if p["mappings"]}


def process(document: dict[str, Any], pid: int) -> dict[str, Any]:
    (found,) = (p for p in document["processes"] if p["pid"] == pid)
    return dict(found)


def settled_snapshot(daemon: Counting, seconds: float = _SETTLE_SECONDS) -> dict[str, Any]:
    """A snapshot in which no process is estimated, or the last one before the deadline."""
    deadline, pace = Deadline(seconds), Pace()
    while True:
        document = daemon.snapshot()
        if document["host"]["confidence"] == "exact" or deadline.passed:
            return document
        pace.pause()


def seen_in_peace(
    truth: Callable[[], Truth], look: Callable[[], Seen], seconds: float = _MERGE_SECONDS
) -> tuple[Truth, Seen]:
    """The truth and what a look sees, once the truth is the same before and after it."""
    deadline, pace = Deadline(seconds), Pace()
    while True:
        before = truth()
        seen = look()
        if before == (after := truth()):
            return before, seen
        assert not deadline.passed, f"it never stands still: {before}, then {after}"
        pace.pause()


def assert_exact(daemon: Counting, expected: dict[int, int]) -> dict[str, Any]:
    """With ksmd stopped: the snapshot, the oracle and what the test did agree to the page."""
    document = settled_snapshot(daemon)
    truth = oracle.host()
    assert truth == expected, "the oracle does not see what the test did"
    _assert_equal(document, truth)
    return document


def assert_exact_while_merging(daemon: Counting, expected: dict[int, int]) -> None:
    """With ksmd running: once the truth stands still around a snapshot, they agree."""
    deadline, pace = Deadline(_MERGE_SECONDS), Pace()
    while True:
        before = oracle.host()
        document = settled_snapshot(daemon)
        if before == expected == oracle.host():
            _assert_equal(document, expected)
            return
        assert not deadline.passed, f"ksmd did not get so far: {before}, not {expected}"
        pace.pause()


def _assert_equal(document: dict[str, Any], truth: dict[int, int]) -> None:
    assert mappings(document) == truth, _evidence(document, truth)
    assert document["host"]["mappings"] == sum(truth.values())
    assert document["host"]["confidence"] == "exact", document["host"]["reason"]
    assert document["audit"]["missing"] == document["audit"]["surplus"] == 0
    assert document["totals"]["miscounted_mms"] == 0, document["probes"]


def _evidence(document: dict[str, Any], truth: dict[int, int]) -> str:
    """What is known about the processes that differ."""
    ours = {p["pid"]: p for p in document["processes"]}
    lines = [
        f"process {pid}: truth {truth.get(pid, 0)}, ours {ours.get(pid)}"
        for pid in sorted(truth.keys() | ours.keys())
        if truth.get(pid, 0) != ours.get(pid, {"mappings": 0})["mappings"]
    ]
    missed = {p["event"]: p["missed"] for p in document["probes"] if p["missed"]}
    host, losses = document["host"], {k: n for k, n in document["losses"].items() if n}
    return "\n".join([*lines, f"host {host}", f"losses {losses}", f"missed {missed}"])
