"""Learning where the flags of a page have its node, with a program that is told what it sees."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ksmwatch.kernel import syscalls
from ksmwatch.probes import node_shift
from ksmwatch.probes.map_records import CallSite, NodePlace

SITE = CallSite(hooked=1, copy=2, function=3, learner=0, seen=1)
LOWER = 0x2FFFFF0000004C


class Places:
    """The maps, and the program, for which pages of node N have these flags."""

    def __init__(self, flags: Mapping[int, int], calls: int = 1) -> None:
        self._flags, self._calls = flags, calls
        self.site, self.shift, self.node = SITE, 0, -1

    def put_call_site(self, site: CallSite) -> None:
        """What the daemon says."""
        self.site = site

    def call_site(self) -> CallSite:
        """What the program has seen by now."""
        return self.site._replace(seen=self._calls) if self.site.learner else self.site

    def node_place(self) -> NodePlace:
        """The flags of the last page."""
        return NodePlace(self.shift, self._flags[self.node])

    def put_node_shift(self, shift: int) -> None:
        """The result."""
        self.shift = shift


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The nodes that a page was wanted from; this machine has only one."""
    wanted: list[int] = []
    monkeypatch.setattr(syscalls, "bind_memory", lambda _, __, node: wanted.append(node))
    monkeypatch.setattr(syscalls, "node_of_memory", lambda _: wanted[-1])
    return wanted


class OnNodes(Places):
    """Pages come from where they are wanted from."""

    def __init__(self, flags: Mapping[int, int], wanted: list[int], calls: int = 1) -> None:
        super().__init__(flags, calls)
        self._wanted = wanted

    def node_place(self) -> NodePlace:
        self.node = self._wanted[-1]
        return super().node_place()


@pytest.mark.parametrize(("nodes", "shift"), [((0, 1), 54), ((0, 1, 2, 5), 58), ((1, 3), 60)])
def test_the_shift_that_is_right_for_all_is_found(nodes: tuple[int, ...], shift: int) -> None:
    low = LOWER & (1 << shift) - 1
    assert node_shift.shift_of({node: node << shift | low for node in nodes}) == shift


@pytest.mark.parametrize(
    "seen",
    [
        {},
        # Of one node nothing can be told.
        {1: 1 << 54},
        {0: LOWER, 1: LOWER},
        # Something is above the node, such as a section.
        {0: 1 << 60, 1: 1 << 60 | 1 << 54},
    ],
)
def test_what_is_not_certain_is_not_taken(seen: dict[int, int]) -> None:
    assert node_shift.shift_of(seen) is None


def test_it_is_learnt_from_a_page_of_each_node(bound: list[int]) -> None:
    places = OnNodes({0: LOWER, 1: 1 << 54 | LOWER}, bound)
    assert node_shift.learn(places, (0, 1))
    assert (bound, places.shift) == ([0, 1], 54)
    # The call site is as it was.
    assert places.site == SITE


def test_other_calls_in_between_do_not_mislead(bound: list[int]) -> None:
    places = OnNodes({0: LOWER, 1: 1 << 54 | LOWER}, bound, calls=2)
    assert not node_shift.learn(places, (0, 1))
    assert (len(bound), places.shift) == (10, 0)


def test_a_page_that_is_on_another_node_is_not_looked_at(
    bound: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "node_of_memory", lambda _: 0)
    places = OnNodes({0: LOWER, 1: 1 << 54 | LOWER}, bound)
    assert not node_shift.learn(places, (0, 1))
    assert places.shift == 0


def test_nodes_that_a_cpuset_forbids_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []

    def bind(_: int, __: int, node: int) -> None:
        if node == 2:
            raise OSError(22, "Invalid argument")
        wanted.append(node)

    monkeypatch.setattr(syscalls, "bind_memory", bind)
    monkeypatch.setattr(syscalls, "node_of_memory", lambda _: wanted[-1])
    places = OnNodes({0: LOWER, 1: 1 << 54 | LOWER}, wanted)
    assert node_shift.learn(places, (0, 1, 2))
    assert places.shift == 54
    wanted.clear()
    places = OnNodes({0: LOWER}, wanted)
    assert not node_shift.learn(places, (0, 2))
