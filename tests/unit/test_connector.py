"""Messages of the process connector: which of them the kernel hands over, and what they say."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import pytest

from ksmwatch import connector
from ksmwatch.connector import COMM, EXEC, EXIT, UID, Connector

FORK, PTRACE, COREDUMP = 0x1, 0x100, 0x40000000


def message(what: int, pid: int, tgid: int) -> bytes:
    """As the kernel sends it: struct nlmsghdr, struct cn_msg, struct proc_event."""
    event = struct.pack("=IIQ", what, 0, 123456789) + struct.pack("=IIII", pid, tgid, 0, 0)
    body = struct.pack("=IIIIHH", 1, 1, 5, 0, len(event), 0) + event
    return struct.pack("=IHHII", 16 + len(body), 3, 0, 5, 0) + body


def passes(data: bytes) -> bool:
    """What the filter returns, by a machine that knows its six instructions."""
    a = x = at = 0
    while True:
        code, yes, no, k = connector._FILTER[at]
        at += 1
        if code == 0x20:
            (a,) = struct.unpack_from(">I", data, k)
        elif code == 0x07:
            x = a
        elif code in {0x15, 0x1D}:
            at += yes if a == (k if code == 0x15 else x) else no
        else:
            assert code == 0x06
            return k != 0


@pytest.mark.parametrize("what", [EXEC, UID, COMM, EXIT])
def test_the_filter_takes_what_changes_a_process(what: int) -> None:
    assert passes(message(what, 70000, 70000))
    # Another thread of it.
    assert not passes(message(what, 70001, 70000))


@pytest.mark.parametrize("what", [FORK, PTRACE, COREDUMP, 0x40, 0x80])
def test_the_filter_leaves_the_rest_to_the_kernel(what: int) -> None:
    assert not passes(message(what, 70000, 70000))


def test_the_filter_takes_acknowledgements() -> None:
    assert passes(message(0, 1, 0))


class FakeSocket:
    """Says what it is told; an error number is raised."""

    def __init__(self, *said: bytes | int) -> None:
        self.said = [*said]
        self.sent: list[bytes] = []
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def send(self, data: bytes) -> None:
        """Remember it."""
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        """The next, then nothing."""
        if not self.said:
            raise BlockingIOError
        following = self.said.pop(0)
        if isinstance(following, int):
            raise OSError(following, os.strerror(following))
        return following

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def listen(monkeypatch: pytest.MonkeyPatch, fake: FakeSocket) -> Connector:
    monkeypatch.setattr("ksmwatch.connector.socket.socket", lambda *_: fake)
    return Connector()


ACK = message(0, 0, 0)


def test_it_asks_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSocket(message(EXEC, 5, 5), ACK)
    listener = listen(monkeypatch, fake)
    (request,) = fake.sent
    assert struct.unpack("=IHHII", request[:16]) == (len(request), 3, 0, 0, 0)
    # CN_IDX_PROC, CN_VAL_PROC; four bytes, PROC_CN_MCAST_LISTEN.
    assert struct.unpack("=IIIIHHI", request[16:]) == (1, 1, 0, 0, 4, 0, 1)
    assert not fake.closed
    listener.close()
    assert fake.closed


@pytest.mark.parametrize("answer", [message(0, errno.EPERM, 0), errno.EAGAIN, errno.ECONNREFUSED])
def test_where_it_is_refused_or_not_answered(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | int
) -> None:
    fake = FakeSocket(answer)
    with pytest.raises(OSError):  # noqa: PT011 - of any number
        listen(monkeypatch, fake)
    assert fake.closed


def test_it_says_who_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSocket(ACK, message(EXEC, 7, 7), message(EXIT, 8, 8), errno.ENOBUFS)
    listener = listen(monkeypatch, fake)
    assert list(listener.changed()) == [7, 8, None]
    fake.said = [message(COMM, 9, 9)]
    assert list(listener.changed()) == [9]
    assert list(listener.changed()) == []


def test_what_nobody_expects_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen(monkeypatch, FakeSocket(ACK, errno.EBADF))
    with pytest.raises(OSError, match="file descriptor"):
        list(listener.changed())
