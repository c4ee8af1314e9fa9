"""HTTP: the metrics, a landing page, health and readiness."""

from __future__ import annotations

import html
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from ksmwatch import __version__
from ksmwatch.config import Address
from ksmwatch.errors import ListenError
from ksmwatch.metrics import Series, SnapshotCollector
from ksmwatch.service import Desk

# How long the state may be cached between scrapes; said in the HELP of ksmwatch_mappings.
SCRAPE_CACHE_SECONDS = 1.0

_StartResponse = Callable[[str, list[tuple[str, str]]], Any]
_Wsgi = Callable[[dict[str, Any], _StartResponse], Iterable[bytes]]

_LANDING = """<!DOCTYPE html>
<html lang="en"><head><title>ksmwatch</title></head><body>
<h1>ksmwatch</h1><p>Live truth about Kernel Samepage Merging. Version {version}.</p>
<ul><li><a href="{metrics}">Metrics</a></li><li><a href="/-/healthy">Health</a></li>
<li><a href="/-/ready">Readiness</a></li></ul></body></html>
"""


def make_app(desk: Desk, telemetry_path: str, series: Series) -> _Wsgi:
    """The WSGI application. A scrape asks the desk; nothing here touches the kernel."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: desk.ask(SCRAPE_CACHE_SECONDS), series))
    ProcessCollector(registry=registry)
    metrics: _Wsgi = make_wsgi_app(registry)
    landing = _LANDING.format(version=__version__, metrics=html.escape(telemetry_path)).encode()

    def app(environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == telemetry_path:
            return metrics(environ, start_response)
        if path == "/-/healthy":
            return _text(start_response, "200 OK", "ksmwatch is healthy.\n")
        if path == "/-/ready":
            if desk.ready:
                return _text(start_response, "200 OK", "ksmwatch is ready.\n")
            return _text(start_response, "503 Service Unavailable", "The baseline is not done.\n")
        if path == "/":
            start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [landing]
        return _text(start_response, "404 Not Found", "There is no such page.\n")

    return app


def _text(start_response: _StartResponse, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


class _Quiet(WSGIRequestHandler):
    """A line per scrape would drown the log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited name
        pass


class WebServer:
    """One listening address."""

    def __init__(self, address: Address, app: _Wsgi) -> None:
        # An empty host is every address: of both families where there is IPv6.
        everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
        host = address.host or everywhere

        class Server(ThreadingWSGIServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = make_server(host, address.port, app, Server, _Quiet)
        except OSError as error:
            raise ListenError(
                f"{address.host}:{address.port} cannot be listened on: {error.strerror}."
            ) from error

    def start(self) -> None:
        """Serve on a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="web", daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
