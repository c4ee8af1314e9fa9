"""Somebody else traces the hooked function's return, and copies are to be told from unmapping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.races import places
from tests.races.race import SECOND, Race

_TRACING = "/sys/kernel/tracing"
_TRACED = places.REMOVE[0]
_COPIED, _ZAPPED = 13, 5
# Pages of a tenant, and from where on some of them go after others.
_PAGES, _LATER = 60, 30


@contextmanager
def _function_graph(race: Race) -> Iterator[None]:
    race.guest.ask("write", f"{_TRACING}/set_ftrace_filter", _TRACED)
    race.guest.ask("write", f"{_TRACING}/current_tracer", "function_graph")
    yield
    race.guest.ask("write", f"{_TRACING}/current_tracer", "nop")


@contextmanager
def _return_probe(race: Race) -> Iterator[None]:
    race.guest.ask("write", f"{_TRACING}/kprobe_events", f"r:races/returns {_TRACED}")
    race.guest.ask("write", f"{_TRACING}/events/races/returns/enable", "1")
    yield
    race.guest.ask("write", f"{_TRACING}/events/races/returns/enable", "0")
    race.guest.ask("write", f"{_TRACING}/kprobe_events", "")


@contextmanager
def _program(race: Race) -> Iterator[None]:
    race.guest.ask("attach_at_return", _TRACED)
    yield
    race.guest.ask("detach")


def _departures(race: Race, first: int = 0) -> tuple[int, int]:
    """Some copies and zaps of x, from a page on; what they were taken for."""
    before = race.reasons()
    race.guest.ask("tell", "x", ["write", "heap", first, _COPIED])
    race.guest.ask("tell", "x", ["madvise", "heap", first + _COPIED, _ZAPPED, "dontneed"])
    after = race.reasons()
    return after[0] - before[0], after[1] - before[1]


def _is_right(race: Race, told: tuple[int, int]) -> None:
    """What is not known is said to be so."""
    copied, unattributed = told
    if not copied <= _COPIED <= copied + unattributed:
        race.wrong.append(f"{copied} copied and {unattributed} unattributed, true {_COPIED}")


def _is_known(race: Race, told: tuple[int, int]) -> None:
    """Of each departure."""
    copied, unattributed = told
    if (copied, unattributed) != (_COPIED, 0):
        race.wrong.append(f"{copied} copied, {unattributed} unattributed; {_COPIED} were copied")


def _traced(race: Race, tracer: AbstractContextManager[None]) -> None:
    """What cannot be told is unattributed, and told again as soon as nobody traces."""
    race.merged("x", pages=_PAGES, cpu=SECOND)
    with tracer:
        _is_right(race, _departures(race))
    _is_known(race, _departures(race, _LATER))


def departures_under_function_graph(race: Race) -> None:
    """The kernel puts an address of its own in place of the caller's."""
    _traced(race, _function_graph(race))


def departures_under_a_return_probe(race: Race) -> None:
    """The same, by another mechanism of the kernel."""
    _traced(race, _return_probe(race))


def departures_under_a_program_at_the_return(race: Race) -> None:
    """The trampoline calls the function, and its frame is another one."""
    _traced(race, _program(race))


def returns_are_traced_when_the_daemon_starts(race: Race) -> None:
    """What it would learn of its own copy is true of every departure."""
    race.daemon.is_stopped()
    race.merged("x", pages=_PAGES, cpu=SECOND)
    with _function_graph(race):
        race.daemon.is_started()
        _is_right(race, _departures(race))
    _is_right(race, _departures(race, _LATER))
