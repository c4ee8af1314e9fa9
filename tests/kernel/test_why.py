"""`ksmwatch why` on real processes: a built case of each cause that a process can have."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
    ksm.unmerge()
    assert why() == ["unmerged", "nobody"]


def test_a_process_that_never_asked_and_one_that_shares(ksm: Ksm, load: Workload) -> None:
    silent, sharing = load.spawn("silent"), load.spawn("sharing")
    silent.map("heap", PAGES)
    silent.fill("heap", 0, PAGES, seed=1, modulo=1)
    sharing.map("heap", PAGES, shared=True)
    sharing.fill("heap", 0, PAGES, seed=1, modulo=1)
    ksm.start()
    assert why(silent.pid) == ["not_asked"]
    assert "shared" in why(sharing.pid)


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Some are reserved."""
    path = Path("/proc/sys/vm/nr_hugepages")
    path.write_text("8")
    assert int(path.read_text()) == 8
    yield
    path.write_text("0")


def test_memory_that_ksm_cannot_take(ksm: Ksm, load: Workload, huge_pages: None) -> None:
    """All of it is offered, as far as the kernel takes the offer."""
    huge, special, other = (load.spawn(name) for name in ("huge", "special", "other"))
    # Without anybody who is registered ksmd does not scan.
    other.map("heap", PAGES)
    other.fill("heap", 0, PAGES, seed=1)
    other.madvise("heap", 0, PAGES, "mergeable")
    huge.tell("map", "heap", 4 * 512, "hugetlb")
    huge.fill("heap", 0, 4 * 512, seed=1)
    special.tell("ring", "heap", PAGES)
    for each, pages in ((huge, 4 * 512), (special, PAGES)):
        each.madvise("heap", 0, pages, "mergeable")
    ksm.merge_all(stop=False)
    assert why(huge.pid)[0] == "hugetlb"
    assert why(special.pid)[0] == "special"


def test_locked_memory_is_no_cause(ksm: Ksm, load: Workload) -> None:
    locked = load.spawn("locked")
    locked.map("heap", PAGES)
    locked.fill("heap", 0, PAGES, seed=1)
    locked.tell("mlock", "heap", 0, PAGES)
    locked.madvise("heap", 0, PAGES, "mergeable")
    ksm.merge_all(stop=False)
    assert why(locked.pid) == ["merged"]


def test_equal_pages_merge_unique_and_changing_ones_do_not(ksm: Ksm, load: Workload) -> None:
    equal, unique, changing = (load.spawn(name) for name in ("equal", "unique", "changing"))
    for tenant, modulo in ((equal, 1), (unique, 0), (changing, 1)):
        tenant.map("heap", PAGES)
        tenant.fill("heap", 0, PAGES, seed=tenant.pid, modulo=modulo)
    changing.tell("churn", "heap", 0, PAGES)
    for tenant in (equal, unique, changing):
        tenant.madvise("heap", 0, PAGES, "mergeable")
    ksm.merge_all(stop=False)
    assert why(equal.pid) == ["merged"]
    assert why(unique.pid) == ["unique"]
    assert why(changing.pid) == ["changing"]
    assert why() in (["unique"], ["changing"])
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
