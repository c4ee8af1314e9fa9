"""The ksmwatch daemon of the demo, as a user would start it, with its own socket."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.children import DemoError, end_with_parent
from ksmwatch.snapshot.socket_client import fetch

_END_SECONDS = 20


class Daemon:
    """`ksmwatch run` in a process of its own. Its log is kept until it ends."""

    def __init__(self, listen: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ksmwatch-demo-")
        self.socket = Path(self._directory.name) / "socket"
        self._log = Path(self._directory.name) / "log"
        # No audit: every number must come from events, none from a later correction.
        flags = [
            f"--socket={self.socket}",
            f"--web.listen-address={listen}",
            "--backend=bpf",
            "--audit.cpu-percent=0",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "ksmwatch", "run", *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - there are no threads here
            )

    def wait_ready(self, waiting: Callable[[float], None], sleep: Callable[[float], None]) -> None:
        """Return when it answers. `waiting` is told the seconds so far."""
        began = time.monotonic()
        question: socket.socket | None = None
        while not (question and select.select([question], [], [], 0)[0]):
            if self._process.poll() is not None:
                raise DemoError(f"ksmwatch run ended at once:\n{self._log.read_text()}")
            question = question or _asked(self.socket)
            waiting(time.monotonic() - began)
            sleep(0.5)
        question.close()

    def snapshot(self) -> dict[str, Any]:
        """The snapshot document of now."""
        return fetch(self.socket)

    def stop(self) -> None:
        """End it, which detaches everything."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


def _asked(path: Path) -> socket.socket | None:
    """A connection on which an answer will come, or None while nothing listens."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
        sock.sendall(b'{"command": "snapshot"}\n')
    except OSError:
        sock.close()
        return None
    return sock
