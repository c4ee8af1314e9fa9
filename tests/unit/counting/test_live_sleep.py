"""Sleep and quiet ticks of the live backend, on a fake kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Conversion, Migrations, Movement, Total
from ksmwatch.probes.plan import choose
from tests.fake_kernel import PLENTY, Kernel, of, shown
from tests.fakes import capable

# ---- sleep ----


def test_where_no_ksm_page_exists_the_hot_hooks_come_off(kernel: Kernel, idle: Live) -> None:
    kernel.move(kernel.users[10], 2)
    kernel.move(kernel.users[10], 2, Movement.UNMAPPED)
    idle.tick(PLENTY)
    assert idle.asleep
    sentry = {"break_cow", "cgroup", "merge", "migrate", "mm_opened", "protect", "swapin"}
    assert {p.event for p in idle.plan.probes if kernel.sees(p.event)} == sentry
    # Doubt before the hooks come off: accounts opened meanwhile must not be called exact.
    assert kernel.log[-2:] == ["doubt", "detach"]
    assert (kernel.accounts, idle.counts()) == ({}, [])
    attached = {state.event for state in idle.probes() if state.attached}
    assert attached == sentry


def test_a_tick_tells_when_it_has_fallen_asleep_or_woken(kernel: Kernel, idle: Live) -> None:
    assert idle.tick(PLENTY)
    assert idle.asleep
    assert not idle.tick(PLENTY)
    _scan(kernel, idle)
    assert idle.tick(PLENTY)
    assert not idle.asleep
    assert not idle.tick(PLENTY)


def test_each_tick_notes_whether_accounts_have_changed(
    kernel: Kernel, idle: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(kernel.maps, "look", lambda: looks.append(kernel.clock.now))
    for _ in range(3):
        idle.tick(PLENTY)
        kernel.clock.now += 1
    assert len(looks) == 3


def test_it_rests_from_the_tick_that_falls_asleep_to_the_one_that_wakes(
    kernel: Kernel, idle: Live
) -> None:
    assert not idle.rests
    for _ in range(3):
        idle.tick(PLENTY)
        assert idle.rests
    _scan(kernel, idle)
    idle.tick(PLENTY)
    assert not idle.rests


def test_while_asleep_a_tick_only_looks_whether_something_has_happened(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.sys.write("run", 0)
    kernel.spawn(10)
    live = kernel.live(policy=Policy(0.01))
    live.start()
    live.tick(PLENTY)
    assert live.asleep
    # An audit would be due, and may use CPU time.
    kernel.clock.now += 1000
    live.tick(PLENTY)
    assert live._audits()
    passes: list[object] = []
    whole = live._pass

    def note(at: Any) -> Any:
        passes.append(at)
        return whole(at)

    monkeypatch.setattr(live, "_pass", note)
    live.tick(PLENTY)
    assert not passes
    _scan(kernel, live)
    live.tick(PLENTY)
    assert passes
    assert not live.asleep


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
