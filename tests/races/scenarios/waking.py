"""The daemon's hooks go on and off, while ksmd is in the middle of something."""

from __future__ import annotations

from tests.races import places
from tests.races.race import SECOND, Race


def wake_up_before_a_page_turns(race: Race) -> None:
    """The merge began before the hooks were on, and the page turns after everybody was read."""
    race.falls_asleep()
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    race.ksmd.goes_on(to=places.MERGED)


def wake_up_between_the_store_and_the_return(race: Race) -> None:
    """The page has turned when everybody is read, and its conversion is told afterwards."""
    race.falls_asleep()
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.CONVERTED)
    race.is_honest("while ksmd stands behind the store")
    race.ksmd.goes_on(to=places.MERGED)


def copy_while_the_hooks_go_on(race: Race) -> None:
    """A page has turned while asleep, and is copied while the daemon reads everybody."""
    race.falls_asleep()
    x = race.mergeable("x", pages=4, cpu=SECOND)
    race.ksmd.runs(to=places.MERGED)
    race.daemon.begins_snapshot(to=places.AREA)
    race.ksmd.merges_all()
    x.does("write", "heap", 0, 1)
    race.daemon.finishes()


def page_is_away_when_the_hooks_go_on(race: Race) -> None:
    """Nothing has seen its departure, smaps counts it as mapped, and its arrival is an event."""
    race.falls_asleep()
    x = race.mergeable("x", pages=4)
    with race.daemon.sees_nothing():
        race.ksmd.merges_all()
        race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    race.guest.ask("snapshot")
    race.mover.finishes()


def page_that_was_away_when_the_hooks_went_on_is_zapped(race: Race) -> None:
    """Its migration entries are counted as mappings, and go without an event."""
    race.falls_asleep()
    x = race.mergeable("x", pages=4, cpu=SECOND)
    with race.daemon.sees_nothing():
        race.ksmd.merges_all()
        race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    race.guest.ask("snapshot")
    x.does("madvise", "heap", 1, 2, "dontneed")
    race.mover.finishes()


def page_is_away_when_the_daemon_starts(race: Race) -> None:
    """Nothing has seen the call that took it away. Its arrival is an event."""
    x = race.merged("x", pages=4)
    race.daemon.is_stopped()
    race.daemon.begins_to_start()
    race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    race.daemon.finishes()
    race.mover.finishes()


def page_that_was_away_when_the_daemon_started_is_zapped(race: Race) -> None:
    """Its migration entries go without an event."""
    x = race.merged("x", pages=4, cpu=SECOND)
    race.daemon.is_stopped()
    race.daemon.begins_to_start()
    race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    race.daemon.finishes()
    x.does("madvise", "heap", 1, 2, "dontneed")
    race.guest.ask("snapshot")
    race.mover.finishes()


def page_is_away_when_all_probes_go_on_again(race: Race) -> None:
    """It went after the last of them had been detached."""
    x = race.merged("x", pages=4)
    race.daemon.begins_to_renew()
    race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    race.daemon.finishes()
    race.mover.finishes()


def page_turns_while_the_hooks_go_off(race: Race) -> None:
    """Every count was 0 when the daemon looked."""
    x = race.mergeable("x", cpu=SECOND)
    race.daemon.arrives(places.DETACHING, race.unmerges)
    race.ksmd.runs(to=places.MERGED)
    race.daemon.goes_on()
    race.ksmd.merges_all()
    x.does("write", "heap", 0, 1)
