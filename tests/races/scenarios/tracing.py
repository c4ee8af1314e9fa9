"""Somebody else traces the hooked function's return, and copies are to be told from unmapping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.races import places
from tests.races.race import SECOND, Race

_TRACING = "/sys/kernel/tracing"
_COPIED, _ZAPPED = 13, 5


@contextmanager
def _function_graph(race: Race) -> Iterator[None]:
    race.guest.ask("write", f"{_TRACING}/set_ftrace_filter", places.REMOVE[0])
    race.guest.ask("write", f"{_TRACING}/current_tracer", "function_graph")
    yield
    race.guest.ask("write", f"{_TRACING}/current_tracer", "nop")


def _departures(race: Race, first: int) -> tuple[int, int]:
    """Some copies and zaps of x, from a page on; what they were taken for."""
    before = race.reasons()
    race.guest.ask("tell", "x", ["write", "heap", first, _COPIED])
    race.guest.ask("tell", "x", ["madvise", "heap", first + _COPIED, _ZAPPED, "dontneed"])
    after = race.reasons()
    return after[0] - before[0], after[1] - before[1]


def _is_right(race: Race, told: tuple[int, int]) -> None:
    copied, unattributed = told
    if not copied <= _COPIED <= copied + unattributed:
        race.wrong.append(f"{copied} copied and {unattributed} unattributed, true {_COPIED}")


def departures_under_function_graph(race: Race) -> None:
    """What cannot be told is unattributed, and told again as soon as nobody traces."""
    race.merged("x", pages=60, cpu=SECOND)
    with _function_graph(race):
        _is_right(race, _departures(race, 0))
    _is_right(race, _departures(race, 30))
