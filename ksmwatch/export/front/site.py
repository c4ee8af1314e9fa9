"""Which content is at which path. No sockets, no HTTP library."""

from __future__ import annotations

import asyncio
import math
import os
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

    async def ask(self, max_age: float) -> None:
        """Returns once `Site.take` has received an answer of at most this age."""


class Site:
    """The pages. Requests within a second share one answer of the daemon, and its text."""

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
        self._free = max_requests
        self._complaints = complaints
        self._exposition = Exposition(specs)
        self._reading = KnownSamples()
        self._history = PastHour()
        # Of this answer, each made once; by whether it refreshes itself.
        self._overviews: dict[bool, Page] = {}
        self._host = os.uname().nodename
        self._runbook = pages

    def take(self, answer: Answer) -> None:
        """Serve this answer from now on."""
        self._exposition.take([*answer.samples, *self._own()])
        self._reading = KnownSamples(answer.samples)
        self._history.add(answer.taken, self._reading, answer.hour)
        self._overviews = {}

    async def page(
        self,
        daemon: AnswerSource,
        path: str,
        accept: str = "",
        accept_encoding: str = "",
        query: str = "",
    ) -> Page:
        """The page at a path, for a client that sent these headers."""
        if path.startswith(runbook.PATH) and (text := self._advice(path)) is not None:
            return runbook.page(path.removeprefix(runbook.PATH), text)
        if path not in (self._telemetry_path, "/", "/-/healthy", "/-/ready"):
            return sentence("There is no such page.", HTTPStatus.NOT_FOUND)
        if not self._free:
            self._complaints.add("requests")
            return _unavailable("Too many requests are being answered.")
        self._free -= 1
        try:
            return await self._page(daemon, path, accept, accept_encoding, query)
        except TimeoutError:
            return _unavailable("The daemon does not answer.")
        finally:
            self._free += 1

    def _advice(self, path: str) -> str | None:
        return self._runbook.get(path.removeprefix(runbook.PATH))

    async def _page(
        self, daemon: AnswerSource, path: str, accept: str, accept_encoding: str, query: str
    ) -> Page:
        if path == self._telemetry_path:
            await _ask(daemon, SCRAPE_CACHE_SECONDS)
            return self._exposition.page(accept, accept_encoding)
        if path == "/-/ready":
            return await _readiness(daemon)
        if daemon.ready:
            await _ask(daemon, PAGE_SECONDS if path == "/" else HEALTH_SECONDS)
        if path == "/":
            return self._overview(refresh=query != STILL)
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


async def _ask(daemon: AnswerSource, max_age: float) -> None:
    await asyncio.wait_for(daemon.ask(max_age), ANSWER_SECONDS)


async def _readiness(daemon: AnswerSource) -> Page:
    try:
        # A restarted front does not know yet that the daemon is ready.
        await asyncio.wait_for(daemon.ask(math.inf), READY_SECONDS)
    except TimeoutError:
        return _unavailable("The baseline is not done.")
    return sentence("ksmwatch is ready.")


def _unavailable(words: str) -> Page:
    return sentence(words, HTTPStatus.SERVICE_UNAVAILABLE)
