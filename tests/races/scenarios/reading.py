"""An exact read is held on its way, and something happens to the process that is read."""

from __future__ import annotations

from tests.races import places
from tests.races.race import SECOND, Race, Tenant


def _half_read(race: Race, pages: int = 64) -> Tenant:
    """A child whose merged heap lies above its middle; the read has come up to the heap."""
    x = race.merged("x", pages)
    x.does("map", "middle", 16, "apart")
    x.does("fill", "middle", 0, 16, race.seed, 0)
    x.does("madvise", "middle", 0, 16, "mergeable")
    areas = race.guest.ask("areas_before", "x", "heap")
    return race.daemon.reads_child(x, "y", to=places.AREA, passes=areas, cpu=SECOND)


def _not_mergeable(race: Race, tenant: Tenant) -> None:
    """Half of the pages of its heap become KSM pages by a child's doing.

    Of a mergeable area mremap would unshare the pages.
    """
    tenant.does("map", "heap", 128, "apart")
    tenant.does("fill", "heap", 0, 128, race.seed, 64)
    child = tenant.forks("c")
    child.does("madvise", "heap", 0, 128, "mergeable")
    race.ksmd.merges_all()
    child.is_killed()


def _half_is_moved_while_the_read_waits(race: Race, x: Tenant) -> None:
    """A child of x is read up to the middle, and lets the heap's second half go elsewhere."""
    areas = race.guest.ask("areas_before", "x", "middle")
    y = race.daemon.reads_child(x, "y", to=places.AREA, passes=areas, cpu=SECOND)
    y.begins("move", "heap", 64, 64, to=places.WAITING).goes_on()
    race.daemon.goes_on(to=places.UNLOCKED)
    y.finishes()
    race.daemon.goes_on()


def pages_move_to_where_the_read_has_been(race: Race) -> None:
    """Between two areas the read lets go of the lock, and mremap takes the pages past it."""
    x = race.tenant("x")
    _not_mergeable(race, x)
    x.does("map", "middle", 16, "shared")
    _half_is_moved_while_the_read_waits(race, x)


def pages_move_to_where_the_read_has_not_been(race: Race) -> None:
    """The same the other way: they would be counted twice."""
    x = race.tenant("x")
    x.does("map", "room", 256, "apart")
    x.does("map", "middle", 16, "shared")
    _not_mergeable(race, x)
    # A hole above the middle, in which the pages find room.
    x.does("munmap", "room", 0, 256)
    _half_is_moved_while_the_read_waits(race, x)


def write_behind_the_read(race: Race) -> None:
    """A copy of a page that has been counted."""
    y = _half_read(race)
    race.daemon.goes_on(to=places.AREA)
    y.does("write", "heap", 0, 7)
    race.daemon.goes_on()


def zap_ahead_of_the_read(race: Race) -> None:
    """The hook has run, and the read waits for the lock of the page table."""
    y = _half_read(race)
    y.begins("madvise", "heap", 0, 7, "dontneed", to=places.REMOVING)
    race.daemon.goes_on()
    y.finishes()


def conversion_behind_the_read(race: Race) -> None:
    """Pages turn that have been read."""
    y = _half_read(race)
    race.daemon.goes_on(to=places.AREA)
    y.does("fill", "middle", 0, 16, race.seed + 1000, 1)
    race.ksmd.runs(to=places.CONVERTED)
    race.daemon.goes_on()
    race.guest.ask("snapshot")
    race.ksmd.merges_all()


def migration_begins_behind_the_read(race: Race) -> None:
    """A page has been counted, and is away when the read ends."""
    y = _half_read(race)
    race.daemon.goes_on(to=places.AREA)
    race.mover.begins_moving(y, 0, to=places.PUTTING_BACK)
    race.daemon.goes_on()
    race.guest.ask("snapshot")
    race.mover.finishes()


def migration_ends_behind_the_read(race: Race) -> None:
    """A page was away when its area was read, and is back when the read ends."""
    y = _half_read(race)
    race.mover.begins_moving(y, 0, to=places.PUTTING_BACK)
    race.daemon.goes_on(to=places.AREA)
    race.mover.finishes()
    race.daemon.goes_on()


def fork_behind_the_read(race: Race) -> None:
    """Between two areas a fork takes the lock; the grandchild inherits a count in doubt."""
    y = _half_read(race)
    race.daemon.goes_on(to=places.AREA)
    y.begins_fork("z", to=places.WAITING)
    y.goes_on()
    race.daemon.goes_on(to=places.UNLOCKED)
    y.finishes()
    y.does("write", "heap", 0, 3)
    race.daemon.goes_on()


def exit_during_the_read(race: Race) -> None:
    """The file keeps the address space, which nobody uses any more."""
    y = _half_read(race)
    y.is_killed()
    race.daemon.goes_on()


def exec_during_the_read(race: Race) -> None:
    """The file is about the old address space, the process about the new one."""
    y = _half_read(race)
    y.execs()
    race.daemon.goes_on()


def swap_out_behind_the_read(race: Race) -> None:
    """A page that one process maps is reclaimed after it was counted."""
    y = _half_read(race, pages=2)
    race.guest.ask("kill", "x")
    y.does("madvise", "heap", 0, 1, "dontneed")
    race.daemon.goes_on(to=places.AREA)
    y.does("madvise", "heap", 1, 1, "pageout")
    race.daemon.goes_on()
    race.is_exact()
    y.begins("read", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    y.finishes()


def swap_in_behind_the_read(race: Race) -> None:
    """A page was in swap space when its area was read, and is back when the read ends."""
    y = _half_read(race, pages=2)
    race.guest.ask("kill", "x")
    y.does("madvise", "heap", 0, 1, "dontneed")
    y.does("madvise", "heap", 1, 1, "pageout")
    race.daemon.goes_on(to=places.AREA)
    y.does("read", "heap", 1, 1)
    race.daemon.goes_on()


def replacement_behind_the_read(race: Race) -> None:
    """A PTE is made to map a KSM page in an area that has been read."""
    y = _half_read(race)
    race.daemon.goes_on(to=places.AREA)
    y.does("fill", "middle", 0, 16, race.seed, 1)
    race.ksmd.runs(to=places.MERGE_ENDS)
    race.daemon.goes_on()
    race.guest.ask("snapshot")
    race.ksmd.merges_all()
