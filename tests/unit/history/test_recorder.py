"""Counting goes on whatever happens to the file; each failure is counted, and logged once."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import config
from ksmwatch.history.file_errors import DAMAGED_NAME, prepare, reason_of
from ksmwatch.history.recorder import HistorySettings, Recorder, Writer, recorder_of
from ksmwatch.history.retention import Retention
from ksmwatch.history.store import FILE_NAME, Store
from ksmwatch.log import logger
from ksmwatch.snapshot.history_state import Unwritten
from ksmwatch.snapshot.model import Snapshot
from tests.past import BEGIN, CLOCK, past_snapshot


def settings(path: Path, **changes: Any) -> HistorySettings:
    values: dict[str, Any] = {"directory": path, "keep": Retention(), "max_bytes": 10**7}
    return HistorySettings(**{"group": os.getegid(), **values, **changes})


def writer(path: Path) -> Writer:
    return Writer(settings(path), lambda: 50)


def at(seconds: float, **changes: Any) -> Snapshot:
    return past_snapshot(seconds, {"web": 100 + int(seconds)}, **changes)


def spans(path: Path) -> list[tuple[float, float]]:
    """Of all moments: since and until when, in seconds after BEGIN."""
    with sqlite3.connect(path / FILE_NAME) as db:
        found = db.execute("SELECT since, time FROM moment ORDER BY id").fetchall()
    db.close()
    return [(round(since - BEGIN, 3), round(time - BEGIN, 3)) for since, time in found]


def missing(tested: Writer) -> dict[str, int]:
    state = tested.state(0, 0)
    return {reason.value: n for reason, n in state.unwritten.items() if n}


# -- Moments ---------------------------------------------------------------------------------


def test_moments_follow_each_other(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    for seconds in (0, 10, 21):
        tested.write(at(seconds))
    assert spans(tmp_path) == [(0, 0), (0, 10), (10, 21)]
    state = tested.state(0, 0)
    assert (state.written, state.oldest, missing(tested)) == (3, BEGIN, {})
    assert state.bytes
    tested.close()


def test_a_daemon_that_was_restarted_leaves_no_gap(tmp_path: Path) -> None:
    for seconds in (0, 12, 100):
        tested = writer(tmp_path)
        tested.write(at(seconds))
        tested.close()
    assert spans(tmp_path) == [(0, 0), (0, 12), (100, 100)]


def test_the_time_that_a_moment_stands_for_is_not_the_wall_clocks(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    tested.write(at(0))
    # An hour back, and on.
    tested.write(at(10, time=BEGIN - 3600))
    tested.write(at(20, time=BEGIN - 3590))
    assert spans(tmp_path) == [(0, 0), (-3610, -3600), (-3600, -3590)]
    tested.close()


# -- Failures --------------------------------------------------------------------------------


def test_a_damaged_file_is_moved_aside(tmp_path: Path, warnings: list[dict[str, Any]]) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"anything but a database" * 1000)
    tested = writer(tmp_path)
    for seconds in (0, 10, 20):
        tested.write(at(seconds))
    assert spans(tmp_path) == [(10, 10), (10, 20)]
    assert missing(tested) == {"damaged": 1}
    assert [found["why"] for found in warnings] == ["damaged"]
    assert (tmp_path / DAMAGED_NAME).read_bytes().startswith(b"anything")
    tested.close()


def test_damage_while_the_daemon_runs_is_found(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    for seconds in range(0, 3000, 10):
        tested.write(at(seconds))
    tested.close()
    data = bytearray((tmp_path / FILE_NAME).read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    (tmp_path / FILE_NAME).write_bytes(data)
    tested.write(at(3000))
    tested.write(at(3010))
    assert missing(tested) == {"damaged": 1}
    assert spans(tmp_path) == [(3010, 3010)]
    tested.close()


def test_a_failure_is_one_line_in_the_log_and_so_is_its_end(
    tmp_path: Path, warnings: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[str] = []
    monkeypatch.setattr(logger, "info", ends.append)
    tested = writer(tmp_path / "file")
    (tmp_path / "file").touch()
    for seconds in (0, 10, 20):
        tested.write(at(seconds))
    assert len(warnings) == 1
    assert sum(missing(tested).values()) == 3
    (tmp_path / "file").unlink()
    tested.write(at(30))
    tested.write(at(40))
    assert ends == ["the history is written again"]
    assert spans(tmp_path / "file") == [(30, 30), (30, 40)]
    tested.close()


def test_a_failed_moment_leaves_a_gap_if_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = writer(tmp_path)
    tested.write(at(0))
    with monkeypatch.context() as broken:
        broken.setattr(Store, "add", full)
        for seconds in range(10, 100, 10):
            tested.write(at(seconds))
    assert missing(tested) == {"full": 9}
    tested.write(at(100))
    assert spans(tmp_path) == [(0, 0), (100, 100)]
    tested.close()


def full(*_: object) -> None:
    """What SQLite raises on a full disk."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    raise error


def test_a_file_that_somebody_removes_begins_anew(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    tested.write(at(0))
    for path in tmp_path.iterdir():
        path.unlink()
    tested.write(at(10))
    assert spans(tmp_path) == [(0, 10)]
    tested.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SQLITE_FULL", "full"),
        ("SQLITE_READONLY_DBMOVED", "read_only"),
        ("SQLITE_CORRUPT_VTAB", "damaged"),
        ("SQLITE_NOTADB", "damaged"),
        ("SQLITE_BUSY_SNAPSHOT", "busy"),
        ("SQLITE_IOERR_FSYNC", "other"),
    ],
)
def test_reasons(tmp_path: Path, name: str, reason: str) -> None:
    error = sqlite3.OperationalError("anything")
    error.sqlite_errorname = name
    assert reason_of(error, tmp_path) is Unwritten(reason)
    assert reason_of(OSError(28, "No space left on device"), tmp_path) is Unwritten.FULL
    assert reason_of(OSError(30, "Read-only file system"), tmp_path) is Unwritten.READ_ONLY
    assert reason_of(PermissionError(13, "Permission denied"), tmp_path) is Unwritten.DENIED


# -- Who may read it -------------------------------------------------------------------------


def modes(path: Path) -> dict[str, int]:
    found = (path, *path.iterdir())
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in found}


def test_the_group_of_the_socket_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "history"
    previous = os.umask(0o077)
    tested = writer(path)
    tested.write(at(0))
    os.umask(previous)
    assert modes(path) == {
        "history": 0o750,
        FILE_NAME: 0o640,
        f"{FILE_NAME}-wal": 0o640,
        f"{FILE_NAME}-shm": 0o640,
    }
    tested.close()


def test_without_a_group_nobody_else_may(tmp_path: Path) -> None:
    path = tmp_path / "history"
    tested = Writer(settings(path, group=None), lambda: 50)
    tested.write(at(0))
    assert set(modes(path).values()) == {0o700, 0o600}
    tested.close()


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "history").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError):
        prepare(tmp_path / "history", None)
    tested = writer(tmp_path / "history")
    tested.write(at(0))
    assert missing(tested) == {"denied": 1}
    assert list((tmp_path / "elsewhere").iterdir()) == []


# -- The main thread's side ------------------------------------------------------------------


def test_it_is_off_unless_a_directory_is_set(tmp_path: Path) -> None:
    assert recorder_of(config.make({}, {}), lambda: 50) is None
    assert recorder_of(config.make({}, {"history_directory": ""}), lambda: 50) is None
    wanted = {"history_directory": str(tmp_path / "history"), "socket_group": ""}
    assert recorder_of(config.make({}, wanted), lambda: 50) is not None
    assert modes(tmp_path)["history"] == 0o700


def test_under_systemd_it_is_in_the_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of another service, in which this daemon was started.
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert recorder_of(config.make({}, {}), lambda: 50) is None
    path = tmp_path / "ksmwatch/history"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:{path}")
    assert recorder_of(config.make({}, {"socket_group": ""}), lambda: 50) is not None
    assert path.is_dir()


def test_snapshots_are_taken_in_step(tmp_path: Path) -> None:
    tested = Recorder(settings(tmp_path), lambda: 50, lambda: 0.0)
    taken = []
    # The daemon looks about once a second.
    for turn in range(100):
        now = CLOCK + 1.03 * turn
        if tested.is_due(now):
            tested.take(at(now - CLOCK))
            taken.append(now - CLOCK)
            tested._next()
    assert len(taken) == 11, taken
    assert not tested.is_new(CLOCK, CLOCK + 5)
    assert tested.is_new(CLOCK, CLOCK + 4)


def test_a_snapshot_that_costs_much_is_taken_seldom(tmp_path: Path) -> None:
    tested = Recorder(settings(tmp_path), lambda: 50, lambda: 0.0)
    tested.take(at(0), seconds=0.1)
    assert not tested.is_due(CLOCK + 99)
    assert tested.is_due(CLOCK + 100)


def test_while_nothing_moves_moments_are_rare(tmp_path: Path) -> None:
    tested = Recorder(settings(tmp_path), lambda: 50, lambda: 0.0)
    still, moving = (lambda _: False), (lambda _: True)
    assert not tested.may_wait(CLOCK, still)
    tested.take(at(0))
    assert not tested.may_wait(CLOCK + 10, moving)
    assert tested.is_due(CLOCK + 10)
    waited = [now for now in range(10, 100, 10) if tested.may_wait(CLOCK + now, still)]
    assert waited == [10, 20, 30, 40, 50]
    assert not tested.is_due(CLOCK + 59)
    assert tested.is_due(CLOCK + 60)


def test_a_disk_that_is_too_slow_costs_moments(tmp_path: Path) -> None:
    tested = Recorder(settings(tmp_path), lambda: 50, lambda: 0.0)
    for seconds in (0, 10, 20):
        tested.take(at(seconds))
    assert tested.state.unwritten[Unwritten.BUSY] == 2
    tested.start()
    tested.stop()
    assert spans(tmp_path) == [(0, 0)]


def test_a_clock_that_is_set_is_counted(tmp_path: Path, warnings: list[dict[str, Any]]) -> None:
    suspended = [0.0]
    tested = Recorder(settings(tmp_path), lambda: 50, lambda: suspended[0])
    tested.take(at(0))
    tested.take(at(10.2))
    # The host sleeps for an hour, and the wall clock goes on.
    suspended[0] = 3600.0
    tested.take(at(20, time=BEGIN + 20 + 3600))
    assert tested.state.clock_steps == 0
    tested.take(at(30, time=BEGIN + 30))
    assert tested.state.clock_steps == 1
    assert [found["by_seconds"] for found in warnings] == [-3600.0]
