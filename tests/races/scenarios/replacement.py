"""A KSM page is put in a page's place, while something happens to that PTE."""

from __future__ import annotations

from tests.races import places
from tests.races.race import SECOND, Race


def zap_before_the_replacement(race: Race) -> None:
    """The second page of the set goes, the merge fails, and ksmd unshares the first again."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    x.does("madvise", "heap", 0, 1, "dontneed")
    race.ksmd.goes_on(to=places.MERGED)


def copy_before_the_replacement(race: Race) -> None:
    """The same by a write; and the page that fork shares stays behind in the child."""
    x = race.mergeable("x", cpu=SECOND)
    x.forks("y")
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    x.does("write", "heap", 0, 1)
    race.ksmd.goes_on(to=places.MERGED)


def converted_page_is_copied_before_the_replacement(race: Race) -> None:
    """The KSM page that is to be put in place loses its only mapping."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    x.does("write", "heap", 1, 1)
    race.ksmd.goes_on(to=places.MERGED)


def process_ends_during_the_replacement(race: Race) -> None:
    """__ksm_exit() waits for ksmd, which has converted one page and replaces the other."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    x.begins("exit", to=places.WAITING)
    race.ksmd.goes_on()
    x.goes_on(to=places.EMPTIED)
    race.is_honest("while the process is empty and not gone")
    x.goes_on()


def zap_during_the_replacement(race: Race) -> None:
    """The PTE maps the KSM page, and is unmapped before the merge is told to have succeeded."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.MERGE_ENDS, passes=1)
    x.begins("madvise", "heap", 0, 2, "dontneed", to=places.REMOVING)
    race.ksmd.goes_on(to=places.MERGED)
    x.finishes()


def exec_during_the_replacement(race: Race) -> None:
    """The address space changes its process while ksmd is in it."""
    x = race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    x.begins("exec", to=places.WAITING)
    race.ksmd.goes_on()
    x.finishes()


def snapshot_before_the_replacement_is_told(race: Race) -> None:
    """The PTE maps the KSM page, and the arrival is counted already, or in doubt."""
    race.mergeable("x", cpu=SECOND)
    race.ksmd.runs(to=places.MERGE_ENDS, passes=1)
    race.is_honest("while ksmd stands in front of the return")
    race.ksmd.goes_on(to=places.MERGED)


def sibling_forks_during_the_replacement(race: Race) -> None:
    """It shares the page that is replaced, and keeps it, as does its child."""
    x = race.mergeable("x", cpu=SECOND)
    y = x.forks("y")
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    y.forks("z")
    race.ksmd.goes_on(to=places.MERGED)
    race.is_honest("while the merge is told")


def sibling_moves_its_area_during_the_replacement(race: Race) -> None:
    """Of the page that goes out of use in x, the sibling takes its PTE elsewhere."""
    x = race.mergeable("x", cpu=SECOND)
    y = x.forks("y")
    race.ksmd.runs(to=places.PROTECTED, passes=1)
    y.does("move", "heap", 0, 2)
    race.ksmd.goes_on(to=places.MERGED)
