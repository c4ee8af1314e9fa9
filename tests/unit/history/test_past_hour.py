"""The last hour: what earlier daemons recorded, and what this one sees."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ksmwatch.history.moment import HostMoment
from ksmwatch.history.past_hour import recorded_points
from ksmwatch.history.recorder import HistorySettings, Writer
from ksmwatch.history.retention import Retention
from ksmwatch.history.store import FILE_NAME, Store
from ksmwatch.snapshot.last_hour import SECONDS, HourPoint, LastHour
from ksmwatch.units import PAGE_SIZE
from tests.past import BEGIN, CLOCK, past_snapshot


def writer(path: Path) -> Writer:
    return Writer(HistorySettings(path, Retention(), 10**7, None), lambda: 50)


def point(at: float, *, joined: bool = True) -> HourPoint:
    return HourPoint(at, joined, None, None, None, None)


def points(tested: Writer) -> list[tuple[float, bool, float | None]]:
    """Seconds after BEGIN, whether it is joined, and pages."""
    return [
        (round(p.at - CLOCK, 3), p.joined, p.mapped_bytes and p.mapped_bytes / PAGE_SIZE)
        for p in tested.state(0, 0).hour
    ]


def test_each_moment_is_a_point(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    for seconds in (0, 10, 70):
        tested.write(past_snapshot(seconds, {"web": 100 + seconds}))
    assert points(tested) == [(0, False, 100), (10, True, 110), (70, True, 170)]
    tested.close()


def test_a_daemon_begins_with_the_hour_of_its_predecessors(tmp_path: Path) -> None:
    for began in (0, 3000, 3020):
        tested = writer(tmp_path)
        for seconds in (began, began + 10):
            tested.write(past_snapshot(seconds, {"web": seconds}))
        tested.close()
    # Neither daemon has seen what was between them.
    assert points(tested) == [
        (0, False, 0),
        (10, True, 10),
        (3000, False, 3000),
        (3010, True, 3010),
        (3020, False, 3020),
        (3030, True, 3030),
    ]


def test_what_is_older_than_an_hour_is_forgotten(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    for seconds in range(0, 7200, 10):
        tested.write(past_snapshot(seconds, {"web": 1}))
    assert [at for at, _, _ in points(tested)] == [*range(3590, 7200, 10)]
    tested.close()
    successor = writer(tmp_path)
    successor.write(past_snapshot(7200, {"web": 1}))
    assert [at for at, _, _ in points(successor)] == [*range(3600, 7201, 10)]
    successor.close()


def test_the_numbers_are_those_of_the_snapshots(tmp_path: Path) -> None:
    ours = past_snapshot(0, {"web": 500})
    assert ours.saved is not None
    tested = writer(tmp_path)
    tested.write(ours)
    seen = tested.state(0, 0).hour
    tested.close()
    assert tuple(seen) == (
        HourPoint(
            CLOCK,
            joined=False,
            mapped_bytes=ours.mappings * PAGE_SIZE,
            saved_bytes=ours.saved.least,
            copied=ours.totals["copied"],
            ksmd_cpu=ours.numbers.ksmd_cpu,
        ),
    )
    successor = writer(tmp_path)
    successor.write(past_snapshot(10, {"web": 500}))
    # Read from the file, it is the same.
    assert successor.state(0, 0).hour[0] == seen[0]
    successor.close()


def test_a_moment_that_cannot_be_written_is_a_point_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = writer(tmp_path)
    tested.write(past_snapshot(0, {"web": 1}))

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "add", full)
    tested.write(past_snapshot(10, {"web": 2}))
    assert points(tested) == [(0, False, 1), (10, True, 2)]
    tested.close()


def test_a_file_with_nonsense_is_no_past(tmp_path: Path) -> None:
    tested = writer(tmp_path)
    for seconds in (0, 10):
        tested.write(past_snapshot(seconds, {"web": 1}))
    tested.close()
    store = Store(tmp_path / FILE_NAME, 10**7)
    store._db.execute("UPDATE moment SET since = x'00'")
    store.close()
    successor = writer(tmp_path)
    successor.write(past_snapshot(20, {"web": 1}))
    assert points(successor) == [(20, False, 1)]
    successor.close()


def moment(time: float, since: float | None = None, began: float = 0.0) -> HostMoment:
    begin = BEGIN + (time - 10 if since is None else since)
    return HostMoment(BEGIN + time, begin, began, 1, None, None, None)


def test_before_the_clock_was_set_back_the_age_is_not_known() -> None:
    rows = [moment(0), moment(10), moment(-3590, since=-3600), moment(-3580)]
    found = recorded_points(rows, boot=BEGIN)
    assert [(p.at, p.joined) for p in found] == [(-3590, False), (-3580, True)]
    assert recorded_points([], boot=BEGIN) == []


def test_a_merged_moment_is_joined() -> None:
    rows = [moment(0), moment(600, since=0.0), moment(700, since=650.0), moment(710, began=1.0)]
    assert [p.joined for p in recorded_points(rows, boot=BEGIN)] == [False, True, False, False]


def test_points_that_are_close_are_one_and_a_break_among_them_stays() -> None:
    tested = LastHour()
    for each in (point(0), point(3), point(5, joined=False), point(9), point(18)):
        tested.add(each)
    assert [(p.at, p.joined) for p in tested.points] == [(0, True), (9, False), (18, True)]


def test_points_are_what_they_were_and_those_of_an_hour_are_kept() -> None:
    tested, points = LastHour(), []
    for at in range(-20, 3990, 10):
        known = at % 40 != 0
        amounts = (at * 2.0**40, None, at / 3, 0.5) if known else (None, 0.0, None, None)
        points.append(HourPoint(at, at % 30 != 0, *amounts))
        tested.add(points[-1])
    kept = [each for each in points if each.at >= 3980 - SECONDS]
    assert [*tested.points] == kept
    assert (len(kept), len(tested.points)) == (361, 361)
    assert tested.points[-1] == kept[-1]
    assert [*tested.points[350:355]] == kept[350:355]
    with pytest.raises(IndexError):
        tested.points[361]
