"""Which moves to other cgroups the live backend has seen, on a fake kernel."""

from __future__ import annotations

import pytest

from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.cgroup_moves import SeenMoves
from ksmwatch.probes.map_records import Movement
from ksmwatch.probes.plan import choose
from tests.fake_kernel import PLENTY, Kernel
from tests.fakes import without

NOBODY = SeenMoves((), whole=True)


@pytest.fixture
def watching(started: Live) -> Live:
    """A backend that was asked once."""
    assert started.moved() == SeenMoves((), whole=False)
    return started


def test_who_is_moved_is_told_once(kernel: Kernel, watching: Live) -> None:
    assert watching.moved() == NOBODY
    for pid in (20, 10):
        kernel.move_to_cgroup(pid)
    assert watching.moved() == SeenMoves((20, 10), whole=True)
    assert watching.moved() == NOBODY


def test_a_kernel_that_does_not_tell(kernel: Kernel) -> None:
    live = kernel.live(choose(without(tracepoints=frozenset())))
    live.start()
    assert live.moved() is None


def test_moves_are_seen_while_ksm_is_asleep(kernel: Kernel, idle: Live) -> None:
    idle.moved()
    idle.tick(PLENTY)
    assert idle.asleep
    kernel.move_to_cgroup(10)
    assert idle.moved() == SeenMoves((10,), whole=True)
    kernel.sys.write("run", 1)
    kernel.move(kernel.users[10], 2, Movement.MERGED)
    idle.tick(PLENTY)
    assert not idle.asleep
    assert idle.moved() == NOBODY


def test_while_the_probe_is_off_any_process_may_have_moved(kernel: Kernel, watching: Live) -> None:
    kernel.take_off("cgroup")
    kernel.move_to_cgroup(10)
    # Found at once; the probes are attached again in the same look.
    watching.refresh(PLENTY)
    assert watching.moved() == SeenMoves((), whole=False)
    kernel.move_to_cgroup(10)
    assert watching.moved() == SeenMoves((10,), whole=True)


def test_while_the_probe_cannot_be_attached_moves_are_not_seen(
    kernel: Kernel, watching: Live
) -> None:
    kernel.take_off("cgroup")
    kernel.refused = {"cgroup"}
    watching.refresh(PLENTY)
    assert watching.moved() is None
    kernel.refused = set()
    kernel.clock.now += 3600
    watching.refresh(PLENTY)
    assert watching.moved() == SeenMoves((), whole=False)


def test_a_successor_begins_behind_what_was_moved_before(kernel: Kernel, watching: Live) -> None:
    kernel.move_to_cgroup(10)
    assert watching.moved() == SeenMoves((10,), whole=True)
    successor = kernel.live()
    assert successor.adopt()
    assert successor.moved() == SeenMoves((), whole=False)
    kernel.move_to_cgroup(20)
    assert successor.moved() == SeenMoves((20,), whole=True)
