"""Threads that serve clients."""

from __future__ import annotations

import gc
import threading
import weakref

from ksmwatch.export.front.workers import Workers
from tests.waiting import wait_until


def test_jobs_at_once_have_threads_of_their_own_and_one_thread_is_kept() -> None:
    workers, together = Workers(), threading.Barrier(4)
    names: list[int] = []

    def job() -> None:
        names.append(threading.get_ident())
        together.wait()

    for _ in range(3):
        workers.do(job)
    together.wait()

    def left() -> set[int]:
        return set(names) & {each.ident for each in threading.enumerate()}

    wait_until(lambda: len(left()) <= 1, left)
    (spare,) = left()
    done = threading.Event()

    def another() -> None:
        names.append(threading.get_ident())
        done.set()

    workers.do(another)
    done.wait()
    assert names[-1] == spare


class Client:
    def __init__(self) -> None:
        self.done = threading.Event()

    def run(self) -> None:
        """What a job is."""
        self.done.set()


def test_the_thread_that_waits_keeps_nothing_of_its_last_client() -> None:
    workers, client = Workers(), Client()
    done, gone = client.done, weakref.ref(client)
    workers.do(client.run)
    del client
    done.wait()

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    wait_until(is_gone, "the client is kept")
