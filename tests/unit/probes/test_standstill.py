"""When all accounts must be read, and when another reading would find the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ksmwatch.probes.standstill import Standstill
from tests.fakes import Clock


class World:
    """What the programs tell; `reads` is how often all accounts were read."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.told = b"0"
        self.reads = 0
        self.standstill = Standstill(lambda: self.told, self.clock)

    def look(self, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Whether all accounts are read; something may be told meanwhile."""
        if self.standstill.lasts():
            return False
        meanwhile()
        self.standstill.see_reading()
        return True

    def rest(self) -> None:
        """Look until nothing need be read any more."""
        while self.look():
            self.clock.now += 2


@pytest.fixture
def world() -> World:
    return World()


def test_accounts_are_read_until_nothing_was_told_for_a_second_before(world: World) -> None:
    found = []
    for _ in range(5):
        found.append(world.look())
        world.clock.now += 0.6
    assert found == [True, True, True, False, False]


def test_what_is_told_is_read_at_once_and_once_more(world: World) -> None:
    world.rest()
    world.told = b"1"
    assert world.look()
    world.clock.now += 15
    assert world.look()
    assert not world.look()


def test_if_it_was_noted_a_second_before_what_is_told_is_read_once(world: World) -> None:
    world.rest()
    world.told = b"1"
    world.clock.now += 14
    world.standstill.look()
    world.clock.now += 1
    assert world.look()
    assert not world.look()


def test_a_note_that_came_too_late_is_not_enough(world: World) -> None:
    world.rest()
    world.told = b"1"
    world.standstill.look()
    world.clock.now += 14
    world.told = b"2"
    world.standstill.look()
    world.clock.now += 0.9
    assert world.look()
    world.clock.now += 1
    assert world.look()
    assert not world.look()


def test_what_is_told_during_a_reading_is_read(world: World) -> None:
    def tell() -> None:
        world.told += b"1"

    world.rest()
    world.told = b"1"
    assert world.look(tell)
    world.clock.now += 15
    assert world.look(tell)
    assert world.look()


def test_a_reading_that_failed_does_not_count(world: World) -> None:
    assert not world.standstill.lasts()
    world.clock.now += 2
    assert not world.standstill.lasts()
    assert world.look()
    assert not world.look()


def test_what_nobody_tells_can_be_said(world: World) -> None:
    world.rest()
    world.standstill.end()
    assert world.look()
    assert world.look()


def test_what_was_not_told_is_found_after_a_minute(world: World) -> None:
    world.rest()
    world.clock.now += 57
    assert not world.look()
    world.clock.now += 1
    assert world.look()
    assert not world.look()
