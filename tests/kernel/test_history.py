"""The history of a real daemon: what it says happened, and what happens to a file system."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Workload, mergeable

# A snapshot that is asked for here is new enough for the history, in a slow guest too. One of its
# own would be dear there, and then the daemon makes few.
INTERVAL = 3


def history(directory: Path, *words: str) -> dict[str, Any]:
    """The document of `ksmwatch history`."""
    command = ["ksmwatch", "history", f"--history.directory={directory}", "--json", *words]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def moved(found: dict[str, Any], reason: str) -> int:
    """Of the host, by all points."""
    return sum(point["movements"].get(reason, 0) for point in found["host"])


def kept(daemon: Daemon) -> dict[str, Any]:
    """What the daemon says about its history."""
    found: dict[str, Any] = daemon.snapshot()["history"]
    return found


def until(daemon: Daemon, true: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until something is true of it."""
    wait_until(lambda: true(kept(daemon)), lambda: kept(daemon))


def written(daemon: Daemon, more: int = 2) -> None:
    """Wait for so many more moments."""
    begin = kept(daemon)["written"]
    until(daemon, lambda state: state["written"] >= begin + more)


def test_what_happened_is_in_the_history_also_after_a_kill(tmp_path: Path, ksm: Ksm) -> None:
    path = tmp_path / "history"
    options = (f"--history.directory={path}", f"--history.interval={INTERVAL}")
    with Workload() as load:
        with Daemon(*options, http=False) as daemon:
            # What merged before the daemon woke up would be found by reads, and have no reason.
            ksm.start()
            wait_until(lambda: not daemon.snapshot()["asleep"], daemon.log_path.read_text)
            # A rise is one from a moment before it.
            written(daemon, 1)
            a, b = mergeable(load, "a", 1009), mergeable(load, "b", 1511)
            ksm.merge_all()
            assert_exact(daemon, {a.pid: 1009, b.pid: 1511})
            written(daemon)
            a.write("heap", 0, 101)
            assert_exact(daemon, {a.pid: 908, b.pid: 1511})
            written(daemon)
            found = history(path)
            assert moved(found, "copied") == 101
            assert found["host"][-1]["mappings"] == 908 + 1511
            assert found["host"][-1]["confidence"] == "exact"
            gains = [change for change in found["changes"] if change["mappings"] > 0]
            assert {change["reason"] for change in gains} == {"merged"}
            assert moved(found, "merged") + moved(found, "converted") == 1009 + 1511
            assert kept(daemon)["clock_steps"] == 0
            daemon.process.kill()
            daemon.process.wait()
        points = len(history(path)["host"])
        assert points >= len(found["host"])
        # So long that it is a gap.
        time.sleep(3 * INTERVAL)
        with Daemon(*options, http=False) as daemon:
            written(daemon)
            after = history(path)
        assert len(after["host"]) > points
        assert len(after["gaps"]) == 1
        assert after["host"][-1]["mappings"] == 908 + 1511


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, read-only."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", path])
    yield path
    subprocess.check_call(["umount", path])


def test_counting_goes_on_on_a_read_only_or_full_disk(disk: Path, ksm: Ksm) -> None:
    path, ballast = disk / "history", disk / "ballast"
    options = (f"--history.directory={path}", f"--history.interval={INTERVAL}")
    with Daemon(*options, http=False) as daemon, Workload() as load:
        until(daemon, lambda state: state["unwritten"]["read_only"] >= 3)
        a, b = mergeable(load, "a", 1009), mergeable(load, "b", 1009)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 1009, b.pid: 1009})
        subprocess.check_call(["mount", "-o", "remount,rw", disk])
        written(daemon)
        subprocess.run(["dd", "if=/dev/zero", f"of={ballast}"], check=False, capture_output=True)
        until(daemon, lambda state: state["unwritten"]["full"] >= 3)
        a.write("heap", 0, 101)
        assert_exact(daemon, {a.pid: 908, b.pid: 1009})
        ballast.unlink()
        written(daemon)
        assert history(path)["host"][-1]["mappings"] == 908 + 1009
        lines = [json.loads(line) for line in daemon.log_path.read_text().splitlines()]
        said = [(line["msg"], line.get("why")) for line in lines if "history is" in line["msg"]]
        stopped = "the history is not written; counting goes on"
        again = "the history is written again"
        assert said == [(stopped, "read_only"), (again, None), (stopped, "full"), (again, None)]
        assert daemon.stop() == 0
    assert [found.name for found in path.iterdir()] == ["history.db"]
