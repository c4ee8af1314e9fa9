"""A made-up host with many tenants, as snapshot documents that follow each other."""

from __future__ import annotations

import random
from typing import Any

from ksmwatch.snapshot import to_document
from tests.made_up import process, snapshot

_OWNERS = (
    ("vm", "web", "proxmox/101", "101.scope", None),
    ("vm", "database", "proxmox/102", "102.scope", None),
    ("container", "cache", "docker/5f2a", "docker-5f2a.scope", None),
    ("pod", "shop/cart-7d4b9", "pod/0a1b", None, None),
    ("unit", "postgresql.service", "postgresql.service", "postgresql.service", None),
    ("user", "alice", "1000", None, 1000),
    ("command", "memtest", "memtest", None, None),
)
KINDS = {
    "vm": "kvm",
    "container": "redis-server",
    "pod": "java",
    "unit": "postgres",
    "user": "bash",
}


def document(count: int = 40, step: int = 0, **changes: Any) -> dict[str, Any]:
    """The host with so many processes, `step` times two seconds later.

    The owner of process 1000 + n is number n modulo 7; the parent of every fifth is the one
    before it. Every process merges `n` pages a step and loses one.
    """
    made = to_document(snapshot())
    made["time"] += 2 * step
    one = to_document(snapshot(processes=(process(),)))["processes"][0]
    made["processes"] = [_process(one, n, step) for n in range(count)]
    total = sum(p["mappings"] for p in made["processes"])
    made["host"] |= {"mappings": total, "bytes": total * made["page_size"]}
    made["host"] |= {"kernel_mappings": total - 70, "kernel_lag": 70}
    made["sources"]["ksm"] |= {
        "pages_shared": total // 10,
        "pages_sharing": total - total // 10 - 70,
        "general_profit": total * 3500,
        "pages_to_scan": 100,
        "sleep_millisecs": 20,
        "pages_scanned": 12345 + 9000 * step,
    }
    made["sources"]["meminfo"]["MemAvailable"] = 900_000_000
    made["audit"] |= {"surplus": 0, "missing": 0, "last": 0}
    made["totals"] |= {"miscounted_mms": 0, "miscounted_pages": 0}
    return made | changes


def _process(one: dict[str, Any], n: int, step: int) -> dict[str, Any]:
    chance = random.Random(n)
    kind, name, ident, unit, uid = _OWNERS[n % len(_OWNERS)]
    base = chance.randrange(100, 200_000)
    mappings = base + (n - 1) * step
    moves = dict.fromkeys(("converted", "other", "forked", "exited"), 0)
    moves |= {"merged": base + n * step, "unmapped": step, "forked": n % 3}
    comm = KINDS.get(kind, name)
    return one | {
        "pid": 1000 + n,
        "ppid": 999 + n if n % 5 == 4 else 1,
        "start_time": 7000 + n,
        "comm": comm[:15],
        "name": comm,
        "mappings": mappings,
        "bytes": mappings * 4096,
        "confidence": "estimated" if n % 11 == 10 else "exact",
        "movements": moves,
        "kernel_merging_pages": mappings - n % 4,
        "kernel_lag": n % 4,
        "stray_mappings": 3 if n % 6 == 0 else 0,
        "stray_areas": one["stray_areas"] if n % 6 == 0 else [],
        "owner": {"kind": kind, "name": name, "id": ident, "unit": unit, "uid": uid},
    }
