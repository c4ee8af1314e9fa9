"""A daemon under test, and what it is asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.slowness import patience

# Of the reference machine, under emulation; nothing is measured by this.
_START_SECONDS = 480
_ANSWER_SECONDS = 240
_STOP_SECONDS = 240
_LAST_WORDS_SECONDS = 10


def free_port() -> int:
    """A port of the loopback address on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """`ksmwatch run` in the background, with its own socket and, on request, its own port."""

    def __init__(
        self,
        *options: str,
        prefix: Sequence[str] = (),
        http: bool = True,
        program: str = "ksmwatch",
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ksmwatch-test-")
        self.socket = Path(self._directory.name) / "ksmwatch.sock"
        self.port = free_port()
        self._http = http
        self.log_path = Path(self._directory.name) / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(*prefix, program, "run", "--socket", str(self.socket)),
                    f"--web.listen-address={f'127.0.0.1:{self.port}' if http else ''}",
                    # Nothing of one test outlives it into the next, unless it asks for that.
                    *("--log.format", "json", "--state.pin-path=", *options),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def __enter__(self) -> Self:
        self.wait_until_ready()
        if self._http:
            self._wait_for_front()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            # Perhaps it is ending by itself, and has more to say.
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_LAST_WORDS_SECONDS)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if kind is not None:
            print("the daemon's log:\n" + self.log_path.read_text())
        self._directory.cleanup()

    def family(self) -> list[int]:
        """Its pid, and those of the processes that it has started."""
        pid = self.process.pid
        # Of each thread, because another one may have restarted the process that serves HTTP.
        found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [pid, *(int(child) for children in found for child in children)]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The daemon and the processes that it has started do nothing meanwhile."""
        family = self.family()
        for each in family:
            os.kill(each, signal.SIGSTOP)
        yield
        for each in family:
            os.kill(each, signal.SIGCONT)

    def wait_until_ready(self) -> None:
        """Wait for the first snapshot; fails with the log if the daemon has ended."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(patience(_START_SECONDS))
            self._connect(sock)
            sock.sendall(b'{"command": "snapshot"}\n')
            if not sock.recv(1):
                raise AssertionError(f"the daemon ended:\n{self.log_path.read_text()}")

    def _wait_for_front(self) -> None:
        """Until the process that serves HTTP has a first answer.

        It asks for one as soon as it can, and hands it out for a second. So that comes before
        whatever a test does.
        """
        # With TLS it refuses, and with passwords too.
        with suppress(OSError, HTTPException):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready").close()

    def _connect(self, sock: socket.socket) -> None:
        """Connect as soon as the socket is there."""
        while True:
            try:
                sock.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                try:
                    status = self.process.wait(0.01)
                except subprocess.TimeoutExpired:
                    continue
                log = self.log_path.read_text()
                raise AssertionError(f"the daemon ended with {status}:\n{log}") from None
            return

    def snapshot(self) -> dict[str, Any]:
        """The snapshot document, requested as `ksmwatch snapshot` does."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(patience(_ANSWER_SECONDS))
            sock.connect(str(self.socket))
            sock.sendall(b'{"command": "snapshot"}\n')
            document: dict[str, Any] = json.loads(sock.makefile("rb").read())
        assert "error" not in document, document
        return document

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return str(answer.read().decode())

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience(_STOP_SECONDS))
