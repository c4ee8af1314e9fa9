"""One run of a machine: start it, relay its streams, learn the status, end it."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import HarnessError
from .machine import PORTS
from .procs import die_with_parent

BOOT_SECONDS = 300  # without a sign of the command by then, the guest never started
DRAIN_SECONDS = 20  # for output still on its way after the command has ended
CONSOLE_LINES = 30
CHUNK = 1 << 16
END_MARK = b"\x1d\x1e"  # as in guest/stage2


def new_token() -> str:
    """A word that no output contains by accident."""
    return secrets.token_hex(24)


class GuestLostError(HarnessError):
    """The guest died, hung or never started; `console` is the end of what it said."""

    def __init__(self, reason: str, console: Sequence[str]) -> None:
        super().__init__(reason)
        self.console = list(console)


@dataclass
class Stream:
    """An output stream of the command; the end mark is held back and recognised."""

    mark: bytes
    sink: Callable[[bytes], None]
    ended: bool = False
    held: bytes = b""

    def feed(self, data: bytes) -> None:
        """Pass on all that cannot be the beginning of the end mark."""
        data = self.held + data
        at = data.find(self.mark)
        if at >= 0:
            self.ended = True
            self.held = b""
            self.sink(data[:at])
            return
        keep = held_back(data, self.mark)
        self.held = data[len(data) - keep :]
        self.sink(data[: len(data) - keep])


def held_back(data: bytes, mark: bytes) -> int:
    """How many of the last bytes may be the beginning of the mark."""
    for length in range(min(len(mark) - 1, len(data)), 0, -1):
        if data.endswith(mark[:length]):
            return length
    return 0


@dataclass
class Console:
    """The kernel's console: the last lines in memory, all of it in a file on demand."""

    file: Path | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=CONSOLE_LINES))
    partial: bytes = b""
    panic: str = ""

    def __post_init__(self) -> None:
        self.out = self.file.open("wb", buffering=0) if self.file else None

    def feed(self, data: bytes) -> None:
        """Take what the guest wrote."""
        if self.out:
            self.out.write(data)
        *whole, self.partial = (self.partial + data).split(b"\n")
        for line in whole:
            self.add(line)

    def add(self, raw: bytes) -> None:
        """Remember a line, without what would disturb a terminal."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\0]", "", raw.decode("utf-8", "replace"))
        self.lines.append(text)
        if "Kernel panic" in text and not self.panic:
            self.panic = text[text.index("Kernel panic") :]

    def tail(self) -> list[str]:
        """Give the last lines."""
        if self.partial:
            self.add(self.partial)
            self.partial = b""
        return list(self.lines)


def write_all(fd: int) -> Callable[[bytes], None]:
    """A sink that writes to a descriptor of ours, whatever its mood."""

    def sink(data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                with selectors.DefaultSelector() as selector:
                    selector.register(fd, selectors.EVENT_WRITE)
                    selector.select()

    return sink


def stdin_is_ours() -> bool:
    """Whether reading stdin is harmless: not closed, not the terminal of another job."""
    try:
        return not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def pump_stdin(port: socket.socket) -> None:
    """Forward our stdin; half-closing the socket is how its end reaches the guest in order."""
    try:
        while stdin_is_ours() and (data := os.read(0, CHUNK)):
            port.sendall(data)
        port.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # closed stdin, or the guest is gone


class Session:
    """A running machine and our ends of its channels."""

    def __init__(
        self, series: str, token: str, console: Console, package: str = "qemu-system-x86"
    ) -> None:
        """`package`: the one that has QEMU."""
        self.series = series
        self.package = package
        self.slow = 1.0  # how many times more patience the machine wants
        self.console = console
        mark = END_MARK + token.encode()
        self.streams = {"stdout": Stream(mark, write_all(1)), "stderr": Stream(mark, write_all(2))}
        self.control = b""
        self.ready_at: float | None = None
        self.status: int | None = None
        self.status_at = 0.0
        self.started_at = 0.0
        self.ends: dict[str, socket.socket] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, argv: Callable[[int, Sequence[int]], list[str]], inherited: Sequence[int]
    ) -> None:
        """Start QEMU with one end of every channel, and with what else it needs of ours."""
        theirs = {}
        for name in ("console", *PORTS):
            self.ends[name], theirs[name] = socket.socketpair()
        fds = [end.fileno() for end in theirs.values()]
        self.started_at = time.monotonic()
        try:
            self.process = subprocess.Popen(
                argv(fds[0], fds[1:]),
                pass_fds=(*fds, *inherited),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - no thread has been started yet
            )
        except OSError as error:
            raise HarnessError(f"cannot start QEMU: {error} (package {self.package})") from error
        finally:
            for end in theirs.values():
                end.close()
        threading.Thread(target=pump_stdin, args=(self.ends["stdin"],), daemon=True).start()

    def kill(self) -> None:
        """End QEMU, if it runs, and wait until it is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def feed(self, name: str, data: bytes) -> None:
        """Take what came from a channel."""
        if name == "console":
            self.console.feed(data)
        elif name == "control":
            *lines, self.control = (self.control + data).split(b"\n")
            for line in lines:
                self.obey(line)
        else:
            self.streams[name].feed(data)

    def obey(self, line: bytes) -> None:
        """The guest's two announcements."""
        if line == b"ready":
            self.ready_at = time.monotonic()
        elif line.startswith(b"status "):
            self.status = int(line[7:])
            self.status_at = time.monotonic()

    def complete(self) -> bool:
        """Whether all that the command said has arrived."""
        return self.status is not None and all(each.ended for each in self.streams.values())

    def deadline(self, timeout: float | None) -> tuple[float, str]:
        """The next moment at which patience ends, and what to say then."""
        limits = []
        if timeout is not None:
            limits.append(
                (
                    self.started_at + timeout,
                    f"the {self.series} guest was not done after {timeout:g} s",
                )
            )
        if self.status is not None:
            limits.append((self.status_at + DRAIN_SECONDS * self.slow, "drain"))
        elif self.ready_at is None:
            limits.append(
                (
                    self.started_at + BOOT_SECONDS * self.slow,
                    f"the {self.series} guest never got as far as the command",
                )
            )
        return min(limits, default=(float("inf"), ""))

    def relay(self, timeout: float | None) -> int:
        """Relay until the command has ended and all its output is here; give its status."""
        with selectors.DefaultSelector() as selector:
            for name, end in self.ends.items():
                if name != "stdin":
                    selector.register(end, selectors.EVENT_READ, name)
            while not self.complete():
                moment, reason = self.deadline(timeout)
                left = moment - time.monotonic()
                if left <= 0:
                    if self.status is not None:
                        raise GuestLostError(
                            f"the command ended with status {self.status}, but its "
                            "output could not be brought home",
                            self.console.tail(),
                        )
                    raise GuestLostError(reason, self.console.tail())
                if not selector.get_map():
                    raise GuestLostError(self.obituary(), self.console.tail())
                for key, _ in selector.select(min(left, 3600)):
                    data = receive(key.fileobj)
                    if data:
                        self.feed(key.data, data)
                    else:
                        selector.unregister(key.fileobj)
        assert self.status is not None
        return self.status

    def obituary(self) -> str:
        """Why the machine is gone."""
        assert self.process is not None
        assert self.process.stderr is not None
        words = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        when = "before the command started" if self.ready_at is None else "under the command"
        if words:
            return f"QEMU gave up {when}: {words[-1]}"
        if self.console.panic:
            return f"the {self.series} guest died {when}: {self.console.panic}"
        return f"the {self.series} guest switched itself off or was reset {when}"


def receive(end: object) -> bytes:
    """What a channel has; nothing means that the other side is gone."""
    assert isinstance(end, socket.socket)
    try:
        return end.recv(CHUNK)
    except ConnectionError:
        return b""
