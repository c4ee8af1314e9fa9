"""What accounts and exact reads say together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.counting.ledger import (
    Ledger,
    count,
    disturbs,
    settle,
    stood_still,
    uncounted,
)
from ksmwatch.probes.map_records import Account, Baseline, Conversion, Movement

MM = 0xFFFF888000000000

moves = st.tuples(*[st.integers(0, 2**40)] * len(Movement))


def account(**changes: Any) -> Account:
    values = {
        "id": 11,
        "moves": (7, 5, 3, 2, 3, 1, 1),
        "doubts": 0,
        "start_boottime": 12_345_678_901,
        "tgid": 42,
    }
    return Account(**{**values, **changes})


def test_without_an_exact_read_the_events_alone_make_the_count() -> None:
    found = count(MM, account(), None)
    assert (found.mm, found.account, found.pid) == (MM, 11, 42)
    assert found.mappings == 7 + 5 + 3 + 2 - 3 - 1 - 1
    assert found.exact
    assert found.moves == (7, 5, 3, 2, 3, 1, 1)


def test_start_times_are_in_the_ticks_of_proc_rounded_down() -> None:
    assert count(MM, account(), None).start_ticks == 1234
    years = account(start_boottime=123_456_789_019_999_999)
    assert count(MM, years, None).start_ticks == 12_345_678_901


def test_a_baseline_adds_what_was_there_before_the_account() -> None:
    assert count(MM, account(), Baseline(11, 100, 0)).mappings == 112


def test_a_baseline_of_an_earlier_mm_at_the_address_does_not_count() -> None:
    found = count(MM, account(doubts=1), Baseline(10, 100, 1))
    assert found.mappings - account().net == 0
    assert (found.mappings, found.exact) == (12, False)
    # It has settled no doubt, not even as many as the account has.
    assert count(MM, account(doubts=0), Baseline(10, 100, 1)).exact


@pytest.mark.parametrize(
    ("doubts", "settled", "exact"), [(0, 0, True), (2, 2, True), (3, 2, False), (1, 0, False)]
)
def test_exact_means_that_no_doubt_is_younger_than_the_read(
    doubts: int, settled: int, *, exact: bool
) -> None:
    assert count(MM, account(doubts=doubts), Baseline(11, 0, settled)).exact is exact


def test_a_negative_count_is_not_clamped() -> None:
    # It is an error of ours, which clamping would hide.
    assert count(MM, account(moves=(0, 0, 0, 0, 2, 1, 0)), None).mappings == -3


def test_counts_takes_each_account_with_its_own_baseline() -> None:
    accounts = {1: account(id=1), 2: account(id=2), 3: account(id=3, doubts=1)}
    found = Ledger().counts(accounts, {1: Baseline(1, 10, 0), 3: Baseline(3, 30, 1)})
    assert [(c.mm, c.mappings, c.exact) for c in found] == [
        (1, 22, True),
        (2, 12, True),
        (3, 42, True),
    ]


def test_what_has_not_changed_is_the_same_count() -> None:
    ledger = Ledger()
    accounts = {n: account(id=n) for n in (1, 2, 3)}
    baselines = {2: Baseline(2, 10, 0), 3: Baseline(3, 30, 0)}
    before = ledger.counts(accounts, baselines)
    assert all(a is b for a, b in zip(before, ledger.counts(accounts, baselines), strict=True))
    # One moves, one is read, one goes, one comes.
    changed = {1: account(id=1), 2: account(id=2, moves=(5, 0, 0, 0, 0, 1, 0)), 4: account(id=4)}
    after = ledger.counts({**changed, 1: accounts[1]}, {1: Baseline(1, 1, 0), 2: baselines[2]})
    assert [(c.mm, c.mappings) for c in after] == [(1, 13), (2, 14), (4, 12)]
    assert ledger.counts({1: accounts[1]}, {})[0] == before[0]


@given(moves=moves, doubts=st.integers(0, 2**40), read=st.integers(0, 2**40), more=moves)
def test_after_a_read_the_count_is_what_was_read_and_follows_events(
    moves: tuple[int, ...], doubts: int, read: int, more: tuple[int, ...]
) -> None:
    before = account(moves=moves, doubts=doubts)
    baseline = settle(before, read)
    found = count(MM, before, baseline)
    assert (found.mappings, found.exact) == (read, True)
    after = before._replace(moves=tuple(a + b for a, b in zip(moves, more, strict=True)))
    arrived, left = sum(more[:4]), sum(more[4:])
    assert count(MM, after, baseline).mappings == read + arrived - left
    assert not count(MM, before._replace(doubts=doubts + 1), baseline).exact


# ---- brackets ----


def test_nothing_happened_between_equal_accounts() -> None:
    assert stood_still(account(), account())


def test_without_an_account_on_either_side_nothing_happened() -> None:
    assert stood_still(None, None)


@pytest.mark.parametrize(("before", "after"), [(None, account()), (account(), None)])
def test_an_account_that_opened_or_went_is_an_event(
    before: Account | None, after: Account | None
) -> None:
    assert not stood_still(before, after)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 12},
        {"moves": (8, 5, 3, 2, 3, 1, 1)},
        # One came and one went: the count is the same, and the read may have seen either.
        {"moves": (8, 5, 3, 2, 5, 1)},
        {"doubts": 1},
    ],
)
def test_any_event_between_spoils_a_read(changes: dict[str, Any]) -> None:
    assert not stood_still(account(), account(**changes))


IN_PLACE = Conversion(serial=9, page=0xFFFFEA0000000040, mm=MM, seen=1)


@pytest.mark.parametrize(
    ("conversion", "own", "other"),
    [
        (IN_PLACE, (True, True), (False, False)),
        # PTEs of others turn with it. They are in doubt, and the record says when they may be read.
        (IN_PLACE._replace(shared=1), (True, True), (False, True)),
        # The hooks were off when it began: nothing has checked who shares the page.
        (IN_PLACE._replace(seen=0), (True, True), (True, True)),
        # Over, a replacement, and a page that was KSM before: all that turns is counted at once.
        (IN_PLACE._replace(page=0), (False, False), (False, False)),
        (IN_PLACE._replace(kpage=0xFFFFEA0000000080), (False, False), (False, False)),
        (IN_PLACE._replace(already=1), (False, False), (False, False)),
    ],
)
def test_a_conversion_under_way_spoils_counts_and_reads(
    conversion: Conversion, own: tuple[bool, bool], other: tuple[bool, bool]
) -> None:
    assert (uncounted(conversion, MM), disturbs(conversion, MM)) == own
    assert (uncounted(conversion, MM + 4096), disturbs(conversion, MM + 4096)) == other
