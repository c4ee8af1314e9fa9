"""Facts of a host whose kernel is known already: which are read anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ksmwatch.kernel import kernel_image, libbpf
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.kernel_image import Image
from ksmwatch.kernel.read_facts import read_facts
from tests.fake_btf import FakeBtf, write


@pytest.fixture
def known(root: Path, btf: type[FakeBtf], monkeypatch: pytest.MonkeyPatch) -> Image:
    """What was read of the kernel before. Reading any of it again fails the test."""
    write(root / "proc/kallsyms", "0 T __mmdrop\n0 t bpf_trampoline_link_prog\n")
    btf.members = {("page", "mapping"): 24}
    btf.functions = {"__mmdrop": ["struct mm_struct *"], "bpf_rdonly_cast": []}
    monkeypatch.setattr(libbpf, "cast_supported", lambda function, kind: True)
    found = Image.of(read_facts(root))
    assert found.casts
    monkeypatch.setattr(kernel_image, "Btf", None)
    monkeypatch.setattr(kernel_image, "_read_symbols", None)
    return found


def test_a_known_kernel_is_not_examined_again(root: Path, known: Image) -> None:
    found = read_facts(root, known)
    assert found.symbols == {"__mmdrop": 1}
    assert found.offsets == {"page_mapping": 24}
    assert found.prototypes == {"__mmdrop": ("struct mm_struct *",)}
    assert found.trampolines
    assert Image.of(found) == known


@pytest.mark.parametrize(
    ("path", "text", "field", "expected"),
    [
        ("proc/self/status", "CapEff:\t0000008000000000\n", "capabilities", {"CAP_BPF"}),
        ("sys/kernel/security/lockdown", "none [integrity]\n", "lockdown", "integrity"),
        ("sys/kernel/mm/ksm/run", "1\n", "ksm", True),
        ("sys/kernel/debug/kprobes/enabled", "0\n", "kprobes_disarmed", True),
        ("sys/bus/event_source/devices/kprobe/type", "6\n", "kprobes", True),
        ("proc/1/smaps_rollup", "", "foreign_reads", True),
        ("proc/self/smaps_rollup", "KSM: 0 kB\n", "smaps_ksm", True),
        ("proc/self/ksm_stat", "", "ksm_stat", True),
        ("sys/devices/system/node/has_memory", "0-1\n", "memory_nodes", (0, 1)),
    ],
)
def test_a_fact_that_can_change_is_read_anew(
    root: Path, known: Image, path: str, text: str, field: str, expected: object
) -> None:
    assert getattr(read_facts(root, known), field) != expected
    write(root / path, text)
    assert getattr(read_facts(root, known), field) == expected


def test_what_the_kernel_accepts_is_asked_anew(
    root: Path, known: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_facts(root, known).casts == known.casts
    monkeypatch.setattr(libbpf, "cast_supported", lambda function, kind: False)
    monkeypatch.setattr(libbpf, "prog_type_supported", lambda number: number == 26)
    found = read_facts(root, known)
    assert found.casts == {}
    assert found.bpf_programs == {"kprobe": False, "raw_tracepoint": False, "tracing": True}


def test_every_fact_is_of_the_image_or_is_read_anew(root: Path, known: Image) -> None:
    other = known._replace(
        **{
            name: value if name.endswith("_error") else type(value)()
            for name, value in known._asdict().items()
        }
    )
    before, changed = read_facts(root, known), read_facts(root, other)
    differing = {
        each.name
        for each in dataclasses.fields(Facts)
        if getattr(before, each.name) != getattr(changed, each.name)
    }
    # Of these, the fake kernel has something.
    assert differing == {"casts", "functions", "offsets", "prototypes", "symbols", "trampolines"}
