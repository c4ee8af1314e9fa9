"""Serves the site over HTTP. tornado implements the protocol; the limits are here."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    ResponseStartLine,
)
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.netutil import add_accept_handler

from ksmwatch.export import front_channel, own_resources
from ksmwatch.export.front.auth import Admission, Auth
from ksmwatch.export.front.clients import ClientPhase, Clients
from ksmwatch.export.front.complaints import KINDS, Complaints
from ksmwatch.export.front.limits import (
    BODY_SECONDS,
    IDLE_SECONDS,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
)
from ksmwatch.export.front.link import Link
from ksmwatch.export.front.page import Page, sentence
from ksmwatch.export.front.site import Site
from ksmwatch.export.front_channel import Answer, Begin
from ksmwatch.export.metric_family import Samples, Spec
from ksmwatch.export.web_config import WebConfig
from ksmwatch.log import logger

_READ_BYTES = 8192
_OTHER_DESCRIPTORS = 64

SPECS = (
    *own_resources.specs("ksmwatch_front", "the process that serves HTTP"),
    Spec("ksmwatch_http_connections", "gauge", "Open connections of clients."),
    Spec("ksmwatch_http_requests", "counter", "Requests answered, by status code.", ("code",)),
    Spec(
        "ksmwatch_http_complaints",
        "counter",
        "Client errors by kind: "
        + "; ".join(f"{kind} ({what})" for kind, what in KINDS.items())
        + ".",
        ("kind",),
    ),
)


def prepare_tls() -> None:
    """Load OpenSSL. Call it while its files can be read, if there may be TLS."""
    import ksmwatch.export.tls  # noqa: F401 - without TLS, its 4 MB are not needed


def _room(wanted: int) -> int:
    """The number of connections for which there are descriptors."""
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_DESCRIPTORS
    if room >= wanted:
        return wanted
    # Under too low a limit, allow one connection at a time rather than none.
    room = max(1, room)
    logger.warning(
        "the descriptor limit allows fewer connections than --web.max-connections",
        extra={"limit": room},
    )
    return room


class Server(HTTPServer):
    """Passes requests to a callback, and keeps account of the connections."""

    def initialize(  # type: ignore[override]
        self, callback: Callable[[HTTPServerRequest], None], limit: int, complaints: Complaints
    ) -> None:
        """Called by tornado in place of __init__."""
        super().initialize(
            callback,
            chunk_size=_READ_BYTES,
            max_header_size=MAX_HEADER_BYTES,
            # `clients` sets the limits. This only replaces the default of an hour.
            idle_connection_timeout=2 * IDLE_SECONDS,
            body_timeout=BODY_SECONDS,
            max_body_size=MAX_BODY_BYTES,
        )
        self.clients = Clients(limit, complaints, self.pause, self.resume)
        self._listening: list[socket.socket] = []
        self._accepting: list[Callable[[], None]] = []

    def serve(self, listening: list[socket.socket]) -> None:
        """Accept clients on these sockets."""
        self._listening = listening
        self.resume()

    def resume(self) -> None:
        """Accept again."""
        accept = self._handle_connection
        self._accepting = [add_accept_handler(sock, accept) for sock in self._listening]

    def pause(self) -> None:
        """Leave new connections in the kernel's queue."""
        for remove in self._accepting:
            remove()

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """A client has connected."""
        self.clients.opened(stream)
        super().handle_stream(stream, address)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """A request is expected: the first of a connection, or the next."""
        self.clients.idle(cast(HTTP1ServerConnection, server_conn).stream)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """A connection has ended."""
        self.clients.closed(cast(HTTP1ServerConnection, server_conn).stream)
        super().on_close(server_conn)


class WebFront:
    """A front that serves HTTP."""

    def __init__(self, begin: Begin, task: front_channel.WebTask, pages: Mapping[str, str]) -> None:
        self._task = task
        self._requests: Counter[str] = Counter()
        self._answering: set[asyncio.Task[None]] = set()
        self.complaints = Complaints()
        self._site = Site(
            task.telemetry_path,
            (*begin.specs, *SPECS),
            self._samples,
            task.max_requests,
            self.complaints,
            pages,
        )
        self._link = Link(self._take)
        self._auth = Auth()
        self._server = Server(self._received, _room(task.max_connections), self.complaints)
        self._clients: Clients = self._server.clients
        self._use(task.config)

    async def serve(self, link: socket.socket) -> None:
        """Serve until the daemon is gone."""
        sockets = [socket.socket(fileno=number) for number in self._task.sockets]
        for sock in sockets:
            sock.settimeout(0)
        self._server.serve(sockets)
        await self._link.serve(link)

    def _take(self, message: Answer | WebConfig) -> None:
        if isinstance(message, WebConfig):
            self._use(message)
        else:
            self._site.take(message)

    def _use(self, config: WebConfig) -> None:
        """Use a configuration: TLS for new connections, users for new requests."""
        self._config = config
        self._auth.use(config.users)
        context = None
        if config.tls is not None:
            from ksmwatch.export.tls import make_context

            context = make_context(config.tls)
        # tornado looks at it for each connection.
        self._server.ssl_options = context

    def _samples(self) -> Samples:
        counted = sorted(self._requests.items())
        return [
            *own_resources.samples("ksmwatch_front"),
            ("ksmwatch_http_connections", [((), len(self._clients))]),
            ("ksmwatch_http_requests", [((code,), number) for code, number in counted]),
            (
                "ksmwatch_http_complaints",
                [((kind,), number) for kind, number in self.complaints.counts.items()],
            ),
        ]

    def _received(self, request: HTTPServerRequest) -> None:
        task = asyncio.create_task(self._answer(request))
        # The loop keeps only weak references to tasks.
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: HTTPServerRequest) -> None:
        connection = cast(HTTP1Connection, request.connection)
        stream = connection.stream
        if not self._certified(stream):
            self.complaints.add("certificate", client=request.remote_ip)
            stream.close()
            return
        self._clients.enter(stream, ClientPhase.ANSWERING)
        try:
            page = await self._page(request)
        except Exception as error:  # noqa: BLE001 - a client gets an answer whatever went wrong
            self.complaints.add("failed", error=f"{type(error).__name__}: {error}")
            page = sentence("ksmwatch has failed.", HTTPStatus.INTERNAL_SERVER_ERROR)
        self._requests[str(page.status.value)] += 1
        self._clients.enter(stream, ClientPhase.WRITING)
        if not stream.closed():
            page = replace(page, headers={**page.headers, **self._config.headers})
            await _write(connection, page, head=request.method == "HEAD")

    def _certified(self, stream: IOStream) -> bool:
        """Whether the client's verified certificate has an allowed name."""
        tls = self._config.tls
        if tls is None or not tls.client_allowed_sans or not isinstance(stream, SSLIOStream):
            return True
        certificate: dict[str, Any] = stream.socket.getpeercert() or {}
        names = {name for _, name in certificate.get("subjectAltName", ())}
        return not names.isdisjoint(tls.client_allowed_sans)

    async def _page(self, request: HTTPServerRequest) -> Page:
        verdict = await self._auth.verdict(request.headers.get("Authorization", ""))
        if verdict is Admission.NO:
            self.complaints.add("unauthorized", client=request.remote_ip)
            return sentence(
                "A user and a password are needed.",
                HTTPStatus.UNAUTHORIZED,
                WWW_Authenticate='Basic realm="ksmwatch"',
            )
        if verdict is Admission.LATER:
            self.complaints.add("requests", client=request.remote_ip)
            return sentence("Too many passwords are being checked.", HTTPStatus.SERVICE_UNAVAILABLE)
        if request.method not in ("GET", "HEAD"):
            self.complaints.add("method", method=request.method, client=request.remote_ip)
            return sentence(
                "Only GET and HEAD are served.", HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD"
            )
        headers = request.headers
        return await self._site.page(
            self._link,
            request.path,
            headers.get("Accept", ""),
            headers.get("Accept-Encoding", ""),
            request.query,
        )


async def _write(connection: HTTP1Connection, page: Page, *, head: bool) -> None:
    headers = HTTPHeaders(page.headers)
    headers["Content-Length"] = str(len(page.body))
    # The library's own function needs `email.utils`. No locale is set, so names are English.
    headers["Date"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    start = ResponseStartLine("HTTP/1.1", page.status.value, page.status.phrase)
    # No body for HEAD: tornado knows that the length is that of the omitted body.
    sent = connection.write_headers(start, headers, None if head else page.body)
    connection.finish()
    try:
        await sent
    except StreamClosedError:
        # The client has closed the connection.
        return


class _Log(logging.Handler):
    """Turns tornado's and asyncio's log lines about clients into complaints; the only interface."""

    _KINDS = (
        ("Malformed HTTP message", "malformed"),
        ("Unsatisfiable read", "too_large"),
        ("Reached maximum read buffer size", "too_large"),
        ("Timeout reading body", "slow"),
        ("SSL Error", "tls"),
    )

    def __init__(self, complaints: Complaints) -> None:
        super().__init__()
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        """Count a complaint, unless the client has just gone away."""
        text = record.getMessage()
        for beginning, kind in self._KINDS:
            if text.startswith(beginning):
                self._complaints.add(kind, why=text)
                return
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            self._complaints.add("failed", why=text, error=repr(error))


def serve(
    begin: Begin, task: front_channel.WebTask, pages: Mapping[str, str], sock: socket.socket
) -> None:
    """Serve HTTP until the daemon is gone. `pages`: of the runbook, by name."""
    web = WebFront(begin, task, pages)
    for name in ("tornado", "asyncio"):
        library = logging.getLogger(name)
        library.handlers[:] = [_Log(web.complaints)]
        library.setLevel(logging.INFO)
        library.propagate = False
    asyncio.run(web.serve(sock))
