"""HTTP/1.1 with one client, on a thread of its own. h11 implements the protocol."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http import HTTPStatus

import h11

from ksmwatch.export.front.clients import ClientPhase, Clients
from ksmwatch.export.front.complaints import Complaints
from ksmwatch.export.front.limits import (
    IDLE_SECONDS,
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    NEW_SECONDS,
    READ_SECONDS,
    WRITE_SECONDS,
)
from ksmwatch.export.front.page import Page, sentence
from ksmwatch.export.front.request import Request

_READ_BYTES = 8192
# All clients share a larger body: a copy for each slow one could take all memory. A smaller one is
# sent in one piece with its head.
_COPIED_BYTES = 1 << 16
# Characters of an error's text that are logged.
_QUOTED = 100
# How long a phase may take in which the client has to do something.
_LIMITS = {
    ClientPhase.NEW: NEW_SECONDS,
    ClientPhase.IDLE: IDLE_SECONDS,
    ClientPhase.READING: READ_SECONDS,
    ClientPhase.WRITING: WRITE_SECONDS,
}


class HandshakeError(Exception):
    """A client that cannot be let in. `kind`: of complaint."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class Connection:
    """A client's connection. All its methods but `hang_up` are for its own thread."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        answer: Callable[[Request], Page],
        complaints: Complaints,
        shake_hands: Callable[[], None] | None = None,
    ) -> None:
        """`shake_hands`: with TLS, before the first request. Raises HandshakeError."""
        self._socket = sock
        self._address = address
        self._answer = answer
        self._complaints = complaints
        self._shake_hands = shake_hands
        # Whether only the head of an answer is asked for.
        self._head = False
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._enter(ClientPhase.NEW)

    def _enter(self, phase: ClientPhase) -> None:
        # Another thread may look between the two: the old phase has not lasted for long, then.
        self.since = time.monotonic()
        self.phase = phase

    def hang_up(self) -> None:
        """End it at once, for any thread: its own one finds that the client is gone."""
        try:
            # SSLSocket's own method would have the rest sent without TLS.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            # The client was quicker.
            return

    def run(self, clients: Clients) -> None:
        """Answer the client until it goes, or has to."""
        try:
            if self._shake_hands is not None:
                self._allow_time()
                self._shake_hands()
            while self._exchange():
                pass
        except HandshakeError as error:
            self._complaints.add(error.kind, why=str(error), client=self._address)
        except TimeoutError:
            # To be idle is no error.
            if self.phase is not ClientPhase.IDLE:
                self._complaints.add("slow", client=self._address)
        except OSError:
            # The client is gone. ssl's errors are of this kind, too.
            return
        except Exception as error:  # noqa: BLE001 - others must be served whatever went wrong here
            self._complaints.fail(error)
        finally:
            clients.closed(self)
            self.close()

    def close(self) -> None:
        """Close the socket. Nobody may hang up afterwards."""
        self._socket.close()

    def _exchange(self) -> bool:
        """Receive a request and answer it; returns whether another one may follow."""
        try:
            request = self._request()
        except h11.RemoteProtocolError as error:
            self._refuse(error)
            return False
        if request is None:
            return False
        self._enter(ClientPhase.ANSWERING)
        self._write(self._answer(request))
        if {self._parser.our_state, self._parser.their_state} != {h11.DONE}:
            return False
        self._parser.start_next_cycle()
        begun, _ = self._parser.trailing_data
        self._enter(ClientPhase.READING if begun else ClientPhase.IDLE)
        return True

    def _request(self) -> Request | None:
        """The next request, with its body, if any, read; None if the client is gone."""
        request, length, self._head = None, 0, False
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                # A client that would rather ask before it sends a body need not send it.
                if request is not None and self._parser.they_are_waiting_for_100_continue:
                    return request
                data = self._receive()
                if not data:
                    return None
                self._parser.receive_data(data)
            elif isinstance(event, h11.Request):
                request = self._understood(event)
                self._head = request.method == "HEAD"
                length = int(request.header("content-length") or 0)
            elif isinstance(event, h11.Data):
                # In chunks, of which none says how long all are.
                length += len(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:
                return None
            if length > MAX_BODY_BYTES:
                raise h11.RemoteProtocolError("the body is too long")

    def _understood(self, event: h11.Request) -> Request:
        headers: dict[str, str] = {}
        for name, value in event.headers:
            key, text = name.decode(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        path, _, query = event.target.decode("latin-1").partition("?")
        return Request(event.method.decode(), path, query, headers, self._address)

    def _receive(self) -> bytes:
        self._allow_time()
        data = self._socket.recv(_READ_BYTES)
        if self.phase is ClientPhase.IDLE:
            self._enter(ClientPhase.READING)
        return data

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say that this is no HTTP. A client that sends for ever gets no answer."""
        status = HTTPStatus(error.error_status_hint)
        too_large = status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        kind = "too_large" if too_large else "malformed"
        # It quotes the client.
        why = str(error)[:_QUOTED]
        self._complaints.add(kind, why=why, client=self._address)
        if not too_large and self._parser.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._write(sentence("This is no request.", status, Connection="close"))

    def _write(self, page: Page) -> None:
        """Send an answer, without its body if only its head is asked for."""
        self._enter(ClientPhase.WRITING)
        headers = [
            *page.headers.items(),
            ("Content-Length", str(len(page.body))),
            # No locale is set, so names are English.
            ("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())),
        ]
        start = h11.Response(
            status_code=page.status.value, reason=page.status.phrase, headers=headers
        )
        head, body = self._parser.send(start) or b"", b""
        if not self._head:
            body = page.body
            self._parser.send_with_data_passthrough(h11.Data(data=body))
        # After a body of known length, nothing is sent.
        self._parser.send(h11.EndOfMessage())
        if len(body) > _COPIED_BYTES:
            self._send(head)
            self._send(body)
        else:
            self._send(head + body)

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._allow_time()
            rest = rest[self._socket.send(rest) :]

    def _allow_time(self) -> None:
        """Let the next step take as long as the phase may still take. Raises TimeoutError."""
        left = self.since + _LIMITS[self.phase] - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
