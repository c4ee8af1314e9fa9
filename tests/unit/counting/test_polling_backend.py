"""Polling: rounds, budget, which processes are read, and what is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ksmwatch.counting.backend import Budget, Evidence
from ksmwatch.counting.ledger import Count
from ksmwatch.counting.polling_backend import Poll
from ksmwatch.kernel.page_tables import SmapsReader
from tests.fakes import Clock, Proc, Sys

INTERVAL = 15.0
PLENTY = Budget(3600)
SPENT = Budget(-1)


class Host:
    """An invented host with a poller."""

    def __init__(self, path: Path, reader: SmapsReader | None, *, ksm_stat: bool = True) -> None:
        self.proc, self.sys = Proc(path / "proc"), Sys(path / "sys")
        self.clock = Clock()
        self.poll = Poll(
            reader, INTERVAL, self.proc.path, self.sys.path, self.clock, ksm_stat=ksm_stat
        )

    def shown(self) -> dict[int, int]:
        """Mappings by process."""
        return {count.pid: count.mappings for count in self.poll.counts()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose smaps has the KSM line."""
    return Host(tmp_path, SmapsReader())


def budget_for(reads: int) -> Budget:
    """A budget that lasts for this many processes."""
    times: Iterator[int] = iter(range(reads + 2))
    return Budget(reads + 0.5, lambda: next(times))


def test_mappings_come_from_the_page_tables_not_from_ksmd(host: Host) -> None:
    host.proc.process(10, merging=64, rmap_items=64, mapped=32, ticks=777)
    host.poll.tick(PLENTY)
    assert host.poll.counts() == [
        Count(mm=0, account=0, pid=10, start_ticks=777, mappings=32, exact=False, moves=())
    ]


def test_without_a_reader_ksmds_number_is_repeated(tmp_path: Path) -> None:
    host = Host(tmp_path, None)
    host.proc.process(10, merging=64, rmap_items=64, mapped=32)
    host.proc.process(11, merging=0, rmap_items=64, mapped=32)
    host.poll.tick(PLENTY)
    assert host.shown() == {10: 64, 11: 0}


def test_only_processes_that_ksmd_knows_are_read(host: Host) -> None:
    host.proc.process(10, merging=0, rmap_items=0, mapped=5)
    host.proc.process(11, merging=0, rmap_items=1, mapped=3)
    host.proc.process(12, merging=1, rmap_items=0, mapped=2)
    host.poll.tick(PLENTY)
    assert host.shown() == {11: 3, 12: 2}


def test_a_round_begins_when_the_interval_is_over(host: Host) -> None:
    host.proc.process(10, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    host.proc.process(10, merging=1, mapped=2)
    host.clock.now += INTERVAL - 0.1
    host.poll.tick(PLENTY)
    assert host.shown() == {10: 1}
    host.clock.now += 0.1
    host.poll.tick(PLENTY)
    assert host.shown() == {10: 2}


def test_a_snapshot_does_not_wait_for_the_interval(host: Host) -> None:
    host.proc.process(10, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    host.proc.process(10, merging=1, mapped=2)
    host.poll.refresh(PLENTY)
    assert host.shown() == {10: 2}


def test_a_round_goes_on_where_the_budget_ended(host: Host) -> None:
    for pid in (10, 11, 12):
        host.proc.process(pid, merging=1, mapped=pid)
    host.poll.tick(SPENT)
    assert host.shown() == {}
    host.poll.tick(budget_for(2))
    assert len(host.shown()) == 2
    host.poll.tick(budget_for(2))
    assert host.shown() == {10: 10, 11: 11, 12: 12}


def test_who_has_gone_is_forgotten_in_the_next_round(host: Host) -> None:
    host.proc.process(10, merging=1, mapped=1)
    host.proc.process(11, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    host.proc.end(10)
    # Without any reading: being absent from the list is enough.
    host.poll.refresh(SPENT)
    assert host.shown() == {11: 1}
    assert not +host.poll.losses


def test_who_ends_between_listing_and_reading_is_no_loss(host: Host) -> None:
    host.proc.process(10, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    host.poll.refresh(SPENT)
    host.proc.end(10)
    host.poll.tick(PLENTY)
    assert host.shown() == {}
    assert not +host.poll.losses


def test_who_is_not_mapped_any_more_is_forgotten(host: Host) -> None:
    host.proc.process(10, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    host.proc.process(10, merging=0, mapped=0)
    host.poll.refresh(PLENTY)
    assert host.shown() == {}


def test_a_read_that_is_denied_is_a_loss(host: Host) -> None:
    directory = host.proc.process(10, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    (directory / "smaps_rollup").unlink()
    # No user can read a directory, not even root.
    (directory / "smaps_rollup").mkdir()
    host.poll.refresh(PLENTY)
    assert host.shown() == {}
    assert host.poll.losses == {"reads_denied": 1}


def test_evidence_is_when_it_was_read(host: Host) -> None:
    host.proc.process(10, merging=1, mapped=1)
    host.poll.tick(PLENTY)
    host.clock.now += 4
    (count,) = host.poll.counts()
    assert host.poll.evidence(count) == Evidence(host.clock.now - 4)
    host.proc.end(10)
    host.poll.refresh(PLENTY)
    assert host.poll.evidence(count) == Evidence(None)


def test_the_run_state_is_followed(host: Host) -> None:
    host.poll.tick(PLENTY)
    host.clock.now += 3
    host.poll.tick(PLENTY)
    assert (host.poll.run.state.run, host.poll.run.state.age) == (1, 3.0)
    host.sys.write("run", 2)
    host.poll.refresh(PLENTY)
    assert (host.poll.run.state.run, host.poll.run.state.age) == (2, 0.0)


def test_polling_says_that_it_is_no_live_count(host: Host) -> None:
    poll = host.poll
    assert (poll.mode, poll.doubt, poll.asleep) == ("poll", "counts are polled, not live", False)
    assert (poll.totals(), poll.probes()) == ({}, ())
    assert (poll.audit_state(), poll.map_state()) == (None, None)


def old_process(host: Host, pid: int, flags: str, mapped: int) -> Path:
    """A process of a kernel without ksm_stat. The flags come late in a long file."""
    directory = host.proc.process(pid, merging=None, mapped=mapped)
    area = "7f0000000000-7f0000001000 rw-p 00000000 00:00 0\nVmFlags: rd wr mr mw me ac\n"
    (directory / "smaps").write_text(area * 4000 + area.replace(" ac", f" ac {flags}"))
    return directory


def test_without_ksm_stat_those_are_read_that_have_a_mergeable_area(tmp_path: Path) -> None:
    host = Host(tmp_path, SmapsReader(), ksm_stat=False)
    directory = old_process(host, 10, "mg", 300)
    old_process(host, 11, "sd", 300)
    host.poll.tick(PLENTY)
    assert host.shown() == {10: 300}
    # PTEs that a fork has left outlive the advice.
    old_process(host, 10, "sd", 299)
    host.poll.refresh(PLENTY)
    assert host.shown() == {10: 299}
    old_process(host, 10, "sd", 0)
    host.poll.refresh(PLENTY)
    host.poll.refresh(PLENTY)
    assert host.shown() == {}
    assert not +host.poll.losses
    (directory / "smaps").unlink()
    (directory / "smaps").mkdir()
    host.poll.refresh(PLENTY)
    assert host.poll.losses == {"reads_denied": 1}


def test_what_no_file_tells_is_unknown_and_not_0(tmp_path: Path) -> None:
    host = Host(tmp_path, None, ksm_stat=False)
    old_process(host, 10, "mg", 300)
    old_process(host, 11, "sd", 0)
    host.poll.tick(PLENTY)
    assert host.shown() == {}
    assert host.poll.losses == {"reads_denied": 1}
