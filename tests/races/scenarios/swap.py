"""Pages go to swap and come back, while something else happens to them."""

from __future__ import annotations

from tests.races import places
from tests.races.race import KSMD, SECOND, Race, Tenant


def _mapped_once(race: Race) -> Tenant:
    """A process with one KSM page that nobody else maps, which reclaim takes."""
    x = race.merged("x", pages=2, cpu=SECOND)
    x.does("madvise", "heap", 0, 1, "dontneed")
    return x


def _going_out(race: Race) -> tuple[Tenant, Tenant]:
    """Such a process, held while its page is reclaimed, and another one in its address space."""
    x = _mapped_once(race)
    t = x.shares("t", cpu=KSMD)
    x.begins("madvise", "heap", 1, 1, "pageout", to=places.UNMAPPED)
    return x, t


def _swapped_out(race: Race) -> tuple[Tenant, Tenant]:
    """Such a process, whose page is in swap space, and another one in its address space."""
    x = _mapped_once(race)
    t = x.shares("t", cpu=KSMD)
    x.does("madvise", "heap", 1, 1, "pageout")
    return x, t


def swap_in_while_the_page_goes_out(race: Race) -> None:
    """The page is still in the swap cache when it is wanted again."""
    x, t = _going_out(race)
    t.begins("read", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    x.finishes()
    t.finishes()


def fork_while_the_page_goes_out(race: Race) -> None:
    """Fork waits for the lock, and the child gets a swap entry."""
    x, t = _going_out(race)
    child = t.begins_fork("u", to=places.WAITING)
    x.finishes()
    t.finishes()
    race.is_exact()
    child.does("read", "heap", 1, 1)
    x.does("read", "heap", 1, 1)


def zap_while_the_page_comes_in(race: Race) -> None:
    """The fault has begun, and the swap entry goes before the page is mapped."""
    x, t = _swapped_out(race)
    x.begins("read", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    t.does("madvise", "heap", 1, 1, "dontneed")
    x.finishes()


def zap_while_the_page_goes_out(race: Race) -> None:
    """The hook of reclaim has run, and the zap waits for the page table."""
    x, t = _going_out(race)
    t.does("madvise", "heap", 1, 1, "dontneed")
    x.finishes()


def copy_while_the_page_goes_out(race: Race) -> None:
    """A write finds the page in the swap cache."""
    x, t = _going_out(race)
    t.begins("write", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    x.finishes()
    t.finishes()


def mremap_while_the_page_goes_out(race: Race) -> None:
    """It waits for the lock, and takes a swap entry along."""
    x, t = _going_out(race)
    t.begins("move", "heap", 0, 2, to=places.WAITING)
    x.finishes()
    t.finishes()
    race.is_exact()
    t.does("read", "heap", 1, 1)


def fork_after_the_page_has_begun_to_come_in(race: Race) -> None:
    """Parent and child bring it in at the same time."""
    x, t = _swapped_out(race)
    u = t.forks("u")
    x.begins("read", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    u.does("read", "heap", 1, 1)
    x.finishes()


def snapshot_while_the_page_goes_out(race: Race) -> None:
    """The departure is counted, and the page is still in memory."""
    x = _mapped_once(race)
    x.begins("madvise", "heap", 1, 1, "pageout", to=places.UNMAPPED)
    race.is_honest("while the page is in the swap cache")
    x.finishes()


def exec_while_the_page_goes_out(race: Race) -> None:
    """The address space passes to another task, which reclaims its page."""
    x = _mapped_once(race)
    t = x.shares("t", cpu=KSMD)
    t.begins("madvise", "heap", 1, 1, "pageout", to=places.UNMAPPED)
    x.execs()
    t.finishes()
    race.is_exact()
    t.does("read", "heap", 1, 1)


def exec_while_the_page_comes_in(race: Race) -> None:
    """The address space passes to another task, whose fault has begun."""
    x, t = _swapped_out(race)
    t.begins("read", "heap", 1, 1, to=places.SWAPPED_OUT_FAULT)
    x.execs()
    t.finishes()
