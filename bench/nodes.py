"""`make bench-nodes`: what it costs the kernel to count mappings by node, in instructions.

In guests of bench/hotpath.py with one node of memory and with two, with the same operations.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from bench.guests import KERNEL
from bench.hotpath import measure
from bench.results import Goal, Result, save, table

NAME = "nodes"
_CASES = ("nothing", "fentry", "kprobe")
_OPERATIONS = ("merge by ksmd", "COW of a KSM page", "munmap")

_METHOD = """`make bench-nodes`, {date}, Linux {kernel}, counted as in *Hot path*: what ksmwatch
adds in a guest with one node of memory, where the programs have no code for nodes, and in one with
two. For a page that is not KSM the code is the same."""


def _added(costs: Result, case: str, operation: str) -> str:
    return f"{round(costs[case][operation] - costs['nothing'][operation]):+,}"


def section(result: Result) -> str:
    """Method and table."""
    one, two = (result["nodes"][nodes]["costs"] for nodes in ("1", "2"))
    rows = [
        (operation, case, _added(one, case, operation), _added(two, case, operation))
        for operation in _OPERATIONS
        for case in ("fentry", "kprobe")
    ]
    head = ("instructions added per page", "hooks", "one node", "two nodes")
    return "\n\n".join(["## Nodes of memory", _METHOD.format(**result), table(head, rows)])


def goals(_: Result) -> list[Goal]:
    """None was set."""
    return []


def main() -> int:
    """Measure both, and keep the result."""
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda nodes: measure(KERNEL, _CASES, nodes=nodes), (1, 2)))
    save(NAME, {"kernel": KERNEL, "nodes": dict(zip(("1", "2"), found, strict=True))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
