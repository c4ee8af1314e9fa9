"""Provokes the two ways in which KSM leaves pages merged (docs/leftovers.md).

The kernel source that they come from: write_protect_page() and try_to_merge_two_pages() with
break_cow() in mm/ksm.c. Both need ksmd stopped and nothing merged before.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

# ksmd looks at a page in one scan, and merges it in a later one.
_SCANS = 5


@dataclass(frozen=True)
class Leftover:
    """`parent` asked for KSM, `child` took that back and has one KSM page at `page`."""

    parent: Tenant
    child: Tenant
    parent_mappings: int
    page: int


def not_mergeable(load: Workload, ksm: Ksm, pages: int = 17) -> Leftover:
    """A KSM page in an area that is not mergeable.

    The first page of the set is shared by fork and converts in place, in all processes.
    """
    parent = load.spawn("asked")
    parent.offer("heap", pages, seed=7, modulo=1)
    child = parent.fork("took-it-back")
    child.madvise("heap", 0, pages, "unmergeable")
    ksm.merge_all(scans=_SCANS)
    return Leftover(parent, child, pages, child.address("heap"))


def broken_in_one_process_only(load: Workload, ksm: Ksm) -> Leftover:
    """A KSM page that break_cow() left in a child.

    Page 1 is shared by fork and converts; its twin, page 0, cannot follow because a pipe holds
    a reference to it; break_cow() then gives page 1 back to the parent, but not to the child.
    """
    parent = load.spawn("asked")
    parent.offer("heap", 2, seed=11, modulo=1)
    child = parent.fork("took-it-back")
    child.madvise("heap", 0, 2, "unmergeable")
    # The same content again: now page 0 is the parent's own, which ksmd finds first.
    parent.fill("heap", 0, 1, seed=11, modulo=1)
    parent.tell("vmsplice", "heap", 0, 1)
    ksm.merge_all(scans=_SCANS)
    return Leftover(parent, child, 0, child.address("heap"))
