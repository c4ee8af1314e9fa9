"""Who is audited next, and how much CPU that may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.counting.audit_schedule import Allowance, Round
from tests.fakes import Clock


class Host:
    """An allowance with clocks that the test moves."""

    def __init__(self, share: float) -> None:
        self.wall, self.cpu = Clock(), Clock(500.0)
        self.allowance = Allowance(share, self.wall, self.cpu)

    def work(self, seconds: float) -> None:
        """Something that takes so much CPU."""

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
