"""`ksmwatch why` on real processes: a built case of each cause that a process can have."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.ksmctl import Ksm
from tests.workload import Workload

pytestmark = pytest.mark.once

PAGES = 3001


@pytest.fixture
def load(ksm: Ksm) -> Iterator[Workload]:
    """Tenants, while ksmd scans quickly."""
    with Workload() as load:
        yield load


def why(pid: int | None = None) -> list[str]:
    """The codes that are printed."""
    words = [] if pid is None else [str(pid)]
    out = subprocess.run(
        ["ksmwatch", "why", "--json", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [cause["code"] for cause in json.loads(out)["causes"]]


def test_nobody_has_offered_memory_and_ksmd_is_stopped(ksm: Ksm, load: Workload) -> None:
    ksm.stop()
    assert why() == ["stopped", "nobody"]


def test_a_process_that_never_asked_and_one_that_shares(ksm: Ksm, load: Workload) -> None:
    silent, sharing = load.spawn("silent"), load.spawn("sharing")
    silent.map("heap", PAGES)
    silent.fill("heap", 0, PAGES, seed=1, modulo=1)
    sharing.map("heap", PAGES, shared=True)
    sharing.fill("heap", 0, PAGES, seed=1, modulo=1)
    ksm.start()
    assert why(silent.pid) == ["not_asked"]
    assert "shared" in why(sharing.pid)


def test_equal_pages_merge_and_unique_ones_do_not(ksm: Ksm, load: Workload) -> None:
    equal, unique = load.spawn("equal"), load.spawn("unique")
    for tenant, modulo in ((equal, 1), (unique, 0)):
        tenant.map("heap", PAGES)
        tenant.fill("heap", 0, PAGES, seed=tenant.pid, modulo=modulo)
        tenant.madvise("heap", 0, PAGES, "mergeable")
    ksm.merge_all(stop=False)
    assert why(equal.pid) == ["merged"]
    assert why(unique.pid) == ["unequal"]
    ksm.stop()
    assert why(equal.pid) == ["stopped", "merged"]


def test_a_scan_that_is_too_slow(ksm: Ksm, load: Workload) -> None:
    first, late = load.spawn("first"), load.spawn("late")
    first.map("heap", PAGES)
    first.fill("heap", 0, PAGES, seed=1, modulo=0)
    first.madvise("heap", 0, PAGES, "mergeable")
    ksm.merge_all(stop=False)
    ksm.write("pages_to_scan", 1)
    ksm.write("sleep_millisecs", 1000)
    late.map("heap", PAGES)
    late.fill("heap", 0, PAGES, seed=1, modulo=0)
    late.madvise("heap", 0, PAGES, "mergeable")
    assert "slow" in why()
    assert why(late.pid)[:2] == ["not_scanned", "slow"]
