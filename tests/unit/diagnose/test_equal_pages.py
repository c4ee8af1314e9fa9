"""What merging the copies of one content saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.diagnose.equal_pages import Copies, Copy, Gain, Rules, saved_now

RULES = Rules(256, zero_pages=False, tenants=["x", "x", "y"])


def copies(*pages: tuple[int, int | None], offered: bool = True, merged: bool = False) -> Copies:
    """(party, frame) of each entry; None: a frame that nobody else maps."""
    found = Copies()
    for party, frame in pages:
        found.add(Copy(party, offered, merged), frame)
    return found


def host(found: Copies, rules: Rules = RULES, *, zero: bool = False) -> dict[Gain, float]:
    """Gains of the host."""
    gains = found.gains(rules, zero=zero)
    return {gain: value for (gain, party), value in gains.items() if party is None}


def test_all_but_one_are_saved() -> None:
    found = copies((0, None), (0, None), (1, None), (2, None))
    assert host(found) == {
        Gain.MORE: 3,
        Gain.OFFERED: 3,
        Gain.OWNERS: 1,
        Gain.TENANTS: 2,
        Gain.ACROSS: 1,
    }
    gains = found.gains(RULES, zero=False)
    assert [gains[Gain.MORE, party] for party in (0, 1, 2)] == [1.5, 0.75, 0.75]


def test_one_page_saves_nothing() -> None:
    assert host(copies((0, None))) == {}


@pytest.mark.parametrize(("pages", "kept"), [(256, 1), (257, 2), (1009, 4)])
def test_a_content_beyond_max_page_sharing_keeps_several_frames(pages: int, kept: int) -> None:
    assert host(copies(*[(0, None)] * pages))[Gain.MORE] == pages - kept


def test_what_processes_share_by_fork_is_saved_already() -> None:
    # Two processes map frame 7; a third has the content too.
    assert host(copies((0, 7), (0, 7))) == {}
    assert host(copies((0, 7), (0, 7), (1, None)))[Gain.MORE] == 1


def test_a_frame_that_somebody_else_maps_is_not_freed() -> None:
    # Of frames 7 and 8 one mapping was not examined; two pages are nobody else's.
    assert host(copies((0, 7), (0, 8))) == {}
    assert host(copies((0, 7), (0, 8), (0, None), (0, None)))[Gain.MORE] == 1
    # The other mapping is of a process that does not offer it.
    found = copies((0, 7), (0, 8), (0, None), (0, None))
    for frame in (7, 8):
        found.add(Copy(1, offered=False, merged=False), frame)
    assert host(found)[Gain.OFFERED] == 1
    assert host(found)[Gain.MORE] == 3


def test_what_is_merged_is_no_gain() -> None:
    found = copies((0, 7), (0, 7), (1, 7), merged=True)
    gains = host(found)
    assert Gain.MORE not in gains
    assert (gains[Gain.OWNERS], gains[Gain.TENANTS]) == (1, 2)
    found.add(Copy(2, offered=False, merged=False), None)
    gains = host(found)
    assert (gains[Gain.MORE], gains.get(Gain.OFFERED), gains[Gain.ACROSS]) == (1, None, 1)


def test_only_what_is_offered_counts_as_offered() -> None:
    found = copies((0, None), (0, None), offered=False)
    found.add(Copy(1, offered=True, merged=False), None)
    assert Gain.OFFERED not in host(found)
    found.add(Copy(1, offered=True, merged=False), None)
    assert (host(found)[Gain.OFFERED], host(found)[Gain.MORE]) == (1, 3)


@pytest.mark.parametrize(("free", "saved"), [(False, 2), (True, 3)])
def test_zero_pages_take_no_frame_if_ksm_is_told_so(*, free: bool, saved: int) -> None:
    rules = Rules(256, zero_pages=free, tenants=["x"])
    gains = host(copies(*[(0, None)] * 3), rules, zero=True)
    assert (gains[Gain.MORE], gains[Gain.ZERO]) == (saved, 3)
    assert host(copies(*[(0, None)] * 3), rules)[Gain.MORE] == 2


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=50))
def test_parts_of_owners_are_the_whole(pages: list[tuple[int, bool]]) -> None:
    found = Copies()
    for party, offered in pages:
        found.add(Copy(party, offered, merged=False), None)
    gains = found.gains(RULES, zero=False)
    for gain in (Gain.MORE, Gain.OFFERED):
        whole = gains.get((gain, None), 0)
        assert sum(gains.get((gain, party), 0) for party in range(3)) == pytest.approx(whole)
        assert 0 <= whole <= max(0, len(pages) - 1)
    total = gains.get((Gain.MORE, None), 0)
    owners, tenants = gains.get((Gain.OWNERS, None), 0), gains.get((Gain.TENANTS, None), 0)
    assert owners <= tenants <= total
    assert gains.get((Gain.ACROSS, None), 0) == total - tenants


def naive(frames: Iterable[list[int]]) -> int:
    mappings = Counter(frame for some in frames for frame in some)
    return sum(mappings.values()) - len(mappings)


@given(st.lists(st.lists(st.integers(0, 9), max_size=20), max_size=4))
def test_what_is_saved_now(frames: list[list[int]]) -> None:
    whole, parts = saved_now(frames)
    assert whole == naive(frames)
    assert sum(parts) == pytest.approx(whole)
