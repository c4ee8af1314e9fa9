"""What is read of a host and of processes, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ksmwatch.commands import why
from ksmwatch.diagnose import read_evidence
from ksmwatch.diagnose.evidence import Memory, Offers, PageSample
from ksmwatch.diagnose.read_evidence import parse_memory, read_process
from ksmwatch.errors import Exit, NoKsmError, SourceError
from tests.fakes import WELL_MERGED, Proc, Sys
from tests.published import faults

# ---- reading ----

SMAPS = """\
1000-9000 rw-p 00000000 00:00 0
Rss:                  40 kB
Anonymous:            32 kB
KSM:                  12 kB
AnonHugePages:         0 kB
Swap:                 21 kB
VmFlags: rd wr mr mw me ac mg
9000-a000 rw-p 00000000 00:00 0          [heap]
Rss:                   7 kB
Anonymous:             5 kB
VmFlags: rd wr mr mw me ac
a000-b000 rw-s 00000000 00:01 9          /dev/shm/x
Rss:                  11 kB
Anonymous:             0 kB
VmFlags: rd wr sh mr mw me ms
b000-c000 rw-s 00000000 00:01 9          /dev/mem
Rss:                  13 kB
VmFlags: rd wr pf io de
c000-d000 rw-p 00000000 00:01 9          /anon_hugepage (deleted)
Rss:                   0 kB
Shared_Hugetlb:       17 kB
Private_Hugetlb:      19 kB
VmFlags: rd wr mr mw me de ht
"""


def test_memory_is_sorted_by_what_ksm_can_do_with_it() -> None:
    assert parse_memory(SMAPS.encode(), "VmPin:\t      23 kB\n") == Memory(
        offered=32,
        merged=12,
        cached=8,
        swapped=21,
        unasked=5,
        shared=11,
        hugetlb=36,
        special=13,
        pinned=23,
    )
    assert parse_memory(b"", "") == Memory()


def test_what_vfio_pins_is_locked_without_an_area_that_is() -> None:
    locked = "1000-9000 rw-p 00000000 00:00 0\nSize: 32 kB\nVmFlags: rd wr lo mg\n"
    assert parse_memory(locked.encode(), "VmLck:\t      32 kB\n").pinned == 0
    on_fault = locked.replace(" lo ", " lo lf ")
    assert parse_memory(on_fault.encode(), "VmLck:\t      32 kB\n").pinned == 0
    status = "VmLck:\t     132 kB\nVmPin:\t       7 kB\n"
    assert parse_memory(locked.encode(), status).pinned == 107


def test_offered_areas_are_mergeable_and_not_empty() -> None:
    empty = "d000-e000 rw-p 00000000 00:00 0\nAnonymous: 0 kB\nVmFlags: rd mg\n"
    assert read_evidence.offered((SMAPS + empty).encode()) == [(0x1000, 0x9000)]


def test_the_host_is_sampled_only_when_that_tells_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proc, sys = Proc(tmp_path / "proc"), Sys(tmp_path / "sys", **WELL_MERGED)
    (put(proc, 7) / "smaps").write_text("1000-9000 rw-p 0 00:00 0\nVmFlags: rd mg\n")
    proc.process(8, rmap_items=300)
    proc.process(9, rmap_items=500)
    asked: list[list[int]] = []

    def sample(_: Path, pids: list[int]) -> PageSample:
        asked.append(pids)
        return PageSample(10, 10, 2.0)

    monkeypatch.setattr(why, "_sample", sample)

    def code() -> str:
        why.run(None, as_json=True, proc=proc.path, sys=sys.path)
        return str(json.loads(capsys.readouterr().out)["causes"][0]["code"])

    assert (code(), asked) == ("merged", [])
    sys.write("pages_unshared", 9000)
    assert (code(), asked) == ("changing", [[9, 8]])


def test_when_time_is_short_those_are_read_that_ksmd_knows(tmp_path: Path) -> None:
    proc = Proc(tmp_path / "proc")
    for pid, items in ((7, 0), (8, 300)):
        amounts = f"Rss: {pid} kB\nAnonymous: {pid} kB\n"
        area = f"1000-9000 rw-p 0 00:00 0\n{amounts}VmFlags: rd mg\n"
        (proc.process(pid, rmap_items=items) / "smaps").write_text(area)
    times = iter([0.0, 1.0, 99.0])
    found = read_evidence.read_offers(proc.path, lambda: next(times))
    assert found == Offers(1, Memory(offered=8), complete=False)
    both = read_evidence.read_offers(proc.path)
    assert both == Offers(2, Memory(offered=15))


def put(proc: Proc, pid: int, merging: int | None = 9) -> Path:
    directory = proc.process(pid, comm="seven", merging=merging)
    (directory / "smaps").write_text(SMAPS)
    (directory / "status").write_text("VmPin:\t0 kB\n")
    return directory


def test_a_process_is_read(tmp_path: Path) -> None:
    proc = Proc(tmp_path / "proc")
    put(proc, 7)
    found = read_process(proc.path, 7)
    assert (found.name, found.memory.merged) == ("seven", 12)


def test_where_smaps_does_not_tell_the_kernels_number_is_taken(tmp_path: Path) -> None:
    proc = Proc(tmp_path / "proc")
    directory = put(proc, 7, merging=6)
    (directory / "smaps").write_text(SMAPS.replace("KSM:                  12 kB\n", ""))
    assert read_process(proc.path, 7).memory.merged == 24


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no process 99"):
        read_process(tmp_path, 99)


def test_a_kernel_without_ksm(tmp_path: Path) -> None:
    with pytest.raises(NoKsmError, match="no KSM"):
        why.run(None, as_json=False, proc=tmp_path, sys=tmp_path)


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proc, sys = Proc(tmp_path / "proc"), Sys(tmp_path / "sys", run=0)
    put(proc, 7)
    assert why.run(7, as_json=False, proc=proc.path, sys=sys.path) is Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("KSM and process 7 (seven):\n\n1. ksmd is stopped")
    assert "   seen: run 0, offered_kb 61\n   next: Start it: echo 1 > /sys/k" in out
    assert why.run(None, as_json=False, proc=proc.path, sys=sys.path) is Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert why.run(None, as_json=True, proc=proc.path, sys=sys.path) is Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert faults(document) == []
    assert document["schema"] == "ksmwatch.why/1"
    assert document["process"] is None
    assert document["causes"][0]["code"] == "stopped"
