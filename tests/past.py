"""An invented host over time, as snapshots with owners whose past is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ksmwatch.history.moment import Moment, moment_of
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.model import Snapshot
from tests.made_up import process, snapshot

# 2023-11-14 22:13:20 UTC, a step of ten minutes.
BEGIN = 1700000000.0 + 400.0
# The clock that does not jump.
CLOCK = 5000.0


def vm(name: str) -> Owner:
    return Owner(OwnerKind.VM, name, f"libvirt/{name}", manager="libvirt", unit=f"{name}.scope")


def past_snapshot(
    seconds: float,
    mappings: Mapping[str, int],
    moves: Mapping[str, Mapping[Movement, int]] | None = None,
    **changes: Any,
) -> Snapshot:
    """The host that many seconds after BEGIN, with the mappings of its machines by name."""
    moved = {
        vm(name).key: tuple((moves or {}).get(name, {}).get(m, 0) for m in Movement)
        for name in mappings
    }
    processes = [
        process(pid=100 + n, owner=vm(name), mappings=amount, stray=())
        for n, (name, amount) in enumerate(mappings.items())
    ]
    values: dict[str, Any] = {
        "time": BEGIN + seconds,
        "clock": CLOCK + seconds,
        "duration": 0.0,
        "processes": tuple(sorted(processes, key=lambda p: -p.mappings)),
        "moved": moved,
    }
    return snapshot(**{**values, **changes})


def past_moment(
    seconds: float,
    mappings: Mapping[str, int],
    *,
    since: float | None = None,
    began: float = BEGIN,
    top: int = 50,
    **more: Any,
) -> Moment:
    """The same as a moment, ten seconds after the one before if `since` does not differ."""
    since = seconds - 10 if since is None else since
    return moment_of(past_snapshot(seconds, mappings, **more), top, began, BEGIN + since)


def crowd(seconds: float, owners: int) -> dict[str, int]:
    """So many machines, whose mappings differ and move."""
    return {f"vm{n}": 100_000 * (n + 1) + int(seconds) * (n + 1) for n in range(owners)}
