"""The kernel events that move the count, and the functions where each can be seen.

Pure data: ``facts`` looks these names up on the running kernel, ``plan`` chooses among
them. Symbols stand in order of preference; kernels are told apart by which exist, never by
version, because distributions backport.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
    # At the return, where a kretprobe knows the arguments only from the entry.
    RETURN_WITH_ARGUMENTS = "return with arguments"


@dataclass(frozen=True)
class Event:
    """One kind of kernel event.

    ``needs_vma``: the function must take the area, which leads to the mm. ``hot``: it runs for
    every anonymous page, so the program has only the test for a KSM page, and the rest apart.
    ``asleep``: the probe stays on while no KSM page exists and ksmd is not running.
    """

    name: str
    meaning: str
    symbols: tuple[str, ...]
    side: Side = Side.ENTRY
    needs_vma: bool = False
    hot: bool = False
    asleep: bool = False
    required: bool = True


EVENTS: tuple[Event, ...] = (
    # In the order of attachment: an account that the rmap hooks open must see its end.
    Event("mm_goes", "the last reference to an mm is dropped", ("__mmdrop",)),
    Event(
        "owner",
        "an mm passes to another process, as its owner exits or execs",
        ("mm_update_next_owner",),
        side=Side.RETURN_WITH_ARGUMENTS,
        required=False,
    ),
    Event(
        "emptied",
        "an mm has no PTE any more; ksmd may keep it for long",
        ("exit_mmap",),
        side=Side.RETURN_WITH_ARGUMENTS,
        required=False,
    ),
    Event(
        "enter", "an mm is registered with KSM; for a fork's child: PTEs copied", ("__ksm_enter",)
    ),
    Event(
        "migrate",
        "pages are moved; smaps counts those on their way as mapped",
        ("migrate_pages",),
        side=Side.BOTH,
        required=False,
    ),
    Event(
        "rmap_add",
        "a PTE is pointed at a KSM page",
        # folio_* since 6.8 (Linux commits of the "rmap cleanups" series by D. Hildenbrand).
        ("folio_add_anon_rmap_ptes", "page_add_anon_rmap"),
        needs_vma=True,
        hot=True,
    ),
    Event(
        "rmap_remove",
        "a PTE that mapped a KSM page is gone",
        # Takes the area since 5.18; before, nothing leads from the page to the mm.
        ("folio_remove_rmap_ptes", "page_remove_rmap"),
        needs_vma=True,
        hot=True,
    ),
    Event(
        "merge",
        "ksmd tries to merge a page; without a kpage it converts it in place",
        ("try_to_merge_one_page",),
        side=Side.BOTH,
        asleep=True,
    ),
    Event(
        "protect",
        "ksmd locks a page that may become KSM in place; who shares it is known now",
        ("write_protect_page",),
        asleep=True,
        required=False,
    ),
    Event(
        "tree_grows",
        "an area joins a fork family",
        # Seen under the new name, with the anon_vma in the place of its tree, on 7.3.
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
        "PTEs are moved within an mm, which an exact read may see twice or never",
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
        "a swapped-out page is mapped again; asleep, a KSM page among them wakes us",
        ("ksm_might_need_to_copy",),
        asleep=True,
        required=False,
    ),
    Event(
        "break_cow",
        "ksmd unshares a page after a failed merge",
        ("break_cow",),
        # It can be over before a daemon that was asleep has woken up.
        asleep=True,
        required=False,
    ),
)

# Hooked only where `calls` says that a role of another event is not seen there.
STAND_INS: tuple[Event, ...] = (
    Event(
        "moves_away",
        "a KSM page is about to be moved; the hook where its departure is seen is not called",
        # A callback, so it is never inlined.
        ("try_to_migrate_one",),
    ),
)

# A better source than any function for this one: the child has its process id by then.
FORK_TRACEPOINT = "sched_process_fork"


def symbols() -> tuple[str, ...]:
    """Every kernel symbol that a plan may name."""
    return tuple(symbol for event in (*EVENTS, *STAND_INS) for symbol in event.symbols)
