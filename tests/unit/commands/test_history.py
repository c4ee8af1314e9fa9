"""`ksmwatch history`: from a file to text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ksmwatch import cli
from ksmwatch.errors import Exit
from ksmwatch.history.store import FILE_NAME, Store
from ksmwatch.probes.map_records import Movement
from tests import past
from tests.past import past_moment
from tests.published import faults

M = Movement
# What the daemon was writing when it was killed stays in the log.
_LEFT: list[Store] = []


def night(path: Path, *, close: bool = True) -> None:
    """Two hours: `web` loses 300 pages in five minutes; then the daemon is away for ten."""
    path.mkdir(exist_ok=True)
    store = Store(path / FILE_NAME, 10**7)
    for n in range(0, 720, 5):
        if 500 < n <= 560:
            continue
        copied = min(max(n - 200, 0), 30) * 10
        moves = {"web": {M.MERGED: 5000, M.COPIED: copied}, "db": {M.MERGED: n}}
        counts = {"web": 5000 - copied, "db": 1000 + n // 10}
        since = 10.0 * n if n == 565 else 10.0 * (n - 5)
        store.add(past_moment(10.0 * n, counts, moves=moves, began=past.BEGIN, since=since))
    _LEFT.append(store)
    if close:
        store.close()


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A history that ends now, in memory."""
    monkeypatch.setattr(past, "BEGIN", float(int(time.time()) - 7200))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        night(Path(path))
        yield Path(path)


def run(capsys: pytest.CaptureFixture[str], directory: Path, *words: str) -> str:
    assert cli.main(["history", f"--history.directory={directory}", *words]) == Exit.OK
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], directory: Path, *words: str) -> tuple[int, str]:
    status = cli.main(["history", f"--history.directory={directory}", *words])
    return status, capsys.readouterr().err


def at(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(past.BEGIN + seconds))


def test_it_says_what_changed_most(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No hour of a day or two is in the way.
    monkeypatch.setattr(time, "time", lambda: past.BEGIN + 7200)
    lines = run(capsys, directory, "--since", "-2h").splitlines()
    assert lines[0].startswith("vm web lost 300 mappings by writes from ")
    assert at(2000) in lines[0]
    assert at(2300) in lines[0]
    (gap,) = [line for line in lines if "no record until" in line]
    assert at(5000) in gap
    assert lines[-2].split()[:4] == ["web", "vm", "5000", "4700"]
    assert lines[-1].split() == ["db", "vm", "1000", "1071", "+71", "1000", "1071", "exact"]


def test_one_owner(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, directory, "web", "--since", "-2h", "--until=-1h")
    rows = [line.split() for line in text.splitlines()[4:]]
    assert rows[0] == [
        *("TIME", "MAPPED", "CHANGE", "CAME", "WENT", "KERNEL", "SAVED", "MIB", "STATE")
    ]
    # Nobody knows what happened before the first moment, if it has a line of its own.
    assert sum(int(row[-4]) for row in rows[1:] if row[-4] != "-") == 300
    assert run(capsys, directory, "vm:libvirt/web", "--since", "-2h", "--until=-1h") == text


def test_json_is_as_published(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(run(capsys, directory, "--since", "-3h", "--json"))
    assert faults(found) == []
    assert [change["mappings"] for change in found["changes"]] == [-300, 50]
    assert found["changes"][0]["reason"] == "copied"
    assert found["gaps"] == [{"since": past.BEGIN + 5000, "until": past.BEGIN + 5650}]
    assert [owner["name"] for owner in found["owners"]] == ["web", "db"]
    points = found["owners"][0]["points"]
    assert len(points) == len(found["host"]) == 132
    assert sum(point["movements"].get("copied", 0) for point in points) == 300
    # After the gap, and at the beginning.
    assert [p["time"] - past.BEGIN for p in points if not p["movements"]] == [0.0, 5650.0]


def test_a_step_merges_points(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("db", "--since", "-3h", "--step", "10m", "--json")
    found = json.loads(run(capsys, directory, *words))
    (owner,) = found["owners"]
    assert 12 <= len(owner["points"]) <= 14
    assert sum(p["movements"].get("merged", 0) for p in owner["points"]) <= 715


def test_csv(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, directory, "--since", "-3h", "--csv"))))
    assert {row["kind"] for row in rows} == {"host", "vm"}
    assert len(rows) == 3 * 132
    assert rows[0]["mappings"] == "6000"
    assert rows[0]["copied"] == ""


def test_what_a_killed_daemon_left_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(past, "BEGIN", time.time() - 7200)
    night(tmp_path, close=False)
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size
    assert "lost 300" in run(capsys, tmp_path, "--since", "-3h")


def test_nothing_is_a_sentence(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = directory / "nowhere"
    status, text = refused(capsys, nowhere)
    assert status == Exit.NO_HISTORY
    assert text.startswith(f"ksmwatch: There is no history in {nowhere}: the daemon keeps one if")
    status, text = refused(capsys, directory, "--since=-5h", "--until=-4h")
    assert status == Exit.NO_HISTORY
    assert "The history has nothing from" in text
    assert "It goes from" in text
    status, text = refused(capsys, directory, "alice")
    assert (status, text) == (Exit.USAGE, "ksmwatch: The history has no owner 'alice'.\n")
    (directory / FILE_NAME).write_bytes(b"no database at all" * 100)
    status, text = refused(capsys, directory)
    assert (status, "cannot be read: file is not a database" in text) == (Exit.NO_HISTORY, True)


@pytest.mark.parametrize(
    "words",
    [
        ("--since", "-1h", "--until", "-2h"),
        ("--since", "soon"),
        ("--step", "-1"),
        ("--json", "--csv"),
    ],
)
def test_wrong_flags(
    directory: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert refused(capsys, directory, *words)[0] == Exit.USAGE


def test_who_may_not_read_it_learns_who_may(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    status, text = refused(capsys, directory)
    assert status == Exit.PRIVILEGE
    assert "only for root and the group" in text
