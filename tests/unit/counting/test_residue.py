"""What KSM's run state says about mappings that are still there."""

from __future__ import annotations

import pytest

from ksmwatch.counting.residue import Residue, residue
from ksmwatch.counting.run_state import RunState


@pytest.mark.parametrize(
    ("run", "pages_shared", "read_age", "expected"),
    [
        (1, 5, None, Residue.MERGED),
        (1, 0, 1.0, Residue.MERGED),
        # run=0 keeps pages merged: not a fault, whatever has been read.
        (0, 5, None, Residue.KEPT),
        (0, 0, 1.0, Residue.KEPT),
        (2, 5, 1.0, Residue.UNMERGING),
        (2, None, 1.0, Residue.UNMERGING),
        (2, 0, None, Residue.UNVERIFIED),
        # Read before `run` became 2 ten seconds ago: what was read says nothing.
        (2, 0, 10.5, Residue.UNVERIFIED),
        (2, 0, 10.0, Residue.LEFT),
        (2, 0, 0.0, Residue.LEFT),
        # Unknown is not off.
        (None, 0, 1.0, Residue.MERGED),
    ],
)
def test_residue(
    run: int | None, pages_shared: int | None, read_age: float | None, expected: Residue
) -> None:
    read_at = None if read_age is None else 1000.0 - read_age
    assert residue(RunState(run, 10.0, 990.0), pages_shared, read_at) is expected
