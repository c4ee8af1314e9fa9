"""Baseline, doubts, audit, sleep and succession, on a fake kernel."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.backend_state import AuditState, MapState
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Conversion, Migrations, Movement, Total
from ksmwatch.probes.persistence import Nowhere
from ksmwatch.probes.plan import choose
from tests.fake_kernel import ALARMS, KSMD, Kernel, of, shown
from tests.fakes import capable

PLENTY = Budget(3600)
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

    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.during_reads = [slow]
    started.tick(PLENTY)
    assert started.doubt is None
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.clock.now += 18
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


# ---- the background audit ----


def test_an_audit_goes_round_within_its_allowance_if_missed_runs_are_not_told(
    kernel: Kernel,
) -> None:
    kernel.spawn(10, 7)
    kernel.spawn(20)
    live = kernel.live(dataclasses.replace(kernel.plan, tells_missed=False), policy=Policy(0.01))
    live.start()

    def work() -> None:
        kernel.cpu.now += 0.04

    kernel.during_reads = [work] * 9
    kernel.clock.now += 10
    # 0.1 s in all, 0.04 s for each read; ksmd itself, which has no mm, costs nothing.
    live.tick(PLENTY)
    state = live.audit_state()
    assert (state.reads, state.rounds) == (4, 1)
    live.tick(PLENTY)
    assert live.audit_state() == state


@pytest.fixture
def audited(kernel: Kernel) -> Live:
    """Three processes, each read once by the audit; much allowance, and none that is due."""
    for pid in (10, 20, 30):
        kernel.spawn(pid, 7)
        text = "1000-8000 rw-p 00000000 00:00 0 \nKSM:   28 kB\nVmFlags: rd wr mg \n"
        (kernel.proc.path / f"{pid}/smaps").write_text(text)
    live = kernel.live(policy=Policy(0.5))
    live.start()
    kernel.clock.now += 1
    live.tick(PLENTY)
    # Their areas were not known yet.
    assert live.audit_state().reads == 3
    live.tick(PLENTY)
    assert live.audit_state().reads == 3
    return live


def later(kernel: Kernel, live: Live, seconds: float) -> int:
    """How many processes the audit reads in one tick after this long."""
    before = live.audit_state().reads
    kernel.clock.now += seconds
    live.tick(PLENTY)
    return live.audit_state().reads - before


def test_nobody_is_audited_to_whom_nothing_happens(kernel: Kernel, audited: Live) -> None:
    audited.counts()
    assert later(kernel, audited, 50) == 0


def test_one_process_a_minute_is_audited_whatever_happens(kernel: Kernel, audited: Live) -> None:
    assert [later(kernel, audited, 61) for _ in range(4)] == [1, 1, 1, 1]
    assert audited.audit_state().rounds >= 1


def test_who_moved_is_audited_after_the_next_look_at_all_counts(
    kernel: Kernel, audited: Live
) -> None:
    kernel.move(kernel.users[20], 2, Movement.MERGED)
    assert later(kernel, audited, 5) == 0
    audited.counts()
    assert later(kernel, audited, 1) == 1
    assert later(kernel, audited, 1) == 0


def test_without_snapshots_the_audit_looks_once_a_minute(kernel: Kernel, audited: Live) -> None:
    kernel.move(kernel.users[20], 2, Movement.MERGED)
    kernel.move(kernel.users[30], 1, Movement.UNMAPPED)
    # And one of the round.
    assert later(kernel, audited, 61) == 3


def test_a_count_that_moved_wrongly_is_found_at_the_next_look(
    kernel: Kernel, audited: Live
) -> None:
    kernel.move(kernel.users[20], 2, Movement.MERGED)
    kernel.pages[kernel.users[20]] -= 1
    audited.counts()
    assert later(kernel, audited, 1) == 1
    assert audited.audit_state().surplus == 1


def test_a_loss_that_left_no_trace_is_found_within_a_minute_for_each_process(
    kernel: Kernel, audited: Live
) -> None:
    kernel.pages[kernel.users[30]] -= 1
    minutes = 0
    while not audited.audit_state().surplus:
        later(kernel, audited, 60)
        minutes += 1
        assert minutes <= len(kernel.users)


def test_an_audit_reads_the_areas_of_who_has_mappings(kernel: Kernel) -> None:
    kernel.spawn(10, 7)
    live = kernel.live(policy=Policy(0.01))
    live.start()
    assert live.evidence(of(live, 10)).stray is None
    text = "1000-3000 rw-p 00000000 00:00 0 \nKSM:   8 kB\nVmFlags: rd wr \n"
    (kernel.proc.path / "10/smaps").write_text(text)
    kernel.clock.now += 1
    kernel.during_reads = [lambda: setattr(kernel.cpu, "now", kernel.cpu.now + 1)]
    live.tick(PLENTY)
    stray = live.evidence(of(live, 10)).stray
    assert stray is not None
    assert [(a.start, a.mappings) for a in stray] == [(0x1000, 2)]


def test_without_healing_what_is_in_doubt_stays_so(kernel: Kernel) -> None:
    live = kernel.live(policy=Policy(0.01, heal=False))
    kernel.spawn(10, 7)
    live.start()
    assert shown(live) == {10: (7, True)}
    kernel.doubt(kernel.users[10])
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.clock.now += 3600
    live.tick(PLENTY)
    live.refresh(PLENTY)
    assert shown(live) == {10: (7, False)}
    assert live.doubt == "events concern processes that have not been read yet (1)"
    assert live.audit_state() == AuditState()


def test_nothing_is_audited_without_a_share_or_asleep(kernel: Kernel) -> None:
    kernel.sys.write("run", 0)
    live = kernel.live(policy=Policy(0.01))
    live.start()
    live.refresh(PLENTY)
    assert live.asleep
    kernel.clock.now += 100
    live.tick(PLENTY)
    assert live.audit_state() == AuditState()


# ---- sleep ----


@pytest.fixture
def idle(kernel: Kernel) -> Live:
    """A host where nothing is merged and ksmd is stopped; the backend does not know yet."""
    kernel.sys.write("run", 0)
    kernel.spawn(10)
    live = kernel.live()
    live.start()
    return live


def test_where_no_ksm_page_exists_the_hot_hooks_come_off(kernel: Kernel, idle: Live) -> None:
    kernel.move(kernel.users[10], 2)
    kernel.move(kernel.users[10], 2, Movement.UNMAPPED)
    idle.tick(PLENTY)
    assert idle.asleep
    sentry = {"break_cow", "merge", "mm_opened", "protect", "swapin"}
    assert {p.event for p in idle.plan.probes if kernel.sees(p.event)} == sentry
    # Doubt before the hooks come off: accounts opened meanwhile must not be called exact.
    assert kernel.log[-2:] == ["doubt", "detach"]
    assert (kernel.accounts, idle.counts()) == ({}, [])
    attached = {state.event for state in idle.probes() if state.attached}
    assert attached == sentry


def test_after_unmerging_it_sleeps_as_well(kernel: Kernel, idle: Live) -> None:
    kernel.sys.write("run", 2)
    idle.tick(PLENTY)
    assert idle.asleep


def _map_pages(kernel: Kernel, live: Live) -> None:
    kernel.move(kernel.users[10], 1)


def _scan(kernel: Kernel, live: Live) -> None:
    kernel.sys.write("run", 1)


def _share(kernel: Kernel, live: Live) -> None:
    # A KSM page that is only in the swap cache can be mapped again.
    kernel.sys.write("pages_shared", 1)


def _hide_pages_shared(kernel: Kernel, live: Live) -> None:
    (kernel.sys.ksm / "pages_shared").unlink()


def _deny(kernel: Kernel, live: Live) -> None:
    kernel.denied = {10}
    live.read(10)


def _keep_in_doubt(kernel: Kernel, live: Live) -> None:
    kernel.doubt(kernel.users[10])
    kernel.migrations = Migrations(begun=1, ended=0)


def _hide_run(kernel: Kernel, live: Live) -> None:
    (kernel.sys.ksm / "run").unlink()


@pytest.mark.parametrize(
    "reason", [_map_pages, _scan, _share, _hide_pages_shared, _deny, _keep_in_doubt, _hide_run]
)
def test_it_stays_awake(kernel: Kernel, idle: Live, reason: Callable[[Kernel, Live], None]) -> None:
    reason(kernel, idle)
    idle.tick(PLENTY)
    assert not idle.asleep


def test_without_a_probe_on_swap_in_it_never_sleeps(kernel: Kernel) -> None:
    kernel.sys.write("run", 0)
    facts = capable()
    symbols = {n: c for n, c in facts.symbols.items() if n != "ksm_might_need_to_copy"}
    plan = choose(dataclasses.replace(facts, symbols=symbols))
    live = kernel.live(plan)
    live.start()
    live.tick(PLENTY)
    assert not live.asleep


def test_an_unreadable_run_is_a_loss(kernel: Kernel, idle: Live) -> None:
    (kernel.sys.ksm / "run").unlink()
    idle.tick(PLENTY)
    assert idle.losses == {"run_unreadable": 1}
    assert idle.run.state.run is None


def test_an_account_whose_mm_nobody_uses_does_not_keep_it_awake(kernel: Kernel, idle: Live) -> None:
    kernel.move(kernel.users[10], 2)
    kernel.doubt(kernel.users[10])
    kernel.end(10)
    idle.tick(PLENTY)
    assert idle.asleep


def test_it_wakes_up_when_ksmd_scans_and_reads_nobody(kernel: Kernel, idle: Live) -> None:
    idle.tick(PLENTY)
    reads = kernel.reads
    kernel.sys.write("run", 1)
    idle.tick(PLENTY)
    assert not idle.asleep
    assert kernel.log[-2:] == ["attach hooks", "trust"]
    # Nothing can have come to be merged, so all counts are known to be 0.
    assert kernel.reads == reads
    kernel.move(kernel.users[10], 3)
    assert shown(idle) == {10: (3, True)}


@pytest.mark.parametrize(
    "totals",
    [[Total.MERGE_CONVERTED], [Total.SWAPIN_KSM], [Total.MERGE_CONVERTED, Total.SWAPIN_KSM]],
)
def test_it_wakes_up_and_reads_everyone_when_something_stirred(
    kernel: Kernel, idle: Live, totals: list[Total]
) -> None:
    idle.tick(PLENTY)
    kernel.move(kernel.users[10], 3)
    for total in totals:
        kernel.totals[total] += 1
    idle.tick(PLENTY)
    assert not idle.asleep
    assert shown(idle) == {10: (3, True)}
    assert idle.audit_state() == AuditState()


def test_a_page_that_turns_while_it_wakes_up_is_not_overlooked(kernel: Kernel, idle: Live) -> None:
    idle.tick(PLENTY)
    kernel.conversion = Conversion(serial=1, page=1, mm=kernel.users[10])
    kernel.sys.write("run", 1)
    idle.refresh(PLENTY)
    assert not idle.asleep
    assert not any(exact for _, exact in shown(idle).values())
    assert 10 in shown(idle)


def test_what_stirred_while_it_fell_asleep_wakes_it_up(kernel: Kernel, idle: Live) -> None:
    def stir() -> None:
        kernel.move(kernel.users[10], 3)
        kernel.totals[Total.MERGE_CONVERTED] += 1

    kernel.before_detaching = stir
    idle.tick(PLENTY)
    idle.tick(PLENTY)
    assert not idle.asleep
    assert shown(idle) == {10: (3, True)}


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


# ---- a daemon before us ----


def test_counts_that_were_kept_are_estimated_until_they_are_read(
    kernel: Kernel, started: Live
) -> None:
    kernel.move(kernel.users[10], 2)
    reads = kernel.reads
    heir = kernel.live()
    assert heir.adopt()
    assert (heir.map_state().adopted, heir.asleep, kernel.reads) == (True, False, reads)
    assert shown(heir) == {10: (shown(started)[10][0], False)}
    heir.refresh(PLENTY)
    assert shown(heir) == {10: (shown(started)[10][0], True)}
    assert heir.audit_state() == AuditState()


def test_a_wrong_count_that_was_kept_is_found(kernel: Kernel, started: Live) -> None:
    right = shown(started)[10][0]
    heir = kernel.live()
    assert heir.adopt()
    kernel.pages[kernel.users[10]] += 7
    heir.refresh(PLENTY)
    assert shown(heir) == {10: (right + 7, True)}
    assert heir.audit_state().missing == 7


def test_who_was_killed_while_hooks_went_on_is_followed_by_reading_everyone(
    kernel: Kernel, started: Live
) -> None:
    kernel.take_off("rmap_remove")
    kernel.move(kernel.users[20], 5)
    kernel.accounts.clear()
    heir = kernel.live()
    assert heir.adopt()
    assert shown(heir)[20] == (5, True)
    assert heir.audit_state() == AuditState()


def test_without_the_sentry_nothing_is_adopted(kernel: Kernel, started: Live) -> None:
    kernel.take_off("mm_opened")
    assert not kernel.live().adopt()


def test_hooks_that_cannot_be_attached_any_more_are_a_loss_and_a_doubt(
    kernel: Kernel, idle: Live
) -> None:
    idle.tick(PLENTY)
    assert idle.asleep
    kernel.refused = {"rmap_add"}
    kernel.totals[Total.MERGE_CONVERTED] += 1
    idle.tick(PLENTY)
    assert idle.losses == {"attach_failed": 1}
    assert idle.doubt == "folio_add_anon_rmap_ptes can no longer be attached: " + os.strerror(16)
    # Hooks that must be off are not asleep.
    assert not idle.asleep
    kernel.refused = set()
    idle.tick(PLENTY)
    assert idle.losses == {"attach_failed": 1}
    kernel.clock.now += 1
    idle.tick(PLENTY)
    assert (idle.doubt, idle.asleep) == (None, False)
    assert kernel.sees("rmap_add")


# ---- evidence ----


def test_when_it_was_read_is_forgotten_with_the_account(kernel: Kernel, started: Live) -> None:
    kernel.move(kernel.users[20], 1)
    assert started.evidence(of(started, 20)).read_at is None
    read = kernel.clock.now
    kernel.clock.now += 12
    count = of(started, 10)
    assert started.evidence(count).read_at == read
    assert started.evidence(count) is started.evidence(count)
    kernel.maps.close_account(count.mm)
    started.counts()
    assert started.evidence(count).read_at is None


def test_after_unmerging_who_still_has_mappings_is_read_once(kernel: Kernel, started: Live) -> None:
    started.tick(PLENTY)
    kernel.clock.now += 5
    kernel.sys.write("run", 2)
    kernel.sys.write("pages_shared", 3)
    reads = kernel.reads
    started.tick(PLENTY)
    assert kernel.reads == reads
    kernel.clock.now += 5
    kernel.sys.write("pages_shared", 0)
    started.tick(PLENTY)
    assert kernel.reads == reads + 1
    evidence = started.evidence(of(started, 10))
    assert evidence.read_at == kernel.clock.now
    assert evidence.stray == ()
    started.tick(PLENTY)
    assert kernel.reads == reads + 1


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


# ---- quiet ticks ----


def test_a_tick_does_nothing_while_nothing_happens(kernel: Kernel, started: Live) -> None:
    started.tick(PLENTY)
    kernel.take_off("rmap_remove")
    kernel.clock.now += 1
    started.tick(PLENTY)
    # Not seen yet, and nothing was read.
    assert started.losses["probes_lost"] == 0
    kernel.clock.now += 4
    started.tick(PLENTY)
    assert started.losses["probes_lost"] == 1


def test_a_snapshot_sees_at_once_what_ticks_have_not_looked_for(
    kernel: Kernel, started: Live
) -> None:
    started.tick(PLENTY)
    kernel.take_off("rmap_remove")
    started.refresh(PLENTY)
    assert started.losses["probes_lost"] == 1


def test_a_doubt_ends_the_quiet(kernel: Kernel, started: Live) -> None:
    started.tick(PLENTY)
    kernel.doubt(kernel.users[10])
    started.tick(PLENTY)
    assert of(started, 10).exact


def test_probes_that_were_stopped_between_two_looks_are_noticed(
    kernel: Kernel, started: Live
) -> None:
    started.tick(PLENTY)
    kernel.switch_ftrace(0)
    kernel.clock.now += 1
    started.tick(PLENTY)
    assert started.doubt is not None
    kernel.switch_ftrace(1)
    kernel.pages[kernel.users[10]] += 1
    kernel.clock.now += 1
    started.tick(PLENTY)
    assert shown(started)[10] == (kernel.pages[kernel.users[10]], True)
