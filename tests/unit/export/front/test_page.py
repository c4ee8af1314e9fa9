"""Which content is at which path."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.front import runbook, site
from ksmwatch.export.front.complaints import Complaints
from ksmwatch.export.front.page import Page
from ksmwatch.export.front.request import Request
from ksmwatch.export.front.site import Site
from ksmwatch.export.front_channel import Answer
from ksmwatch.export.metric_family import Spec
from ksmwatch.export.samples import Series, samples
from tests.made_up import nothing, snapshot

TEXT = "text/plain; charset=utf-8"
OWN = Spec("ksmwatch_front_own", "counter", "Of the front itself.")


class Daemon:
    """Answers at once, or never."""

    def __init__(self, served: Site, *, ready: bool = True) -> None:
        self.served = served
        self.ready = ready
        self.asked: list[float] = []

    def ask(self, max_age: float, seconds: float) -> None:
        """Hands an invented host to the site."""
        self.asked.append(max_age)
        if not self.ready:
            raise TimeoutError
        self.served.take(Answer(1.0, samples(snapshot(), Series())))


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


def make(complaints: Complaints, path: str = "/metrics", max_requests: int = 2) -> Site:
    pages = runbook.read(runbook.runbook_directory())
    specs = (*CATALOGUE, OWN)
    return Site(path, specs, lambda: [(OWN.name, [((), 5)])], max_requests, complaints, pages)


@pytest.fixture
def daemon(complaints: Complaints) -> Daemon:
    return Daemon(make(complaints))


@pytest.fixture
def silent(complaints: Complaints) -> Daemon:
    """A daemon that never answers."""
    return Daemon(make(complaints), ready=False)


def request(path: str, query: str = "", **headers: str) -> Request:
    """Underscores in names of headers become dashes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", path, query, names, "127.0.0.1")


def get(daemon: Daemon, path: str, accept: str = "", encoding: str = "") -> Page:
    asked = request(path, accept=accept, accept_encoding=encoding)
    return daemon.served.page(daemon, asked)


def said(page: Page) -> tuple[HTTPStatus, str, str]:
    return page.status, page.headers["Content-Type"], page.body.decode()


def test_the_page_for_a_person_is_fresh_and_links_to_the_rest(complaints: Complaints) -> None:
    daemon = Daemon(make(complaints, "/ksm&more"))
    status, kind, body = said(get(daemon, "/"))
    assert (status, kind) == (HTTPStatus.OK, "text/html; charset=utf-8")
    for link in ("/ksm&amp;more", "/-/healthy", "/-/ready"):
        assert f'<a href="{link}">' in body
    assert "100 pages, exact" in body
    assert daemon.asked == [site.PAGE_SECONDS]


def test_who_asks_for_a_page_that_stands_still_gets_one(daemon: Daemon) -> None:
    moving = get(daemon, "/").body.decode()
    still = daemon.served.page(daemon, request("/", "refresh=off")).body.decode()
    assert 'http-equiv="refresh"' in moving
    assert 'http-equiv="refresh"' not in still


def test_the_runbook_is_served_and_nothing_beside_it(daemon: Daemon) -> None:
    status, kind, body = said(get(daemon, "/runbook/KsmwatchPolling"))
    assert (status, kind) == (HTTPStatus.OK, "text/html; charset=utf-8")
    assert "## What to do" in body
    for name in ("", "KsmwatchPolling.md", "../design", "..%2fdesign", "KsmwatchPolling/"):
        assert get(daemon, f"/runbook/{name}").status is HTTPStatus.NOT_FOUND
    assert daemon.asked == []


def test_a_kernel_without_ksm_has_a_page() -> None:
    served = make(Complaints())
    served.take(Answer(1.0, samples(nothing(), Series())))
    body = served.page(Silent(), request("/")).body.decode()
    assert "This kernel has no KSM" in body
    assert "mappings" not in body


class Silent:
    """Has answered and has nothing new."""

    ready = True

    def ask(self, max_age: float, seconds: float) -> None:
        """Nothing."""


def test_healthy_before_it_is_ready(silent: Daemon, daemon: Daemon) -> None:
    healthy = (HTTPStatus.OK, TEXT, "ksmwatch is healthy.\n")
    assert said(get(silent, "/-/healthy")) == healthy
    not_ready = (HTTPStatus.SERVICE_UNAVAILABLE, TEXT, "The baseline is not done.\n")
    assert said(get(silent, "/-/ready")) == not_ready
    assert "The baseline is not done" in get(silent, "/").body.decode()
    assert said(get(daemon, "/-/healthy")) == healthy
    assert said(get(daemon, "/-/ready")) == (HTTPStatus.OK, TEXT, "ksmwatch is ready.\n")


def test_a_daemon_that_is_stuck_is_not_healthy(silent: Daemon) -> None:
    stuck = Stuck()
    page = silent.served.page(stuck, request("/-/healthy"))
    assert said(page) == (HTTPStatus.SERVICE_UNAVAILABLE, TEXT, "The daemon does not answer.\n")


class Stuck:
    """Has answered once, and will never again."""

    ready = True

    def ask(self, max_age: float, seconds: float) -> None:
        raise TimeoutError


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/favicon.ico", "", "/-/reload"])
def test_other_pages_are_not_there(daemon: Daemon, path: str) -> None:
    assert said(get(daemon, path)) == (HTTPStatus.NOT_FOUND, TEXT, "There is no such page.\n")
    assert daemon.asked == []


def test_another_telemetry_path_leaves_no_page_at_the_usual_one(complaints: Complaints) -> None:
    daemon = Daemon(make(complaints, "/custom"))
    assert get(daemon, "/metrics").status is HTTPStatus.NOT_FOUND
    assert get(daemon, "/custom").status is HTTPStatus.OK


def test_a_scrape_has_the_samples_of_the_host_and_of_the_front(daemon: Daemon) -> None:
    page = get(daemon, "/metrics")
    assert page.headers["Content-Type"].startswith("text/plain; version=")
    found = {s.name: s.value for f in plain(page.body.decode()) for s in f.samples}
    assert found["ksmwatch_mappings"] == 100
    assert found["ksmwatch_front_own_total"] == 5
    assert daemon.asked == [site.SCRAPE_CACHE_SECONDS]


def test_openmetrics_and_gzip_for_those_who_accept_them(daemon: Daemon) -> None:
    page = get(daemon, "/metrics", "application/openmetrics-text; version=1.0.0", "gzip, br")
    assert page.headers["Content-Type"].startswith("application/openmetrics-text; version=")
    assert page.headers["Content-Encoding"] == "gzip"
    assert page.headers["Vary"] == "Accept, Accept-Encoding"
    text = gzip.decompress(page.body).decode()
    parsed = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    assert families["ksmwatch_arrivals"].type == "counter"
    assert "Content-Encoding" not in get(daemon, "/metrics", "", "br").headers


def test_a_text_is_made_once_for_each_answer(daemon: Daemon) -> None:
    assert get(daemon, "/metrics").body is not get(daemon, "/metrics").body

    quiet, asked = Silent(), request("/metrics")
    assert daemon.served.page(quiet, asked) is daemon.served.page(quiet, asked)


def test_a_page_for_a_person_is_made_once_for_each_answer(daemon: Daemon) -> None:
    assert get(daemon, "/") is not get(daemon, "/")

    quiet, asked = Silent(), request("/")
    assert daemon.served.page(quiet, asked) is daemon.served.page(quiet, asked)


def test_too_many_requests_are_refused_and_later_ones_served(complaints: Complaints) -> None:
    served, gate, asked = make(complaints, max_requests=2), Gate(), request("/metrics")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(served.page, gate, asked) for _ in range(2)]
        gate.arrivals.wait()
        refused = served.page(gate, asked)
        gate.opened.set()
        statuses = [each.result().status for each in waiting]
    assert statuses == [HTTPStatus.OK] * 2
    assert refused.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert complaints.counts["requests"] == 1
    assert served.page(Silent(), asked).status is HTTPStatus.OK


class Gate:
    """Answers when it was opened."""

    ready = True

    def __init__(self) -> None:
        self.opened = threading.Event()
        # Two requests, and the test.
        self.arrivals = threading.Barrier(3)

    def ask(self, max_age: float, seconds: float) -> None:
        self.arrivals.wait()
        self.opened.wait()
