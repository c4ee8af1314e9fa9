"""A daemon that is killed and restarted again and again while it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kernel.daemon import Daemon
from tests.slowness import patience

_PINS = Path("/sys/fs/bpf/ksmwatch-fuzz")
# A life is at least such a part of a start, or nothing but starts would happen on a slow machine.
_LIFE_PER_START = 0.3


class Restarts:
    """Keeps one daemon running.

    `seconds`: how long a daemon lives on the reference machine, for ever if it is 0.
    """

    def __init__(self, options: Sequence[str], seconds: float) -> None:
        pins = [f"--state.pin-path={_PINS}"] if seconds else []
        self._options = [*pins, *options]
        self._life = patience(seconds)
        self._start_seconds = 0.0
        self._lock = threading.Lock()
        self._ended = False
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._daemon = self._begin()
        self.failure: BaseException | None = None
        self.kills = 0

    def __enter__(self) -> Self:
        self._wait()
        if self._life:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._due.set()
        if self._life:
            self._thread.join()
        if kind is None:
            assert self._daemon.stop() == 0
        self._daemon.__exit__(kind, error, trace)

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """The daemon that runs, which is not killed meanwhile."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            yield self._daemon

    def want(self, kills: int) -> None:
        """The daemon is killed at once if it was not killed so often, however fast the machine."""
        if self._life and self.kills < kills:
            self._due.set()

    def _work(self) -> None:
        while True:
            self._due.wait(max(self._life, _LIFE_PER_START * self._start_seconds))
            if self._ended:
                return
            self._due.clear()
            with self._lock:
                try:
                    self._replace()
                except BaseException as failure:  # noqa: BLE001 - raised by who asks next
                    self.failure = failure
                    return

    def _replace(self) -> None:
        self._daemon.process.kill()
        self._daemon.process.wait()
        self._daemon.__exit__(None, None, None)
        self._daemon = self._begin()
        self._wait()
        self.kills += 1

    def _begin(self) -> Daemon:
        self._began = time.monotonic()
        return Daemon(*self._options)

    def _wait(self) -> None:
        """Returns when the daemon is ready, and records how long that took."""
        self._daemon.wait_until_ready()
        self._start_seconds = time.monotonic() - self._began
