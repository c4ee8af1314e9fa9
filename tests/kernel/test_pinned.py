"""Pages that a device, RDMA or io_uring has pinned: they do not merge, and merged ones part."""

from __future__ import annotations

from tests import oracle
from tests.kernel.asking import why
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.memory import PAGE_KB, status_kb
from tests.ksmctl import Ksm
from tests.workload import Workload

PAGES = 3001
# Whom a limit holds is accounted for by every kernel; root is not any more by 7.3.
LIMITED = ("prlimit", f"--memlock={PAGES * 8192}", "setpriv", "--bounding-set=-ipc_lock")


def test_pinned_memory_is_named(ksm: Ksm) -> None:
    with Workload() as load:
        pinned = load.spawn("pinned", LIMITED)
        pinned.map("heap", PAGES)
        pinned.fill("heap", 0, PAGES, seed=1)
        pinned.tell("pin", "heap", 0, PAGES)
        pinned.madvise("heap", 0, PAGES, "mergeable")
        assert status_kb(pinned.pid, "VmPin") == PAGES * PAGE_KB
        ksm.merge_all(stop=False)
        assert why(pinned.pid)[0] == "pinned"


def test_merged_pages_part_when_they_are_pinned(ksm: Ksm) -> None:
    """As the memory of a guest does when a device is plugged in."""
    with Daemon(http=False) as daemon, Workload() as load:
        pinned, twin = (load.spawn(name, LIMITED) for name in ("pinned", "twin"))
        for tenant in (pinned, twin):
            tenant.offer("heap", PAGES, seed=1)
        ksm.merge_all()
        assert_exact(daemon, {pinned.pid: PAGES, twin.pid: PAGES})
        pinned.tell("pin", "heap", 0, PAGES - 101)
        assert_exact(daemon, {pinned.pid: 101, twin.pid: PAGES})
        ksm.merge_all(stop=False)
        assert why(pinned.pid)[0] == "pinned"
        assert why(twin.pid) == ["merged"]
        ksm.stop()
        assert_exact(daemon, {pinned.pid: 101, twin.pid: PAGES})


def test_pinned_memory_that_was_never_offered_would_not_merge(ksm: Ksm) -> None:
    """Fixed buffers of a server."""
    with Workload() as load:
        server = load.spawn("server", LIMITED)
        server.map("buffers", PAGES)
        server.fill("buffers", 0, PAGES, seed=1)
        server.tell("pin", "buffers", 0, PAGES)
        ksm.start()
        assert why(server.pid) == ["not_asked", "pinned"]


def assert_held(load: Workload, ksm: Ksm, verb: str) -> None:
    """Pages that would merge, and are held, are called pinned, or at least not unique.

    If the kernel still holds them: 7.3 merges what was handed to a pipe.
    """
    held, other = load.spawn("held"), load.spawn("other")
    for tenant, modulo in ((held, 1), (other, 0)):
        tenant.map("heap", PAGES)
        tenant.fill("heap", 0, PAGES, seed=1, modulo=modulo)
    held.tell(verb, "heap", 0, PAGES)
    for tenant in (held, other):
        tenant.madvise("heap", 0, PAGES, "mergeable")
    ksm.merge_all(stop=False)
    unheld = oracle.process(held.pid) == PAGES
    assert why(held.pid)[0] == (
        "merged" if unheld else "pinned" if status_kb(held.pid, "VmPin") else "held"
    )
    assert why(other.pid) == ["unique"]


def test_pages_in_a_pipe_are_not_called_unique(ksm: Ksm) -> None:
    with Workload() as load:
        assert_held(load, ksm, "vmsplice")


def test_buffers_of_root_are_not_called_unique(ksm: Ksm) -> None:
    """By 7.3 the kernel does not count them."""
    with Workload() as load:
        assert_held(load, ksm, "pin")
