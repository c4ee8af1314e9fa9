"""Which processes' numbers of the kernel are read for a snapshot, and how old the others are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.counting.ledger import Count
from ksmwatch.kernel import procfs
from ksmwatch.kernel.procfs import KsmStat
from ksmwatch.snapshot.ksmd_numbers import Book, Books, key_of
from tests.fakes import Clock, Proc


def count(pid: int, mappings: int = 5) -> Count:
    return Count(
        pid << 12, pid, pid, 5000, mappings, exact=True, moves=(mappings, 0, 0, 0, 0, 0, 0)
    )


class Host:
    """Processes whose files take a millisecond per read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc = Proc(path)
        self.clock = Clock()
        self.read: list[int] = []
        self.books = Books(path, self.clock)
        self.scanned, self.scanning, self.sharing = 1000, 1, 50
        self._really = procfs.read_ksm_stat
        monkeypatch.setattr(procfs, "read_ksm_stat", self._read_slowly)

    def _read_slowly(self, directory: Path) -> KsmStat:
        self.read.append(int(directory.name))
        self.clock.now += 0.001
        return self._really(directory)

    def look(self, *counts: Count) -> list[int]:
        """Another snapshot, a second later: which processes are read."""
        self.clock.now += 1
        self.scanned += self.scanning
        self.read.clear()
        ksm = {"pages_scanned": self.scanned, "full_scans": 3, "pages_sharing": self.sharing}
        self.books.update({key_of(each): each for each in counts}, ksm)
        return self.read


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "proc", monkeypatch)


def test_who_is_new_is_read_whatever_it_takes(host: Host) -> None:
    for pid in range(100, 200):
        host.proc.process(pid, merging=5)
    counts = [count(pid) for pid in range(100, 200)]
    assert sorted(host.look(*counts)) == list(range(100, 200))


def test_few_are_all_read_each_time(host: Host) -> None:
    host.proc.process(7, merging=5)
    host.look(count(7))
    assert host.look(count(7)) == [7]
    assert host.books.of(key_of(count(7))) == Book(5, None, host.clock.now - 0.001)


def test_of_many_those_go_first_that_have_moved_or_differ(host: Host) -> None:
    counts = {pid: count(pid) for pid in range(100, 200)}
    for pid in counts:
        host.proc.process(pid, merging=5 if pid != 150 else 9)
    host.look(*counts.values())
    counts[170] = counts[170]._replace(mappings=6)
    counts[160] = counts[160]._replace(exact=False)
    found = host.look(*counts.values())
    assert set(found[:3]) == {150, 160, 170}
    # Two milliseconds for the others.
    assert len(found) == 5
    # 150 still differs, and the kernel has not seen the page of 170.
    assert set(host.look(*counts.values())[:2]) == {150, 170}


def test_while_ksmd_does_nothing_all_are_read_once(host: Host) -> None:
    counts = {pid: count(pid) for pid in range(100, 120)}
    for pid in counts:
        host.proc.process(pid, merging=1)
    host.look(*counts.values())
    assert host.books.stood_still
    host.scanning = 0
    # Since the first look it has scanned a page.
    host.scanned += 1
    turns = [list(host.look(*counts.values())) for _ in range(3)]
    assert sorted(pid for turn in (turns[0], turns[1]) for pid in turn) == list(counts)
    assert turns[2] == []
    assert host.books.stood_still
    # Our count moves, but ksmd's number cannot.
    counts[107] = counts[107]._replace(mappings=6)
    assert host.look(*counts.values()) == []
    counts[200] = count(200)
    host.proc.process(200, merging=1)
    assert host.look(*counts.values()) == [200]
    assert host.books.stood_still


def test_who_unmerges_while_ksmd_does_nothing_is_seen(host: Host) -> None:
    host.proc.process(7, merging=5)
    counts = [count(7)]
    host.look(*counts)
    host.scanning = 0
    assert host.look(*counts) == []
    host.proc.process(7, merging=4)
    host.sharing -= 1
    assert host.look(*counts) == [7]
    assert host.books.of(key_of(counts[0])).merging_pages == 4


@pytest.mark.parametrize("missing", ["pages_scanned", "full_scans"])
def test_a_kernel_that_does_not_tell_is_read_each_time(host: Host, missing: str) -> None:
    host.proc.process(7, merging=5)
    counts, ksm = [count(7)], {"pages_scanned": 1, "full_scans": 1}
    del ksm[missing]
    for known in (ksm, ksm, None, None):
        host.read.clear()
        host.books.update({key_of(each): each for each in counts}, known)
        assert host.read == [7]
        assert not host.books.stood_still


def test_all_others_are_read_in_turn(host: Host) -> None:
    counts = [count(pid) for pid in range(100, 110)]
    for each in counts:
        host.proc.process(each.pid, merging=5)
    host.look(*counts)
    turns = [host.look(*counts)[:2] for _ in range(10)]
    assert sorted(pid for turn in turns[:5] for pid in turn) == list(range(100, 110))
    assert turns[:5] == turns[5:]


def test_however_many_differ_it_takes_bounded_time_and_none_waits_for_ever(host: Host) -> None:
    counts = [count(pid) for pid in range(100, 200)]
    for each in counts:
        host.proc.process(each.pid, merging=1)
    host.look(*counts)
    turns = [set(host.look(*counts)) for _ in range(10)]
    assert all(len(turn) < 15 for turn in turns)
    assert set.union(*turns) == set(range(100, 200))


def test_who_is_gone_is_forgotten(host: Host) -> None:
    host.proc.process(7, merging=5)
    host.look(count(7))
    assert host.look() == []
    with pytest.raises(KeyError):
        host.books.of(key_of(count(7)))


def test_what_cannot_be_read_is_not_known(host: Host) -> None:
    host.proc.process(7, merging=None)
    host.look(count(7))
    book = host.books.of(key_of(count(7)))
    assert (book.merging_pages, book.zero_pages) == (None, None)
