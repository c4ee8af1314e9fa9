"""Baseline, doubts and state of the live backend, on a fake kernel."""

from __future__ import annotations

import os
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.backend_state import AuditState, MapState
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Movement, Total
from ksmwatch.probes.persistence import Nowhere
from tests.fake_kernel import KSMD, PLENTY, Kernel, of, shown
from tests.fake_maps import ALARMS

SPENT = Budget(-1)


# ---- start ----


def test_hooks_are_on_before_the_baseline_and_doubt_ends_after_it(kernel: Kernel) -> None:
    kernel.spawn(10, 7)
    kernel.during_reads = [lambda: kernel.log.append("read")]
    kernel.live().start()
    assert kernel.log == ["doubt", "attach sentry", "attach hooks", "read", "trust"]


def test_the_programs_are_told_who_ksmd_and_the_reader_are(kernel: Kernel, started: Live) -> None:
    assert kernel.control.ksmd == KSMD
    assert kernel.control.reader == os.getpid()


def test_the_baseline_finds_what_was_merged_before(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    assert shown(started) == {10: (7, True)}
    assert (of(started, 10).start_ticks, of(started, 10).moves) == (5000, (0,) * len(Movement))
    assert (started.doubt, started.asleep) == (None, False)
    # Mappings from before our time are not our error.
    assert started.audit_state() == AuditState()
    assert not warnings


def test_a_process_that_comes_during_the_sweep_is_read_too(kernel: Kernel) -> None:
    kernel.spawn(10, 7)

    def fork() -> None:
        kernel.spawn(5, 3)

    kernel.during_reads = [fork]
    live = kernel.live()
    live.start()
    assert shown(live) == {10: (7, True), 5: (3, True)}


def test_events_are_counted_without_a_read(kernel: Kernel, started: Live) -> None:
    reads = kernel.reads
    kernel.move(kernel.users[10], 5)
    kernel.move(kernel.users[10], 3, Movement.UNMAPPED)
    kernel.move(kernel.users[20], 4, Movement.CONVERTED)
    assert shown(started) == {10: (9, True), 20: (4, True)}
    assert kernel.reads == reads


# ---- doubts ----


def test_a_doubt_is_settled_by_a_tick(kernel: Kernel, started: Live) -> None:
    mm = kernel.users[10]
    # A conversion without an event.
    kernel.doubt(mm)
    kernel.pages[mm] += 2
    assert shown(started)[10] == (7, False)
    started.tick(PLENTY)
    assert shown(started)[10] == (9, True)
    # It was never called exact, so it was not drift.
    assert started.audit_state() == AuditState()


def test_without_budget_a_doubt_stays(kernel: Kernel, started: Live) -> None:
    kernel.doubt(kernel.users[10])
    started.tick(SPENT)
    assert shown(started)[10] == (7, False)


@pytest.mark.parametrize("total", ALARMS)
def test_lost_events_put_the_sum_in_doubt_until_everyone_was_read(
    kernel: Kernel, started: Live, total: Total
) -> None:
    kernel.totals[total] += 3
    kernel.pages[kernel.users[20]] += 6
    assert started.doubt == "events concern processes that have not been read yet (3)"
    # Any process may be wrong.
    assert shown(started)[10] == (7, False)
    started.refresh(PLENTY)
    assert started.doubt is None
    started.refresh(PLENTY)
    assert shown(started) == {10: (7, True), 20: (6, True)}


def test_who_could_not_be_read_when_everybody_was_stays_in_doubt(
    kernel: Kernel, started: Live
) -> None:
    kernel.totals[Total.FAMILIES_TRUNCATED] += 1
    kernel.pages[kernel.users[10]] += 2
    kernel.denied = {10}
    started.refresh(PLENTY)
    assert shown(started)[10] == (7, False)
    kernel.denied = set()
    started.refresh(PLENTY)
    assert shown(started)[10] == (9, True)
    assert started.audit_state().drift == 0


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        ("rmap_add", True),
        ("rmap_remove", True),
        ("merge", True),
        ("enter", True),
        ("fork", True),
        # These miss nothing that is counted.
        ("mm_goes", False),
        ("mm_opened", False),
        ("swapin", False),
        ("break_cow", False),
    ],
)
def test_a_missed_run_is_a_doubt_if_its_probe_counts(
    kernel: Kernel, started: Live, event: str, *, counts: bool
) -> None:
    (probe,) = (p for p in started.plan.probes if p.event == event)
    kernel.missed[probe.programs[0].name] += 1
    assert (started.doubt is not None) is counts
    (state,) = (s for s in started.probes() if s.event == event)
    assert state.missed == 1


def test_sweeps_are_paced_unless_somebody_asks(kernel: Kernel, started: Live) -> None:
    def slow() -> None:
        kernel.clock.now += 1
        kernel.cpu.now += 1

    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.during_reads = [slow]
    started.tick(PLENTY)
    assert started.doubt is None
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.clock.now += 38
    started.tick(PLENTY)
    assert started.doubt is not None
    kernel.clock.now += 2
    started.tick(PLENTY)
    assert started.doubt is None
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.during_reads = [slow]
    started.refresh(PLENTY)
    kernel.totals[Total.EVENTS_LOST] += 1
    started.refresh(PLENTY)
    assert started.doubt is None


def test_losses_that_never_cease_cost_no_sweep_after_sweep(kernel: Kernel, started: Live) -> None:
    def slow() -> None:
        kernel.clock.now += 0.5
        kernel.cpu.now += 0.5

    began = kernel.clock()
    for _ in range(1000):
        kernel.totals[Total.EVENTS_LOST] += 1
        kernel.during_reads = [slow]
        started.refresh(PLENTY)
        # What is not known is not called exact.
        assert started.doubt is None or not any(each.exact for each in started.counts())
        kernel.clock.now += 1
    assert 0 < kernel.cpu() < (kernel.clock() - began) / 40 + 4


def test_accounts_are_looked_at_only_when_one_was_put_in_doubt(
    kernel: Kernel, started: Live
) -> None:
    started.tick(PLENTY)
    looks = kernel.maps.looks
    kernel.move(kernel.users[10], 2)
    started.tick(PLENTY)
    assert kernel.maps.looks == looks
    kernel.doubt(kernel.users[10])
    # One that the budget leaves in doubt is looked at again, without another event.
    started.tick(SPENT)
    assert kernel.maps.looks == looks + 1
    started.tick(PLENTY)
    assert kernel.maps.looks == looks + 2
    assert of(started, 10).exact
    looks = kernel.maps.looks
    started.tick(PLENTY)
    assert kernel.maps.looks == looks


def test_a_read_that_was_disturbed_is_made_again(kernel: Kernel, started: Live) -> None:
    kernel.doubt(kernel.users[10])
    kernel.during_reads = [lambda: kernel.move(kernel.users[10], 1)] * 5
    started.tick(PLENTY)
    assert not of(started, 10).exact
    started.tick(PLENTY)
    assert of(started, 10).exact


# ---- owners that have gone ----


def test_another_user_of_the_mm_is_found(kernel: Kernel, started: Live) -> None:
    kernel.spawn(30, mm=kernel.users[10], ticks=5100)
    mm = kernel.users[10]
    kernel.end(10)
    kernel.pass_on(mm)
    kernel.doubt(mm)
    kernel.pages[mm] = 3
    started.tick(PLENTY)
    assert shown(started) == {30: (3, True)}


# ---- state ----


def test_totals_go_by_their_names(kernel: Kernel, started: Live) -> None:
    kernel.totals[Total.BREAK_COW] = 4
    kernel.totals[Movement.FORKED] = 5
    totals = started.totals()
    assert (totals["break_cow"], totals["forked"]) == (4, 5)
    assert len(totals) == len(Movement) + len(Total)


def test_the_fill_of_the_map(started: Live) -> None:
    started.counts()
    assert started.map_state() == MapState(
        accounts=1, limit=16, memory=8192, kept=False, adopted=False
    )


def test_stopping_lets_go_of_everything(kernel: Kernel, started: Live) -> None:
    started.stop()
    assert kernel.attached == set()
    assert kernel.log[-1] == "close programs"
    assert kernel.maps.closed


class HandsOver(Nowhere):
    """Keeps everything for the next daemon, as systemd does."""

    hands_over = True


def test_what_a_keeper_hands_over_stays_attached(kernel: Kernel) -> None:
    live = kernel.live(keep=HandsOver())
    live.start()
    attached = set(kernel.attached)
    live.stop()
    assert kernel.attached == attached
    live.discard()
    assert kernel.attached == set()


def test_a_sweep_tells_that_it_gets_on(kernel: Kernel) -> None:
    told: list[int] = []
    kernel.spawn(10, 7)
    kernel.spawn(20)
    kernel.live(progress=lambda: told.append(kernel.reads)).start()
    # Once for each process, read (twice, for its account) or gone: there are ksmd and two more.
    assert told == [2, 3, 3]


def test_another_policy_is_taken_while_it_counts(kernel: Kernel, started: Live) -> None:
    started.configure(config.make({}, {"audit_heal": False}))
    kernel.doubt(kernel.users[10])
    reads = kernel.reads
    started.tick(PLENTY)
    assert kernel.reads == reads
    started.configure(config.make({}, {}))
    started.tick(PLENTY)
    assert kernel.reads > reads
