"""A daemon that is killed and started again every few seconds while it counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kernel.daemon import Daemon

_PINS = Path("/sys/fs/bpf/ksmwatch-fuzz")


class Restarts:
    """Keeps one daemon running; `seconds` 0: never kills it."""

    def __init__(self, options: Sequence[str], seconds: float) -> None:
        pins = [f"--state.pin-path={_PINS}"] if seconds else []
        self._options = [*pins, *options]
        self._seconds = seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._daemon = Daemon(*self._options)
        self.failure: BaseException | None = None
        self.kills = 0

    def __enter__(self) -> Self:
        self._daemon.__enter__()
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._seconds:
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

    def _work(self) -> None:
        while not self._ended.wait(self._seconds):
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
        self._daemon = Daemon(*self._options)
        self._daemon.wait_until_ready()
        self.kills += 1
