"""HTTP with one client: what it may send, how long each step may take, and when it has to go."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ksmwatch.export.front import connection
from ksmwatch.export.front.clients import ClientPhase, Clients
from ksmwatch.export.front.complaints import Complaints
from ksmwatch.export.front.connection import Connection, HandshakeError
from ksmwatch.export.front.limits import MAX_BODY_BYTES
from ksmwatch.export.front.page import Page, sentence
from ksmwatch.export.front.request import Request
from tests.slowness import patience

GET = b"GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n"


class Talk:
    """A client of a connection, and what the connection has been asked."""

    def __init__(
        self,
        answer: Callable[[Request], Page] | None = None,
        shake_hands: Callable[[], None] | None = None,
    ) -> None:
        self.client, ours = socket.socketpair()
        self.client.settimeout(patience(300))
        self.requests: list[Request] = []
        self.complaints = Complaints()
        self.clients = Clients(1, self.complaints)
        self.connection = Connection(
            ours, "192.0.2.1", answer or self._answer, self.complaints, shake_hands
        )
        self.clients.opened(self.connection)
        self.thread = threading.Thread(target=self.connection.run, args=(self.clients,))
        self.thread.start()

    def _answer(self, request: Request) -> Page:
        self.requests.append(request)
        return sentence(f"Answer {len(self.requests)}.")

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self.client.sendall(part)

    def hear(self, end: bytes) -> bytes:
        """What comes, as far as this."""
        heard = b""
        while not heard.endswith(end):
            data = self.client.recv(4096)
            assert data, heard
            heard += data
        return heard

    def rest(self) -> bytes:
        """What still comes until the other side closes."""
        heard = b""
        with suppress(ConnectionError):
            while data := self.client.recv(65536):
                heard += data
        return heard

    @property
    def complained(self) -> dict[str, int]:
        """Kinds of complaint."""
        return {kind: count for kind, count in self.complaints.counts.items() if count}


@contextmanager
def talk(
    answer: Callable[[Request], Page] | None = None,
    shake_hands: Callable[[], None] | None = None,
) -> Iterator[Talk]:
    """A conversation. At its end, nothing of the connection is left."""
    made = Talk(answer, shake_hands)
    with made.client:
        yield made
    made.thread.join()
    assert len(made.clients) == 0
    # Its descriptor is closed.
    assert made.connection._socket.fileno() == -1


def test_a_request_is_what_was_sent() -> None:
    with talk() as talked:
        talked.say(GET, b"Accept: a\r\naccept: b\r\nX-Y: \xe4\r\n", b"Connection: close\r\n\r\n")
        answer = talked.rest()
    (request,) = talked.requests
    assert (request.method, request.path, request.query) == ("GET", "/metrics", "a=b")
    assert request.header("accept") == "a, b"
    assert request.header("x-y") == "\xe4"
    assert request.header("cookie") == ""
    assert request.client == "192.0.2.1"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 10\r\n" in head
    assert b"Connection: close" in head
    assert body == b"Answer 1.\n"


def test_several_requests_of_one_client_and_some_at_once() -> None:
    with talk() as talked:
        talked.say(GET + b"\r\n")
        assert talked.hear(b"Answer 1.\n").startswith(b"HTTP/1.1 200 OK\r\n")
        talked.say(GET + b"\r\n" + GET + b"\r\n")
        assert talked.hear(b"Answer 3.\n").count(b"HTTP/1.1 200 OK\r\n") == 2


def test_a_client_of_http_1_0_gets_one_answer() -> None:
    with talk() as talked:
        talked.say(b"GET / HTTP/1.0\r\n\r\n")
        assert talked.rest().endswith(b"Answer 1.\n")


def test_who_has_said_everything_may_stop_sending() -> None:
    with talk() as talked:
        talked.say(GET + b"\r\n")
        talked.client.shutdown(socket.SHUT_WR)
        assert talked.rest().endswith(b"Answer 1.\n")


def test_a_body_is_read_and_forgotten() -> None:
    with talk() as talked:
        talked.say(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", b"abc", b"de")
        talked.hear(b"Answer 1.\n")
        talked.say(GET + b"\r\n")
        talked.hear(b"Answer 2.\n")
    assert [request.method for request in talked.requests] == ["POST", "GET"]


def test_a_client_that_asks_whether_to_send_a_body_is_answered_at_once() -> None:
    with talk() as talked:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        talked.say(head)
        assert talked.rest().endswith(b"Answer 1.\n")


CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        b"Transfer-Encoding: chunked\r\n\r\n" + 2 * CHUNK,
    ],
    ids=["announced", "in chunks"],
)
def test_a_body_that_is_too_long_is_refused(body: bytes) -> None:
    with talk() as talked:
        talked.say(GET, body)
        assert talked.hear(b"This is no request.\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert talked.requests == []
    assert talked.complained == {"malformed": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        GET + b"Content-Length: x\r\n\r\n",
        GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        GET + b"Name : value\r\n\r\n",
        GET + b"Transfer-Encoding: gzip\r\n\r\n",
        b"x" * 5000 + b"\r\n\r\n",
    ],
    ids=["line", "host", "length", "lengths", "name", "encoding", "long"],
)
def test_what_is_no_http_is_answered_so(text: bytes, warnings: list[dict[str, str]]) -> None:
    with talk() as talked:
        talked.say(text)
        head, _, body = talked.rest().partition(b"\r\n\r\n")
    assert head[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 501")
    assert b"Connection: close" in head
    assert body == b"This is no request.\n"
    assert talked.complained == {"malformed": 1}
    # The client must not fill the log.
    assert len(warnings[0]["why"]) <= 100


def test_headers_without_end_are_not_answered() -> None:
    with talk() as talked, suppress(ConnectionError):
        talked.say(GET, *(b"X: " + b"x" * 4000 + b"\r\n" for _ in range(20)))
    assert talked.complained == {"too_large": 1}


@pytest.mark.parametrize(
    ("phase", "parts", "kind"),
    [
        (ClientPhase.NEW, [], "slow"),
        (ClientPhase.NEW, [GET], "slow"),
        (ClientPhase.IDLE, [GET, b"\r\n"], None),
        (ClientPhase.READING, [GET, b"\r\n", b"GET"], "slow"),
    ],
    ids=["silent", "half", "idle", "half later"],
)
def test_each_phase_has_its_limit(
    monkeypatch: pytest.MonkeyPatch, phase: ClientPhase, parts: list[bytes], kind: str | None
) -> None:
    limits = dict.fromkeys(ClientPhase, patience(300)) | {phase: 0.05}
    monkeypatch.setattr(connection, "_LIMITS", limits)
    with talk() as talked:
        talked.say(*parts)
        talked.rest()
    assert talked.complained == ({} if kind is None else {kind: 1})


def test_a_client_that_sends_byte_by_byte_has_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection._LIMITS, ClientPhase.NEW, 0.3)
    with talk() as talked, suppress(ConnectionError):
        while talked.thread.is_alive():
            talked.say(b"G")
            talked.thread.join(0.01)
    assert talked.complained == {"slow": 1}


def test_a_client_that_does_not_take_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection._LIMITS, ClientPhase.WRITING, 0.1)
    with talk(lambda _: Page(bytes(10_000_000), {})) as talked:
        talked.say(GET + b"\r\n")
        talked.thread.join()
    assert talked.complained == {"slow": 1}


def test_a_client_that_is_cut_off() -> None:
    with talk() as talked:
        talked.say(GET)
        talked.connection.hang_up()
        assert talked.rest() == b""
        talked.thread.join()
        # For a connection that has ended, it does nothing.
        talked.connection.hang_up()
    assert talked.complained == {}


def test_a_client_that_goes_in_the_middle_is_no_error() -> None:
    for parts in ([], [GET], [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"]):
        with talk() as talked:
            talked.say(*parts)
        assert talked.complained == {}


def test_without_a_handshake_nothing_is_read() -> None:
    def refuse() -> None:
        raise HandshakeError("certificate", "why")

    with talk(shake_hands=refuse) as talked:
        assert talked.rest() == b""
    assert (talked.requests, talked.complained) == ([], {"certificate": 1})


def test_an_error_of_ours_ends_the_connection_and_is_counted() -> None:
    with talk(lambda _: Page(b"", {"no name": "x"})) as talked:
        talked.say(GET + b"\r\n")
        assert talked.rest() == b""
    assert talked.complained == {"failed": 1}


def test_only_the_head_of_what_is_no_http_either() -> None:
    with talk() as talked:
        talked.say(b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 << 20))
        head, _, body = talked.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b""
    assert talked.complained == {"malformed": 1}


@pytest.mark.parametrize("size", [connection._COPIED_BYTES, connection._COPIED_BYTES + 1])
def test_a_body_of_any_size_arrives(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    with talk(lambda _: Page(body[:size], {"X-Y": "z"})) as talked:
        talked.say(GET + b"Connection: close\r\n\r\n")
        head, _, found = talked.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found == body[:size]
