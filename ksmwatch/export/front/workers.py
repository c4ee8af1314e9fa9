"""Threads that serve clients. One that has nothing to do waits for the next client."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread

Job = Callable[[], None]


class Workers:
    """As many threads as there are jobs, and a spare one.

    To start a thread takes longer than to parse a request. More are not kept: after a flood, each
    would hold memory that nobody needs.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = Lock()
        self._spare = False

    def do(self, job: Job) -> None:
        """Do it on a thread. Raises RuntimeError if there can be no further one."""
        with self._lock:
            spare, self._spare = self._spare, False
        if not spare:
            # The front does not wait for its clients when it ends.
            Thread(target=self._work, name="client", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            # It would keep the client's connection, and what that holds, until the next one comes.
            del job
            with self._lock:
                if self._spare:
                    return
                self._spare = True
