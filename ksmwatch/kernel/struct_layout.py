"""Which kernel struct members the BPF programs read, and where to find them.

Pure data. ``bpf/layout.h`` uses each as ``OFF_<struct>_<member>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Member(NamedTuple):
    """One member, by its name in the programs, and its places in order of preference."""

    name: str
    places: tuple[tuple[str, str], ...]
    required: bool = True


def _member(struct: str, member: str) -> Member:
    return Member(f"{struct}_{member}", ((struct, member),))


MEMBERS: tuple[Member, ...] = (
    # The rmap functions take folios since 6.8, and struct page is losing members to struct folio. A
    # small folio's address is its page's.
    Member("page_mapping", (("folio", "mapping"), ("page", "mapping"))),
    Member("page__mapcount", (("folio", "_mapcount"), ("page", "_mapcount"))),
    # Only for nodes of memory.
    Member("page_flags", (("page", "flags"),), required=False),
    # compound_info since 7.0 or so; bit 0 marks a tail page in both.
    Member("page_compound_head", (("page", "compound_head"), ("page", "compound_info"))),
    _member("vm_area_struct", "vm_mm"),
    _member("vm_area_struct", "anon_vma"),
    _member("anon_vma", "root"),
    _member("anon_vma", "rb_root"),
    _member("anon_vma", "rwsem"),
    # Without PREEMPT_RT, and with it.
    Member("rw_semaphore_count", (("rw_semaphore", "count"),), required=False),
    Member("rw_semaphore_rwbase", (("rw_semaphore", "rwbase"),), required=False),
    _member("anon_vma_chain", "vma"),
    _member("anon_vma_chain", "rb"),
    _member("rb_node", "rb_right"),
    _member("rb_node", "rb_left"),
    _member("mm_struct", "owner"),
    _member("mm_struct", "mm_users"),
    _member("mm_struct", "total_vm"),
    _member("task_struct", "mm"),
    _member("task_struct", "tgid"),
    _member("task_struct", "group_leader"),
    _member("task_struct", "comm"),
    _member("task_struct", "start_boottime"),
)


def missing(offsets: Mapping[str, int]) -> list[str]:
    """Names of required members without an offset."""
    return [m.name for m in MEMBERS if m.required and m.name not in offsets]
