"""What befalls a daemon on a host: no wrong number, and what was lost is counted."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import oracle
from tests.kernel.compare import assert_exact, mappings, process
from tests.kernel.daemon import Daemon
from tests.kernel.intruder import held_at_exit, wait_for_death
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Tenant, Workload, mergeable

# None of it depends on the kernel.
pytestmark = pytest.mark.once

ROOM = 16
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with little room, which does not audit."""
    with Daemon(f"--accounts.max={ROOM}", "--audit.cpu-percent=0", http=False) as daemon:
        yield daemon
        assert daemon.stop() == 0


def losses(document: dict[str, Any]) -> dict[str, int]:
    """Those that there were."""
    return {kind: n for kind, n in document["losses"].items() if n}


def test_a_daemon_that_is_suspended_has_missed_nothing(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 211, b.pid: 101})
        daemon.process.send_signal(signal.SIGSTOP)
        a.write("heap", 0, 13)
        child = a.fork("child")
        child.write("heap", 100, 17)
        b.kill()
        daemon.process.send_signal(signal.SIGCONT)
        assert_exact(daemon, {a.pid: 198, child.pid: 181})


def test_what_the_oom_reaper_frees_is_no_longer_counted(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 211, b.pid: 101})
        with held_at_exit(a.pid):
            Path(f"/proc/{a.pid}/oom_score_adj").write_text("1000")
            Path("/proc/sysrq-trigger").write_text("f")
            wait_for_death(a.pid)
            # The reaper gives it two seconds.
            wait_until(lambda: a.pid not in oracle.host(), "it is not reaped")
            assert_exact(daemon, {b.pid: 101})
        assert_exact(daemon, {b.pid: 101})


def spawn_as(load: Workload, name: str, pid: int) -> Tenant:
    """A new process with a process id that was free."""
    LAST_PID.write_text(str(pid - 1))
    tenant = load.spawn(name)
    assert tenant.pid == pid, "somebody else has taken it"
    return tenant


def test_a_process_id_that_is_used_again_is_another_process(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        before = process(assert_exact(daemon, {a.pid: 211, b.pid: 101}), a.pid)
        a.kill()
        other = spawn_as(load, "other", a.pid)
        assert_exact(daemon, {b.pid: 101})
        other.offer("heap", 53, seed=2, modulo=7)
        ksm.merge_all()
        after = process(assert_exact(daemon, {b.pid: 101, other.pid: 53}), other.pid)
    assert after["start_time"] > before["start_time"]
    assert (before["comm"], after["comm"]) == ("a", "other")


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_is_set(daemon: Daemon, ksm: Ksm, hours: int) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        before = process(assert_exact(daemon, {a.pid: 211, b.pid: 101}), a.pid)
        time.clock_settime(time.CLOCK_REALTIME, time.time() + hours * 3600)
        a.write("heap", 0, 13)
        document = assert_exact(daemon, {a.pid: 198, b.pid: 101})
        after = process(document, a.pid)
        assert after["start_time"] == before["start_time"]
        assert abs(document["time"] - time.time()) < 3600
        assert 0 <= document["host"]["run_age_seconds"] < 3600


def test_lost_messages_about_processes_leave_no_wrong_name(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        a, b = mergeable(load, "a", 211), mergeable(load, "b", 101)
        ksm.merge_all()
        before = assert_exact(daemon, {a.pid: 211, b.pid: 101})
        daemon.process.send_signal(signal.SIGSTOP)
        # More than the socket's buffer takes, and then what must not be missed.
        subprocess.run(["sh", "-c", "for i in $(seq 4000); do (:); done"], check=True)
        a.tell("comm", "renamed")
        daemon.process.send_signal(signal.SIGCONT)
        document = assert_exact(daemon, {a.pid: 211, b.pid: 101})
        assert document["losses"]["connector_lost"] == before["losses"]["connector_lost"] + 1
        assert process(document, a.pid)["comm"] == "renamed"
        # And it follows them again.
        a.tell("comm", "once-more")
        assert process(daemon.snapshot(), a.pid)["comm"] == "once-more"
        b.kill()
        assert mappings(daemon.snapshot()) == {a.pid: 211}


def test_a_map_that_is_full(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        tenants = [mergeable(load, f"t{n}", 53 + n) for n in range(ROOM + 3)]
        ksm.merge_all()
        document = daemon.snapshot()
        truth = oracle.host()
        assert len(truth) == ROOM + 3
        assert document["host"]["confidence"] == "unknown"
        assert {"accounts_full", "events_lost"} & losses(document).keys()
        # No count called exact is wrong.
        exact = {p["pid"] for p in document["processes"] if p["confidence"] == "exact"}
        assert {pid: n for pid, n in mappings(document).items() if pid in exact} == {
            pid: n for pid, n in truth.items() if pid in exact
        }
        for tenant in tenants[:6]:
            tenant.kill()
        assert_exact(daemon, {pid: n for pid, n in truth.items() if Path(f"/proc/{pid}").exists()})
