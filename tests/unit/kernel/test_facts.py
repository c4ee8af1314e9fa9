"""Facts of a host that is files below a directory."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch.kernel import kernel_image as facts
from ksmwatch.kernel import libbpf
from ksmwatch.kernel.facts import CAPABILITIES
from ksmwatch.kernel.kernel_text import Symbol
from ksmwatch.kernel.read_facts import read_capabilities, read_facts
from ksmwatch.kernel.struct_layout import MEMBERS, missing
from tests.fake_btf import FakeBtf, write


def test_a_host_without_anything_is_read_as_such(root: Path) -> None:
    found = read_facts(root)
    assert (found.release, found.machine) == (platform.release(), platform.machine())
    assert not any(
        (
            found.ksm,
            found.symbols,
            found.prototypes,
            found.offsets,
            found.headers,
            found.tracepoints,
            found.kprobes,
            found.kprobes_disarmed,
            found.trampolines,
            found.bcc,
            found.bpf_mem_alloc,
            found.casts,
            found.foreign_reads,
            found.smaps_ksm,
            found.ksm_stat,
            found.capabilities,
            found.refused,
        )
    )
    assert found.kallsyms_error == "No such file or directory"
    assert found.bcc_error == "the Python module bcc is not installed"
    assert found.lockdown == "none"
    assert found.bpf_programs == {"kprobe": False, "raw_tracepoint": False, "tracing": False}


@pytest.mark.parametrize(
    ("struct", "function", "taken", "expected"),
    [
        ("folio", "bpf_rdonly_cast", True, {"function": 1, "page": 1}),
        ("page", "bpf_rdonly_cast", True, {"function": 1, "page": 1}),
        ("folio", "bpf_rdonly_cast", False, {}),
        ("folio", "bpf_cast_to_kern_ctx", True, {}),
        ("slab", "bpf_rdonly_cast", True, {}),
    ],
)
def test_a_pointer_is_cast_only_where_the_kernel_has_taken_a_program_that_does(
    root: Path,
    btf: type[FakeBtf],
    monkeypatch: pytest.MonkeyPatch,
    struct: str,
    function: str,
    taken: object,
    expected: dict[str, int],
) -> None:
    btf.members = {("x", "y"): 0, (struct, "mapping"): 24}
    btf.functions = {"f": [], function: []}
    monkeypatch.setattr(libbpf, "cast_supported", lambda function, kind: taken)
    assert read_facts(root).casts == expected


@pytest.mark.parametrize(
    ("path", "text", "field", "expected"),
    [
        ("sys/kernel/mm/ksm/run", "1\n", "ksm", True),
        (
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
            "lockdown",
            "integrity",
        ),
        ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n", "lockdown", "none"),
        ("sys/kernel/security/lockdown", "", "lockdown", "none"),
        ("sys/bus/event_source/devices/kprobe/type", "6\n", "kprobes", True),
        ("sys/kernel/debug/kprobes/enabled", "0\n", "kprobes_disarmed", True),
        ("sys/kernel/debug/kprobes/enabled", "1\n", "kprobes_disarmed", False),
        ("proc/1/smaps_rollup", "", "foreign_reads", True),
        ("proc/self/smaps_rollup", "Rss: 4 kB\nKSM: 0 kB\n", "smaps_ksm", True),
        ("proc/self/smaps_rollup", "Rss: 4 kB\nXKSM: 0 kB\n", "smaps_ksm", False),
        ("proc/self/ksm_stat", "", "ksm_stat", True),
        ("proc/kallsyms", "0 t bpf_trampoline_link_prog\n", "trampolines", True),
        ("proc/kallsyms", "0 t bpf_mem_alloc_init\n", "bpf_mem_alloc", True),
        (
            "proc/kallsyms",
            "0 T __traceiter_sched_process_fork\n",
            "tracepoints",
            frozenset({"sched_process_fork"}),
        ),
        (
            "proc/kallsyms",
            "0 T __traceiter_cgroup_attach_task\n0 T __traceiter_cgroup_mkdir\n",
            "tracepoints",
            frozenset({"cgroup_attach_task"}),
        ),
    ],
)
def test_each_file_is_one_fact(
    root: Path, path: str, text: str, field: str, expected: object
) -> None:
    write(root / path, text)
    assert getattr(read_facts(root), field) == expected


def test_symbols_are_counted_and_those_of_modules_are_not_taken(root: Path) -> None:
    lines = (
        "ffffffff81000000 T __mmdrop",
        "ffffffff81000010 t break_cow",
        "ffffffff81000020 t break_cow",
        "ffffffff81000030 t mm_access\t[kvm]",
        "ffffffff81000040 T not_ours",
    )
    write(root / "proc/kallsyms", "\n".join(lines) + "\n")
    assert read_facts(root).symbols == {"__mmdrop": 1, "break_cow": 2}


def test_symbols_are_found_at_the_seams_of_pieces(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"__mmdrop": 1, "mm_access": 1}
    lines = [f"ffffffff810000{n}0 T {name}\n" for n, name in enumerate(whole)]
    write(root / "proc/kallsyms", "".join(lines))
    assert read_facts(root).symbols == whole
    monkeypatch.setattr(facts, "_KALLSYMS_PIECE", 7)
    assert read_facts(root).symbols == whole


def test_unreadable_kallsyms_is_told_from_a_kernel_without_the_functions(root: Path) -> None:
    # A directory cannot be read by anybody, root included.
    (root / "proc/kallsyms").mkdir()
    found = read_facts(root)
    assert (found.symbols, found.kallsyms_error) == ({}, "Is a directory")


RUNNING = Path("/")


@pytest.fixture
def walked(btf: type[FakeBtf], monkeypatch: pytest.MonkeyPatch) -> list[Symbol]:
    """What a walk over the running kernel's symbols finds; its code has no call."""
    found: list[Symbol] = []
    monkeypatch.setattr(libbpf, "prog_type_supported", lambda number: True)
    monkeypatch.setattr(libbpf, "cast_supported", lambda function, kind: False)
    monkeypatch.setattr(facts, "read_symbols", lambda btf, wanted: found)
    monkeypatch.setattr(facts, "read_calls", lambda found, machine: {"a b": False})
    return found


def test_a_walk_over_the_symbols_is_all_that_is_needed(
    walked: list[Symbol], monkeypatch: pytest.MonkeyPatch
) -> None:
    walked += [
        Symbol(16, "__mmdrop", ""),
        Symbol(32, "break_cow", ""),
        Symbol(48, "break_cow", ""),
        Symbol(64, "mm_access", "kvm"),
        Symbol(80, "where_it_ends", ""),
    ]
    monkeypatch.setattr(facts, "_read_symbols", None)
    found = read_facts(RUNNING)
    assert (found.symbols, found.kallsyms_error) == ({"__mmdrop": 1, "break_cow": 2}, None)
    assert (found.calls, found.calls_error) == ({"a b": False}, None)


@pytest.mark.parametrize("name", ["read_symbols", "read_calls"])
def test_where_no_program_can_walk_kallsyms_is_read(
    walked: list[Symbol], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(facts, name, refuse)
    monkeypatch.setattr(facts, "_read_symbols", lambda root, wanted: ({"__mmdrop": 1}, None))
    found = read_facts(RUNNING)
    assert (found.symbols, found.kallsyms_error) == ({"__mmdrop": 1}, None)
    assert (found.calls, found.calls_error) == ({}, "Operation not permitted")


def test_without_btf_nobody_can_walk(
    walked: list[Symbol], btf: type[FakeBtf], monkeypatch: pytest.MonkeyPatch
) -> None:
    btf.error = OSError(3, "there is none")
    monkeypatch.setattr(facts, "_read_symbols", lambda root, wanted: ({"__mmdrop": 1}, None))
    found = read_facts(RUNNING)
    assert (found.symbols, found.calls_error) == ({"__mmdrop": 1}, "there is none")


def test_headers_count_only_when_they_are_there(root: Path) -> None:
    build = root / "lib/modules" / platform.release() / "build"
    build.mkdir(parents=True)
    assert read_facts(root).headers is None
    write(build / "include/linux/kconfig.h")
    assert read_facts(root).headers == str(build)


def test_capabilities_are_the_effective_ones(root: Path) -> None:
    mask = 1 << CAPABILITIES["CAP_BPF"] | 1 << CAPABILITIES["CAP_SYS_PTRACE"] | 1
    lines = f"Name:\tx\nCapPrm:\t{(1 << 41) - 1:016x}\nCapEff:\t{mask:016x}\nCapBnd:\t0\n"
    write(root / "proc/self/status", lines)
    assert read_capabilities(root) == {"CAP_BPF", "CAP_SYS_PTRACE"}


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        # As `capsh --decode` says.
        ("0000000000000004", "CAP_DAC_READ_SEARCH"),
        ("0000000000001000", "CAP_NET_ADMIN"),
        ("0000000000080000", "CAP_SYS_PTRACE"),
        ("0000000000200000", "CAP_SYS_ADMIN"),
        ("0000000400000000", "CAP_SYSLOG"),
        ("0000004000000000", "CAP_PERFMON"),
        ("0000008000000000", "CAP_BPF"),
    ],
)
def test_capabilities_have_the_kernels_numbers(root: Path, mask: str, name: str) -> None:
    write(root / "proc/self/status", f"CapEff:\t{mask}\n")
    assert read_capabilities(root) == {name}


def test_root_has_all_capabilities_that_matter(root: Path) -> None:
    write(root / "proc/self/status", f"CapEff:\t{(1 << 41) - 1:016x}\n")
    assert read_capabilities(root) == set(CAPABILITIES)


@pytest.mark.parametrize("text", ["", "Name:\tx\n"])
def test_without_a_status_there_are_no_capabilities(root: Path, text: str) -> None:
    write(root / "proc/self/status", text)
    assert read_capabilities(root) == frozenset()


# ---- facts that are not files ----


def test_no_btf_is_a_fact_with_its_reason(root: Path, btf: type[FakeBtf]) -> None:
    btf.error = OSError(3, "there is no /sys/kernel/btf/vmlinux")
    found = read_facts(root)
    assert (found.prototypes, found.offsets) == ({}, {})
    assert found.btf_error == "there is no /sys/kernel/btf/vmlinux"


def test_members_are_found_in_their_first_place(root: Path, btf: type[FakeBtf]) -> None:
    btf.members = {
        ("page", "mapping"): 24,
        ("folio", "_mapcount"): 56,
        ("page", "_mapcount"): 48,
        ("page", "compound_info"): 8,
        ("anon_vma", "root"): 0,
    }
    assert read_facts(root).offsets == {
        "page_mapping": 24,
        "page__mapcount": 56,
        "page_compound_head": 8,
        # At the very beginning is a place, too.
        "anon_vma_root": 0,
    }


def test_prototypes_are_those_of_candidates(root: Path, btf: type[FakeBtf]) -> None:
    btf.functions = {"break_cow": ["struct ksm_rmap_item *"], "not_ours": ["int"]}
    assert read_facts(root).prototypes == {"break_cow": ("struct ksm_rmap_item *",)}


def test_program_types_are_asked_for_by_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # include/uapi/linux/bpf.h: BPF_PROG_TYPE_TRACING is 26.
    monkeypatch.setattr(libbpf, "prog_type_supported", lambda number: number == 26)
    programs = read_facts(root).bpf_programs
    assert programs == {"kprobe": False, "raw_tracepoint": False, "tracing": True}


def test_no_libbpf_is_a_fact_with_its_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(number: int) -> bool:
        raise OSError("libbpf.so.1: cannot open shared object file")

    monkeypatch.setattr(libbpf, "prog_type_supported", absent)
    found = read_facts(root)
    assert found.bpf_programs == {}
    assert found.bpf_error == (
        "libbpf cannot be loaded (libbpf.so.1: cannot open shared object file)"
    )


@pytest.mark.parametrize(
    ("text", "version"), [("__version__ = '9.9+x'\n", "9.9+x"), ("", "unknown"), (None, "unknown")]
)
def test_bcc_is_found_without_being_imported(
    root: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, version: str
) -> None:
    package = root / "bcc"
    package.mkdir()
    if text is not None:
        (package / "version.py").write_text(text)
    found = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert read_facts(root).bcc == version


def test_what_an_uninstalled_bcc_left_behind_is_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin=None))
    assert read_facts(root).bcc is None


# ---- layout ----


def test_every_member_that_is_missing_is_named() -> None:
    offsets: dict[str, Any] = {member.name: 8 for member in MEMBERS}
    assert missing(offsets) == []
    del offsets["mm_struct_owner"], offsets["page_mapping"]
    assert missing(offsets) == ["page_mapping", "mm_struct_owner"]


def test_an_offset_of_zero_is_not_missing() -> None:
    assert missing({member.name: 0 for member in MEMBERS}) == []
