"""Counting in this process, without a daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.commands import oneshot
from ksmwatch.commands.oneshot import Measuring, may_measure, measure
from ksmwatch.errors import NoDaemonError
from ksmwatch.snapshot.document import to_document
from tests.made_up import snapshot

SETTINGS = config.make({}, {})


class Backend:
    """Records requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def tick(self, budget: Any) -> None:
        self.asked.append("tick")

    def stop(self) -> None:
        self.asked.append("stop")


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    made = Backend()

    class Watcher:
        def __init__(self, *args: object) -> None:
            """Of whatever."""

        def snapshot(self, seconds: float) -> Any:
            """Always the same."""
            made.asked.append("snapshot")
            return snapshot()

    monkeypatch.setattr(oneshot, "read_facts", lambda: None)
    monkeypatch.setattr(oneshot, "start_backend", lambda facts, settings: (made, None))
    monkeypatch.setattr(oneshot, "Watcher", Watcher)
    return made


def test_one_measurement(backend: Backend) -> None:
    assert measure(SETTINGS) == to_document(snapshot())
    assert backend.asked == ["snapshot", "stop"]


def test_between_two_what_a_daemon_would_do_is_done(backend: Backend) -> None:
    measuring = Measuring(SETTINGS)
    measuring.read()
    measuring.read()
    measuring.close()
    assert backend.asked == ["snapshot", "tick", "snapshot", "stop"]


@pytest.mark.parametrize(
    ("uid", "there", "why", "may"),
    [
        (0, False, "No such file", True),
        (0, True, "Connection refused", True),
        (0, True, "timed out", False),
        (1000, False, "No such file", False),
    ],
)
def test_who_may_do_without_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, why: str, *, there: bool, may: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: uid)
    path = tmp_path / "socket"
    if there:
        path.touch()
    assert may_measure(path, NoDaemonError(why)) is may
