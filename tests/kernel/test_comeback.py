"""A daemon that was short of something at its start polls, and goes live by itself afterwards."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload

PAGES = 300
# The longest pause between two attempts is a minute.
_SECONDS = 300

pytestmark = pytest.mark.once

# A limit of address space under which LLVM has no room, but the daemon has.
ROOM = 200_000_000


def lift(pid: int) -> None:
    """As far as root's hard limit goes, for this process and those that it starts from now on."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))


def started(daemon: Daemon) -> list[dict[str, Any]]:
    """What the daemon has logged of live accounting that has started."""
    return [line for line in daemon.log() if "accounting has started" in line["msg"]]


def test_memory_that_a_daemon_lacked_at_its_start_is_not_for_ever(ksm: Ksm) -> None:
    with (
        Workload() as load,
        # It has to compile: without LLVM it would not be short of memory.
        Daemon("--state.programs-path=", prefix=("prlimit", f"--as={ROOM}:")) as daemon,
    ):
        tenants = [load.spawn(name) for name in ("one", "two")]
        for tenant in tenants:
            tenant.offer("heap", PAGES, seed=7, modulo=0)
        ksm.merge_all()
        document = daemon.snapshot()
        assert (document["mode"], document["live_awaited"]) == ("poll", True), daemon.log()
        assert document["host"]["confidence"] != "exact"
        assert document["mode_reason"] in {line["msg"] for line in daemon.log()}
        assert "\nksmwatch_live_awaited 1.0\n" in daemon.metrics()

        lift(daemon.process.pid)
        # Asking for snapshots would take the time that it needs to compile.
        wait_until(lambda: started(daemon), daemon.log_path.read_text, seconds=_SECONDS)
        assert daemon.snapshot()["mode"] == "bpf"
        one, two = tenants
        assert_exact(daemon, {one.pid: PAGES, two.pid: PAGES})
        one.write("heap", 0, 100)
        child = two.fork("child")
        two.write("heap", 50, 10)
        assert_exact(daemon, {one.pid: PAGES - 100, two.pid: PAGES - 10, child.pid: PAGES})
        document = daemon.snapshot()
        assert (document["live_awaited"], document["mode_reason"]) == (False, None)
        (line,) = started(daemon)
        assert line["attempts"] > 0
        metrics = daemon.metrics()
        assert "\nksmwatch_live_awaited 0.0\n" in metrics
        assert 'ksmwatch_mode{mode="bpf"} 1.0' in metrics
