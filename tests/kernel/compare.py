"""The comparison that everything is about: the daemon's snapshot against the page tables."""

from __future__ import annotations

import time
from typing import Any, Protocol

from tests import oracle

# A quiescent point may wait so long until no process is estimated any more.
SETTLE_SECONDS = 2.0
# Under emulation everything takes some ten times as long.
_EMULATION = 10


class Counting(Protocol):
    """A daemon, however it runs."""

    def snapshot(self) -> dict[str, Any]:
        """The snapshot document."""


def mappings(document: dict[str, Any]) -> dict[int, int]:
    """Mappings by pid, of the processes that have any."""
    return {p["pid"]: p["mappings"] for p in document["processes"] if p["mappings"]}


def settled_snapshot(daemon: Counting) -> dict[str, Any]:
    """A snapshot in which no process is estimated."""
    deadline = time.monotonic() + SETTLE_SECONDS * _EMULATION
    while True:
        document = daemon.snapshot()
        if document["host"]["confidence"] == "exact" or time.monotonic() > deadline:
            return document


def assert_exact(daemon: Counting, expected: dict[int, int]) -> dict[str, Any]:
    """With ksmd stopped: the snapshot, the oracle and what the test did agree to the page."""
    document = settled_snapshot(daemon)
    truth = oracle.host()
    assert truth == expected, "the oracle does not see what the test did"
    _assert_equal(document, truth)
    return document


def assert_exact_while_merging(daemon: Counting, expected: dict[int, int]) -> None:
    """With ksmd running: as soon as the truth stands still around a snapshot, they agree."""
    deadline = time.monotonic() + 60
    while True:
        before = oracle.host()
        document = settled_snapshot(daemon)
        if before == expected == oracle.host():
            _assert_equal(document, expected)
            return
        assert time.monotonic() < deadline, f"ksmd did not get so far: {before}, not {expected}"


def _assert_equal(document: dict[str, Any], truth: dict[int, int]) -> None:
    assert mappings(document) == truth, _evidence(document, truth)
    assert document["host"]["mappings"] == sum(truth.values())
    assert document["host"]["confidence"] == "exact", document["host"]["reason"]
    assert document["audit"]["missing"] == document["audit"]["surplus"] == 0
    if not any(probe["missed"] for probe in document["probes"]):
        # Where the kernel itself skipped a kprobe program the daemon reads everyone again, but
        # an mm can go before that.
        assert document["totals"]["miscounted_mms"] == 0


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
