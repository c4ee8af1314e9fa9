"""The ring of moves to other cgroups, as a program writes it."""

from __future__ import annotations

import re

import pytest

from ksmwatch.probes.cgroup_moves import KEPT, CgroupMoves, SeenMoves
from ksmwatch.probes.sources import bpf_directory
from tests.cgroup_ring import Ring


# Also where the numbers outgrow their half of a word.
@pytest.fixture(params=[0, 1, KEPT - 1, 3 * KEPT, 2**31 - 2, 2**32 - 2])
def ring(request: pytest.FixtureRequest) -> Ring:
    return Ring(request.param)


def test_moves_are_told_once_and_in_order(ring: Ring) -> None:
    moves = CgroupMoves(ring)
    assert moves.take() == SeenMoves((), whole=True)
    for pids in ((7, 8, 7), (9,), (), tuple(range(KEPT))):
        ring.move(*pids)
        assert moves.take() == SeenMoves(pids, whole=True)


def test_after_more_than_are_kept_the_rest_is_unknown(ring: Ring) -> None:
    moves = CgroupMoves(ring)
    ring.move(*range(KEPT + 1))
    assert moves.take() == SeenMoves((), whole=False)
    ring.move(5)
    assert moves.take() == SeenMoves((5,), whole=True)


def test_a_move_that_is_being_told_is_told_now_or_later(ring: Ring) -> None:
    moves = CgroupMoves(ring)
    ring.write(7)
    assert moves.take() == SeenMoves((7,), whole=True)
    ring.move(7)
    assert moves.take() == SeenMoves((), whole=True)
    # It takes the place of one that was not read.
    ring.move(*range(KEPT))
    ring.write(8)
    assert moves.take() == SeenMoves((), whole=False)
    ring.move(8)
    assert moves.take() == SeenMoves((8,), whole=True)


def test_the_size_is_that_of_the_program() -> None:
    source = (bpf_directory() / "records.h").read_text()
    assert re.findall(r"#define CGROUP_MOVES (\d+)", source) == [str(KEPT)]
