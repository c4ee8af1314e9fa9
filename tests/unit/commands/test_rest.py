"""Rests of the main loop: when one begins, and what ends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.commands import rest as module
from ksmwatch.commands import run as loop
from ksmwatch.commands.rest import Rest, settings
from ksmwatch.commands.run import Daemon
from ksmwatch.counting.backend_state import Mode
from ksmwatch.counting.comeback import Comeback
from ksmwatch.systemd import Manager


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The file by which KSM is started."""
    path = tmp_path / "run"
    path.write_text("0")
    return path


@pytest.fixture
def rest(run: Path) -> Iterator[Rest]:
    rest = Rest([run])
    yield rest
    rest.close()


def begins(rest: Rest, events: int | None = None, *, asleep: bool = True) -> bool:
    """A tick goes by."""
    rest.before_tick(events)
    return rest.after_tick(asleep=asleep)


def test_only_a_sleeping_host_is_left_alone(rest: Rest) -> None:
    assert begins(rest, asleep=False) is False
    assert rest.descriptors == ()
    assert begins(rest) is True
    assert len(rest.descriptors) == 1
    assert rest.is_over() is False


def test_a_write_ends_the_rest_and_the_next_begins_a_tick_later(rest: Rest, run: Path) -> None:
    assert begins(rest) is True
    run.write_text("1")
    assert rest.is_over() is True
    # This tick looks at it. If KSM sleeps on, it does so for a second at least.
    assert begins(rest) is False
    assert rest.is_over() is False
    assert begins(rest) is True


def test_a_write_during_a_tick_is_not_forgotten(rest: Rest, run: Path) -> None:
    rest.before_tick(None)
    run.write_text("1")
    assert rest.after_tick(asleep=True) is True
    assert rest.is_over() is True


def test_process_events_end_it_as_well(rest: Rest) -> None:
    ours, kernels = os.pipe()
    assert begins(rest, ours) is True
    os.write(kernels, b"event")
    assert rest.is_over() is True
    # What has come is taken by the tick, after the look.
    rest.before_tick(ours)
    os.read(ours, 5)
    assert rest.after_tick(asleep=True) is False
    assert begins(rest, ours) is True
    assert rest.is_over() is False
    os.close(ours)
    os.close(kernels)


def test_without_inotify_there_is_no_rest(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(files: object) -> int:
        raise OSError(24, "inotify: Too many open files")

    monkeypatch.setattr(module, "watch_writes", refuse)
    rest = Rest([run])
    assert begins(rest) is False
    assert rest.is_over() is False
    rest.close()


def test_what_starts_ksm_or_stops_probes_is_listened_to(tmp_path: Path) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    ftrace, kprobes = proc / "sys/kernel/ftrace_enabled", sys / "kernel/debug/kprobes/enabled"
    run = sys / "kernel/mm/ksm/run"
    # A kernel without ftrace and kprobes has no switches.
    assert settings(proc, sys) == [run]
    for path in (ftrace, kprobes):
        path.parent.mkdir(parents=True)
        path.touch()
    assert settings(proc, sys) == [run, ftrace, kprobes]


# ---- the main loop ----


def daemon(environment: dict[str, str] | None = None) -> Daemon:
    return Daemon(config.make({}, {}), lambda: config.make({}, {}), Manager(environment or {}))


def rested(
    tested: Daemon, monkeypatch: pytest.MonkeyPatch, asked: Callable[[], bool] = lambda: False
) -> list[tuple[float, int]]:
    """How long the loop waits at most, and for how many descriptors, while KSM is asleep."""
    waits: list[tuple[float, int]] = []
    now = [100.0]
    turns = iter(range(3))

    def tick(budget: object) -> bool:
        tested._stopping = next(turns) == 2
        return False

    def wait_for_request(seconds: float, descriptors: tuple[int, ...]) -> bool:
        waits.append((round(seconds, 3), len(descriptors)))
        wanted = asked()
        now[0] += 0.25 if wanted else seconds
        return wanted

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(loop, "settings", lambda *_: [])
    monkeypatch.setattr(tested._desk, "wait_for_request", wait_for_request)
    monkeypatch.setattr(tested, "_publish", lambda _: None)
    monkeypatch.setattr(tested, "_record", lambda _: None)
    watcher: Any = SimpleNamespace(
        backend=SimpleNamespace(mode=Mode.BPF, asleep=True, rests=True, doubt=None),
        process_events=None,
        tick=tick,
        comeback=Comeback(),
    )
    tested._loop(watcher)
    return waits


def test_while_ksm_is_asleep_ticks_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = rested(daemon(), monkeypatch)
    assert waits == [(1.0, 0), (10.0, 1), (10.0, 1)]


def test_a_watchdog_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"NOTIFY_SOCKET": "@nowhere", "WATCHDOG_USEC": str(16 * 10**6)}
    waits = rested(daemon(environment), monkeypatch)
    assert waits == [(1.0, 0), (4.0, 1), (4.0, 1)]


def test_the_history_gets_its_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = daemon()
    tested._recorder = SimpleNamespace(due=104.0)  # type: ignore[assignment]
    # The second is overdue, and waits for the next tick.
    assert rested(tested, monkeypatch) == [(1.0, 0), (3.0, 1), (1.0, 1)]


def test_after_a_request_a_tick_follows_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the snapshot found may have to be followed up."""
    turns = iter([False, True, False, False])
    waits = rested(daemon(), monkeypatch, lambda: next(turns))
    assert waits == [(1.0, 0), (10.0, 1), (1.0, 1), (10.0, 1)]
