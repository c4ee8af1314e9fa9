"""Which process is audited next, and how much CPU time that may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.counting.audit_schedule import Allowance, Round, Schedule
from tests.fakes import Clock


class Host:
    """An allowance with clocks that the test moves."""

    def __init__(self, share: float) -> None:
        self.wall, self.cpu = Clock(), Clock(500.0)
        self.allowance = Allowance(share, self.wall, self.cpu)

    def work(self, seconds: float) -> None:
        """Work that takes this much CPU time."""

        def busy() -> None:
            self.cpu.now += seconds

        self.allowance.spend(busy)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.wall.now += seconds
        self.allowance.accrue()


def test_nothing_is_left_at_the_beginning() -> None:
    assert not Host(0.5).allowance.left()


def test_a_share_of_the_time_accrues_and_is_spent() -> None:
    host = Host(0.01)
    host.wait(10)
    host.work(0.09)
    assert host.allowance.left()
    host.work(0.02)
    assert not host.allowance.left()


def test_what_was_overspent_is_paid_back_first() -> None:
    host = Host(0.01)
    host.wait(10)
    host.work(1.1)
    host.wait(99)
    assert not host.allowance.left()
    host.wait(2)
    assert host.allowance.left()


def test_a_long_rest_does_not_make_one_tick_long() -> None:
    host = Host(0.5)
    host.wait(3600)
    host.work(0.24)
    assert host.allowance.left()
    host.work(0.02)
    assert not host.allowance.left()


def test_accruing_twice_at_one_moment_gives_nothing_more() -> None:
    host = Host(0.01)
    host.wait(10)
    host.wait(0)
    host.work(0.1001)
    assert not host.allowance.left()


def test_a_share_of_zero_never_allows_anything() -> None:
    host = Host(0)
    host.wait(3600)
    assert not host.allowance.left()


# ---- rounds ----


def test_processes_with_an_account_come_first() -> None:
    order = Round()
    found = [order.next(lambda: [30, 10], lambda: [10, 20, 30, 40]) for _ in range(4)]
    assert found == [30, 10, 20, 40]
    assert order.completed == 1


def test_a_round_is_complete_when_its_last_process_was_named() -> None:
    order = Round()
    order.next(list, lambda: [1, 2])
    assert order.completed == 0
    order.next(list, lambda: [1, 2])
    assert order.completed == 1


def test_nobody_is_next_on_an_empty_host() -> None:
    order = Round()
    assert order.next(list, list) is None
    assert order.completed == 0


def test_who_comes_during_a_round_is_in_the_next() -> None:
    order, host = Round(), [1, 2]

    def read() -> int | None:
        return order.next(list, lambda: host)

    seen = [read()]
    host.append(3)
    seen += [read() for _ in range(4)]
    assert seen == [1, 2, 1, 2, 3]


@given(accounted=st.lists(st.integers(1, 50)), everyone=st.sets(st.integers(1, 50), min_size=1))
def test_a_round_reaches_every_process_once(accounted: list[int], everyone: set[int]) -> None:
    order = Round()
    seen = []
    while not order.completed:
        seen.append(order.next(lambda: accounted, lambda: sorted(everyone)))
    assert len(seen) == len(set(seen))
    assert set(seen) == everyone | set(accounted)


# ---- evidence ----

LISTS = (lambda: [10, 20], lambda: [10, 20, 30])


def test_with_evidence_the_round_goes_on_once_a_minute() -> None:
    schedule = Schedule(evidence=True)
    read = {now: schedule.next(now, *LISTS) for now in (0.0, 1.0, 59.9, 60.0, 61.0, 120.0)}
    assert read == {0.0: 10, 1.0: None, 59.9: None, 60.0: 20, 61.0: None, 120.0: 30}
    assert schedule.completed == 1


def test_without_evidence_the_round_never_rests() -> None:
    schedule = Schedule(evidence=False)
    assert [schedule.next(0.0, *LISTS) for _ in range(4)] == [10, 20, 30, 10]
    assert schedule.due(0.0)


def test_who_moved_is_read_once_each_in_order() -> None:
    schedule = Schedule(evidence=True)
    schedule.next(0.0, *LISTS)
    assert not schedule.due(1.0)
    schedule.see([20, 10, 20])
    found = []
    while schedule.due(1.0):
        found.append(schedule.next(1.0, *LISTS))
    assert found == [20, 10]


def test_the_round_is_not_put_off_by_accounts_that_never_rest() -> None:
    schedule = Schedule(evidence=True)
    schedule.see([20, 20, 10])
    assert [schedule.next(0.0, *LISTS), schedule.next(0.0, *LISTS)] == [10, 20]
    schedule.see([20])
    assert schedule.next(60.0, *LISTS) == 20


def test_what_moved_earlier_is_replaced_by_what_is_seen_now() -> None:
    schedule = Schedule(evidence=True)
    schedule.next(0.0, *LISTS)
    schedule.see([10])
    schedule.see([])
    assert not schedule.due(1.0)
