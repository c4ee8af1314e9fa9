"""Processes that had to be read and were not, and what a successor must not trust."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.counting.backend import Budget
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Migrations, Total
from tests.fake_kernel import Kernel, shown

PLENTY = Budget(3600)


def is_killed(kernel: Kernel) -> Live:
    """Its successor, which has made its first snapshot."""
    heir = kernel.live()
    assert heir.adopt()
    heir.refresh(PLENTY)
    return heir


# ---- processes that were not read ----


def test_an_account_that_an_event_opens_for_a_denied_process_is_estimated(kernel: Kernel) -> None:
    kernel.spawn(10, 7)
    kernel.denied = {10}
    live = kernel.live()
    live.start()
    kernel.move(kernel.users[10], 1)
    assert shown(live) == {10: (1, False)}
    kernel.denied = set()
    live.refresh(PLENTY)
    assert (shown(live), live.doubt) == ({10: (8, True)}, None)
    assert live.audit_state().drift == 0


def test_an_account_that_an_event_opens_for_who_found_no_room_is_estimated(kernel: Kernel) -> None:
    kernel.maps.limit = 0
    kernel.spawn(10, 7)
    live = kernel.live()
    live.start()
    kernel.maps.limit = 16
    kernel.move(kernel.users[10], 1)
    assert shown(live) == {10: (1, False)}
    live.refresh(PLENTY)
    assert (shown(live), live.doubt) == ({10: (8, True)}, None)
    assert live.audit_state().drift == 0


def test_who_was_disturbed_in_a_sweep_and_has_no_account_is_read_again(
    kernel: Kernel, started: Live
) -> None:
    # Nothing tells whose page it was, and the sweep meets a migration of others.
    kernel.totals[Total.EVENTS_LOST] += 1
    kernel.pages[kernel.users[20]] += 3
    kernel.migrations = Migrations(2, 1)
    started.refresh(PLENTY)
    assert started.doubt == "2 processes have not been read undisturbed yet"
    assert shown(started) == {10: (7, False), 20: (0, False)}
    kernel.migrations = Migrations(2, 2)
    started.tick(PLENTY)
    assert shown(started) == {10: (7, True), 20: (3, True)}
    assert started.doubt is None
    assert started.audit_state() == AuditState()


def test_who_was_only_disturbed_by_the_audit_is_trusted_as_before(
    kernel: Kernel, started: Live
) -> None:
    kernel.migrations = Migrations(2, 1)
    started.read(10)
    assert (shown(started), started.doubt) == ({10: (7, True)}, None)


# ---- successors ----


def test_while_nothing_is_known_a_successor_begins_anew(
    kernel: Kernel, started: Live, warnings: list[dict[str, Any]]
) -> None:
    # A renewal that takes long, so that the next one is not due for a while.
    kernel.pages[kernel.users[10]] = 4
    started.read(10)
    kernel.during_reads = [lambda: setattr(kernel.clock, "now", kernel.clock.now + 10)]
    started.tick(PLENTY)
    kernel.pages[kernel.users[10]] = 3
    kernel.pages[kernel.users[20]] = 2
    started.read(10)
    started.refresh(PLENTY)
    assert started.doubt == "counts have drifted"
    # Killed before it has read every process again.
    heir = is_killed(kernel)
    assert (shown(heir), heir.doubt) == ({10: (3, True), 20: (2, True)}, None)


def test_a_stop_that_only_the_one_before_has_seen(kernel: Kernel, started: Live) -> None:
    kernel.switch_ftrace(0)
    started.tick(PLENTY)
    kernel.pages[kernel.users[20]] += 3
    kernel.switch_ftrace(1)
    heir = is_killed(kernel)
    assert (shown(heir), heir.doubt) == ({10: (7, True), 20: (3, True)}, None)


def test_who_was_never_read_is_missing_to_a_successor(kernel: Kernel) -> None:
    kernel.spawn(10, 7)
    kernel.denied = {10}
    kernel.live().start()
    heir = is_killed(kernel)
    assert heir.doubt == "1 process cannot be read"
    kernel.denied = set()
    third = is_killed(kernel)
    assert (shown(third), third.doubt) == ({10: (7, True)}, None)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_events_lost_after_a_stop_are_not_taken_for_the_stop(
    kernel: Kernel, started: Live, lost: int
) -> None:
    kernel.switch_ftrace(0)
    started.tick(PLENTY)
    kernel.switch_ftrace(1)
    kernel.clock.now += 100
    started.tick(PLENTY)
    assert started.doubt is None
    kernel.totals[Total.EVENTS_LOST] += lost
    kernel.pages[kernel.users[20]] += 3
    assert shown(is_killed(kernel))[20] == (3, True)


def test_a_successor_whose_hooks_are_refused_leaves_the_matter_to_another(
    kernel: Kernel, started: Live
) -> None:
    kernel.take_off("rmap_add")
    kernel.refused = {"rmap_add"}
    assert not kernel.live().adopt()
