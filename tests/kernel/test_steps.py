"""Every way in and out of the count, step by step, with ksmd stopped and running."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests import oracle
from tests.kernel.compare import assert_exact, assert_exact_while_merging
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import mechanisms
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

A, B, C = 2003, 3001, 4001
# Pages in a huge one, where they have 4 KiB.
HUGE = 512


@pytest.fixture(scope="module", params=mechanisms())
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """One daemon for all steps of a mechanism."""
    with Daemon(f"--probes={request.param}", http=False) as daemon:
        yield daemon
        document = daemon.snapshot()
        assert {p["mechanism"] for p in document["probes"]} == {request.param, "raw_tracepoint"}
        lost = {kind: n for kind, n in document["losses"].items() if n}
        # An audit that a merge disturbs is put off, and no count suffers.
        lost.pop("reads_disturbed", None)
        assert lost == {}
        assert daemon.stop() == 0


def offer(tenant: Tenant, pages: int) -> None:
    """Equal pages; 89 contents make chains of stable nodes as well as single ones."""
    tenant.offer("heap", pages, seed=1, modulo=89)


@pytest.mark.parametrize("ksmd", ["stopped", "running"])
def test_every_step_is_counted_to_the_page(daemon: Daemon, ksm: Ksm, ksmd: str) -> None:
    check: Callable[[Daemon, dict[int, int]], object]
    check = assert_exact_while_merging if ksmd == "running" else assert_exact
    with Workload() as load:
        a, b, c = (load.spawn(name) for name in ("tenant-a", "tenant-b", "tenant-c"))
        truth = {a.pid: A, b.pid: B, c.pid: C}
        for tenant, pages in ((a, A), (b, B), (c, C)):
            offer(tenant, pages)
        ksm.merge_all(stop=ksmd == "stopped")
        check(daemon, truth)

        a.write("heap", 13, 211)
        truth[a.pid] -= 211
        check(daemon, truth)

        b.madvise("heap", 101, 307, "dontneed")
        truth[b.pid] -= 307
        check(daemon, truth)

        b.munmap("heap", 2600, 401)
        truth[b.pid] -= 401
        check(daemon, truth)

        c.mremap("heap", 0, 4001, 3498)
        truth[c.pid] -= 503
        check(daemon, truth)
        c.move("heap", 0, 3498)
        if ksmd == "stopped":
            # move_vma() unmerges what it moves, and nothing merges it again.
            check(daemon, {a.pid: truth[a.pid], b.pid: truth[b.pid]})
            ksm.merge_all()
        check(daemon, truth)

        d = c.fork("tenant-d")
        truth[d.pid] = truth[c.pid]
        check(daemon, truth)

        d.write("heap", 0, 127)
        truth[d.pid] -= 127
        check(daemon, truth)

        d.exec()
        del truth[d.pid]
        check(daemon, truth)

        a.kill()
        del truth[a.pid]
        check(daemon, truth)

        b.madvise("heap", 500, 101, "unmergeable")
        truth[b.pid] -= 101
        check(daemon, truth)

        ksm.stop()
        assert_exact(daemon, truth)

        ksm.unmerge()
        assert_exact(daemon, {})


def test_pages_that_collapse_into_a_huge_page_are_no_longer_merged(
    daemon: Daemon, ksm: Ksm
) -> None:
    """As khugepaged does it. Three huge pages' worth of memory has two aligned ones at least."""
    with Workload() as load:
        tenant, other = load.spawn("tenant"), load.spawn("other")
        # A page that is mapped twice within a huge one would not collapse.
        for each in (tenant, other):
            each.offer("heap", 3 * HUGE, seed=1, modulo=0)
        ksm.merge_all()
        assert_exact(daemon, {tenant.pid: 3 * HUGE, other.pid: 3 * HUGE})
        # It wants one page of each huge page to be writable.
        for page in range(0, 3 * HUGE, HUGE // 4):
            tenant.write("heap", page, 1)
        assert_exact(daemon, {tenant.pid: 3 * HUGE - 12, other.pid: 3 * HUGE})
        tenant.madvise("heap", 0, 3 * HUGE, "collapse")
        truth = oracle.host()
        assert truth.pop(tenant.pid, 0) <= HUGE
        assert truth == {other.pid: 3 * HUGE}
        assert_exact(daemon, oracle.host())


def test_a_kill_shows_at_once_while_the_kernel_still_counts_it(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        victim, other = load.spawn("victim"), load.spawn("other")
        for tenant, pages in ((victim, 1009), (other, 503)):
            tenant.offer("heap", pages, seed=5, modulo=1)
        ksm.merge_all()
        before = assert_exact(daemon, {victim.pid: 1009, other.pid: 503})
        victim.kill()
        after = assert_exact(daemon, {other.pid: 503})
    kernel = [document["sources"]["ksm"]["pages_sharing"] for document in (before, after)]
    assert kernel[0] == kernel[1]
    assert after["host"]["kernel_mappings"] == 1512
    assert after["host"]["kernel_lag"] == -1009
