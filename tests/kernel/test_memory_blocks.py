"""Memory that is unplugged: the kernel moves its KSM pages elsewhere (MEM_GOING_OFFLINE)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import oracle
from tests.children import output
from tests.kernel.compare import assert_exact, assert_exact_while_merging
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

pytestmark = pytest.mark.once

BLOCKS = Path("/sys/devices/system/memory")
# Of each tenant. All differ, so that they lie everywhere.
PAGES = 5003


def block_of(frame: int) -> int:
    """The number of the block of memory in which a page frame lies."""
    size = int((BLOCKS / "block_size_bytes").read_text(), 16)
    return frame * oracle.PAGE // size


def blocks(tenant: Tenant) -> Counter[int]:
    """How many pages of a tenant each block holds."""
    return Counter(map(block_of, oracle.frames(tenant.pid, tenant.address("heap"), PAGES)))


def tell(number: int, state: str) -> None:
    """Take a block away, or give it back."""
    (BLOCKS / f"memory{number}/state").write_text(state)


@pytest.fixture
def movable() -> Iterator[int]:
    """A block from which everything can move, so that memory of processes comes from there."""
    numbers = sorted(int(path.name.removeprefix("memory")) for path in BLOCKS.glob("memory[0-9]*"))
    # The kernel's own memory is in the lowest ones, and perhaps in the highest.
    number = numbers[len(numbers) // 2]
    tell(number, "offline")
    tell(number, "online_movable")
    yield number
    tell(number, "offline")
    tell(number, "online")


@contextmanager
def unplugged(number: int, tenant: Tenant) -> Iterator[None]:
    """There is a hole in the physical memory, from which pages of the tenant have moved."""
    assert blocks(tenant)[number]
    tell(number, "offline")
    try:
        assert number not in blocks(tenant)
        yield
    finally:
        tell(number, "online_movable")


@pytest.fixture
def tenants(ksm: Ksm, movable: int) -> Iterator[list[Tenant]]:
    """Two with equal memory."""
    with Workload() as load:
        both = [load.spawn(name) for name in ("a", "b")]
        for tenant in both:
            tenant.offer("heap", PAGES, seed=9, modulo=0)
        yield both


def test_merged_pages_move_out_of_a_block(ksm: Ksm, movable: int, tenants: list[Tenant]) -> None:
    a, b = tenants
    counts = {a.pid: PAGES, b.pid: PAGES}
    with Daemon() as daemon:
        ksm.merge_all()
        with unplugged(movable, a):
            assert_exact(daemon, counts)
            # They read all page frames, and there is a hole now.
            peers = output(["ksmwatch", "peers", str(a.pid)])
            assert f"{PAGES:,}" in peers or str(PAGES) in peers, peers
            output(["ksmwatch", "estimate", str(a.pid)])
            a.write("heap", 0, 101)
            counts[a.pid] -= 101
            assert_exact(daemon, counts)
        assert_exact(daemon, counts)


def test_pages_merge_while_a_block_goes(ksm: Ksm, movable: int, tenants: list[Tenant]) -> None:
    a, b = tenants
    counts = {a.pid: PAGES, b.pid: PAGES}
    with Daemon() as daemon:
        ksm.start()
        with unplugged(movable, a):
            assert_exact_while_merging(daemon, counts)
        assert_exact_while_merging(daemon, counts)
