"""What the daemon says about the history that it keeps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ksmwatch.snapshot.last_hour import HourPoints


class Unwritten(StrEnum):
    """Why a moment is missing in the history.

    FULL: no room on the file system. DAMAGED: the file was moved aside, and a new one begun. BUSY:
    the previous moment was still being written, or a reader was in the way.
    """

    FULL = "full"
    READ_ONLY = "read_only"
    DENIED = "denied"
    DAMAGED = "damaged"
    BUSY = "busy"
    OTHER = "other"


@dataclass(frozen=True)
class HistoryState:
    """Moments written, and those that were not, by reason, since the daemon began.

    `bytes`: of the database; `oldest`: the time of the first moment in it; None if unknown.
    `hour`: points of the last hour.
    """

    written: int = 0
    unwritten: Mapping[Unwritten, int] = field(default_factory=dict)
    clock_steps: int = 0
    bytes: int | None = None
    oldest: float | None = None
    hour: HourPoints = field(default_factory=HourPoints)
