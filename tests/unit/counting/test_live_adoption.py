"""What the live backend takes over, and what it knows of a read, on a fake kernel."""

from __future__ import annotations

import os

import pytest

from ksmwatch.counting import findings
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.map_records import Total
from tests.fake_kernel import PLENTY, Kernel, of, shown

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


def test_when_it_was_read_is_forgotten_with_the_account(
    kernel: Kernel, started: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Evidence may wait while there is little of it.
    monkeypatch.setattr(findings, "_SPARE", -100)
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
