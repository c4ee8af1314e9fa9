"""Guests in post-copy migration: userfaultfd fills their pages, and protects them from writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import oracle
from tests.children import output
from tests.kernel.asking import why
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import RefusedError, Tenant, Workload

pytestmark = pytest.mark.once

# Of the guest; what it has touched itself, and what came before it was wanted.
PAGES, TOUCHED, COPIED = 3001, 1009, 503
HERE = TOUCHED + COPIED


@pytest.fixture
def guest(ksm: Ksm) -> Iterator[Tenant]:
    """A process with all of its memory offered, of which some has arrived."""
    with Workload() as load:
        guest = load.spawn("guest")
        guest.map("ram", PAGES)
        guest.madvise("ram", 0, PAGES, "mergeable")
        guest.tell("userfault", "ram", 5, 7)
        guest.tell("read", "ram", 0, TOUCHED)
        guest.tell("copyin", "ram", TOUCHED, COPIED)
        yield guest


def test_pages_that_arrive_merge_and_nobody_but_the_guest_wants_any(
    ksm: Ksm, guest: Tenant
) -> None:
    with Daemon() as daemon:
        guest.tell("zeroin", "ram", HERE, 101)
        assert guest.tell("faults", "missing") == TOUCHED
        ksm.merge_all(stop=False)
        assert why(guest.pid) == ["merged"]
        ksm.stop()
        assert_exact(daemon, {guest.pid: HERE})
        assert oracle.frames(guest.pid, guest.address("ram"), HERE)
        for command in ("estimate", "peers", "audit"):
            output(["ksmwatch", command, str(guest.pid)])
        assert guest.tell("faults", "missing") == TOUCHED
        # What migration sends again: dropped, and wanted.
        guest.madvise("ram", 0, 307, "dontneed")
        assert_exact(daemon, {guest.pid: HERE - 307})
        guest.tell("read", "ram", 0, 211)
        guest.tell("copyin", "ram", 211, 96)
        assert_exact(daemon, {guest.pid: HERE - 307})
        ksm.merge_all()
        assert_exact(daemon, {guest.pid: HERE})
        assert guest.tell("faults", "missing") == TOUCHED + 211


def test_merged_pages_are_protected_and_written(ksm: Ksm, guest: Tenant) -> None:
    """As a snapshot of a guest that runs (QEMU: background-snapshot) does."""
    with Daemon() as daemon:
        ksm.merge_all()
        guest.tell("protect", "ram", 0, HERE, 1)
        assert_exact(daemon, {guest.pid: HERE})
        guest.write("ram", 0, 101)
        assert guest.tell("faults", "protected") == 101
        assert_exact(daemon, {guest.pid: HERE - 101})
        guest.tell("protect", "ram", 0, HERE, 0)
        guest.write("ram", 101, 53)
        assert_exact(daemon, {guest.pid: HERE - 154})
        child = guest.fork("child")
        counts = {guest.pid: HERE - 154, child.pid: HERE - 154}
        assert_exact(daemon, counts)
        guest.fill("ram", 0, 154, seed=5, modulo=7)
        ksm.merge_all()
        assert_exact(daemon, {**counts, guest.pid: HERE})


def test_pages_move_only_before_they_merge(ksm: Ksm, guest: Tenant) -> None:
    """UFFDIO_MOVE, since 6.8, takes pages that belong to one process alone."""
    with Daemon() as daemon:
        guest.tell("movein", "ram", 0, 101, HERE)
        ksm.merge_all()
        assert_exact(daemon, {guest.pid: HERE})
        with pytest.raises(RefusedError, match="busy"):
            guest.tell("movein", "ram", HERE, 101, 0)
        assert_exact(daemon, {guest.pid: HERE})
