"""An invented host with many tenants, as successive snapshot documents."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from ksmwatch.errors import NoDaemonError
from ksmwatch.kernel.areas import Area, AreaDocument, area_document
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.rollup import Moves, OwnerKey
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.process import Confidence, Process
from tests.made_up import STRAY, numbers, process, snapshot

_KIND = OwnerKind
_OWNERS = (
    (Owner(_KIND.VM, "web", "proxmox/101", manager="proxmox", unit="101.scope"), "kvm"),
    (Owner(_KIND.VM, "database", "proxmox/102", manager="proxmox", unit="102.scope"), "kvm"),
    (Owner(_KIND.CONTAINER, "cache", "docker/5f2a", unit="docker-5f2a.scope"), "redis-server"),
    (Owner(_KIND.POD, "shop/cart-7d4b9", "pod/0a1b", pod="0a1b"), "java"),
    (Owner(_KIND.UNIT, "postgresql.service", "pg", unit="postgresql.service"), "postgres"),
    (Owner(_KIND.USER, "alice", "1000", uid=1000), "bash"),
    (Owner(_KIND.COMMAND, "memtest", "memtest", uid=1000), "memtest"),
)


def crowd(count: int, step: int) -> tuple[Process, ...]:
    """Processes of the host: see `document`."""
    return tuple(_process(n, step) for n in range(count))


def document(count: int = 40, step: int = 0, **changes: Any) -> dict[str, Any]:
    """The host with this many processes, `step` times two seconds later.

    The owner of process 1000 + n is number n modulo 7; the parent of every fifth is the one
    before it. Every process merges `n` pages a step and loses one.
    """
    processes = crowd(count, step)
    total = sum(p.mappings for p in processes)
    moved: dict[OwnerKey, Moves] = defaultdict(lambda: (0,) * len(Movement))
    for each in processes:
        sums = zip(moved[each.owner.key], each.movements, strict=True)
        moved[each.owner.key] = tuple(a + b for a, b in sums)
    host = numbers()
    ksm = {
        **(host.ksm or {}),
        "pages_shared": total // 10,
        "pages_sharing": total - total // 10 - 70,
        "general_profit": total * 3500,
        "pages_to_scan": 100,
        "sleep_millisecs": 20,
        "pages_scanned": 12345 + 9000 * step,
    }
    made = snapshot(
        time=1700000000.5 + 2 * step,
        processes=processes,
        moved=moved,
        numbers=numbers(ksm=ksm, meminfo={"MemAvailable": 900_000_000}, ksmd_cpu=50 + 0.5 * step),
        rooms={},
    )
    found = to_document(made)
    found["audit"] |= {"surplus": 0, "missing": 0, "last": 0}
    found["totals"] |= {"miscounted_mms": 0, "miscounted_pages": 0}
    # By number, so that tests find process 1000 + n at place n; a daemon lists the largest first.
    found["processes"].sort(key=lambda each: each["pid"])
    return found | changes


def areas(pid: int) -> list[AreaDocument]:
    """Of any process: a heap, and an area where nothing may merge."""
    heap = Area(0x55D000000000, 0x55D000800000, pid, mergeable=True, name="[heap]")
    return [area_document(heap), area_document(STRAY)]


def _process(n: int, step: int) -> Process:
    owner, comm = _OWNERS[n % len(_OWNERS)]
    base = random.Random(n).randrange(100, 200_000)
    mappings = base + (n - 1) * step
    return process(
        pid=1000 + n,
        start_time=7000 + n,
        ppid=999 + n if n % 5 == 4 else 1,
        comm=comm,
        name=comm,
        owner=owner,
        mappings=mappings,
        confidence=Confidence.ESTIMATED if n % 31 == 30 else Confidence.EXACT,
        movements=(base + n * step, 0, 0, n % 3, step, 0, 0),
        kernel_merging_pages=mappings - n % 4,
        stray=(STRAY,) if n % 6 == 0 else (),
    )


class Documents:
    """A source of invented documents; after the last it fails."""

    label = "made up"

    def __init__(self, *documents: dict[str, Any]) -> None:
        self._documents = list(documents)

    def read(self) -> dict[str, Any]:
        if not self._documents:
            raise NoDaemonError("It is gone.")
        return self._documents.pop(0)

    def areas(self, pid: int) -> list[AreaDocument]:
        """Nobody asks."""
        raise AssertionError

    def close(self) -> None:
        """Nothing."""
