"""A page becomes KSM in place, while something happens to its PTEs."""

from __future__ import annotations

from tests.races import places
from tests.races.guest import StuckError
from tests.races.race import SECOND, Race


def zap_sees_no_ksm_page_and_conversion_sees_the_mapping(race: Race) -> None:
    """The hook of a zap has run before the page turned, and the mapcount goes down later."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    x.begins("madvise", "heap", 1, 1, "dontneed", to=places.REMOVING)
    race.ksmd.goes_on(to=places.MERGED)
    x.finishes()


def copy_sees_no_ksm_page_and_conversion_sees_the_mapping(race: Race) -> None:
    """The same by a write."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    x.begins("write", "heap", 1, 1, to=places.REMOVING)
    race.ksmd.goes_on(to=places.MERGED)
    x.finishes()


def own_mapping_of_a_shared_page_goes_before_it_turns(race: Race) -> None:
    """The sibling was read before, and at the end nothing shows that the page was shared."""
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    x.does("madvise", "heap", 1, 1, "dontneed")
    race.ksmd.goes_on(to=places.MERGED)


def sibling_is_read_before_a_shared_page_turns(race: Race) -> None:
    """What was read is old as soon as the mapping is stored, before the hook on the return."""
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    race.ksmd.goes_on(to=places.CONVERTED)
    race.is_honest("while ksmd stands behind the store")


def walk_of_a_family_loses_a_member_to_a_rotation(race: Race) -> None:
    """The walk stands at the fourth edge of a tree of four; one fork, and it misses the third."""
    x = race.mergeable("x", cpu=SECOND)
    family = [x.forks(name) for name in ("y", "z", "w")]
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    race.ksmd.goes_on(to=places.CONVERTED).goes_on(to=places.OUR_FUNCTION, passes=4)
    family[0].forks("v")
    race.ksmd.goes_on(to=places.MERGED)


def tree_of_a_family_changes_in_every_walk(race: Race) -> None:
    """No walk is sure to have met every member, so the daemon reads every process."""
    x = race.mergeable("x", cpu=SECOND)
    family = [x.forks(name) for name in ("y", "z", "w")]
    race.ksmd.runs(to=places.PROTECTED)
    before = race.losses("families_changed")
    race.ksmd.goes_on(to=places.CONVERTED).goes_on(to=places.OUR_FUNCTION, passes=4)
    # A walk of n members has 2n steps, and each fork adds a member. The step at which ksmd is held
    # is the first that it passes.
    for number, steps in enumerate((8, 11, 14)):
        family[0].forks(f"child-{number}")
        race.ksmd.goes_on(to=places.OUR_FUNCTION, passes=steps)
    family[0].forks("last")
    race.ksmd.goes_on(to=places.MERGED)
    if race.losses("families_changed") != before + 1:
        raise StuckError("one of the walks was not disturbed")


def own_mapping_of_a_shared_page_is_copied_before_it_turns(race: Race) -> None:
    """A write by the converting process, the sibling having been read."""
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    x.does("write", "heap", 1, 1)
    race.ksmd.goes_on(to=places.MERGED)


def sibling_writes_while_a_shared_page_turns(race: Race) -> None:
    """The hook of the copy has run before the page turned."""
    x = race.mergeable("x")
    y = x.forks("y", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    y.begins("write", "heap", 1, 1, to=places.REMOVING)
    race.ksmd.goes_on(to=places.MERGED)
    y.finishes()


def sibling_zaps_while_a_shared_page_turns(race: Race) -> None:
    """The hook of the zap has run before the page turned, and the sibling was read before."""
    x = race.mergeable("x")
    y = x.forks("y", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    y.begins("madvise", "heap", 1, 1, "dontneed", to=places.REMOVING)
    race.ksmd.goes_on(to=places.MERGED)
    y.finishes()


def sibling_exits_while_a_shared_page_turns(race: Race) -> None:
    """Its PTEs go one by one, some before the page turned and some after."""
    x = race.mergeable("x")
    y = x.forks("y", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    y.begins("exit", to=places.EMPTYING)
    race.ksmd.goes_on(to=places.MERGED)
    y.goes_on()


def sibling_is_exiting_before_a_shared_page_turns(race: Race) -> None:
    """It has no user any more when ksmd looks for sharers, and still has all its PTEs."""
    x = race.merged("x")
    # Without a KSM page the sibling would have no account, and would be in doubt from its first.
    x.does("map", "more", 2, "apart")
    x.does("fill", "more", 0, 2, race.seed + 1000, 1)
    x.does("madvise", "more", 0, 2, "mergeable")
    y = x.forks("y", cpu=SECOND)
    race.guest.ask("snapshot")
    y.begins("exit", to=places.EMPTYING)
    race.ksmd.runs(to=places.MERGED)
    y.goes_on()


def sibling_execs_while_a_shared_page_turns(race: Race) -> None:
    """Its old address space is emptied while ksmd stands behind the store, and counted later."""
    x = race.mergeable("x")
    y = x.forks("y", cpu=SECOND)
    race.ksmd.runs(to=places.CONVERTED)
    y.begins("exec", to=places.EMPTIED)
    race.ksmd.goes_on(to=places.MERGED)
    y.finishes()


def sibling_forks_while_a_shared_page_turns(race: Race) -> None:
    """A grandchild is made behind the first walk of the family, and before the page turns."""
    x = race.mergeable("x")
    y = x.forks("y", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    y.begins_fork("z", to=places.COPIED)
    race.ksmd.goes_on(to=places.CONVERTED)
    y.finishes()
    race.is_honest("while ksmd stands behind the store")
    race.ksmd.goes_on(to=places.MERGED)


def sibling_moves_its_area_while_a_shared_page_turns(race: Race) -> None:
    """Mremap takes the PTE elsewhere, of which the reverse map is not told."""
    x = race.mergeable("x")
    y = x.forks("y", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    race.guest.ask("snapshot")
    y.does("move", "heap", 0, 2)
    race.ksmd.goes_on(to=places.MERGED)


def zap_behind_the_store_and_before_the_return(race: Race) -> None:
    """The departure is counted before the arrival is."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.CONVERTED)
    x.does("madvise", "heap", 1, 1, "dontneed")
    race.ksmd.goes_on(to=places.MERGED)


def copy_behind_the_store_and_across_the_return(race: Race) -> None:
    """The hook of the copy has run behind the store; the mapcount goes down after the return."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.CONVERTED)
    x.begins("write", "heap", 1, 1, to=places.REMOVING)
    race.ksmd.goes_on(to=places.MERGED)
    x.finishes()


def process_ends_while_its_page_turns(race: Race) -> None:
    """__ksm_exit() waits for ksmd, and then the PTEs go before the next merge."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED)
    x.begins("exit", to=places.WAITING)
    race.ksmd.goes_on()
    x.goes_on(to=places.EMPTIED)
    race.is_honest("while the process is empty and not gone")
    x.goes_on()
