"""Recorded kernels, read by the code that reads a live host.

The scene (tests/fixtures/make.py): `parent` has 61 KSM mappings, another process with a hostile
name 13, and `fork` has 61 in truth, which only old kernels report.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.commands.meminfo import with_ksm
from ksmwatch.kernel import procfs, struct_layout
from ksmwatch.kernel.events import EVENTS, TRACEPOINTS
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.host_sources import HostSources
from ksmwatch.kernel.page_tables import SmapsReader
from ksmwatch.kernel.procfs import KsmStat
from ksmwatch.kernel.read_facts import read_capabilities
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.plan import Wish, choose
from ksmwatch.probes.shortcomings import warnings
from tests.fakes import FIXTURES, KERNELS, recorded

HOSTILE = "a) S 1 (b"
OLD, *NEW = KERNELS
ALWAYS = {
    "owner": "mm_update_next_owner",
    "emptied": "exit_mmap",
    "migrate": "migrate_pages",
    "mm_goes": "__mmdrop",
    "enter": "__ksm_enter",
    "merge": "try_to_merge_one_page",
    "protect": "write_protect_page",
    "move": "move_page_tables",
    "mm_opened": "mm_access",
    "swapin": "ksm_might_need_to_copy",
    "break_cow": "break_cow",
    "fork": "sched_process_fork",
    "cgroup": "cgroup_attach_task",
}
RMAP = {
    "6.1": {"rmap_add": "page_add_anon_rmap", "rmap_remove": "page_remove_rmap"},
    "6.12": {"rmap_add": "folio_add_anon_rmap_ptes", "rmap_remove": "folio_remove_rmap_ptes"},
    "7.3": {"rmap_add": "folio_add_anon_rmap_ptes", "rmap_remove": "folio_remove_rmap_ptes"},
}
_OLD_TREES = {
    "tree_grows": "anon_vma_interval_tree_insert",
    "tree_shrinks": "anon_vma_interval_tree_remove",
}
TREES = {
    "6.1": _OLD_TREES,
    "6.12": _OLD_TREES,
    "7.3": {"tree_grows": "anon_rmap_tree_insert", "tree_shrinks": "anon_rmap_tree_remove"},
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS)
each_new = pytest.mark.parametrize("kernel", NEW)


def root(kernel: str) -> Path:
    return FIXTURES / kernel / "root"


def by_name(kernel: str) -> dict[str, Path]:
    proc = root(kernel) / "proc"
    found = [proc / str(pid) for pid in procfs.pids(proc)]
    return {(path / "comm").read_text().rstrip("\n"): path for path in found}


@each_kernel
def test_facts_are_of_that_kernel_and_survive_a_round_trip(kernel: str) -> None:
    facts = recorded(kernel)
    assert facts.release.startswith(f"{kernel}.")
    assert facts.release in (root(kernel) / "proc/version").read_text()
    assert Facts.from_json(facts.to_json()) == facts
    assert facts.capabilities == read_capabilities(root(kernel))
    # Of PREEMPT_RT.
    members = {member.name for member in struct_layout.MEMBERS} - {"rw_semaphore_rwbase"}
    assert set(facts.offsets) == members
    assert (facts.ksm, facts.foreign_reads, facts.lockdown) == (True, True, "none")
    assert warnings(facts) == []


def test_what_tells_the_kernels_apart() -> None:
    assert [recorded(k).smaps_ksm for k in KERNELS] == [False, True, True]
    assert len(recorded(OLD).prototypes["page_remove_rmap"]) == 3
    assert [len(recorded(k).prototypes["folio_remove_rmap_ptes"]) for k in NEW] == [4, 4]


@each_kernel
@pytest.mark.parametrize(
    ("wish", "mechanism"), [("auto", "fentry"), ("fentry", "fentry"), ("kprobe", "kprobe")]
)
def test_the_plan(kernel: str, wish: str, mechanism: str) -> None:
    plan = choose(recorded(kernel), Wish(wish))
    assert plan.obstacle is None
    assert plan.mechanisms == mechanism
    assert {p.event: p.symbol for p in plan.probes} == {**ALWAYS, **RMAP[kernel], **TREES[kernel]}
    told = [tracepoint.event for tracepoint in TRACEPOINTS]
    kinds = {p.mechanism.value for p in plan.probes if p.event not in told}
    assert kinds == {mechanism}
    # In the order of attachment, which matters, and with the tracepoints last.
    assert [p.event for p in plan.probes] == [*(event.name for event in EVENTS), *told]
    positions = {p.event: p.vma for p in plan.probes if p.vma is not None}
    assert positions == dict.fromkeys(RMAP[kernel], 1 if kernel == OLD else 3)


@each_kernel
def test_flags_for_the_compiler(kernel: str) -> None:
    facts = recorded(kernel)
    flags = compile_flags(choose(facts), facts, 100)
    assert flags[:2] == ["-DMAX_ACCOUNTS=100", "-DACCOUNT_MAP_FLAGS=1"]
    assert "-DVIA_RMAP_ADD=FENTRY" in flags
    assert f"-DRMAP_ADD_VMA={1 if kernel == OLD else 3}" in flags
    assert "-DOFF_vm_area_struct_vm_mm=16" in flags
    kprobes = compile_flags(choose(facts, Wish.KPROBE), facts, 100)
    assert "-DVIA_RMAP_REMOVE=KPROBE" in kprobes
    assert f"-DRMAP_REMOVE_VMA={1 if kernel == OLD else 3}" in kprobes


@each_kernel
def test_numbers_of_the_host(kernel: str) -> None:
    numbers = HostSources(root(kernel) / "proc", root(kernel) / "sys").read()
    assert numbers.failures == ()
    assert numbers.ksm is not None
    # 61 + 13 mappings of one page: ksmd has not heard of the fork.
    assert (numbers.ksm["pages_shared"], numbers.ksm["pages_sharing"]) == (1, 73)
    assert numbers.ksm["run"] == 0
    assert numbers.vmstat == {"cow_ksm": 0, "ksm_swpin_copy": 0}
    assert 1_900_000 < numbers.meminfo["MemTotal"] < 2_100_000
    assert "advisor_mode" not in numbers.ksm
    sys = root(kernel) / "sys"
    assert procfs.read_number(procfs.run_file(sys).read) == 0
    assert procfs.read_number(procfs.pages_shared_file(sys).read) == 1


def test_files_that_came_later_are_absent_and_not_zero() -> None:
    found = {
        kernel: HostSources(root(kernel) / "proc", root(kernel) / "sys").read().ksm or {}
        for kernel in KERNELS
    }
    later = ("general_profit", "pages_scanned", "ksm_zero_pages")
    assert [found[OLD].get(name) for name in later] == [None, None, None]
    for kernel in NEW:
        profit, scanned, zero = (found[kernel].get(name) for name in later)
        # How far ksmd had come is a matter of the recording.
        assert (profit, zero) == (294272, 0)
        assert scanned is not None
        assert scanned > 0


def test_processes_that_the_kernel_knows() -> None:
    assert {kernel: set(by_name(kernel)) for kernel in KERNELS} == {
        "6.1": {"parent", HOSTILE, "fork"},
        "6.12": {"parent", HOSTILE},
        "7.3": {"parent", HOSTILE},
    }


@each_new
@pytest.mark.parametrize(
    ("name", "pages", "profit"), [("parent", 61, 245952), (HOSTILE, 13, 52416)]
)
def test_books_of_a_process(kernel: str, name: str, pages: int, profit: int) -> None:
    stat = procfs.read_ksm_stat(by_name(kernel)[name])
    # Since 6.17 it says whether memory was offered.
    assert stat == KsmStat(pages, pages, 0, profit, offers=True if kernel == "7.3" else None)
    assert stat.user


def test_old_kernels_give_a_fork_its_parents_books() -> None:
    books = {name: procfs.read_ksm_stat(path) for name, path in by_name(OLD).items()}
    assert books == {
        "parent": KsmStat(61, 61, None, None),
        HOSTILE: KsmStat(13, 13, None, None),
        "fork": KsmStat(61, 61, None, None),
    }


@each_new
@pytest.mark.parametrize(("name", "pages"), [("parent", 61), (HOSTILE, 13)])
def test_exact_reads(kernel: str, name: str, pages: int) -> None:
    with SmapsReader().open(by_name(kernel)[name]) as opened:
        assert opened.read() == pages


@each_kernel
def test_start_times_with_a_hostile_name(kernel: str) -> None:
    found = by_name(kernel)
    parent = procfs.read_start_ticks(found["parent"])
    # The guest had been up for a minute at most, and the hostile one was started second.
    assert 0 < parent <= procfs.read_start_ticks(found[HOSTILE]) < parent + 1000 < 10_000


@each_kernel
def test_meminfo_of_the_kernel_with_the_line(kernel: str) -> None:
    text = (root(kernel) / "proc/meminfo").read_text()
    lines = with_ksm(text, 61 + 13 + 61, 4096).splitlines()
    at = lines.index("KsmSharing:          540 kB")
    assert lines[at - 1].startswith("PageTables:")
    assert lines[at + 1].startswith("SecPageTables:")
