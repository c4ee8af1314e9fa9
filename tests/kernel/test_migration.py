"""KSM pages move to another node of memory, in a guest with two nodes: each goes and comes once.

The function that begins to move a page may contain an inlined copy of the function in which
departures are seen, as on PREEMPT_RT since 7.2.
"""

from __future__ import annotations

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.nodes import move_pages, pages_by_node
from tests.oracle import PAGE
from tests.workload import Tenant, Workload

PAGES = 307


def offered(load: Workload, name: str) -> Tenant:
    """A tenant with other contents in each page, the same as those of all others."""
    tenant = load.spawn(name)
    tenant.offer("heap", PAGES, seed=5, modulo=0)
    return tenant


def test_pages_that_move_are_counted_once(ksm: Ksm) -> None:
    with Workload() as load, Daemon("--audit.cpu-percent=0", http=False) as daemon:
        one, two = offered(load, "one"), offered(load, "two")
        ksm.merge_all()
        truth = {one.pid: PAGES, two.pid: PAGES}
        assert_exact(daemon, truth)
        begin = one.address("heap")
        moving = [begin + page * PAGE for page in range(PAGES)]
        # Wherever they are, one of the two moves them.
        for node in (1, 0):
            move_pages(one.pid, moving, node)
            assert pages_by_node(one.pid, moving) == {node: PAGES}
            assert_exact(daemon, truth)
        assert daemon.stop() == 0
