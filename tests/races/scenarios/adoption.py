"""The daemon is killed and another one adopts what it has left, while something is under way."""

from __future__ import annotations

from tests.races import places
from tests.races.race import SECOND, Race


def successor_comes_between_the_store_and_the_return(race: Race) -> None:
    """The page has turned, and its conversion is told to the successor's hooks."""
    race.daemon.pins_what_it_counts()
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.CONVERTED)
    race.daemon.is_killed_and_succeeded()
    race.is_honest("while ksmd stands behind the store")
    race.ksmd.goes_on(to=places.MERGED)


def successor_comes_before_a_mapping_goes(race: Race) -> None:
    """The hook of a zap has run for the predecessor, and the mapcount goes down afterwards."""
    race.daemon.pins_what_it_counts()
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    x.begins("madvise", "heap", 1, 1, "dontneed", to=places.REMOVING)
    race.daemon.is_killed_and_succeeded()
    race.ksmd.goes_on(to=places.MERGED)
    x.finishes()


def successor_comes_before_a_fork_is_told(race: Race) -> None:
    """The child is copied, and has no name for either."""
    race.daemon.pins_what_it_counts()
    s = race.merged("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.UNBORN)
    race.daemon.is_killed_and_succeeded()
    s.does("write", "heap", 0, 1)
    t.finishes()


def successor_comes_during_a_migration(race: Race) -> None:
    """The pages are away, and nobody has told the successor."""
    race.daemon.pins_what_it_counts()
    s = race.merged("s", pages=4)
    race.mover.begins_moving(s, 1, to=places.PUTTING_BACK)
    race.daemon.is_killed_and_succeeded()
    race.is_honest("while the pages are away")
    race.mover.finishes()


def predecessor_dies_in_a_read(race: Race) -> None:
    """The process that it read stays in doubt for the successor."""
    race.daemon.pins_what_it_counts()
    x = race.merged("x", pages=8)
    areas = race.guest.ask("areas_before", "x", "heap")
    y = race.daemon.reads_child(x, "y", to=places.AREA, passes=areas, cpu=SECOND)
    y.does("write", "heap", 0, 3)
    race.daemon.is_killed_and_succeeded()
