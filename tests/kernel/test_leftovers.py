"""KSM pages that stay: made on purpose, reported with process and range, told from drift."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import oracle, provoke
from tests.kernel.compare import assert_exact, process
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.provoke import Leftover
from tests.waiting import wait_until
from tests.workload import Workload

_AUDIT_SECONDS = 240


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon, whose audit comes round soon."""
    with Daemon("--audit.cpu-percent=20", "--metrics.processes=true") as daemon:
        yield daemon
        assert daemon.stop() == 0


def counts_of(left: Leftover) -> dict[int, int]:
    """The mappings before anything is unmerged."""
    counts = {left.parent.pid: left.parent_mappings, left.child.pid: 1}
    return {pid: mappings for pid, mappings in counts.items() if mappings}


def audited(daemon: Daemon, pid: int, settled: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The process, once the audit has seen its mappings."""
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(process(daemon.snapshot(), pid))
        return settled(found)

    wait_until(look, lambda: f"the auditor does not find it: {found}", seconds=_AUDIT_SECONDS)
    return found


def strays_by_command() -> dict[int, list[dict[str, Any]]]:
    """The result of `ksmwatch audit`: by process, the areas with stray KSM pages."""
    printed = subprocess.run(
        ["ksmwatch", "audit", "--json"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return {
        found["pid"]: [area for area in found["areas"] if not area["mergeable"]]
        for found in json.loads(printed)["processes"]
        if found["stray_mappings"]
    }


def assert_exported(daemon: Daemon, name: str, label: str, value: float) -> None:
    """A series has the value, once a scrape is not the cached one."""

    def series() -> list[float]:
        return [
            float(line.rpartition(" ")[2])
            for line in daemon.metrics().splitlines()
            if line.startswith(f"{name}{{") and label in line
        ]

    wait_until(lambda: series() == [value], lambda: f"{name}: {series()}")


def assert_reported(daemon: Daemon, left: Leftover) -> None:
    """By the audit, by the metric and by the command: this process, one page, there."""
    found = audited(daemon, left.child.pid, lambda p: p["stray_mappings"] == 1)
    (area,) = found["stray_areas"]
    assert int(area["start"], 16) <= left.page < int(area["end"], 16)
    assert area["mappings"] == 1
    strays = strays_by_command()
    assert strays.keys() == {left.child.pid}
    assert strays[left.child.pid][0]["start"] == area["start"]
    assert_exported(daemon, "ksmwatch_process_stray_mappings", f'pid="{left.child.pid}"', 1)


def assert_left_after_unmerging(daemon: Daemon, ksm: Ksm, left: Leftover) -> None:
    """It survives `run=2`, is called the kernel's leftover, and is not drift."""
    ksm.unmerge()
    document = assert_exact(daemon, {left.child.pid: 1})
    assert document["sources"]["ksm"]["pages_shared"] == 0
    assert document["sources"]["ksm"]["pages_sharing"] == 0
    found = audited(daemon, left.child.pid, lambda p: p["residue"] == "left")
    assert found["mappings"] == 1
    document = daemon.snapshot()
    assert document["host"]["residue"]["left"] == 1
    assert document["audit"]["surplus"] == document["audit"]["missing"] == 0
    assert_exported(daemon, "ksmwatch_residue_mappings", 'kind="left"', 1)


def test_a_page_in_an_area_that_is_not_mergeable(daemon: Daemon, ksm: Ksm) -> None:
    with Workload() as load:
        left = provoke.not_mergeable(load, ksm)
        assert_exact(daemon, counts_of(left))
        assert_reported(daemon, left)
        assert_left_after_unmerging(daemon, ksm, left)
        with pytest.raises(OSError, match="busy") as refused:
            ksm.write("max_page_sharing", ksm.read("max_page_sharing") + 1)
        assert refused.value.errno == errno.EBUSY

        left.child.write("heap", 0, 17)
        assert_exact(daemon, {})
    ksm.write("max_page_sharing", ksm.read("max_page_sharing"))


def test_a_page_that_break_cow_left(daemon: Daemon, ksm: Ksm) -> None:
    before = daemon.snapshot()["totals"]["break_cow_left"]
    with Workload() as load:
        left = provoke.broken_in_one_process_only(load, ksm)
        document = assert_exact(daemon, counts_of(left))
        assert document["totals"]["break_cow_left"] > before
        assert_reported(daemon, left)
        assert_left_after_unmerging(daemon, ksm, left)

        left.child.madvise("heap", 0, 2, "dontneed")
        assert_exact(daemon, {})
    assert oracle.host() == {}
