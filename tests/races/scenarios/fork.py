"""Fork copies PTEs, while something happens to those of the parent or of the child."""

from __future__ import annotations

from tests.races import places
from tests.races.race import KSMD, SECOND, Race, Tenant


def _never_registered(race: Race) -> tuple[Tenant, Tenant]:
    """A process with a KSM page by its child's doing, and a second task in it."""
    s = race.tenant("s")
    s.does("map", "heap", 2, "apart")
    s.does("fill", "heap", 0, 2, race.seed, 1)
    y = s.forks("y")
    y.does("madvise", "heap", 0, 2, "mergeable")
    race.ksmd.merges_all()
    y.is_killed()
    # So that nobody is in doubt, which a child would inherit.
    race.guest.ask("snapshot")
    return s, s.shares("t", cpu=SECOND)


def parent_loses_its_only_page_after_it_was_copied(race: Race) -> None:
    """The parent has no KSM page any more when the fork is told."""
    s, t = _never_registered(race)
    t.begins_fork("u", to=places.COPIED)
    s.does("madvise", "heap", 0, 2, "dontneed")
    t.finishes()


def parent_writes_after_it_was_copied(race: Race) -> None:
    """Of several pages one has gone when the fork is told."""
    s = race.merged("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.COPIED)
    s.does("write", "heap", 0, 1)
    t.finishes()


def child_is_moved_before_the_fork_is_told(race: Race) -> None:
    """Events meet PTEs of a child that has no name yet."""
    # The kernel finds the PTEs of a KSM page by the areas of those who registered.
    s = race.merged("s")
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.COPIED)
    race.mover.moves_and_back(s, 0)
    t.finishes()


def ksmd_merges_pages_of_a_child_before_the_fork_is_told(race: Race) -> None:
    """The account of the child is opened by a merge."""
    s = race.mergeable("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.COPIED)
    race.ksmd.runs(to=places.MERGED)
    t.finishes()
    race.ksmd.merges_all()


def parent_unmaps_between_registration_and_birth(race: Race) -> None:
    """The child has inherited a count, and its parent loses pages before the fork is told."""
    s = race.merged("s", pages=4)
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.REGISTERED)
    s.starts("tell", "s", ["madvise", "heap", 0, 2, "dontneed"])
    t.goes_on(to=places.UNBORN)
    s.finishes()
    t.finishes()


def page_turns_in_a_child_that_is_not_born(race: Race) -> None:
    """The parent loses its PTE; the page turns through a sibling; then the fork is told."""
    s = race.tenant("s")
    s.does("map", "heap", 2, "apart")
    s.does("fill", "heap", 0, 2, race.seed, 1)
    m = s.forks("m")
    m.does("madvise", "heap", 0, 2, "mergeable")
    t = s.shares("t", cpu=SECOND)
    t.begins_fork("u", to=places.UNBORN)
    s.does("madvise", "heap", 0, 2, "dontneed")
    race.ksmd.runs(to=places.MERGED)
    race.ksmd.merges_all()
    race.guest.ask("snapshot")
    t.finishes()


def parent_and_child_fork_at_the_same_time(race: Race) -> None:
    """Two children of one family are born, and both parents lose pages before that is told."""
    s = race.merged("s", pages=4)
    m = s.forks("m")
    t = s.shares("t", cpu=SECOND)
    n = m.shares("n", cpu=KSMD)
    t.begins_fork("u", to=places.COPIED)
    n.begins_fork("v", to=places.COPIED)
    s.does("write", "heap", 0, 1)
    m.does("madvise", "heap", 1, 2, "dontneed")
    n.finishes()
    t.finishes()


def two_tasks_of_a_process_fork_at_the_same_time(race: Race) -> None:
    """The second copies what the first has left, and is told first."""
    s = race.merged("s", pages=4)
    t, n = s.shares("t", cpu=SECOND), s.shares("n", cpu=KSMD)
    t.begins_fork("u", to=places.COPIED)
    s.does("write", "heap", 0, 1)
    n.begins_fork("v", to=places.COPIED)
    s.does("madvise", "heap", 1, 2, "dontneed")
    n.finishes()
    t.finishes()
