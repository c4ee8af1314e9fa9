"""The kernel events that move the count, and the functions where each can be seen.

Pure data: `read_facts` looks these names up on the running kernel, and ``plan`` chooses among
them. Symbols are in order of preference. What counts is which of them exist, never the kernel's
version, because distributions backport.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

VMA = "struct vm_area_struct *"


class Mechanism(StrEnum):
    """How a program is attached."""

    FENTRY = "fentry"
    KPROBE = "kprobe"
    RAW_TRACEPOINT = "raw_tracepoint"


class Side(StrEnum):
    """Where in a function a program runs."""

    ENTRY = "entry"
    RETURN = "return"
    BOTH = "both"
    # At the return; a kretprobe has the arguments only from the entry.
    RETURN_WITH_ARGUMENTS = "return with arguments"


class Event(NamedTuple):
    """One kind of kernel event.

    ``needs_vma``: the function must take the area, which leads to the mm. ``hot``: it runs for
    every anonymous page, so its program only tests for a KSM page and calls the rest.
    ``asleep``: the probe stays attached while no KSM page exists and ksmd does not run.
    ``return_first``: of the programs at both sides, the one at the return is attached first, so
    that each call that was seen to begin is seen to end.
    """

    name: str
    meaning: str
    symbols: tuple[str, ...]
    side: Side = Side.ENTRY
    needs_vma: bool = False
    hot: bool = False
    asleep: bool = False
    return_first: bool = False
    required: bool = True


EVENTS: tuple[Event, ...] = (
    # In the order of attachment: the hooks that close accounts come before those that open them.
    Event("mm_goes", "the last reference to an mm is dropped", ("__mmdrop",)),
    Event(
        "owner",
        "an mm gets another owner, because its owner exits or execs",
        ("mm_update_next_owner",),
        side=Side.RETURN_WITH_ARGUMENTS,
        required=False,
    ),
    Event(
        "emptied",
        "an mm has lost its last PTE (ksmd may keep the mm for a long time)",
        ("exit_mmap",),
        side=Side.RETURN_WITH_ARGUMENTS,
        required=False,
    ),
    Event(
        "enter",
        "an mm is registered with KSM (a fork's child: once its PTEs are copied)",
        ("__ksm_enter",),
    ),
    Event(
        "migrate",
        "pages are migrated (meanwhile smaps counts them as mapped)",
        ("migrate_pages",),
        side=Side.BOTH,
        # What is away when the hooks go on would be counted by its entries, and by its arrival.
        asleep=True,
        # Reads wait for the end. NUMA balancing calls this often enough to come in between.
        return_first=True,
        required=False,
    ),
    Event(
        "rmap_add",
        "a PTE starts to map a KSM page",
        # folio_* since 6.8 (Linux commits of the "rmap cleanups" series by D. Hildenbrand).
        ("folio_add_anon_rmap_ptes", "page_add_anon_rmap"),
        needs_vma=True,
        hot=True,
    ),
    Event(
        "rmap_remove",
        "a PTE stops mapping a KSM page",
        # It takes the area since 5.18. Before, nothing leads from the page to the mm.
        ("folio_remove_rmap_ptes", "page_remove_rmap"),
        needs_vma=True,
        hot=True,
    ),
    Event(
        "merge",
        "ksmd tries to merge a page (without a kpage: by conversion)",
        ("try_to_merge_one_page",),
        side=Side.BOTH,
        asleep=True,
    ),
    Event(
        "protect",
        "ksmd locks a page that it may convert (its sharers are known now)",
        # On arm64 GCC gives the first another name (.isra). The second is the first thing that it
        # calls; hardly anybody else does, and a call too early does no harm.
        ("write_protect_page", "page_address_in_vma"),
        asleep=True,
        required=False,
    ),
    Event(
        "tree_grows",
        "an area joins a fork family",
        # The new name, with the anon_vma in place of its tree, was seen on 7.3.
        ("anon_rmap_tree_insert", "anon_vma_interval_tree_insert"),
        required=False,
    ),
    Event(
        "tree_shrinks",
        "an area leaves a fork family",
        ("anon_rmap_tree_remove", "anon_vma_interval_tree_remove"),
        required=False,
    ),
    Event(
        "move",
        "PTEs move within an mm (an exact read may see them twice or not at all)",
        ("move_page_tables",),
        required=False,
    ),
    Event(
        "mm_opened",
        "a /proc file of a process is opened, which pins its mm",
        ("mm_access",),
        side=Side.RETURN,
        asleep=True,
    ),
    Event(
        "swapin",
        "a swapped-out page is mapped again (a KSM page wakes the daemon)",
        ("ksm_might_need_to_copy",),
        asleep=True,
        required=False,
    ),
    Event(
        "break_cow",
        "ksmd unshares a page after a failed merge",
        ("break_cow",),
        # It can be over before a sleeping daemon has woken up.
        asleep=True,
        required=False,
    ),
)

# Hooked only if `calls` says that another event's hook misses one of its roles.
STAND_INS: tuple[Event, ...] = (
    Event(
        "moves_away",
        "a KSM page is about to be migrated",
        # A callback, so it is never inlined.
        ("try_to_migrate_one",),
    ),
)


class Tracepoint(NamedTuple):
    """A kind of event that a raw tracepoint tells. None is required."""

    event: str
    meaning: str
    symbol: str
    asleep: bool


TRACEPOINTS: tuple[Tracepoint, ...] = (
    # A better source than any function, because the child already has its process id.
    Tracepoint("fork", "a process forks", "sched_process_fork", asleep=False),
    # The names of processes are kept while KSM is asleep.
    Tracepoint("cgroup", "a process is moved to another cgroup", "cgroup_attach_task", asleep=True),
)

# No event: what a program of an iterator over a map is for (since 5.9).
MAP_ITERATOR = "bpf_iter_bpf_map_elem"


def symbols() -> tuple[str, ...]:
    """Every kernel symbol that a plan may name."""
    return tuple(symbol for event in (*EVENTS, *STAND_INS) for symbol in event.symbols)
