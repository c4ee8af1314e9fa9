"""What merging saves, beside what the same processes use with and without KSM (uksm#23)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import oracle
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.memory import PAGE_KB, ZEROES, anon_kb, anon_of_kb
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

PAGES, CHILDREN = 5003, 9

pytestmark = pytest.mark.once


def begin(load: Workload) -> tuple[Tenant, Tenant]:
    """Two processes with equal pages; the first is the server."""
    tenants = [load.spawn(name) for name in ("server", "twin")]
    for tenant in tenants:
        tenant.offer("heap", PAGES, seed=7, modulo=0)
    server, twin = tenants
    return server, twin


def prefork(server: Tenant) -> list[Tenant]:
    """Children that only read."""
    children = [server.fork(f"child-{number}") for number in range(CHILDREN)]
    for child in children:
        child.tell("read", "heap", 0, PAGES)
    return children


def frames_of(*tenants: Tenant) -> int:
    """How many page frames their memory takes, each of them once."""
    frames: set[int] = set()
    for tenant in tenants:
        frames.update(oracle.frames(tenant.pid, tenant.address("heap"), PAGES))
    return len(frames)


def others_anon_kb(daemon: Daemon) -> int:
    """AnonPages without those of the daemon and of this process, which grow as they work."""
    with daemon.frozen():
        return anon_kb() - anon_of_kb(os.getpid(), *daemon.family())


def without_ksm(daemon: Daemon) -> tuple[int, int]:
    """Page frames of the same processes, and by how much they raise AnonPages."""
    with Workload() as load:
        before = others_anon_kb(daemon)
        server, twin = begin(load)
        children = prefork(server)
        return frames_of(server, twin, *children), others_anon_kb(daemon) - before


def test_a_prefork_server_saves_what_it_saved_before_it_forked(ksm: Ksm) -> None:
    with Daemon() as daemon, Workload() as load:
        frames, risen_kb = without_ksm(daemon)
        before = others_anon_kb(daemon)
        server, twin = begin(load)
        ksm.merge_all()
        twins = daemon.snapshot()["host"]
        assert twins["saved_bytes"] == twins["saved_at_most_bytes"] == PAGES * PAGE_KB * 1024
        children = prefork(server)
        pids = [server.pid, twin.pid, *(child.pid for child in children)]
        host = assert_exact(daemon, dict.fromkeys(pids, PAGES))["host"]
        saved = host["saved_bytes"]
        assert saved == host["saved_at_most_bytes"] == PAGES * PAGE_KB * 1024
        assert frames - frames_of(server, twin, *children) == saved // oracle.PAGE
        less_kb = risen_kb - (others_anon_kb(daemon) - before)
        assert abs(less_kb - saved // 1024) < saved // 1024 / 100
        # Unmerging is another question.
        assert host["unmerge"]["at_most_bytes"] == len(pids) * PAGES * PAGE_KB * 1024


def test_zero_pages_are_savings_of_the_host_and_of_their_owner(ksm: Ksm) -> None:
    """kubevirt/enhancements#381: all pages_* are 0, ksm_zero_pages is not."""
    ksm.write("use_zero_pages", 1)
    with (
        Daemon() as daemon,
        subprocess.Popen(
            [sys.executable, "-c", ZEROES, str(oracle.PAGE * PAGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as zeroes,
    ):
        assert zeroes.stdout is not None
        assert zeroes.stdout.readline() == b"written\n"
        ksm.merge_all()
        assert (ksm.read("pages_shared"), ksm.read("ksm_zero_pages")) == (0, PAGES)
        document = daemon.snapshot()
        assert document["host"]["saved_bytes"] == PAGES * oracle.PAGE
        assert document["host"]["saved_at_most_bytes"] == PAGES * oracle.PAGE
        assert [o["saved_bytes"] for o in document["owners"] if o["zero_pages"]] == [
            PAGES * oracle.PAGE
        ]
        assert [p["zero_pages"] for p in document["processes"] if p["pid"] == zeroes.pid] == [PAGES]
        zeroes.communicate(b"")
    ksm.write("use_zero_pages", 0)
