"""Which content is at which path. No sockets, no HTTP library."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

from ksmwatch.export.front import runbook
from ksmwatch.export.front.complaints import Complaints
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.front.hour_lines import PastHour
from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.front.limits import ANSWER_SECONDS
from ksmwatch.export.front.overview import STILL, OverviewState, overview
from ksmwatch.export.front.page import Page, sentence
from ksmwatch.export.front.request import Request
from ksmwatch.export.front_channel import Answer
from ksmwatch.export.metric_family import Samples, Spec

# How long the state may be cached between scrapes; the HELP of ksmwatch_mappings says so.
SCRAPE_CACHE_SECONDS = 1.0
# The page for people shows no older numbers.
PAGE_SECONDS = 5.0
# If the daemon cannot provide a snapshot of at most this age, it is unhealthy.
HEALTH_SECONDS = 60.0
READY_SECONDS = 1.0


class AnswerSource(Protocol):
    @property
    def ready(self) -> bool:
        """Whether there has been an answer."""

    def ask(self, max_age: float, seconds: float) -> None:
        """Returns once `Site.take` has received an answer of at most this age.

        Raises TimeoutError after so many seconds.
        """


class Site:
    """The pages. Requests within a second share one answer of the daemon, and its text.

    Any thread may ask for a page.
    """

    def __init__(
        self,
        telemetry_path: str,
        specs: tuple[Spec, ...],
        own: Callable[[], Samples],
        max_requests: int,
        complaints: Complaints,
        pages: Mapping[str, str],
    ) -> None:
        self._telemetry_path = telemetry_path
        # Samples of the front itself.
        self._own = own
        self._free = threading.Semaphore(max_requests)
        self._complaints = complaints
        # Of what follows.
        self._lock = threading.Lock()
        self._exposition = Exposition(specs)
        self._reading = KnownSamples()
        self._history = PastHour()
        # Of this answer, each made once; by whether it refreshes itself.
        self._overviews: dict[bool, Page] = {}
        self._host = os.uname().nodename
        self._runbook = pages

    def take(self, answer: Answer) -> None:
        """Serve this answer from now on."""
        own = self._own()
        with self._lock:
            self._exposition.take([*answer.samples, *own])
            self._reading = KnownSamples(answer.samples)
            self._history.add(answer.taken, self._reading, answer.hour)
            self._overviews = {}

    def page(self, daemon: AnswerSource, request: Request) -> Page:
        """The page that is asked for."""
        path = request.path
        if path.startswith(runbook.PATH) and (text := self._advice(path)) is not None:
            return runbook.page(path.removeprefix(runbook.PATH), text)
        if path not in (self._telemetry_path, "/", "/-/healthy", "/-/ready"):
            return sentence("There is no such page.", HTTPStatus.NOT_FOUND)
        if not self._free.acquire(blocking=False):
            self._complaints.add("requests")
            return _unavailable("Too many requests are being answered.")
        try:
            return self._page(daemon, request)
        except TimeoutError:
            return _unavailable("The daemon does not answer.")
        finally:
            self._free.release()

    def _advice(self, path: str) -> str | None:
        return self._runbook.get(path.removeprefix(runbook.PATH))

    def _page(self, daemon: AnswerSource, request: Request) -> Page:
        if request.path == self._telemetry_path:
            daemon.ask(SCRAPE_CACHE_SECONDS, ANSWER_SECONDS)
            with self._lock:
                return self._exposition.page(
                    request.header("accept"), request.header("accept-encoding")
                )
        if request.path == "/-/ready":
            return _readiness(daemon)
        if daemon.ready:
            age = PAGE_SECONDS if request.path == "/" else HEALTH_SECONDS
            daemon.ask(age, ANSWER_SECONDS)
        if request.path == "/":
            with self._lock:
                return self._overview(refresh=request.query != STILL)
        return sentence("ksmwatch is healthy.")

    def _overview(self, *, refresh: bool) -> Page:
        if refresh not in self._overviews:
            view = OverviewState(
                host=self._host,
                telemetry_path=self._telemetry_path,
                reading=self._reading,
                history=self._history,
                now=time.monotonic(),
                runbook=frozenset(self._runbook),
                refresh=refresh,
            )
            self._overviews[refresh] = overview(view)
        return self._overviews[refresh]


def _readiness(daemon: AnswerSource) -> Page:
    try:
        # A restarted front does not know yet that the daemon is ready.
        daemon.ask(math.inf, READY_SECONDS)
    except TimeoutError:
        return _unavailable("The baseline is not done.")
    return sentence("ksmwatch is ready.")


def _unavailable(words: str) -> Page:
    return sentence(words, HTTPStatus.SERVICE_UNAVAILABLE)
