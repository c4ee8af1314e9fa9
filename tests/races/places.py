"""Places that scenarios name, on every kernel that is tested."""

from __future__ import annotations

from tests.races.code import Place, at, before_call, behind, behind_call, end_of, inside

MERGE = "try_to_merge_one_page"
REMOVE = ("folio_remove_rmap_ptes", "page_remove_rmap")

# ---- ksmd, while it makes a page a KSM page, or puts one in a page's place ----

PROTECTED = behind_call(MERGE, "write_protect_page")
# set_page_stable_node(page, NULL): the mapping is 3 from now on.
CONVERTED = behind(MERGE, r"movq? +\$0x3,0x18\(%r\w+\)")
MERGE_ENDS = end_of(MERGE)
MERGED = behind_call("try_to_merge_with_ksm_page", MERGE)

# ---- reverse map: the hook has run, the mapcount has not changed ----

REMOVING = inside(*REMOVE)

# ---- fork ----

# PTEs are copied, and the child has no process id.
UNBORN = at("alloc_pid")

# Everything is copied, and the tracepoint has not run.
COPIED = behind_call("kernel_clone", "copy_process")

# The child is known to KSM; its PTEs are copied since 6.8, and not yet before.
REGISTERED = end_of("__ksm_enter")

# ---- exact reads ----

AREA = at("smap_gather_stats")
UNLOCKED = behind_call("show_smaps_rollup", "up_read")

# ---- locks ----

WAITING = before_call("rwsem_down_write_slowpath", "schedule", "schedule_preempt_disabled")

# ---- a page that moves ----

# Its PTEs have become migration entries.
AWAY = behind_call("migrate_pages_batch", "try_to_migrate")
# It has been copied, and the entries are about to become PTEs again.
PUTTING_BACK = before_call(("migrate_folio_move", "migrate_pages_batch"), "rmap_walk")
WAITING_FOR_A_PAGE = at("migration_entry_wait")

# ---- swap ----

UNMAPPED = behind_call("shrink_folio_list", "try_to_unmap")
SWAPPED_OUT_FAULT = at("do_swap_page")

# ---- the end of an address space ----

# Exec has made the new one. From now on, until the old one has gone, whoever opens smaps or pagemap
# of the process waits.
EXECUTING = at("begin_new_exec")
EMPTYING = before_call("exit_mmap", "unmap_vmas")
EMPTIED = behind_call("exit_mmap", "unmap_vmas")

# ---- programs ----

ATTACHING = at("bpf_tracing_prog_attach")
DETACHING = at("bpf_tracing_link_release", "bpf_perf_link_release")
# Functions of programs with a BTF of ours have all the same name; on ksmd's CPU and behind the
# store these are the hook on the return, and then each edge of its walk.
OUR_FUNCTION = at("bpf:f")
OPENING = at("htab_map_update_elem")


def names() -> set[str]:
    """Every function that a place above names."""
    found = [each for each in globals().values() if isinstance(each, Place)]
    return {name for place in found for name in (*place.functions, *place.callees)}
