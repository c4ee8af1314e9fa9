"""Slows a machine down, so that a test that depends on speed shows itself on any machine."""

from __future__ import annotations

import signal
import subprocess
import threading
from types import TracebackType
from typing import Self

RUN_SECONDS = 0.02  # at a time; short beside everything that a test waits for


class Brake:
    """Lets a process run for one Nth of the time, by SIGSTOP and SIGCONT.

    A CPU quota of a control group would need a controller, which a container seldom has. The
    guest's clock goes on while its machine is stopped: to the guest, its processor is slow.
    """

    def __init__(self, process: subprocess.Popen[bytes], factor: float) -> None:
        self._process = process
        self._pause = RUN_SECONDS * (factor - 1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        if self._pause > 0:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._pause > 0:
            self._thread.join()

    def _work(self) -> None:
        """Leaves the process running."""
        while not self._ended.wait(RUN_SECONDS):
            self._process.send_signal(signal.SIGSTOP)
            self._ended.wait(self._pause)
            self._process.send_signal(signal.SIGCONT)
