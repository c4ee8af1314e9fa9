"""Drift put in on purpose: found, exported with its sign, explained, and corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import oracle
from tests.kernel.compare import mappings
from tests.kernel.daemon import Daemon
from tests.kernel.damage import (
    FTRACE,
    MERGED,
    PINS,
    UNMAPPED,
    change_account,
    switched_off,
    take_off,
)
from tests.kernel.hooks import mechanisms
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

# Renewals, like baselines, take many seconds where smaps has no KSM line. By hand: run.py 6.1.
pytestmark = pytest.mark.once

KPROBES = Path("/sys/kernel/debug/kprobes/enabled")
_REPAIR_SECONDS = 480


@pytest.fixture(scope="module", params=mechanisms())
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon whose audit comes round within about a second, and whose maps are accessible."""
    pins = f"--state.pin-path={PINS}"
    with Daemon(pins, f"--probes={request.param}", "--audit.cpu-percent=3") as daemon:
        yield daemon
        assert daemon.stop() == 0
    PINS.rmdir()


def wait_for(daemon: Daemon, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first snapshot in which it is done."""
    document: dict[str, Any] = {}

    def look() -> bool:
        document.update(daemon.snapshot())
        return done(document)

    def evidence() -> object:
        missed = [probe for probe in document["probes"] if probe["missed"]]
        return document["host"], document["losses"], missed

    wait_until(look, evidence, seconds=_REPAIR_SECONDS)
    return document


def assert_repaired(daemon: Daemon, truth: dict[int, int]) -> None:
    """Equal to the page tables as soon as the daemon says so; repairs may take long."""
    document = wait_for(daemon, lambda d: d["host"]["confidence"] == "exact")
    assert oracle.host() == truth
    assert mappings(document) == truth


@pytest.mark.parametrize(("offset", "drift"), [(MERGED, 7), (UNMAPPED, -7)])
def test_a_count_that_was_changed_from_outside(
    daemon: Daemon, ksm: Ksm, offset: int, drift: int
) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        truth = {a.pid: 211, b.pid: 101}
        assert_repaired(daemon, truth)
        before = daemon.snapshot()
        change_account(a.pid, offset, 7)
        sign = "surplus" if drift > 0 else "missing"
        after = wait_for(daemon, lambda d: d["audit"][sign] != before["audit"][sign])
        assert after["audit"][sign] == before["audit"][sign] + 7
        assert after["audit"]["last"] == drift
        assert after["audit"]["rounds"] <= before["audit"]["rounds"] + 2
        assert_repaired(daemon, truth)
        told = [line for line in daemon.log() if line.get("drift") == drift]
        assert told[-1] | {"pid": a.pid, "counted": 211 + drift, "found": 211} == told[-1]
        assert f'ksmwatch_drift_pages_total{{sign="{sign}"}}' in daemon.metrics()


# What stops a mechanism. 7.3 refuses to switch ftrace off: this is for kernels that do not.
SWITCHES = {"fentry": [FTRACE], "kprobe": [FTRACE, KPROBES]}


def test_probes_that_were_stopped(daemon: Daemon, ksm: Ksm) -> None:
    (mechanism,) = {p["mechanism"] for p in daemon.snapshot()["probes"]} & SWITCHES.keys()
    for switch in SWITCHES[mechanism]:
        with Workload() as load:
            a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
            ksm.merge_all()
            assert_repaired(daemon, {a.pid: 211, b.pid: 101})
            before = daemon.snapshot()
            with switched_off(switch):
                a.write("heap", 0, 13)
                document = daemon.snapshot()
                assert document["host"]["confidence"] == "unknown"
                assert switch.name in document["host"]["reason"]
                b.madvise("heap", 0, 17, "dontneed")
            assert_repaired(daemon, {a.pid: 198, b.pid: 84})
            a.write("heap", 50, 19)
            assert_repaired(daemon, {a.pid: 179, b.pid: 84})
            after = daemon.snapshot()
            # Explained by a loss, so it is no drift.
            assert after["losses"]["probes_stopped"] == before["losses"]["probes_stopped"] + 1
            audit = {sign: after["audit"][sign] - before["audit"][sign] for sign in CORRECTED}
            assert audit == {"surplus": 0, "missing": 0, "corrected_surplus": 30}


def test_what_happens_while_probes_are_attached_anew(daemon: Daemon, ksm: Ksm) -> None:
    """A former attachment that lives on would count it again."""
    (mechanism,) = {p["mechanism"] for p in daemon.snapshot()["probes"]} & SWITCHES.keys()
    with Workload() as load:
        a = mergeable(load, "a", 5003)
        ksm.merge_all()
        assert_repaired(daemon, {a.pid: 5003})
        before = daemon.snapshot()
        with switched_off(SWITCHES[mechanism][-1]):
            assert daemon.snapshot()["host"]["confidence"] == "unknown"
        written = 0
        # Each look is a pass of the daemon, which takes longer than a write.
        while daemon.snapshot()["losses"]["renewals"] == before["losses"]["renewals"]:
            a.write("heap", written, 1)
            written += 1
        for page in range(written, written + 2000):
            a.write("heap", page, 1)
        assert_repaired(daemon, {a.pid: 5003 - written - 2000})
        after = daemon.snapshot()
        for sign in ("surplus", "missing"):
            assert after["audit"][sign] == before["audit"][sign]


CORRECTED = ("surplus", "missing", "corrected_surplus")


def test_a_probe_that_was_taken_off_behind_the_daemons_back(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        assert_repaired(daemon, {a.pid: 211, b.pid: 101})
        before = daemon.snapshot()
        take_off(daemon, "on_rmap_remove")
        a.write("heap", 0, 13)
        after = wait_for(daemon, lambda d: d["losses"]["renewals"] > before["losses"]["renewals"])
        assert after["losses"]["probes_lost"] == before["losses"]["probes_lost"] + 1
        audit = {sign: after["audit"][sign] - before["audit"][sign] for sign in CORRECTED}
        assert audit == {"surplus": 0, "missing": 0, "corrected_surplus": 13}
        told = [line for line in daemon.log() if line.get("drift") == 13]
        assert told[-1]["pid"] == a.pid
        assert "rmap" in told[-1]["why"]
        assert "was taken off" in told[-1]["why"]
        assert_repaired(daemon, {a.pid: 198, b.pid: 101})
        # It is on again.
        b.write("heap", 0, 19)
        assert_repaired(daemon, {a.pid: 198, b.pid: 82})
        assert daemon.snapshot()["audit"]["surplus"] == after["audit"]["surplus"]
