"""Calls of migrate_pages() that nobody saw begin, and reads while they may be under way."""

from __future__ import annotations

import pytest

from ksmwatch.counting.exact_read import Outcome, sees_every_call
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.plan import choose
from tests.fake_kernel import PLENTY, Kernel, shown
from tests.fakes import without_symbols


@pytest.mark.parametrize(
    ("since", "now", "every"),
    [
        (0, 29_999_999_999, False),
        (0, 30_000_000_000, True),
        (500_000_000_000, 500_000_000_000, False),
        (500_000_000_000, 530_000_000_000, True),
        # There is no hook on calls.
        (1 << 63, 1 << 62, False),
    ],
)
def test_a_call_that_nobody_saw_begin_is_over_after_half_a_minute(
    since: int, now: int, *, every: bool
) -> None:
    assert sees_every_call(since, now) is every


def test_nothing_is_settled_while_a_page_is_away_that_nobody_saw_leave(
    kernel: Kernel, started: Live
) -> None:
    mm = kernel.users[10]
    kernel.moving[mm] = 2
    kernel.doubt(mm)
    outcomes = []
    for _ in range(2):
        outcomes.append(started.read(10).outcome)
        outcomes.append(started.read(20).outcome)
        kernel.moving.clear()
    assert outcomes == [Outcome.DISTURBED, *[Outcome.SETTLED] * 3]


def test_reads_are_careful_only_as_long_as_calls_may_be_under_way_unseen(
    kernel: Kernel, started: Live
) -> None:
    mm = kernel.users[10]
    # No kernel has such a long call.
    kernel.moving[mm] = 2
    for seconds, outcome in ((29, Outcome.DISTURBED), (1, Outcome.SETTLED)):
        kernel.clock.now += seconds
        assert started.read(10).outcome is outcome


def test_a_successor_knows_since_when_calls_are_seen(kernel: Kernel, started: Live) -> None:
    kernel.moving[kernel.users[10]] = 2
    kernel.clock.now += 20
    heir = kernel.live()
    assert heir.adopt()
    assert heir.read(10).outcome is Outcome.DISTURBED
    kernel.clock.now += 10
    assert heir.read(10).outcome is Outcome.SETTLED


@pytest.mark.parametrize("program", ["on_migrate", "on_migrate_return"])
def test_after_a_skipped_run_of_that_hook_reads_are_careful_again(
    kernel: Kernel, started: Live, program: str
) -> None:
    kernel.moving[kernel.users[10]] = 2
    kernel.clock.now += 30
    kernel.missed[program] += 1
    started.tick(PLENTY)
    assert not shown(started)[10][1]
    kernel.moving.clear()
    started.tick(PLENTY)
    assert shown(started)[10] == (7, True)


def test_without_a_hook_on_calls_reads_are_always_careful(kernel: Kernel) -> None:
    kernel.moving[kernel.spawn(10, 7)] = 2
    live = kernel.live(choose(without_symbols("migrate_pages")))
    live.start()
    kernel.clock.now += 1000
    assert live.read(10).outcome is Outcome.DISTURBED
