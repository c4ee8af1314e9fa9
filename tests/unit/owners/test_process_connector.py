"""Messages of the process connector: which of them the kernel hands over, and what they say."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from typing import cast

import pytest

from ksmwatch.owners import process_connector
from ksmwatch.owners.process_connector import COMM, EXEC, EXIT, UID, Connector

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
        code, yes, no, k = process_connector._FILTER[at]
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


def pair() -> tuple[Connector, socket.socket]:
    """A connector, and the kernel's end."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return Connector(ours), kernel


def test_it_says_who_has_changed() -> None:
    listener, kernel = pair()
    kernel.send(message(EXEC, 7, 7))
    kernel.send(message(EXIT, 8, 8))
    assert list(listener.changed()) == [7, 8]
    kernel.send(message(COMM, 9, 9))
    assert list(listener.changed()) == [9]
    assert list(listener.changed()) == []


class Failing:
    """A socket that fails once, then says nothing."""

    def __init__(self, number: int) -> None:
        self.numbers = [number]

    def settimeout(self, seconds: float) -> None:
        """Nothing to do."""

    def recv(self, size: int) -> bytes:
        if self.numbers:
            number = self.numbers.pop()
            raise OSError(number, os.strerror(number))
        raise BlockingIOError


def failing(number: int) -> Connector:
    return Connector(cast(socket.socket, Failing(number)))


def test_lost_messages_mean_anybody() -> None:
    assert list(failing(errno.ENOBUFS).changed()) == [None]


def test_what_nobody_expects_is_not_hidden() -> None:
    with pytest.raises(OSError, match="file descriptor"):
        list(failing(errno.EBADF).changed())


def kernel_that(*answers: bytes) -> tuple[socket.socket, socket.socket]:
    """Our socket, and the kernel's end, which answers before it is asked."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for answer in answers:
        kernel.send(answer)
    return ours, kernel


def test_it_asks_for_events_and_waits_for_the_answer() -> None:
    ours, kernel = kernel_that(message(EXEC, 7, 7), message(0, 0, 0), message(EXIT, 8, 8))
    process_connector._ask(ours)
    asked = struct.pack("=IHHII", 40, 3, 0, 0, 0) + struct.pack("=IIIIHHI", 1, 1, 0, 0, 4, 0, 1)
    assert kernel.recv(4096) == asked
    assert list(Connector(ours).changed()) == [8]


def test_where_it_is_refused() -> None:
    ours, _kernel = kernel_that(message(0, errno.EPERM, 0))
    with pytest.raises(PermissionError, match="the process connector refuses"):
        process_connector._ask(ours)


def test_where_nobody_answers() -> None:
    ours, _kernel = kernel_that()
    with pytest.raises(TimeoutError, match="the process connector does not answer"):
        process_connector._ask(ours)


ALONE = """
import sys
from ksmwatch.owners import process_connector
process_connector._load_messages()
print(*(name for name in sys.modules if name.startswith(("pyroute2", "logging"))))
process_connector.unload("pyroute2")
print(*(name for name in sys.modules if name.startswith(("pyroute2", "logging"))))
# Who imports it later gets the real one.
import logging
assert logging.Formatter
"""


def test_of_pyroute2_it_loads_only_messages_and_forgets_them() -> None:
    command = [sys.executable, "-I", "-c", ALONE]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    names = {"pyroute2", "pyroute2.common", "pyroute2.netlink", "pyroute2.netlink.exceptions"}
    loaded, kept = done.stdout.splitlines()
    assert set(loaded.split()) == names
    assert kept == ""
