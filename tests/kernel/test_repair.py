"""Drift put in on purpose: found, exported with its sign, explained, and healed."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.kernel import libbpf
from ksmwatch.probes.records import Movement
from tests import oracle
from tests.kernel.compare import mappings
from tests.kernel.daemon import Daemon
from tests.kernel.intruder import close_in
from tests.kernel.test_lifecycle import mergeable
from tests.ksmctl import Ksm
from tests.workload import Workload

# Renewals, like baselines, take many seconds where smaps has no KSM line. By hand: run.py 6.1.
pytestmark = pytest.mark.once

PINS = Path("/sys/fs/bpf/ksmwatch-repair")
FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
KPROBES = Path("/sys/kernel/debug/kprobes/enabled")
REPAIR_SECONDS = 120
# struct account: the id, one 64-bit total for each kind of movement, four more numbers, the tgid.
MERGED = 8
UNMAPPED = MERGED + Movement.UNMAPPED * 8
TGID = MERGED + len(Movement) * 8 + 4 * 8


@pytest.fixture(scope="module", params=["fentry", "kprobe"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon whose audit comes round within a second or so, and whose maps can be got at."""
    pins = f"--state.pin-path={PINS}"
    with Daemon(pins, f"--probes={request.param}", "--audit.cpu-percent=3") as daemon:
        yield daemon
        assert daemon.stop() == 0
    PINS.rmdir()


def wait_for(daemon: Daemon, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first snapshot in which it is done."""
    deadline = time.monotonic() + REPAIR_SECONDS
    while not done(document := daemon.snapshot()):
        assert time.monotonic() < deadline, (
            document["host"],
            document["losses"],
            [probe for probe in document["probes"] if probe["missed"]],
        )
        time.sleep(0.1)
    return document


def change_account(pid: int, offset: int, pages: int) -> None:
    """Write into the account of a process, as no program of ours would."""
    fd = libbpf.obj_get(str(PINS / "map-accounts"))
    accounts = libbpf.Map(fd, 8, libbpf.map_value_size(fd))
    tgid = struct.pack("<I", pid)
    (found,) = ((key, value) for key, value in accounts.items() if value[TGID : TGID + 4] == tgid)
    key, value = found[0], bytearray(found[1])
    struct.pack_into("<Q", value, offset, struct.unpack_from("<Q", value, offset)[0] + pages)
    accounts.put(key, bytes(value))
    os.close(fd)


def assert_repaired(daemon: Daemon, truth: dict[int, int]) -> None:
    """Equal to the page tables as soon as it is said to be; repairs are made with patience."""
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


def switches(daemon: Daemon) -> list[Path]:
    """Those that stop the daemon's probes, of those that this kernel lets one use."""
    mechanisms = {probe["mechanism"] for probe in daemon.snapshot()["probes"]}
    found = [KPROBES] if "kprobe" in mechanisms else []
    return [FTRACE, *found] if can_be_turned_off(FTRACE) else found


def can_be_turned_off(switch: Path) -> bool:
    try:
        switch.write_text("0")
    except OSError as error:
        # 7.3 has ftrace's file, and refuses.
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    switch.write_text("1")
    return True


def test_probes_that_were_stopped(daemon: Daemon, ksm: Ksm) -> None:
    for switch in switches(daemon):
        with Workload() as load:
            a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
            ksm.merge_all()
            assert_repaired(daemon, {a.pid: 211, b.pid: 101})
            before = daemon.snapshot()
            switch.write_text("0")
            try:
                a.write("heap", 0, 13)
                document = daemon.snapshot()
                assert document["host"]["confidence"] == "unknown"
                assert switch.name in document["host"]["reason"]
                b.madvise("heap", 0, 17, "dontneed")
            finally:
                switch.write_text("1")
            assert_repaired(daemon, {a.pid: 198, b.pid: 84})
            a.write("heap", 50, 19)
            assert_repaired(daemon, {a.pid: 179, b.pid: 84})
            after = daemon.snapshot()
            # Explained by a loss, so it is no drift.
            assert after["losses"]["probes_stopped"] == before["losses"]["probes_stopped"] + 1
            audit = {sign: after["audit"][sign] - before["audit"][sign] for sign in CORRECTED}
            assert audit == {"surplus": 0, "missing": 0, "corrected_surplus": 30}


CORRECTED = ("surplus", "missing", "corrected_surplus")


def link_id(fdinfo: str) -> int | None:
    """The id of a BPF link from its fdinfo."""
    lines = dict(line.split(":", 1) for line in fdinfo.splitlines() if ":" in line)
    return int(lines["link_id"]) if "link_id" in lines else None


def take_off(daemon: Daemon, event: str) -> None:
    """Detach a probe behind the daemon's back: its pin, and the daemon's own descriptor."""
    (pin,) = (
        path for path in PINS.iterdir() if path.name.startswith("link-") and event in path.name
    )
    fd = libbpf.obj_get(str(pin))
    wanted = link_id(Path(f"/proc/self/fdinfo/{fd}").read_text())
    os.close(fd)
    pin.unlink()
    directory = Path(f"/proc/{daemon.process.pid}/fdinfo")
    (theirs,) = (p for p in directory.iterdir() if link_id(p.read_text()) == wanted)
    close_in(daemon.process.pid, int(theirs.name))


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
