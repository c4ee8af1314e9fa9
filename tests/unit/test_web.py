"""The WSGI application, and one real listening address."""

from __future__ import annotations

import http.client
from typing import Any, NamedTuple
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch import __version__, web
from ksmwatch.config import Address
from ksmwatch.errors import ListenError
from ksmwatch.metrics import Series
from ksmwatch.service import Desk
from tests.made_up import snapshot

TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """One HTTP answer."""

    status: str
    type: str
    body: str


@pytest.fixture
def desk() -> Desk:
    return Desk()


def get(desk: Desk, path: str, telemetry: str = "/metrics") -> Answer:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path
    heads: list[tuple[str, dict[str, str]]] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        heads.append((status, dict(headers)))

    body = b"".join(web.make_app(desk, telemetry, Series())(environ, start_response))
    [(status, headers)] = heads
    return Answer(status, headers["Content-Type"], body.decode())


def test_landing_page_links_to_the_rest(desk: Desk) -> None:
    answer = get(desk, "/", "/ksm&more")
    assert answer.status == "200 OK"
    assert answer.type == "text/html; charset=utf-8"
    for link in ("/ksm&amp;more", "/-/healthy", "/-/ready"):
        assert f'<a href="{link}">' in answer.body
    assert f"Version {__version__}." in answer.body


def test_healthy_before_it_is_ready(desk: Desk) -> None:
    assert get(desk, "/-/healthy") == ("200 OK", TEXT, "ksmwatch is healthy.\n")
    assert get(desk, "/-/ready") == (
        "503 Service Unavailable",
        TEXT,
        "The baseline is not done.\n",
    )
    desk.publish(snapshot)
    assert get(desk, "/-/ready") == ("200 OK", TEXT, "ksmwatch is ready.\n")


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/favicon.ico", "", "/-/reload"])
def test_other_pages_are_not_there(desk: Desk, path: str) -> None:
    assert get(desk, path) == ("404 Not Found", TEXT, "There is no such page.\n")


def samples(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {s.name: s.value for family in families for s in family.samples}


@pytest.mark.parametrize("path", ["/metrics", "/custom"])
def test_metrics_are_of_the_snapshot_and_of_the_process(desk: Desk, path: str) -> None:
    desk.publish(snapshot)
    answer = get(desk, path, path)
    assert answer.status == "200 OK"
    assert answer.type.startswith("text/plain; version=")
    found = samples(answer.body)
    assert found["ksmwatch_mappings"] == 100
    assert found["process_resident_memory_bytes"] > 0


def test_another_telemetry_path_leaves_no_page_at_the_usual_one(desk: Desk) -> None:
    desk.publish(snapshot)
    assert get(desk, "/metrics", "/custom").status == "404 Not Found"


def test_a_listening_address_serves_and_is_taken(desk: Desk) -> None:
    desk.publish(snapshot)
    server = web.WebServer(Address("127.0.0.1", 0), web.make_app(desk, "/metrics", Series()))
    port = server._server.server_port
    server.start()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", "/-/ready")
    assert client.getresponse().read() == b"ksmwatch is ready.\n"
    client.close()
    with pytest.raises(ListenError) as caught:
        web.WebServer(Address("127.0.0.1", port), web.make_app(desk, "/metrics", Series()))
    assert str(caught.value) == (f"127.0.0.1:{port} cannot be listened on: Address already in use.")
    server.stop()
