"""Where documents come from: the daemon's socket, measuring in this process, or /metrics.

A source belongs to the thread that reads it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ksmwatch import service
from ksmwatch.config import Config
from ksmwatch.errors import KsmwatchError, NoDaemonError, SourceError
from ksmwatch.top import header
from ksmwatch.top.model import Options
from ksmwatch.top.sample import Sample, make_sample


class Source(Protocol):
    """Gives documents. `label` says where they come from, for the header."""

    label: str

    def read(self) -> dict[str, Any]:
        """The document of now. Raises KsmwatchError."""

    def close(self) -> None:
        """Give back what was taken."""


class Daemon:
    """The daemon behind a socket."""

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._path = path

    def read(self) -> dict[str, Any]:
        """Ask it. Raises NoDaemonError."""
        return service.fetch(self._path)

    def close(self) -> None:
        """Every question has a connection of its own."""


def choose(settings: Config, url: str | None = None) -> Source:
    """The source that the user wants: an address, else the daemon, else measuring, as root.

    Raises NoDaemonError when there is neither daemon nor privilege.
    """
    if url is not None:
        from ksmwatch.top.scrape import Scrape

        return Scrape(url)
    path = Path(settings.socket)
    try:
        service.fetch(path)
    except NoDaemonError as error:
        from ksmwatch.oneshot import Measuring, may_measure

        if not may_measure(path, error):
            raise
        return Measuring(settings)
    return Daemon(path)


@dataclass(frozen=True)
class Reading:
    """What a read gave: a sample, or why there is none. `at`: the monotonic clock, in seconds."""

    sample: Sample | None
    problem: str | None
    at: float


def read(source: Source, clock: Callable[[], float] = time.monotonic) -> Reading:
    """One reading; what goes wrong is in it."""
    try:
        document = source.read()
        return Reading(_sample(document), None, clock())
    except KsmwatchError as error:
        return Reading(None, str(error), clock())
    except Exception as error:  # noqa: BLE001 - above the worker there is nobody to tell it
        return Reading(None, f"internal error: {error!r}", clock())


def _sample(document: dict[str, Any]) -> Sample:
    try:
        sample = make_sample(document)
        # The header needs keys too; better here than where it is drawn.
        known = header.facts(sample, sample)
        header.alerts(sample, known, Options())
        header.lines(sample, known, Options(), 80)
        header.title(sample, "")
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError("What was answered is not a snapshot of ksmwatch.") from error
    return sample


class Worker:
    """Reads a source every so many seconds, on a thread of its own, and posts each reading."""

    def __init__(self, source: Source, seconds: float, post: Callable[[Reading], object]) -> None:
        self._source = source
        self._seconds = seconds
        self._post = post
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="source", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading, and wait for it a moment: a source may have to detach probes."""
        self._stopping = True
        self._wake.set()
        self._thread.join(5)

    def _run(self) -> None:
        try:
            while not self._stopping:
                began = time.monotonic()
                self._post(read(self._source))
                self._wake.wait(pause(self._seconds, time.monotonic() - began))
        finally:
            self._source.close()


def pause(seconds: float, took: float) -> float:
    """How long to wait after a reading: one that takes long is not made all the time."""
    return max(seconds - took, took)
