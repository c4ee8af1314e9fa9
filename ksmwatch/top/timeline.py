"""Steps through the history of this host, and what it was like at each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ksmwatch.errors import HistoryError, SourceError
from ksmwatch.history.past import Past, continues
from ksmwatch.history.past_document import past_document
from ksmwatch.history.reader import HistoryReader
from ksmwatch.history.retention import Span, thinned
from ksmwatch.history.times import whole
from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.top.sparkline_points import Traces

# A sparkline begins with the hour before, in as many values as it remembers.
TRACE_STEP = 30.0
_TRACE_SECONDS = 3600.0


class Move(NamedTuple):
    """A step by moments, or a jump by seconds; neither: back to now."""

    moments: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Recorded:
    """The document of a moment, and of the one before it if nothing is missing in between."""

    document: dict[str, Any]
    previous: dict[str, Any] | None


class Timeline:
    """A place in the history. Every call raises KsmwatchError."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock
        self._reader: HistoryReader | None = None
        # None: now.
        self._span: Span | None = None

    @property
    def past(self) -> bool:
        """Whether it is not now."""
        return self._span is not None

    @property
    def _open(self) -> HistoryReader:
        if self._reader is None:
            self._reader = HistoryReader(self._directory)
        return self._reader

    def go_to(self, at: float) -> None:
        """Go to the moment of that time."""
        self._span = self._open.at(at)
        if self._span is None:
            raise HistoryError(f"The history in {self._directory} is empty.")

    def move(self, move: Move) -> None:
        """Take a step. After the newest moment it leads to now; before the first it stays."""
        if move.seconds:
            self._jump(move.seconds)
        elif move.moments and self._span is not None:
            found = self._open.next_to(self._span.id, move.moments)
            self._span = found or (self._span if move.moments < 0 else None)
        else:
            self._span = self._open.last if move.moments < 0 else None

    def _jump(self, seconds: float) -> None:
        here = self._span
        if here is None:
            if seconds < 0:
                self.go_to(self._clock() + seconds)
            return
        there = self._open.at(here.time + seconds)
        forward = seconds > 0
        if there is None or (there.id <= here.id if forward else there.id >= here.id):
            # Over a gap.
            there = self._open.next_to(here.id, 1 if forward else -1)
        self._span = there or (None if forward else here)

    def read(self) -> Recorded:
        """The moment of this place."""
        here = self._span
        assert here is not None
        before = self._open.next_to(here.id, -1)
        past = self._open.past([span for span in (before, here) if span is not None])
        if not past.moments or past.moments[-1].id != here.id:
            # It was merged or forgotten meanwhile.
            self.go_to(here.time)
            return self.read()
        place = len(past.moments) - 1
        follows = place > 0 and continues(*past.moments)
        return Recorded(past_document(past, place), past_document(past, 0) if follows else None)

    def traces(self) -> Traces:
        """Mappings of each owner in the hour before this place."""
        until = self._clock() if self._span is None else self._span.time
        spans = self._open.between(until - _TRACE_SECONDS, until)
        return _traces(self._open.past(thinned(spans, TRACE_STEP)))

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


def _traces(past: Past) -> Traces:
    """One value for each step, unknown in a gap. While nothing moves, moments are rare."""
    found: dict[tuple[str, str], list[tuple[float, int | None]]] = {}
    for owner in past.owners:
        points = found[owner.key] = []
        for place, (moment, numbers) in enumerate(zip(past.moments, owner.numbers, strict=True)):
            if points:
                last, value = points[-1]
                gap = not continues(past.moments[place - 1], moment)
                missing = round((moment.time - last) / TRACE_STEP) - 1
                between = None if gap else value
                points += [(last + TRACE_STEP * (n + 1), between) for n in range(missing)]
            points.append((moment.time, None if numbers is None else numbers.mappings))
    return found


class PastSource:
    """The moments from a place on, one after the other, for `top` without a terminal."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._begun = False
        self.label = "history"
        self.previous = timeline.read().previous

    def read(self) -> dict[str, Any]:
        """The next one. Raises SourceError after the newest."""
        if self._begun:
            self._timeline.move(Move(moments=1))
        self._begun = True
        if not self._timeline.past:
            raise SourceError("The history ends here.")
        document = self._timeline.read().document
        self.label = f"history of {whole(document['time'])}"
        return document

    def areas(self, pid: int) -> list[AreaDocument]:
        """Raises SourceError."""
        raise SourceError("The history has no areas.")

    def close(self) -> None:
        self._timeline.close()


class LaterSource:
    """A source that is chosen when it is read for the first time: at the return to now."""

    def __init__(self, choose: Callable[[], Any]) -> None:
        self.label = "history"
        self._choose = choose
        self._chosen: Any = None

    def read(self) -> dict[str, Any]:
        """The document of this moment. Raises KsmwatchError."""
        if self._chosen is None:
            self._chosen = self._choose()
            self.label = self._chosen.label
        found: dict[str, Any] = self._chosen.read()
        return found

    def areas(self, pid: int) -> list[AreaDocument]:
        """The areas of the chosen source. Raises KsmwatchError."""
        if self._chosen is None:
            raise SourceError("The history has no areas.")
        found: list[AreaDocument] = self._chosen.areas(pid)
        return found

    def close(self) -> None:
        if self._chosen is not None:
            self._chosen.close()
