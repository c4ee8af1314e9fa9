"""The sources of documents: the daemon's socket, measuring in this process, or /metrics.

A source belongs to the thread that reads it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ksmwatch.config import Config
from ksmwatch.errors import KsmwatchError, NoDaemonError, SourceError
from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.snapshot import socket_client
from ksmwatch.top import header
from ksmwatch.top.alerts import alerts_of
from ksmwatch.top.host_figures import figures
from ksmwatch.top.sample import Sample, make_sample
from ksmwatch.top.sparkline_points import Traces
from ksmwatch.top.timeline import Move, Timeline
from ksmwatch.top.view import Options


class Source(Protocol):
    """Provides documents. `label` names the source in the header."""

    label: str

    def read(self) -> dict[str, Any]:
        """The document of this moment. Raises KsmwatchError."""

    def areas(self, pid: int) -> list[AreaDocument]:
        """Areas of a process with KSM mappings, read now. Raises KsmwatchError."""

    def close(self) -> None:
        """Release resources."""


class DaemonSource:
    """The daemon behind a socket."""

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._path = path

    def read(self) -> dict[str, Any]:
        """Ask it. Raises NoDaemonError."""
        return socket_client.fetch(self._path)

    def areas(self, pid: int) -> list[AreaDocument]:
        """Ask it. Raises NoDaemonError."""
        found: list[AreaDocument] = socket_client.fetch(self._path, "areas", pid=pid)["areas"]
        return found

    def close(self) -> None:
        """Nothing to close: every request has its own connection."""


def choose(settings: Config, url: str | None = None) -> Source:
    """The source that the user wants: an address, else the daemon, else measuring, as root.

    Raises NoDaemonError without a daemon and without privilege.
    """
    if url is not None:
        from ksmwatch.top.scrape import Scrape

        return Scrape(url)
    path = Path(settings.socket)
    try:
        socket_client.fetch(path)
    except NoDaemonError as error:
        from ksmwatch.commands.oneshot import Measuring, may_measure

        if not may_measure(path, error):
            raise
        return Measuring(settings)
    return DaemonSource(path)


@dataclass(frozen=True)
class Fetched:
    """The result of a read: a sample, or why there is none. `at`: monotonic time, in seconds.

    `past`: it is of the history, and `previous` is the sample before it, if known. `traces`: what
    was before, for sparklines.
    """

    sample: Sample | None
    problem: str | None
    at: float
    past: bool = False
    previous: Sample | None = None
    traces: Traces | None = None


@dataclass(frozen=True)
class Areas:
    """Where a process has its KSM mappings, or why that is unknown."""

    pid: int
    found: Sequence[AreaDocument] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Unmoved:
    """Why a step through the history was not possible."""

    problem: str


Posted = Fetched | Areas | Unmoved


def read_areas(source: Source, pid: int) -> Areas:
    """Read them. A failure is part of the result."""
    try:
        return Areas(pid, source.areas(pid))
    except KsmwatchError as error:
        return Areas(pid, problem=str(error))


def read(source: Source, clock: Callable[[], float] = time.monotonic) -> Fetched:
    """One reading. A failure is part of the result."""
    try:
        document = source.read()
        return Fetched(_sample(document), None, clock())
    except KsmwatchError as error:
        return Fetched(None, str(error), clock())
    except Exception as error:  # noqa: BLE001 - nothing above the worker handles it
        return Fetched(None, f"internal error: {error!r}", clock())


def _sample(document: dict[str, Any]) -> Sample:
    try:
        sample = make_sample(document)
        # The header needs keys too; a missing one should show here, not in drawing.
        known = figures(sample, sample)
        alerts_of(sample, known, Options())
        header.lines(sample, known, Options(), 80)
        header.title(sample, "")
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError("The answer is not a ksmwatch snapshot.") from error
    return sample


def recorded(timeline: Timeline) -> Fetched:
    """The moment of the history at which it is. Raises KsmwatchError."""
    found = timeline.read()
    before = None if found.previous is None else _sample(found.previous)
    sample, traces = _sample(found.document), timeline.traces()
    return Fetched(sample, None, time.monotonic(), past=True, previous=before, traces=traces)


class Worker:
    """Reads a source at an interval, on its own thread, and posts each reading.

    In between, it answers requests for areas. In the past it reads only when it is asked to move.
    """

    def __init__(
        self,
        source: Source,
        seconds: float,
        post: Callable[[Posted], object],
        timeline: Timeline | None = None,
    ) -> None:
        self._source = source
        self._seconds = seconds
        self._post = post
        self._timeline = timeline
        # Requested processes, and steps through the history; None: stop.
        self._asked: queue.SimpleQueue[int | Move | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, and wait for the thread a moment: a source may have to detach probes."""
        self._asked.put(None)
        self._thread.join(5)

    def ask(self, what: int | Move) -> None:
        """Read the areas of a process once, or move, and post the result."""
        self._asked.put(what)

    @property
    def _past(self) -> bool:
        return self._timeline is not None and self._timeline.past

    def _run(self) -> None:
        traces = self._traces()
        try:
            if self._past:
                self._post_recorded()
            while True:
                began = time.monotonic()
                end: float | None = None
                if not self._past:
                    self._post(replace(read(self._source), traces=traces))
                    traces = None
                    end = began + pause(self._seconds, time.monotonic() - began)
                request = self._next(end)
                if request is None:
                    return
                if isinstance(request, Move):
                    traces = self._traces()
        finally:
            self._source.close()
            if self._timeline is not None:
                self._timeline.close()

    def _next(self, end: float | None) -> int | Move | None:
        """Answer requests until it is time to read, or another time is wanted; None: stop."""
        while True:
            try:
                wait = None if end is None else max(0.0, end - time.monotonic())
                request = self._asked.get(timeout=wait)
            except queue.Empty:
                return 0
            if isinstance(request, Move):
                self._move(request)
                return request
            if request is None:
                return None
            self._post(read_areas(self._source, request))

    def _move(self, move: Move) -> None:
        if self._timeline is None:
            self._post(Unmoved("The metrics of another host have no history."))
            return
        try:
            self._timeline.move(move)
        except KsmwatchError as error:
            self._post(Unmoved(str(error)))
            return
        if self._past:
            self._post_recorded()

    def _post_recorded(self) -> None:
        assert self._timeline is not None
        try:
            self._post(recorded(self._timeline))
        except KsmwatchError as error:
            self._post(Unmoved(str(error)))

    def _traces(self) -> Traces | None:
        """For sparklines, as far as there is a history."""
        if self._timeline is None or self._past:
            return None
        try:
            return self._timeline.traces()
        except KsmwatchError:
            return None


def pause(seconds: float, took: float) -> float:
    """How long to wait after a reading, so that slow readings do not follow without a pause."""
    return max(seconds - took, took)
