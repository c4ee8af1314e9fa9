"""Frames that the kernel takes out of use, because their memory is broken or suspected to be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests import oracle
from tests.children import output
from tests.kernel.compare import assert_exact, mappings, process
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import RefusedError, Tenant, Workload, mergeable

PAGES = 307


@pytest.fixture
def tenants(ksm: Ksm) -> Iterator[list[Tenant]]:
    """Three processes that map the same KSM pages."""
    with Workload() as load:
        tenants = [mergeable(load, name, PAGES) for name in ("a", "b", "c")]
        for each in tenants:
            each.fill("heap", 0, PAGES, seed=3, modulo=0)
        ksm.merge_all()
        yield tenants


def after_the_beginning() -> None:
    """For half a minute, reads are careful anyway: pages may be away that nobody saw leave."""
    time.sleep(31)


def audited_often(daemon: Daemon) -> None:
    """The audit reads who has moved, and one process a minute."""
    reads = daemon.snapshot()["audit"]["reads"]
    wait_until(lambda: daemon.snapshot()["audit"]["reads"] >= reads + 3, "no audit")


@pytest.mark.once
def test_a_poisoned_page_is_no_mapping_of_those_who_live_on(tenants: list[Tenant]) -> None:
    """Their page tables have an entry that smaps counts, and that goes without an event."""
    a, b, c = tenants
    with Daemon("--audit.cpu-percent=20") as daemon:
        assert_exact(daemon, {each.pid: PAGES for each in tenants})
        after_the_beginning()
        # Whoever touches it is killed.
        with pytest.raises(RefusedError):
            a.madvise("heap", 5, 1, "hwpoison")
        a.wait()
        counts = {b.pid: PAGES - 1, c.pid: PAGES - 1}
        assert oracle.host() == counts
        assert_exact(daemon, counts)
        c.write("heap", 11, 1)
        counts[c.pid] -= 1
        audited_often(daemon)
        assert_exact(daemon, counts)
        # A read is needed, and would count the entry.
        child = b.fork("child")
        document = daemon.snapshot()
        assert process(document, child.pid)["mappings"] == PAGES - 1
        assert process(document, child.pid)["confidence"] == "estimated"
        b.munmap("heap", 0, PAGES)
        child.exit()
        c.exit()
        assert_exact(daemon, {})


@pytest.mark.once
def test_who_starts_later_does_not_count_it_either(tenants: list[Tenant]) -> None:
    a, b, c = tenants
    with pytest.raises(RefusedError):
        a.madvise("heap", 5, 1, "hwpoison")
    a.wait()
    words = ["--json", "--interval", "0.5", str(b.pid), str(c.pid)]
    found = json.loads(output(["ksmwatch", "estimate", *words]))
    assert (found["left_out"]["poisoned"], found["reasons"]) == (2, [])
    assert found["host"]["saved_now"] == found["host"]["would_save"] == PAGES - 1
    b.munmap("heap", 5, 1)
    with Daemon() as daemon:
        counted = {each["pid"]: each["confidence"] for each in daemon.snapshot()["processes"]}
        assert counted == {b.pid: "exact", c.pid: "estimated"}
        assert mappings(daemon.snapshot())[b.pid] == PAGES - 1
        c.munmap("heap", 0, PAGES)
        b.munmap("heap", 0, PAGES)
        assert_exact(daemon, {})


def test_a_page_that_is_taken_offline_in_time_moves(tenants: list[Tenant]) -> None:
    a, b, _ = tenants
    with Daemon("--audit.cpu-percent=0") as daemon:
        a.madvise("heap", 7, 11, "soft_offline")
        counts = {each.pid: PAGES for each in tenants}
        assert_exact(daemon, counts)
        b.munmap("heap", 0, 13)
        assert_exact(daemon, counts | {b.pid: PAGES - 13})
