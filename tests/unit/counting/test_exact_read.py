"""Reads between two looks at the account: settled, disturbed, denied; drift."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.exact_read import Outcome
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Baseline, Conversion, Migrations, Movement, Total
from tests.fake_kernel import KSMD, Kernel, shown

PLENTY = Budget(3600)


# ---- brackets ----


def test_a_disturbed_read_is_tried_again_at_once(kernel: Kernel, started: Live) -> None:
    mm = kernel.users[10]
    kernel.doubt(mm)
    kernel.during_reads = [lambda: kernel.move(mm, 1)] * 4
    outcome = started.read(10).outcome
    assert outcome is Outcome.SETTLED
    assert shown(started)[10] == (11, True)
    assert not +started.losses


def test_a_read_that_is_always_disturbed_is_put_off_and_counted(
    kernel: Kernel, started: Live
) -> None:
    mm = kernel.users[10]
    kernel.doubt(mm)
    kernel.during_reads = [lambda: kernel.move(mm, 1)] * 5
    assert started.read(10).outcome is Outcome.DISTURBED
    assert started.losses == {"reads_disturbed": 1}
    assert shown(started)[10] == (12, False)
    started.tick(PLENTY)
    assert shown(started)[10] == (12, True)


def test_an_event_that_leaves_the_number_as_it_was_disturbs_too(
    kernel: Kernel, started: Live
) -> None:
    mm = kernel.users[10]
    kernel.doubt(mm)

    def come_and_go() -> None:
        kernel.move(mm, 1)
        kernel.move(mm, 1, Movement.UNMAPPED)

    kernel.during_reads = [come_and_go] * 5
    assert started.read(10).outcome is Outcome.DISTURBED


def test_nothing_is_settled_while_a_page_is_on_its_way(kernel: Kernel, started: Live) -> None:
    kernel.doubt(kernel.users[10])
    kernel.migrations = Migrations(begun=3, ended=2)
    assert started.read(10).outcome is Outcome.DISTURBED
    kernel.migrations = Migrations(begun=3, ended=3)
    assert started.read(10).outcome is Outcome.SETTLED


def test_entries_of_poisoned_pages_are_no_mappings(kernel: Kernel, started: Live) -> None:
    """A plain read would count those of process 10; process 20 maps none."""
    kernel.poisoned[kernel.users[10]] = 1
    for pid in (10, 20):
        kernel.doubt(kernel.users[pid])
    outcomes = [started.read(pid).outcome for pid in (10, 20)]
    assert outcomes == [Outcome.DISTURBED, Outcome.SETTLED]
    assert [exact for _, exact in (shown(started)[pid] for pid in (10, 20))] == [False, True]


def test_a_page_that_is_poisoned_during_the_read_spoils_it(kernel: Kernel, started: Live) -> None:
    """Its departure may have been counted before the read began."""
    mm = kernel.users[10]
    kernel.doubt(mm)
    kernel.during_reads = [lambda: kernel.poisoned.update([mm])]
    assert started.read(10).outcome is Outcome.DISTURBED


def test_a_migration_during_the_read_disturbs_it(kernel: Kernel, started: Live) -> None:
    def move_there_and_back() -> None:
        begun, ended, _ = kernel.migrations
        kernel.migrations = Migrations(begun + 1, ended + 1)

    kernel.doubt(kernel.users[10])
    kernel.during_reads = [move_there_and_back] * 4
    assert started.read(10).outcome is Outcome.SETTLED
    kernel.during_reads = [move_there_and_back] * 5
    assert started.read(10).outcome is Outcome.DISTURBED


def test_a_migration_whose_end_was_missed_is_not_waited_for_for_ever(
    kernel: Kernel, started: Live
) -> None:
    kernel.migrations = Migrations(begun=3, ended=2)
    kernel.doubt(kernel.users[10])
    for seconds, exact in ((0, False), (1, False), (28, False), (1, True)):
        kernel.clock.now += seconds
        started.tick(PLENTY)
        assert shown(started)[10][1] is exact


def test_migrations_that_follow_one_another_have_missed_no_end(
    kernel: Kernel, started: Live
) -> None:
    kernel.doubt(kernel.users[10])
    for number in range(60):
        kernel.migrations = Migrations(begun=number + 1, ended=number)
        started.tick(PLENTY)
        kernel.clock.now += 1
        assert shown(started)[10][1] is False


def test_nothing_is_settled_while_a_conversion_is_in_flight(kernel: Kernel, started: Live) -> None:
    mm = kernel.users[10]
    kernel.conversion = Conversion(page=1, mm=mm, seen=1)
    assert started.read(10).outcome is Outcome.DISTURBED
    assert started.read(20).outcome is Outcome.SETTLED
    # Shared, it may turn PTEs of anybody.
    kernel.conversion = Conversion(page=1, mm=mm, seen=1, shared=1)
    assert started.read(20).outcome is Outcome.DISTURBED
    kernel.conversion = Conversion()
    assert {started.read(pid).outcome for pid in (10, 20)} == {Outcome.SETTLED}


def test_a_disturbed_read_leaves_something_in_doubt(kernel: Kernel, started: Live) -> None:
    kernel.conversion = Conversion(page=1, mm=kernel.users[10], seen=1, shared=1)
    assert started.read(20).outcome is Outcome.DISTURBED
    assert shown(started)[20] == (0, False)
    kernel.conversion = Conversion()
    started.tick(PLENTY)
    assert shown(started)[20] == (0, True)


def test_a_count_is_estimated_while_its_conversion_is_under_way(
    kernel: Kernel, started: Live
) -> None:
    before = shown(started)
    kernel.conversion = Conversion(page=1, mm=kernel.users[10], seen=1)
    assert shown(started) == {**before, 10: (before[10][0], False)}


def test_a_conversion_whose_end_was_missed_is_over_when_ksmd_sleeps(
    kernel: Kernel, started: Live
) -> None:
    missed = Conversion(serial=4, page=1, mm=kernel.users[10], seen=1)
    kernel.conversion = missed
    stat = kernel.proc.path / str(KSMD) / "stat"
    asleep = stat.read_text()
    stat.write_text(asleep.replace(") S ", ") R "))
    started.tick(PLENTY)
    assert kernel.conversion == missed
    stat.write_text(asleep)
    kernel.clock.now += 5
    started.tick(PLENTY)
    # It may have ended just now.
    assert kernel.conversion == missed
    kernel.conversion = missed._replace(serial=5)
    kernel.clock.now += 5
    started.tick(PLENTY)
    assert kernel.conversion.page
    kernel.clock.now += 5
    started.tick(PLENTY)
    assert kernel.conversion == Conversion(serial=5)


def test_ptes_that_are_moved_within_the_mm_spoil_a_read(kernel: Kernel, started: Live) -> None:
    mm = kernel.users[10]
    kernel.during_reads = [lambda: kernel.moves.update([mm])] * 5
    assert started.read(10).outcome is Outcome.DISTURBED
    kernel.during_reads = [lambda: kernel.moves.update([mm + 1])]
    assert started.read(10).outcome is Outcome.SETTLED


def test_a_process_without_ksm_pages_gets_no_account(kernel: Kernel, started: Live) -> None:
    assert started.read(20).outcome is Outcome.SETTLED
    assert kernel.users[20] not in kernel.accounts


def test_an_exec_between_two_openings_is_noticed(
    kernel: Kernel, started: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.reader.files = 2
    open_file = kernel.open_file
    opened: list[int] = []

    def exec_after_first(pid: int) -> None:
        open_file(pid)
        if not opened:
            kernel.users[10] = kernel.spawn(30, 4)
        opened.append(pid)

    monkeypatch.setattr(kernel, "open_file", exec_after_first)
    assert started.read(10).outcome is Outcome.SETTLED
    assert started.losses == {"mm_opened_unseen": 1}
    assert len(opened) == 4


# ---- processes that cannot be read ----


def test_an_opening_that_no_probe_saw_attributes_nothing(kernel: Kernel, started: Live) -> None:
    kernel.unseen = {10}
    kernel.pages[kernel.users[10]] = 99
    assert started.read(10).outcome is Outcome.UNPINNED
    assert shown(started)[10] == (7, True)
    assert started.losses == {"mm_opened_unseen": 5, "reads_denied": 1}
    assert started.doubt == "1 process cannot be read"


def test_denied_processes_leave_the_sum_in_doubt_until_they_end_or_are_read(
    kernel: Kernel, started: Live
) -> None:
    kernel.denied = {10, 20}
    kernel.totals[Total.EVENTS_LOST] += 1
    started.refresh(PLENTY)
    # A process with an account in doubt is tried again at once.
    assert started.losses == {"reads_denied": 3}
    assert started.doubt == "2 processes cannot be read"
    kernel.end(20)
    assert started.doubt == "1 process cannot be read"
    kernel.denied = set()
    started.read(10)
    assert started.doubt is None


def test_another_process_with_a_denied_ones_number_is_not_denied(
    kernel: Kernel, started: Live
) -> None:
    kernel.denied = {20}
    started.read(20)
    assert started.doubt is not None
    kernel.end(20)
    kernel.spawn(20, ticks=6000)
    assert started.doubt is None


def test_a_process_that_has_gone_is_no_loss(started: Live) -> None:
    assert started.read(12345).outcome is Outcome.GONE
    assert not +started.losses


def test_an_account_that_ends_while_it_is_settled_leaves_no_baseline(
    kernel: Kernel, started: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    mm, maps = kernel.users[10], kernel.maps
    put = maps.put_baseline

    def end_and_put(which: int, baseline: Baseline) -> None:
        maps.close_account(which)
        put(which, baseline)

    monkeypatch.setattr(maps, "put_baseline", end_and_put)
    assert started.read(10).outcome is Outcome.SETTLED
    assert maps.baseline(mm) is None


def test_a_full_map_is_a_loss_and_a_doubt(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.spawn(10, 7)
    kernel.spawn(20, 5)
    live = kernel.live()
    monkeypatch.setattr(kernel.maps, "limit", 1)
    live.start()
    assert shown(live) == {10: (7, True)}
    assert live.losses["accounts_full"] == 1
    assert live.doubt == "the account map is full: 1 process has no account"
    # Tried again, and no further loss.
    live.refresh(PLENTY)
    assert live.losses["accounts_full"] == 1
    kernel.maps.close_account(kernel.users[10])
    kernel.end(10)
    live.refresh(PLENTY)
    assert shown(live) == {20: (5, True)}
    assert live.doubt is None
    assert live.audit_state().missing == 0


def test_a_loss_that_explains_a_wrong_count_is_looked_for(kernel: Kernel, started: Live) -> None:
    kernel.pages[kernel.users[10]] = 9
    kernel.take_off("rmap_add")
    started.read(10)
    assert started.audit_state() == AuditState(corrected_missing=2)


# ---- drift ----


@pytest.mark.parametrize(
    ("pages", "state"),
    [
        (9, AuditState(missing=2, last=-2)),
        (4, AuditState(surplus=3, last=3)),
        (7, AuditState()),
    ],
)
def test_drift_is_signed_reported_and_healed(
    kernel: Kernel,
    started: Live,
    warnings: list[dict[str, Any]],
    pages: int,
    state: AuditState,
) -> None:
    kernel.pages[kernel.users[10]] = pages
    started.read(10)
    assert started.audit_state() == state
    # One unseen drift suggests others.
    assert shown(started)[10] == (pages, pages == 7)
    drift = [{"pid": 10, "counted": 7, "found": pages, "drift": 7 - pages}]
    assert warnings == (drift if pages != 7 else [])
    started.read(10)
    assert started.audit_state() == state


def test_mappings_without_an_account_are_drift(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    kernel.pages[kernel.users[20]] = 5
    started.read(20)
    assert started.audit_state() == AuditState(missing=5, last=-5)
    assert shown(started)[20] == (5, False)
    assert warnings == [{"pid": 20, "counted": 0, "found": 5, "drift": -5}]


def test_who_finds_no_room_for_an_account_is_no_drift(
    kernel: Kernel,
    started: Live,
    warnings: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel.maps, "limit", 1)
    kernel.pages[kernel.users[20]] = 5
    started.read(20)
    assert (started.audit_state(), warnings) == (AuditState(), [])
    assert started.doubt is not None


def test_drifts_of_both_signs_do_not_cancel(kernel: Kernel, started: Live) -> None:
    for pages in (9, 4):
        kernel.pages[kernel.users[10]] = pages
        started.read(10)
    assert started.audit_state() == AuditState(surplus=5, missing=2, last=5)
