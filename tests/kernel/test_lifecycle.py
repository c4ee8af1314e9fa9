"""What is attached when, the baseline, and the end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import HOT, attached, mechanisms
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Tenant, Workload, mergeable

# BPF_COMPLEXITY_LIMIT_INSNS. The next kernel or compiler refuses a program close to it.
VERIFIER_LIMIT = 1_000_000


def verifier_steps(pid: int) -> list[int]:
    """How many instructions the verifier followed, for each program that a process holds."""
    steps = []
    for descriptor in Path(f"/proc/{pid}/fdinfo").iterdir():
        # A file that was read meanwhile is closed again; programs stay.
        with contextlib.suppress(FileNotFoundError):
            lines = descriptor.read_text().splitlines()
            steps += [int(line.split()[1]) for line in lines if line.startswith("verified_insns:")]
    return steps


def assert_breaks(document: dict[str, Any], number: int) -> None:
    """The kernel and ksmwatch have seen this many COW breaks, and can attribute them."""
    events = document["host"]["events"]
    seen = {name: events[name] for name in ("cow_attempts", "copied", "unattributed")}
    assert seen == {"cow_attempts": number, "copied": number, "unattributed": 0}


@pytest.mark.parametrize("probes", mechanisms())
def test_asleep_nothing_is_on_the_hot_path_and_waking_up_loses_nothing(
    probes: str, ksm: Ksm, tracefs: Path
) -> None:
    assert not attached(tracefs)
    with Daemon(f"--probes={probes}", http=False) as daemon, Workload() as load:
        # The first tick decides to sleep; a snapshot does as well.
        assert daemon.snapshot()["asleep"] is True
        assert not attached(tracefs) & HOT
        assert "try_to_merge_one_page" in attached(tracefs)
        assert 0 < max(verifier_steps(daemon.process.pid)) < VERIFIER_LIMIT // 2
        a, b = mergeable(load, "a", 1009), mergeable(load, "b", 1511)
        ksm.merge_all()
        document = assert_exact(daemon, {a.pid: 1009, b.pid: 1511})
        assert document["asleep"] is False
        assert len(attached(tracefs) & HOT) == 2
        a.write("heap", 0, 101)
        document = assert_exact(daemon, {a.pid: 908, b.pid: 1511})
        assert_breaks(document, 101)
        ksm.unmerge()
        # Which breaks every mapping by a fault, too.
        assert_breaks(assert_exact(daemon, {}), 101 + 908 + 1511)
        assert daemon.snapshot()["asleep"] is True
        assert not attached(tracefs) & HOT
        # Awake for the second time, by replacements that follow at once.
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 908, b.pid: 1511})
        assert daemon.stop() == 0
    assert not attached(tracefs)


@pytest.mark.once
def test_kill_dash_nine_detaches_everything_where_nothing_is_pinned(
    ksm: Ksm, tracefs: Path
) -> None:
    with Daemon(http=False) as daemon:
        assert attached(tracefs)
        daemon.process.kill()
        daemon.process.wait()
    # Links are closed by the kernel after the process has been reaped.
    wait_until(lambda: not attached(tracefs), lambda: f"attached: {attached(tracefs)}")


@pytest.mark.parametrize("probes", mechanisms())
def test_what_was_merged_before_the_start_is_counted_under_churn(probes: str, ksm: Ksm) -> None:
    with Workload() as load, contextlib.ExitStack() as cleanup:
        tenants = [mergeable(load, f"tenant-{i}", 701 + 2 * i) for i in range(5)]
        ksm.merge_all()
        truth = {tenant.pid: 701 + 2 * i for i, tenant in enumerate(tenants)}
        daemon = Daemon(f"--probes={probes}", http=False)
        # Entered later, but never left behind.
        cleanup.push(daemon)
        start = threading.Thread(target=daemon.wait_until_ready)
        start.start()
        rounds = churn(load, tenants, truth, start.is_alive)
        start.join()
        assert_exact(daemon, truth)
        tenants[0].write("heap", 690, 3)
        truth[tenants[0].pid] -= 3
        assert_exact(daemon, truth)
        assert daemon.stop() == 0
        assert rounds > 20, "the start was over before there was any churn"


def churn(
    load: Workload, tenants: list[Tenant], truth: dict[int, int], going_on: Callable[[], bool]
) -> int:
    """Write, fork and kill as long as something lasts; keeps `truth`, returns the rounds."""
    rounds = 0
    while going_on():
        tenant = tenants[rounds % len(tenants)]
        if rounds < 600 * len(tenants):
            tenant.write("heap", rounds // len(tenants), 1)
            truth[tenant.pid] -= 1
        child = tenant.fork(f"child-{rounds}")
        if rounds % 11 == 0 and rounds < 2000:
            # Some stay, having written a little themselves.
            child.write("heap", 695, 5)
            truth[child.pid] = truth[tenant.pid] - 5
        else:
            child.kill()
        rounds += 1
        # Leave some time to the daemon: the guest may have less than one real core.
        time.sleep(0.01)
    return rounds
