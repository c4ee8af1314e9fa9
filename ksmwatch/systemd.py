"""The service manager: messages to it, and the descriptors that it keeps for us.

sd_notify(3) is a datagram of NAME=VALUE lines to a Unix socket; sd_listen_fds(3) is two environment
variables. Neither is worth a dependency.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import MutableMapping

# sd_listen_fds(3): the first passed descriptor.
_FIRST_FD = 3
# How long systemd may take to process earlier messages. It does not answer while it reloads its
# units, which takes seconds on a large host.
_BARRIER_SECONDS = 30.0
# A crashed systemd no longer reads, and its queue fills up.
_SEND_SECONDS = 5.0
# Number of beats within the time after which systemd loses patience.
_BEATS = 4


class Manager:
    """The systemd that has started this process; without one, nothing is sent.

    Removes its variables from the environment, so that no child uses them.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", "")
        # Since 254; the unit for an earlier systemd sets it itself.
        self.store_limit = int(environment.pop("FDSTORE", "0")) if self._address else 0
        self._passed = _take_passed(environment)
        # Seconds between two beats; 0 if nobody waits for them.
        self.interval = _take_watchdog(environment) / _BEATS
        self._next_beat = 0.0
        self._status = ""

    def take_passed(self, *prefixes: str) -> list[tuple[str, int]]:
        """The passed descriptors whose names begin with a prefix, once. The caller owns them."""
        taken = [each for each in self._passed if each[0].startswith(prefixes)]
        self._passed = [each for each in self._passed if each not in taken]
        return taken

    def ready(self) -> None:
        """Started, or done with reloading."""
        self._say("READY=1")

    def reloading(self) -> None:
        """A reload is under way, until `ready`."""
        stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say(f"RELOADING=1\nMONOTONIC_USEC={stamp}")

    def stopping(self) -> None:
        """The daemon is stopping."""
        self._say("STOPPING=1")

    def status(self, line: str) -> None:
        """What `systemctl status` shows; sent if it has changed."""
        if line != self._status:
            self._status = line
            self._say(f"STATUS={line}")

    def beat(self) -> None:
        """Report progress. Called often; sent as often as systemd's watchdog needs it."""
        now = time.monotonic()
        if self.interval and now >= self._next_beat:
            self._next_beat = now + self.interval
            self._say("WATCHDOG=1")

    def store(self, name: str, fd: int) -> None:
        """Store a descriptor until this service stops, also over a restart. Raises OSError."""
        # Without FDPOLL=0 systemd drops descriptors that poll as an error, as maps and perf events
        # do.
        self._tell(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", fd)

    def forget(self, *names: str) -> None:
        """Drop stored descriptors; systemd has closed them when this returns. Raises OSError."""
        for name in names:
            self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}")
        self._barrier()

    def _barrier(self) -> None:
        """Wait until systemd has processed earlier messages: it then closes our pipe."""
        ours, theirs = os.pipe()
        try:
            self._tell("BARRIER=1", theirs)
        finally:
            os.close(theirs)
        poll = select.poll()
        poll.register(ours, 0)
        try:
            if self._address and not poll.poll(_BARRIER_SECONDS * 1000):
                raise TimeoutError(errno.ETIMEDOUT, "systemd does not answer")
        finally:
            os.close(ours)

    def _say(self, text: str) -> None:
        """Send a message on which counting does not depend."""
        with contextlib.suppress(OSError):
            self._tell(text)

    def _tell(self, text: str, *fds: int) -> None:
        """Send one message. Raises OSError."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_SEND_SECONDS)
            # A leading @ stands for the abstract name space.
            sock.connect(self._address.replace("@", "\0", 1))
            socket.send_fds(sock, [text.encode()], fds)


def _take_passed(environment: MutableMapping[str, str]) -> list[tuple[str, int]]:
    pid, count, names = (
        environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()):
        return []
    fds = range(_FIRST_FD, _FIRST_FD + int(count))
    for fd in fds:
        os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
    return list(zip(names.split(":"), fds, strict=True))


def _take_watchdog(environment: MutableMapping[str, str]) -> float:
    """Seconds after which systemd loses patience; 0 for never."""
    pid, usec = (environment.pop(name, "") for name in ("WATCHDOG_PID", "WATCHDOG_USEC"))
    return int(usec) / 1e6 if usec and pid in ("", str(os.getpid())) else 0.0
