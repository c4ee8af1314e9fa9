"""The daemon is killed and a successor adopts its counts, while something is in the middle.

The hooks stay where they are, so that every event is counted; but what the killed daemon knew
otherwise is lost. Nobody may be held under a page-table lock: to start, a daemon waits for a grace
period of RCU, and so for who is held there.
"""

from __future__ import annotations

from tests.races import places
from tests.races.race import SECOND, Race


def shared_page_turns(race: Race) -> None:
    """It has turned, both processes are in doubt, and the successor must not settle them."""
    race.daemon.keeps_its_hooks()
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.CONVERTED)
    race.daemon.is_replaced()
    race.is_honest("while ksmd stands behind the store")
    race.ksmd.goes_on(to=places.MERGED)


def page_is_replaced(race: Race) -> None:
    """The PTE maps the KSM page, and nobody has been told that the merge has succeeded."""
    race.daemon.keeps_its_hooks()
    race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.MERGE_ENDS, passes=1)
    race.daemon.is_replaced()
    race.is_honest("while ksmd stands in front of the return")
    race.ksmd.goes_on(to=places.MERGED)


def page_is_away(race: Race) -> None:
    """It left under the eyes of the first daemon, and comes back under those of the second."""
    race.daemon.keeps_its_hooks()
    x = race.merged("x", pages=4)
    race.mover.begins_moving(x, 0, to=places.PUTTING_BACK)
    race.daemon.is_replaced()
    race.guest.ask("snapshot")
    race.mover.finishes()


def fork_is_told_to_the_successor(race: Race) -> None:
    """PTEs are copied, and the child is known to no daemon."""
    race.daemon.keeps_its_hooks()
    s = race.merged("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.COPIED)
    race.daemon.is_replaced()
    s.does("write", "heap", 0, 1)
    t.finishes()


def process_is_exiting(race: Race) -> None:
    """It has no user any more, and all its PTEs; the successor can read no file of it."""
    race.daemon.keeps_its_hooks()
    x = race.merged("x", pages=4, cpu=SECOND)
    x.begins("exit", to=places.EMPTYING)
    race.daemon.is_replaced()
    x.goes_on()


def page_comes_in(race: Race) -> None:
    """The fault of a swapped-out page has begun."""
    race.daemon.keeps_its_hooks()
    x = race.merged("x", pages=2, cpu=SECOND)
    x.does("madvise", "heap", 0, 1, "dontneed")
    x.does("madvise", "heap", 1, 1, "pageout")
    x.begins("read", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    race.daemon.is_replaced()
    x.finishes()


def child_is_in_doubt(race: Race) -> None:
    """Its read is held when the daemon is killed, and settles nothing."""
    race.daemon.keeps_its_hooks()
    x = race.merged("x", pages=4)
    y = race.daemon.reads_child(x, "y", to=places.AREA, cpu=SECOND)
    y.does("write", "heap", 0, 1)
    race.daemon.is_replaced()


def process_execs(race: Race) -> None:
    """It has a new address space and still its old one, which ends under the successor's eyes."""
    race.daemon.keeps_its_hooks()
    x = race.merged("x", pages=4, cpu=SECOND)
    x.begins("exec", to=places.EXECUTING)
    race.daemon.is_replaced()
    x.finishes()


def daemon_falls_asleep(race: Race) -> None:
    """It is killed while its hooks go off."""
    race.daemon.keeps_its_hooks()
    x = race.mergeable("x", pages=4)
    race.daemon.arrives(places.DETACHING, race.unmerges)
    race.daemon.is_replaced()
    race.ksmd.merges_all()
    x.does("write", "heap", 0, 1)
