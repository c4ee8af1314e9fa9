"""Where documents come from, and the thread that fetches them."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.commands import oneshot
from ksmwatch.errors import ConfigError, NoDaemonError, SourceError
from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.snapshot import socket_client
from ksmwatch.top import source
from ksmwatch.top.source import Areas, DaemonSource, Fetched, Posted, Worker, choose, read
from tests.made_up_host import areas, document


def settings(path: Path) -> config.Config:
    return config.make({}, {})._replace(socket=str(path))


class Fake:
    """Answers with what it was given, one after the other, then with the last for ever."""

    label = "fake"

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self._answers = list(answers)
        self.closed = threading.Event()

    def read(self) -> dict[str, Any]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def areas(self, pid: int) -> list[AreaDocument]:
        """Of process 7 only."""
        if pid != 7:
            raise SourceError("Another.")
        return areas(pid)

    def close(self) -> None:
        self.closed.set()


def test_a_reading() -> None:
    reading = read(Fake(document(3)), lambda: 5.0)
    assert reading.sample is not None
    assert len(reading.sample.processes) == 3
    assert (reading.problem, reading.at) == (None, 5.0)


def test_a_reading_that_failed_says_why() -> None:
    reading = read(Fake(NoDaemonError("Gone.")), lambda: 5.0)
    assert reading == Fetched(None, "Gone.", 5.0)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"processes": None},
        {"processes": [{}]},
        {"processes": [7]},
        {"processes": [{"comm": "x", "owner": 3}]},
    ],
)
def test_another_answer_is_a_problem_and_no_crash(answer: dict[str, Any]) -> None:
    reading = read(Fake(answer))
    assert reading.problem == "The answer is not a ksmwatch snapshot."


@pytest.mark.parametrize("key", sorted(document(1).keys() - {"schema", "version"}))
def test_a_document_without_a_key_that_is_needed_is_none(key: str) -> None:
    made = document(1)
    del made[key]
    reading = read(Fake(made))
    needed = key not in ("duration_seconds", "history", "live_awaited", "map", "reload")
    assert (reading.problem is not None) is needed


def test_a_bug_is_said_and_does_not_end_the_worker() -> None:
    reading = read(Fake(ZeroDivisionError("x")))
    assert reading.problem == "internal error: ZeroDivisionError('x')"


# ---- choice ----


def test_a_daemon_that_answers_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def fetch(path: Path) -> dict[str, Any]:
        asked.append(path)
        return document(1)

    monkeypatch.setattr(socket_client, "fetch", fetch)
    chosen = choose(settings(tmp_path / "s"))
    assert isinstance(chosen, DaemonSource)
    assert chosen.read() == document(1)
    assert asked == [tmp_path / "s"] * 2
    assert chosen.label == str(tmp_path / "s")


def test_without_daemon_and_privilege_there_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NoDaemonError, match="No daemon answers at"):
        choose(settings(tmp_path / "none"))


def test_root_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(oneshot, "Measuring", lambda settings: Fake(document(1)))
    assert choose(settings(tmp_path / "none")).label == "fake"


def test_root_does_not_measure_beside_a_slow_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(path: Path) -> dict[str, Any]:
        raise NoDaemonError("timed out")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(socket_client, "fetch", fetch)
    (tmp_path / "slow").touch()
    with pytest.raises(NoDaemonError):
        choose(settings(tmp_path / "slow"))


def test_an_address_wins(tmp_path: Path) -> None:
    assert choose(settings(tmp_path / "s"), "http://h/metrics").label == "http://h/metrics"
    with pytest.raises(ConfigError, match="must begin with http"):
        choose(settings(tmp_path / "s"), "file:///etc/passwd")


# ---- the worker ----


def test_the_worker_goes_on_after_a_failure_and_closes() -> None:
    posted: queue.Queue[Posted] = queue.Queue()
    fake = Fake(document(1), NoDaemonError("Gone."), SourceError("Odd."), document(2))
    worker = Worker(fake, 0.001, posted.put)
    worker.start()
    readings = [posted.get(timeout=600) for _ in range(4)]
    assert [r.problem for r in readings] == [None, "Gone.", "Odd.", None]
    worker.stop()
    assert fake.closed.is_set()


def test_the_worker_stops_in_the_middle_of_a_long_wait() -> None:
    posted: queue.Queue[Posted] = queue.Queue()
    fake = Fake(document(1))
    worker = Worker(fake, 3600.0, posted.put)
    worker.start()
    posted.get(timeout=600)
    worker.stop()
    assert fake.closed.is_set()
    assert posted.empty()


def test_the_worker_answers_questions_between_readings() -> None:
    posted: queue.Queue[Posted] = queue.Queue()
    worker = Worker(Fake(document(1)), 3600.0, posted.put)
    worker.start()
    worker.ask(7)
    worker.ask(8)
    answers = [posted.get(timeout=600) for _ in range(3)][1:]
    worker.stop()
    assert answers == [Areas(7, areas(7)), Areas(8, problem="Another.")]


def test_a_slow_source_is_not_asked_all_the_time() -> None:
    assert source.pause(seconds=2.0, took=0.5) == 1.5
    assert source.pause(seconds=2.0, took=5.0) == 5.0
