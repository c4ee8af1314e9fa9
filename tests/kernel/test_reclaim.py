"""Others that reclaim merged pages: zswap under the pressure of a cgroup, and DAMON's schemes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from ksmwatch.kernel.smaps import kilobytes
from tests import oracle
from tests.fuzz import swap
from tests.kernel.asking import why
from tests.kernel.compare import assert_exact, mappings, seen_in_peace, settled_snapshot
from tests.kernel.daemon import Daemon
from tests.kernel.damage import FTRACE, switched_off
from tests.kernel.damon import pageout
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Tenant, Workload

pytestmark = pytest.mark.once

ZSWAP = Path("/sys/module/zswap/parameters/enabled")
PAGES, CONTENTS = 3001, 211


@pytest.fixture(scope="module")
def swapping() -> Iterator[None]:
    """There is swap, with zswap in front of it."""
    with swap.ready():
        before = ZSWAP.read_text()
        ZSWAP.write_text("Y")
        assert ZSWAP.read_text() == "Y\n"
        yield
        ZSWAP.write_text(before)


@pytest.fixture
def tenants(ksm: Ksm, swapping: None) -> Iterator[list[Tenant]]:
    """Two in a cgroup, with equal memory."""
    with Workload() as load:
        both = [load.spawn(name) for name in ("a", "b")]
        for tenant in both:
            (swap.GROUP / "cgroup.procs").write_text(str(tenant.pid))
            tenant.offer("heap", PAGES, seed=3, modulo=CONTENTS)
        yield both


def vmstat(name: str) -> int:
    """A line of /proc/vmstat."""
    lines = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(lines[name])


def counted(daemon: Daemon) -> int:
    """Compare with the page tables, whatever happened to them; all mappings that are left."""
    truth, document = seen_in_peace(oracle.host, lambda: settled_snapshot(daemon))
    assert mappings(document) == truth
    assert document["host"]["confidence"] == "exact", document["host"]["reason"]
    assert document["audit"]["missing"] == document["audit"]["surplus"] == 0
    assert document["totals"]["miscounted_mms"] == 0
    return sum(truth.values())


def reclaimed(tenant: Tenant) -> bool:
    """Squeeze the cgroup; whether little of a tenant is left."""
    # The kernel complains if it could not reclaim as much.
    with suppress(BlockingIOError):
        (swap.GROUP / "memory.reclaim").write_text(f"{CONTENTS * 8}K")
    return oracle.process(tenant.pid) < PAGES // 8


def test_zswap_takes_merged_pages_and_gives_them_back(ksm: Ksm, tenants: list[Tenant]) -> None:
    a, b = tenants
    with Daemon() as daemon:
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})
        before = vmstat("zswpout")
        # Not at the first time, as they have just been used.
        wait_until(partial(reclaimed, a), lambda: f"{oracle.host()} are still mapped")
        assert vmstat("zswpout") > before
        assert counted(daemon) < PAGES // 2
        ksm.start()
        assert "swapped" in why(a.pid)
        ksm.stop()
        for tenant in tenants:
            tenant.tell("read", "heap", 0, PAGES)
        counted(daemon)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})


def test_swapoff_brings_merged_pages_back(ksm: Ksm, tenants: list[Tenant]) -> None:
    """It puts them into page tables itself, without a fault."""
    a, b = tenants
    with Daemon() as daemon:
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})
        wait_until(partial(reclaimed, a), lambda: f"{oracle.host()} are still mapped")
        before = counted(daemon)
        swap.emptied()
        assert counted(daemon) >= before
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})


def test_a_page_in_swap_space_may_pass_for_one_that_is_away_but_not_for_long(
    ksm: Ksm, swapping: None
) -> None:
    with Workload() as load:
        a = load.spawn("a")
        a.offer("heap", 64, seed=3)
        a.write("heap", 32, 32)
        ksm.merge_all()

        def swapped() -> bool:
            a.madvise("heap", 32, 32, "pageout")
            return bool(kilobytes(Path(f"/proc/{a.pid}/smaps_rollup").read_bytes(), "Swap"))

        wait_until(swapped, lambda: f"nothing of {a.pid} is swapped out")
        with Daemon() as daemon:
            # At the start it had CAP_SYS_ADMIN, and has given it up.
            document = daemon.snapshot()
            assert (document["host"]["confidence"], mappings(document)) == ("exact", {a.pid: 32})
            with switched_off(FTRACE):
                daemon.snapshot()
            document = daemon.snapshot()
            assert document["losses"]["renewals"] == 1
            assert [p["confidence"] for p in document["processes"]] == ["estimated"]
            assert counted(daemon) == 32


def test_damon_pages_out_merged_frames(ksm: Ksm, tenants: list[Tenant]) -> None:
    a, b = tenants
    with Daemon() as daemon:
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})
        frames = set(oracle.frames(a.pid, a.address("heap"), PAGES))
        assert len(frames) == CONTENTS
        with pageout(sorted(frames)):
            wait_until(
                lambda: oracle.process(a.pid) < PAGES // 2,
                lambda: f"{oracle.host()} are still mapped",
            )
            counted(daemon)
        assert counted(daemon) < PAGES
        for tenant in tenants:
            tenant.tell("read", "heap", 0, PAGES)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: PAGES, b.pid: PAGES})
