"""Processes with zero pages only are found, in turn, while there are any."""

from __future__ import annotations

from pathlib import Path

from ksmwatch.snapshot.zero_holders import ZeroHolders
from tests.fakes import Clock, Proc


def holder(proc: Proc, pid: int, zeros: int) -> None:
    stat = proc.process(pid) / "ksm_stat"
    stat.write_text(f"ksm_rmap_items 0\nksm_zero_pages {zeros}\nksm_merging_pages 0\n")


def test_who_has_zero_pages_is_found_if_not_counted_already(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    for pid, zeros in ((7, 0), (8, 1664), (9, 3)):
        holder(proc, pid, zeros)
    holders = ZeroHolders(proc.path, Clock())
    found = holders.others({9}, 1667, exact=True)
    assert [(c.pid, c.start_ticks, c.mappings, c.exact) for c in found] == [(8, 5000, 0, True)]
    assert [c.exact for c in holders.others({9}, 1667, exact=False)] == [False]


def test_who_has_none_any_more_is_forgotten(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    for pid in (7, 8, 9):
        holder(proc, pid, 5)
    holders = ZeroHolders(proc.path, Clock())
    assert {c.pid for c in holders.others(set(), 15, exact=True)} == {7, 8, 9}
    proc.end(7)
    holder(proc, 8, 0)
    assert {c.pid for c in holders.others(set(), 5, exact=True)} == {9}
    assert holders.others(set(), 0, exact=True) == []


def test_it_looks_within_a_budget(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    for pid in range(10, 20):
        holder(proc, pid, 1)

    class Ticking(Clock):
        def __call__(self) -> float:
            self.now += 0.006
            return self.now

    holders = ZeroHolders(proc.path, Ticking())
    first = holders.others(set(), 10, exact=True)
    assert 0 < len(first) < 10
    for _ in range(5):
        last = holders.others(set(), 10, exact=True)
    assert len(last) == 10
