"""`ksmwatch why` on real processes: a built case of each cause that a process can have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import oracle
from tests.kernel.asking import causes, why
from tests.kernel.memory import ZEROES
from tests.ksmctl import Ksm
from tests.workload import Workload

pytestmark = pytest.mark.once

PAGES = 3001


@pytest.fixture
def load(ksm: Ksm) -> Iterator[Workload]:
    """Tenants, while ksmd scans quickly."""
    with Workload() as load:
        yield load


def test_nobody_has_offered_memory_and_ksmd_is_stopped(ksm: Ksm, load: Workload) -> None:
    ksm.stop()
    assert why() == ["stopped", "nobody"]
    ksm.unmerge()
    assert why() == ["unmerged", "nobody"]


def test_memory_is_offered_and_ksmd_has_never_scanned(ksm: Ksm, load: Workload) -> None:
    ksm.unmerge()
    ksm.stop()
    waiting = load.spawn("waiting")
    waiting.offer("heap", PAGES, seed=1, modulo=1)
    (host,), (one,) = causes(), causes(waiting.pid)
    assert (host["code"], host["evidence"]["processes"]) == ("stopped", 1)
    assert host["evidence"]["offered_kb"] == one["evidence"]["offered_kb"] == 4 * PAGES
    assert (one["code"], "pages_to_scan" in one["next"]) == ("stopped", False)


READER = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    area = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
area.madvise(mmap.MADV_MERGEABLE)
sum(area[at] for at in range(0, len(area), mmap.PAGESIZE))
print("read", flush=True)
sys.stdin.read()
"""


def test_page_cache_of_a_private_mapping(ksm: Ksm, load: Workload, tmp_path: Path) -> None:
    """Advised and only read: the cause is not its heap, which was never offered."""
    path = tmp_path / "snapshot"
    path.write_bytes(b"x" * oracle.PAGE * PAGES)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"read\n"
        ksm.start()
        assert why(reader.pid)[0] == "page_cache"
        assert "not_asked" not in why(reader.pid)
        assert "page_cache" in why()
        reader.communicate(b"")


def test_zero_pages_are_merged(ksm: Ksm, load: Workload) -> None:
    """kubevirt/enhancements#381: with use_zero_pages no other counter of the kernel has them."""
    ksm.write("use_zero_pages", 1)
    with subprocess.Popen(
        [sys.executable, "-c", ZEROES, str(oracle.PAGE * PAGES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as zeroes:
        assert zeroes.stdout is not None
        assert zeroes.stdout.readline() == b"written\n"
        ksm.merge_all(stop=False)
        assert (ksm.read("pages_shared"), ksm.read("ksm_zero_pages")) == (0, PAGES)
        assert why() == ["merged"]
        # How large the interpreter's own heap is, which it has not offered, is its affair.
        assert [code for code in why(zeroes.pid) if code != "not_asked"] == ["merged"]
        zeroes.communicate(b"")
    ksm.write("use_zero_pages", 0)


ON_NODE = """
import mmap, os, sys
os.sched_setaffinity(0, {int(sys.argv[2])})
area = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(len(area) // mmap.PAGESIZE):
    area[page * mmap.PAGESIZE : page * mmap.PAGESIZE + 8] = (page + 1).to_bytes(8, "little")
area.madvise(mmap.MADV_MERGEABLE)
print("written", flush=True)
sys.stdin.read()
"""


def test_equal_pages_on_two_nodes(ksm: Ksm, load: Workload) -> None:
    """Each page has one equal page, on the other node."""
    assert Path("/sys/devices/system/node/node1").exists(), "it wants a guest with --nodes 2"
    ksm.write("merge_across_nodes", 0)
    command = [sys.executable, "-c", ON_NODE, str(oracle.PAGE * PAGES)]
    with ExitStack() as stack:
        twins = [
            stack.enter_context(
                subprocess.Popen([*command, cpu], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for cpu in ("0", "1")
        ]
        for twin in twins:
            assert twin.stdout is not None
            assert twin.stdout.readline() == b"written\n"
        ksm.merge_all(stop=False)
        found = causes()
        assert "across_nodes" in [cause["code"] for cause in found]
        assert not any("There is nothing to gain" in cause["next"] for cause in found)
        for twin in twins:
            twin.communicate(b"")
    ksm.unmerge()
    ksm.write("merge_across_nodes", 1)


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
    """All of it is offered, as far as the kernel accepts the offer."""
    huge, special, other = (load.spawn(name) for name in ("huge", "special", "other"))
    # Without anybody who is registered ksmd does not scan.
    other.offer("heap", PAGES, seed=1)
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
    # The cause given for the host is the one that affects most pages.
    sizes = {equal: PAGES, unique: 3 * PAGES, changing: PAGES}
    for tenant, pages in sizes.items():
        tenant.map("heap", pages)
        tenant.fill("heap", 0, pages, seed=tenant.pid, modulo=0 if tenant is unique else 1)
    changing.tell("churn", "heap", 0, PAGES)
    for tenant, pages in sizes.items():
        tenant.madvise("heap", 0, pages, "mergeable")
    ksm.merge_all(stop=False)
    assert why(equal.pid) == ["merged"]
    assert why(unique.pid) == ["unique"]
    assert why(changing.pid) == ["changing"]
    assert why() == ["unique"]
    ksm.stop()
    assert why(equal.pid) == ["stopped", "merged"]


def test_a_scan_that_is_too_slow(ksm: Ksm, load: Workload) -> None:
    first, late = load.spawn("first"), load.spawn("late")
    first.offer("heap", PAGES, seed=1, modulo=0)
    ksm.merge_all(stop=False)
    ksm.write("pages_to_scan", 1)
    ksm.write("sleep_millisecs", 1000)
    late.offer("heap", PAGES, seed=1, modulo=0)
    assert "slow" in why()
    assert why(late.pid)[:2] == ["not_scanned", "slow"]
