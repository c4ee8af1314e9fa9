"""A page is on its way to another node of memory, while something happens to those who mapped it.

What reads see of it meanwhile are migration entries, which are no mappings. So counts are compared
when it has arrived.
"""

from __future__ import annotations

from tests.races import places
from tests.races.race import HOME, SECOND, Race, Tenant


def _away(race: Race) -> Tenant:
    """A process with four PTEs of one KSM page, which is away."""
    x = race.merged("x", pages=4, cpu=SECOND)
    race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    return x


def zap_while_the_page_is_away(race: Race) -> None:
    """A migration entry goes without an event, and is not put back."""
    x = _away(race)
    x.does("madvise", "heap", 1, 2, "dontneed")
    race.mover.finishes()


def write_while_the_page_is_away(race: Race) -> None:
    """The fault waits for the page, and copies it then."""
    x = _away(race)
    x.begins("write", "heap", 1, 1, to=places.WAITING_FOR_A_PAGE)
    x.goes_on()
    race.mover.finishes()
    x.finishes()


def exit_while_the_page_is_away(race: Race) -> None:
    """The account ends before the arrivals that there will be of another process."""
    y = race.mergeable("y", pages=3)
    x = _away(race)
    x.is_killed()
    race.mover.finishes()
    y.does("write", "heap", 0, 1)


def exec_while_the_page_is_away(race: Race) -> None:
    """The same by a process that goes on."""
    x = _away(race)
    x.execs()
    race.mover.finishes()


def fork_copies_migration_entries(race: Race) -> None:
    """The page is away while fork copies, and comes back to two processes."""
    s = race.merged("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    race.mover.begins_moving(s, 0, to=places.PUTTING_BACK)
    t.begins_fork("u", to=places.COPIED)
    race.mover.finishes()
    t.finishes()


def fork_is_told_before_the_page_is_back(race: Race) -> None:
    """The child has inherited a count without the page, which arrives in both afterwards."""
    s = race.merged("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    race.mover.begins_moving(s, 0, to=places.AWAY)
    t.begins_fork("u", to=places.COPIED)
    t.finishes()
    race.mover.finishes()


def unmerging_while_the_page_is_away(race: Race) -> None:
    """To move an area that is mergeable, mremap breaks its pages, and waits for this one."""
    x = _away(race)
    x.begins("move", "heap", 0, 4, to=places.WAITING_FOR_A_PAGE)
    x.goes_on()
    race.mover.finishes()
    x.finishes()


def two_calls_at_once(race: Race) -> None:
    """One page is away while another goes and comes."""
    x = race.merged("x", pages=4)
    y = race.merged("y", pages=4, seed=race.seed + 1000)
    race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    for node in (1, 0):
        race.guest.ask("migrate", "y", 0, node, HOME)
    y.does("write", "heap", 0, 1)
    race.mover.finishes()
