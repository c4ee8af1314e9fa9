"""The file: what is added is there, whatever kills the writer; it is bounded in age and size."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from itertools import pairwise
from pathlib import Path

import pytest

from ksmwatch.history.retention import Retention
from ksmwatch.history.store import FILE_NAME, BusyError, DamagedError, Store
from tests.history_writer import start_writer
from tests.past import BEGIN, crowd, past_moment

KILLS = 40


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """By another connection."""
    with sqlite3.connect(path) as db:
        found = db.execute(sql).fetchall()
    db.close()
    return found


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def filled(directory: Path, count: int, **more: int) -> Store:
    store = Store(directory / FILE_NAME, 10**8)
    for n in range(count):
        store.add(past_moment(10.0 * n, crowd(10.0 * n, more.get("owners", 3))))
    return store


def test_what_was_added_is_there(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    path = tmp_path / FILE_NAME
    spans = rows(path, "SELECT time - since, mappings FROM moment")
    assert spans == [(10.0, 600_000), (10.0, 600_060)]
    held = rows(path, "SELECT moment, mappings FROM holding JOIN owner ON owner = owner.id")
    assert sorted(held)[:3] == [(1, 100_000), (1, 200_000), (1, 300_000)]
    assert len(rows(path, "SELECT * FROM owner")) == 3
    assert store.last_time == BEGIN + 10.0
    store.close()
    assert [found.name for found in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("owners", [1, 50])
def test_a_killed_writer_loses_at_most_what_it_was_writing(tmp_path: Path, owners: int) -> None:
    luck = random.Random(owners)
    first = 0
    for _ in range(KILLS):
        writer = start_writer(tmp_path, first, owners)
        with writer.told:
            for _ in range(luck.randrange(1, 25)):
                first = int(writer.told.readline()) + 1
            # Anywhere in the next ones.
            time.sleep(luck.random() * 0.01)
            os.kill(writer.pid, signal.SIGKILL)
            assert os.waitpid(writer.pid, 0)[1] == signal.SIGKILL
            told = [int(line) for line in writer.told]
        first = told[-1] + 1 if told else first
        store = Store(tmp_path / FILE_NAME, 10**7)
        assert rows(tmp_path / FILE_NAME, "PRAGMA integrity_check") == [("ok",)]
        last = store.last_time
        # What the writer said it had written, or one more.
        assert last is not None
        assert last in (BEGIN + 10.0 * (first - 1), BEGIN + 10.0 * first)
        whole = "SELECT count(*) FROM holding GROUP BY moment"
        assert set(rows(tmp_path / FILE_NAME, whole)) == {(owners,)}
        first = round((last - BEGIN) / 10) + 1
        store.close()


def test_a_torn_log_is_cut_at_a_moment(tmp_path: Path) -> None:
    # As if the power had failed: the log ends anywhere, and its end may be anything.
    store = filled(tmp_path, 40)
    data = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    log = data[f"{FILE_NAME}-wal"]
    luck = random.Random(7)
    lengths = [luck.randrange(len(log)) for _ in range(60)]
    for length in lengths:
        torn = tmp_path / str(length)
        torn.mkdir()
        (torn / FILE_NAME).write_bytes(data[FILE_NAME])
        junk = luck.randbytes(luck.randrange(5000))
        (torn / f"{FILE_NAME}-wal").write_bytes(log[:length] + junk)
        reopened = Store(torn / FILE_NAME, 10**8)
        count = rows(torn / FILE_NAME, "SELECT count(*), max(time) FROM moment")[0]
        assert count[1] is None or count[1] == BEGIN + 10.0 * (int(str(count[0])) - 1)
        reopened.add(past_moment(1e6, crowd(0.0, 3)))
        reopened.close()
    store.close()


def test_old_moments_are_merged_and_then_forgotten(tmp_path: Path) -> None:
    keep = Retention(fine=600.0, coarse=3000.0, step=100.0, interval=10.0)
    store = Store(tmp_path / FILE_NAME, 10**8)
    for n in range(1, 1001):
        store.add(past_moment(10.0 * n, crowd(10.0 * n, 2)))
        if not n % 10:
            store.tidy(BEGIN + 10.0 * n, keep)
    spans = rows(tmp_path / FILE_NAME, "SELECT since, time FROM moment ORDER BY id")
    # 60 fine ones, up to ten that wait for their step, and 24 coarse ones.
    assert 84 <= len(spans) <= 96
    # Nothing is missing in between.
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    held = rows(tmp_path / FILE_NAME, "SELECT count(DISTINCT moment) FROM holding")
    assert held == [(len(spans),)]
    store.close()


def test_the_default_limits_hold_a_month_of_fifty_owners() -> None:
    # Bytes of a row, measured with mappings of millions of pages.
    keep = Retention()
    moments = keep.fine / keep.interval + keep.coarse / keep.step
    assert moments * 52 * 60 < 100e6 * 0.95


def test_the_file_stays_within_its_size(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE_NAME, 10**6)
    largest = 0
    for n in range(600):
        # Every owner is another one, so texts take room too.
        store.add(past_moment(10.0 * n, {f"vm{n}-{k}": 1000 + k for k in range(20)}))
        largest = max(largest, size(tmp_path) - 32768)
    assert largest <= 10**6 + 600_000
    assert (tmp_path / FILE_NAME).stat().st_size <= 10**6
    times = rows(tmp_path / FILE_NAME, "SELECT min(time), max(time), count(*) FROM moment")[0]
    assert times[1] == BEGIN + 5990.0
    assert int(str(times[2])) > 100
    store.close()


def test_owners_without_a_moment_are_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path / FILE_NAME, 10**8)
    store.add(past_moment(0.0, {"gone": 1}))
    store.add(past_moment(10.0, {"here": 1}))
    store._delete([1])
    store.sweep()
    assert len(rows(tmp_path / FILE_NAME, "SELECT * FROM owner")) == 1
    store.add(past_moment(20.0, {"gone": 1}))
    assert len(rows(tmp_path / FILE_NAME, "SELECT * FROM owner")) == 2
    store.close()


def test_a_reader_that_never_ends_stops_writing_and_not_the_host(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    reader = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM moment").fetchall()
    moment = past_moment(10.0, crowd(10.0, 20))
    with pytest.raises(BusyError):
        any(store.add(moment) for _ in range(3000))  # type: ignore[func-returns-value]
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size < 5 << 20
    reader.close()
    # The next attempt writes the log back.
    store.add(past_moment(1e5, crowd(0.0, 3)))
    store.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but longer than its header" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Store(tmp_path / FILE_NAME, 10**8)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    rows(tmp_path / FILE_NAME, "PRAGMA user_version = 77")
    with pytest.raises(DamagedError, match="77"):
        Store(tmp_path / FILE_NAME, 10**8)


def test_damage_is_found_after_a_kill(tmp_path: Path) -> None:
    filled(tmp_path, 200).close()
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    for at in range(8192, len(data), 4096):
        data[at : at + 64] = bytes(64)
    path.write_bytes(data)
    (tmp_path / f"{FILE_NAME}-wal").touch()
    with pytest.raises(sqlite3.DatabaseError):
        Store(path, 10**8)
