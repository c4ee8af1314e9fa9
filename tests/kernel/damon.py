"""DAMON, the kernel's monitor of accesses, told to page out some page frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import oracle

_KDAMONDS = Path("/sys/kernel/mm/damon/admin/kdamonds")
_CONTEXT = _KDAMONDS / "0/contexts/0"
_SCHEME = _CONTEXT / "schemes/0"
_MOST = 2**32 - 1


def _coalesced(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of frames that follow each other, from the first to before the second."""
    ranges: list[tuple[int, int]] = []
    for frame in frames:
        if ranges and ranges[-1][1] == frame:
            ranges[-1] = (ranges[-1][0], frame + 1)
        else:
            ranges.append((frame, frame + 1))
    return ranges


def _write(path: Path, value: object) -> None:
    path.write_text(str(value))


@contextmanager
def pageout(frames: Sequence[int]) -> Iterator[None]:
    """A scheme that pages out these frames, whether or not they are used, during the block."""
    ranges = _coalesced(frames)
    _write(_KDAMONDS / "nr_kdamonds", 1)
    _write(_KDAMONDS / "0/contexts/nr_contexts", 1)
    _write(_CONTEXT / "operations", "paddr")
    # The kernel splits no range further than this, and checks one page of each.
    _write(_CONTEXT / "monitoring_attrs/nr_regions/max", 4 * len(ranges) + 10)
    _write(_CONTEXT / "targets/nr_targets", 1)
    _write(_CONTEXT / "targets/0/regions/nr_regions", len(ranges))
    for number, (first, end) in enumerate(ranges):
        region = _CONTEXT / f"targets/0/regions/{number}"
        _write(region / "start", first * oracle.PAGE)
        _write(region / "end", end * oracle.PAGE)
    _write(_CONTEXT / "schemes/nr_schemes", 1)
    _write(_SCHEME / "action", "pageout")
    for what in ("sz", "nr_accesses", "age"):
        _write(_SCHEME / f"access_pattern/{what}/max", _MOST)
    _write(_KDAMONDS / "0/state", "on")
    try:
        yield
    finally:
        _write(_KDAMONDS / "0/state", "off")
        _write(_KDAMONDS / "nr_kdamonds", 0)
