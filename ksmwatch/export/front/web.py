"""Serves the site over HTTP: accepts clients, says who may see what, and counts."""

from __future__ import annotations

import errno
import resource
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from ksmwatch.export import front_channel, own_resources
from ksmwatch.export.front.auth import Admission, Auth
from ksmwatch.export.front.clients import Clients
from ksmwatch.export.front.complaints import KINDS, Complaints
from ksmwatch.export.front.connection import Connection
from ksmwatch.export.front.link import Link
from ksmwatch.export.front.page import Page, sentence
from ksmwatch.export.front.request import Request
from ksmwatch.export.front.site import Site
from ksmwatch.export.front.workers import Workers
from ksmwatch.export.front_channel import Answer, Begin
from ksmwatch.export.metric_family import Samples, Spec
from ksmwatch.export.web_config import WebConfig
from ksmwatch.log import logger

if TYPE_CHECKING:
    from ksmwatch.export.front.encryption import Encryption

_OTHER_DESCRIPTORS = 64
# Without room, or when no client can be accepted: how often it is tried again.
_PRESSURE_SECONDS = 0.25
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Of a client's thread. The system's default of 8 MiB (RLIMIT_STACK) would be counted where memory
# may not be overcommitted (vm.overcommit_memory=2).
_STACK_BYTES = 512 << 10

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
    import ksmwatch.export.front.encryption  # noqa: F401 - without TLS, its 4 MB are not needed


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


class WebFront:
    """A front that serves HTTP. The main thread accepts clients and hears the daemon."""

    def __init__(
        self,
        begin: Begin,
        task: front_channel.WebTask,
        pages: Mapping[str, str],
        channel: socket.socket,
    ) -> None:
        self._channel = channel
        self._listening = {number: socket.socket(fileno=number) for number in task.sockets}
        self._requests: Counter[str] = Counter()
        # Of `_requests`.
        self._lock = threading.Lock()
        self._complaints = Complaints()
        self._workers = Workers()
        self._clients = Clients(_room(task.max_connections), self._complaints)
        self._site = Site(
            task.telemetry_path,
            (*begin.specs, *SPECS),
            self._samples,
            task.max_requests,
            self._complaints,
            pages,
        )
        self._link = Link(channel, self._take)
        self._auth = Auth()
        self._use(task.config)

    def serve(self) -> None:
        """Serve until the daemon is gone."""
        self._link.begin()
        # The daemon alone; and clients, too, who wait in the kernel's queue if there is no room.
        daemon, everybody = select.poll(), select.poll()
        for events in (daemon, everybody):
            events.register(self._channel, select.POLLIN)
        for sock in self._listening.values():
            # Somebody else may have accepted the client meanwhile.
            sock.settimeout(0)
            everybody.register(sock, select.POLLIN)
        with suppress(EOFError, ConnectionError):
            while True:
                self._clients.make_room()
                full = self._clients.full
                self._serve(daemon.poll(1000 * _PRESSURE_SECONDS) if full else everybody.poll())

    def _serve(self, events: list[tuple[int, int]]) -> None:
        for number, _ in events:
            if number in self._listening:
                self._accept(self._listening[number])
            else:
                self._link.receive()

    def _accept(self, listening: socket.socket) -> None:
        if self._clients.full:
            return
        try:
            sock, address = listening.accept()
        except (BlockingIOError, ConnectionError):
            # The client has changed its mind.
            return
        except OSError as error:
            if error.errno in _NO_ROOM:
                # The client waits in the queue.
                self._complaints.fail(error)
                time.sleep(_PRESSURE_SECONDS)
            # Others are of the client's network, as accept(2) says.
            return
        try:
            client = self._connection(sock, address[0])
        except OSError:
            # The client is gone.
            sock.close()
            return
        self._clients.opened(client)
        try:
            self._workers.do(partial(client.run, self._clients))
        except RuntimeError as error:
            # The service's limit of tasks.
            self._clients.closed(client)
            client.close()
            self._complaints.fail(error)

    def _connection(self, sock: socket.socket, address: str) -> Connection:
        shake_hands = None
        if self._encryption is not None:
            sock = secure = self._encryption.wrap(sock)
            shake_hands = partial(self._encryption.shake_hands, secure)
        return Connection(sock, address, self._answer, self._complaints, shake_hands)

    def _take(self, message: Answer | WebConfig) -> None:
        if isinstance(message, WebConfig):
            self._use(message)
        else:
            self._site.take(message)

    def _use(self, config: WebConfig) -> None:
        """Use a configuration: TLS for new connections, users for new requests."""
        encryption = None
        if config.tls is not None:
            from ksmwatch.export.front.encryption import Encryption

            encryption = Encryption(config.tls)
        self._encryption: Encryption | None = encryption
        self._config = config
        self._auth.use(config.users)

    def _samples(self) -> Samples:
        with self._lock:
            counted = sorted(self._requests.items())
        return [
            *own_resources.samples("ksmwatch_front"),
            ("ksmwatch_http_connections", [((), len(self._clients))]),
            ("ksmwatch_http_requests", [((code,), number) for code, number in counted]),
            (
                "ksmwatch_http_complaints",
                [((kind,), number) for kind, number in self._complaints.counts.items()],
            ),
        ]

    def _answer(self, request: Request) -> Page:
        """The answer to a request, on the thread of its client."""
        try:
            page = self._page(request)
        except Exception as error:  # noqa: BLE001 - a client gets an answer whatever went wrong
            self._complaints.fail(error)
            page = sentence("ksmwatch has failed.", HTTPStatus.INTERNAL_SERVER_ERROR)
        with self._lock:
            self._requests[str(page.status.value)] += 1
        headers = self._config.headers
        return replace(page, headers={**page.headers, **headers}) if headers else page

    def _page(self, request: Request) -> Page:
        verdict = self._auth.verdict(request.header("authorization"))
        if verdict is Admission.NO:
            self._complaints.add("unauthorized", client=request.client)
            return sentence(
                "A user and a password are needed.",
                HTTPStatus.UNAUTHORIZED,
                WWW_Authenticate='Basic realm="ksmwatch"',
            )
        if verdict is Admission.LATER:
            self._complaints.add("requests", client=request.client)
            return sentence("Too many passwords are being checked.", HTTPStatus.SERVICE_UNAVAILABLE)
        if request.method not in ("GET", "HEAD"):
            self._complaints.add("method", method=request.method, client=request.client)
            return sentence(
                "Only GET and HEAD are served.", HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD"
            )
        return self._site.page(self._link, request)


def serve(
    begin: Begin, task: front_channel.WebTask, pages: Mapping[str, str], channel: socket.socket
) -> None:
    """Serve HTTP until the daemon is gone. `pages`: of the runbook, by name."""
    threading.stack_size(_STACK_BYTES)
    WebFront(begin, task, pages, channel).serve()
