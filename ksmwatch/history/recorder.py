"""Records the daemon's snapshots in the history, on a thread that may wait for a slow disk.

Whatever happens to the file, counting goes on: a moment that cannot be written is counted by
reason, and the log has one line when that begins and one when it ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ksmwatch.config import Config
from ksmwatch.history.file_errors import (
    move_aside,
    prepare,
    prepare_file,
    reason_of,
    state_directory,
)
from ksmwatch.history.moment import moment_of
from ksmwatch.history.past_hour import point_of, recorded_points
from ksmwatch.history.retention import Retention
from ksmwatch.history.store import FILE_NAME, Error, Store
from ksmwatch.log import logger
from ksmwatch.option_values import AUTO
from ksmwatch.snapshot.history_state import HistoryState, Unwritten
from ksmwatch.snapshot.last_hour import SECONDS, HourPoint, HourPoints, LastHour
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.socket_server import group_of

# A daemon that follows within this many intervals continues its predecessor's time.
_RESTART_INTERVALS = 2.5
# While nothing moves, one moment in this many intervals.
_STILL_INTERVALS = 6
_SWEEP_SECONDS = 24 * 3600.0
# The wall clock was set if it moved that much more, or less, than time has passed.
_STEP_SECONDS = 1.0
# CPU time that a snapshot for the history alone may take; the interval grows with more.
_CHEAP_SECONDS = 0.01
_STOP_SECONDS = 5.0


class HistorySettings(NamedTuple):
    """Where the history is, how much of it is kept, and the gid of the group that may read it."""

    directory: Path
    keep: Retention
    max_bytes: int
    group: int | None


def recorder_of(config: Config, top: Callable[[], int]) -> Recorder | None:
    """The recorder that the settings ask for."""
    wanted = config.history_directory
    directory = state_directory(os.environ) if wanted == AUTO else Path(wanted or "/")
    if directory is None or not wanted:
        return None
    group = group_of(config.socket_group)
    keep = Retention(
        fine=config.history_hours * 3600,
        coarse=config.history_days * 24 * 3600,
        interval=config.history_interval,
    )
    # If this fails, so does every write, which says why.
    with suppress(OSError):
        prepare(directory, group)
    return Recorder(HistorySettings(directory, keep, config.history_max_mb * 10**6, group), top)


def _suspended() -> float:
    """How long the host has been suspended since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Recorder:
    """Decides when a snapshot is due, and hands it to the writer's thread.

    `top`: how many owners have numbers of their own; it may change.
    """

    def __init__(
        self,
        settings: HistorySettings,
        top: Callable[[], int],
        suspended: Callable[[], float] = _suspended,
    ) -> None:
        self._interval = settings.keep.interval
        # When the next snapshot is due, on the monotonic clock.
        self.due = 0.0
        self._last: Snapshot | None = None
        self._suspended = suspended
        # The wall clock at boot, as it seemed at the last snapshot.
        self._boot: float | None = None
        self._steps = 0
        self._dropped = 0
        # One snapshot for the writer's thread, and whether it is the last. (The module queue would
        # take 90 KiB of memory.)
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._ending = False
        self._writer = Writer(settings, top)
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and close the file."""
        if self._thread.ident is not None:
            with self._changed:
                self._ending = True
                self._changed.notify()
            self._thread.join(_STOP_SECONDS)

    @property
    def state(self) -> HistoryState:
        """For snapshots."""
        return self._writer.state(self._dropped, self._steps)

    def is_due(self, now: float) -> bool:
        """Whether the next snapshot is due, on the monotonic clock."""
        return now >= self.due

    def is_new(self, taken: float, now: float) -> bool:
        """Whether a snapshot begun at this time will do, so that none is made for the history."""
        return taken > now - self._interval / 2

    def may_wait(self, now: float, moved_since: Callable[[Snapshot], bool]) -> bool:
        """Whether no moment is needed yet, because nothing has moved since the last one."""
        last = self._last
        if last is None or now - last.clock >= _STILL_INTERVALS * self._interval:
            return False
        if moved_since(last):
            return False
        self.due += self._interval
        return True

    def take(self, snapshot: Snapshot, seconds: float = 0.0) -> None:
        """Record a snapshot. `seconds`: CPU time of making it for the history alone.

        On a host with many thousand processes, the interval becomes longer instead.
        """
        self._last = snapshot
        pause = self._interval * max(0.5, seconds / _CHEAP_SECONDS)
        # In step with the interval, although the daemon looks only once a second.
        self.due = max((self.due or snapshot.clock) + self._interval, snapshot.clock + pause)
        begin = snapshot.time - snapshot.duration - snapshot.clock
        self._watch_clock(begin - self._suspended())
        with self._changed:
            if self._waiting is None:
                self._waiting = snapshot
                self._changed.notify()
            else:
                self._dropped += 1

    def _watch_clock(self, boot: float) -> None:
        if self._boot is not None and abs(boot - self._boot) > _STEP_SECONDS:
            self._steps += 1
            logger.warning(
                "the clock was set, so the times in the history jump",
                extra={"by_seconds": round(boot - self._boot, 1)},
            )
        self._boot = boot

    def _run(self) -> None:
        while (snapshot := self._next()) is not None:
            self._writer.write(snapshot)
        self._writer.close()

    def _next(self) -> Snapshot | None:
        """Wait for a snapshot; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._ending)
            snapshot, self._waiting = self._waiting, None
            return snapshot


class Writer:
    """Writes snapshots, and copes with a file that cannot be written."""

    def __init__(self, settings: HistorySettings, top: Callable[[], int]) -> None:
        self._settings = settings
        self._path = settings.directory / FILE_NAME
        self._top = top
        self._store: Store | None = None
        self._checked = False
        self._began: float | None = None
        # Of the last moment: the time, and the same on the monotonic clock.
        self._before: tuple[float, float] | None = None
        self._tidied = 0.0
        self._swept = 0.0
        self._failing: Unwritten | None = None
        self._unwritten: Counter[Unwritten] = Counter(dict.fromkeys(Unwritten, 0))
        self._written = 0
        self._bytes: int | None = None
        self._oldest: float | None = None
        # None before the first moment.
        self._hour: LastHour | None = None

    def state(self, dropped: int, steps: int) -> HistoryState:
        """What happened so far. `dropped`: moments that came while another was being written."""
        missed = dict(self._unwritten)
        missed[Unwritten.BUSY] += dropped
        hour = HourPoints() if self._hour is None else self._hour.points
        return HistoryState(self._written, missed, steps, self._bytes, self._oldest, hour)

    def write(self, snapshot: Snapshot) -> None:
        """Write it, or count why not."""
        try:
            self._write(snapshot)
        except Exception as error:  # noqa: BLE001 - the history must not end for ever
            self._failed(error)
        else:
            self._written += 1
            if self._failing is not None:
                logger.info("the history is written again")
                self._failing = None
        self._remember(snapshot)

    def _remember(self, snapshot: Snapshot) -> None:
        """Keep a point in memory, also of a moment that could not be written."""
        joined = self._hour is not None
        if self._hour is None:
            self._hour = LastHour()
            for point in self._recorded(snapshot):
                self._hour.add(point)
        self._hour.add(point_of(snapshot, joined=joined))

    def _recorded(self, snapshot: Snapshot) -> list[HourPoint]:
        """What earlier daemons have recorded, or nothing if the file cannot be read."""
        if self._store is None or self._before is None:
            return []
        boot = snapshot.time - snapshot.duration - snapshot.clock
        with suppress(Error, TypeError):
            moments = self._store.host_between(snapshot.time - SECONDS, snapshot.time)
            return recorded_points(moments, boot)
        return []

    def _write(self, snapshot: Snapshot) -> None:
        if self._store is not None and not self._store.in_place:
            # The file has been removed.
            self.close()
        store = self._store or self._open()
        self._began = self._began or snapshot.time
        moment = moment_of(snapshot, self._top(), self._began, self._since(snapshot, store))
        store.add(moment)
        self._before = snapshot.time, snapshot.clock
        self._tidy(store, snapshot)
        self._bytes, self._oldest = store.used_bytes, store.oldest_time

    def _open(self) -> Store:
        settings = self._settings
        prepare(settings.directory, settings.group)
        prepare_file(self._path, readable=settings.group is not None)
        self._store = Store(self._path, settings.max_bytes, check=not self._checked)
        self._checked = True
        return self._store

    def _since(self, snapshot: Snapshot, store: Store) -> float:
        """Since when the daemon has counted without a break, by the present clock."""
        if self._before is not None:
            return snapshot.time - (snapshot.clock - self._before[1])
        last = store.last_time
        gap = _RESTART_INTERVALS * self._settings.keep.interval
        if last is not None and 0 <= snapshot.time - last <= gap:
            return last
        return snapshot.time

    def _tidy(self, store: Store, snapshot: Snapshot) -> None:
        if snapshot.clock >= self._tidied + self._settings.keep.step:
            self._tidied = snapshot.clock
            store.tidy(snapshot.time, self._settings.keep)
        if snapshot.clock >= self._swept + _SWEEP_SECONDS:
            self._swept = snapshot.clock
            store.sweep()

    def _failed(self, error: Exception) -> None:
        reason = reason_of(error, self._settings.directory)
        self._unwritten[reason] += 1
        # So the next moment is after a gap, unless it comes soon.
        self._before = None
        if reason is not self._failing:
            self._failing = reason
            logger.warning(
                "the history is not written; counting goes on",
                extra={"why": reason.value, "error": str(error), "file": str(self._path)},
            )
        if reason is Unwritten.DAMAGED:
            self.close()
            move_aside(self._path)

    def close(self) -> None:
        """Close the file. It is opened again when something is written."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(Error):
                store.close()
