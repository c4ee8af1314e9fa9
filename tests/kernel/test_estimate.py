"""`ksmwatch estimate` on processes whose pages the test has made, and beside what then merges."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.kernel.smaps import MERGEABLE, smaps_areas
from tests import oracle
from tests.children import output
from tests.kernel.known_memory import memory, tenant, writer
from tests.ksmctl import Ksm
from tests.nodes import move_pages
from tests.waiting import wait_until
from tests.workload import Workload

CGROUPS = Path("/sys/fs/cgroup")
# Pages, all prime: of two tenants, of one content beyond max_page_sharing, of zeros, of a child,
# and of what changes.
A, B, CHAIN, ZEROS, CHILD, CHANGING = 997, 499, 1009, 503, 211, 307
A_CONTENTS, B_CONTENTS = 100, 50
MOST = 256


def estimate(*words: str, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """What it prints of these."""
    found: dict[str, Any] = json.loads(output([*prefix, "ksmwatch", "estimate", "--json", *words]))
    return found


def enter(name: str, pid: int) -> str:
    """Move a process to a container of its own; the owner that it belongs to then."""
    directory = CGROUPS / f"lxc.payload.{name}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text(str(pid))
    return f"container:lxc/{name}"


def in_offered_areas(pid: int, name: str) -> int:
    """KB of a line of smaps. In others, such as Python's own, khugepaged makes huge pages."""
    areas = smaps_areas(Path(f"/proc/{pid}/smaps").read_bytes())
    return sum(area.kilobytes(name) for area in areas if MERGEABLE in area.flags)


def parts(*owners: Counter[object]) -> list[float]:
    """What each owner has added to what its copies of contents save."""
    copies: Counter[object] = sum(owners, Counter())
    saved = {content: n - -(-n // MOST) for content, n in copies.items()}
    return [sum(saved[c] * n / copies[c] for c, n in owner.items()) for owner in owners]


def contents_of(pages: int, seed: int, modulo: int) -> Counter[object]:
    """As `fill` makes them."""
    return Counter((seed, at % modulo) for at in range(pages))


def faults(pid: int) -> int:
    """Minor faults of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_it_is_what_was_made_and_what_merges(ksm: Ksm) -> None:
    """To the page, and afterwards within 1 %."""
    assert (ksm.read("max_page_sharing"), ksm.read("use_zero_pages")) == (MOST, 0)
    with Workload() as load, writer(ZEROS, "zeros") as zeros, writer(CHANGING, "changing") as busy:
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        b = tenant(load, "b", B, seed=1, contents=B_CONTENTS)
        c = tenant(load, "c", CHAIN, seed=2, contents=1)
        # Pages that are shared by fork take no memory, and save none.
        forked = tenant(load, "f", CHILD, seed=3, contents=CHILD)
        forked.fork("g")
        names = [enter(each.name, each.pid) for each in (a, b, c)]
        enter("c", zeros.pid)
        words = [*names, str(forked.pid), str(busy.pid)]

        idle = (a, b, c, forked)
        before = [faults(each.pid) for each in idle]
        for each in idle:
            Path(f"/proc/{each.pid}/clear_refs").write_text("1")
        found = estimate(*words, "--interval", "1")
        # Nothing was brought in, and nothing marked as accessed.
        assert found["spent"]["read_by"] == "kcore"
        used = [in_offered_areas(each.pid, "Referenced") for each in idle]
        assert used == [0] * len(idle)
        assert [faults(each.pid) for each in idle] == before

        assert (found["confidence"], found["reasons"]) == ("exact", [])
        a_copies, b_copies = contents_of(A, 1, A_CONTENTS), contents_of(B, 1, B_CONTENTS)
        c_copies: Counter[object] = Counter({(2, 0): CHAIN, "zero": ZEROS})
        shares = parts(a_copies, b_copies, c_copies)
        host = found["host"]
        assert host["saved_now"] == 0
        assert host["would_save"] == host["would_save_low"] == host["would_save_high"]
        assert host["would_save"] == round(sum(shares))
        assert found["spent"]["changed"] >= CHANGING
        owners = {f"{owner['kind']}:{owner['id']}": owner for owner in found["owners"]}
        assert [owners[name]["would_save"] for name in names] == [pytest.approx(s) for s in shares]
        assert owners[f"process:{forked.pid}"]["would_save"] == 0
        assert owners[f"process:{busy.pid}"]["would_save"] == 0
        assert "Start ksmd" in owners[names[0]]["advice"]
        assert found["zero_pages"] >= ZEROS
        assert found["across_tenants"] >= B_CONTENTS

        busy.kill()
        ksm.merge_all(stop=True, scans=6)
        merged = ksm.read("pages_sharing")
        assert merged == pytest.approx(host["would_save"], rel=0.01)
        after = estimate(*words[:-1], "--interval", "1")
        mappings = sum(oracle.process(p) for p in (a.pid, b.pid, c.pid, zeros.pid, forked.pid))
        assert after["host"]["saved_now"] == mappings - ksm.read("pages_shared")
        assert after["host"]["would_save"] == pytest.approx(merged, rel=0.01)


def test_a_frame_that_another_process_maps_is_not_freed(ksm: Ksm) -> None:
    pages, contents, own = 300, 30, 60
    with Workload() as load:
        a = load.spawn("a")
        a.map("heap", pages)
        a.madvise("heap", 0, pages, "nohugepage")
        a.fill("heap", 0, pages, seed=1, modulo=contents)
        b = a.fork("b")
        a.fill("heap", 0, own, seed=1, modulo=contents)
        # The child's area stays as it is.
        a.madvise("heap", 0, pages, "mergeable")
        begin = a.address("heap")

        def used() -> int:
            return len({f for each in (a, b) for f in oracle.frames(each.pid, begin, pages)})

        before = used()
        assert before == pages + own
        for words in ([str(a.pid), str(b.pid)], [str(a.pid)]):
            found = estimate(*words, "--interval", "0.5")
            assert interval(found["host"]) == (own - contents,) * 3
        ksm.merge_all(scans=6)
        assert before - used() == own - contents


def interval(of: dict[str, Any]) -> tuple[float, float, float]:
    """What would be saved, from low to high."""
    return of["would_save_low"], of["would_save"], of["would_save_high"]


@pytest.mark.parametrize("first", [True, False])
def test_pinned_pages_keep_their_copies_from_merging_if_ksmd_finds_them_first(
    ksm: Ksm, *, first: bool
) -> None:
    """No limit holds root, so 7.3 does not count what is pinned."""
    pinned = 3
    with Workload() as load:
        holder = load.spawn("holder")
        holder.map("heap", pinned)
        holder.fill("heap", 0, pinned, seed=1, modulo=A_CONTENTS)
        holder.tell("pin", "heap", 0, pinned)
        # ksmd scans processes in the order in which they offered memory.
        if first:
            holder.madvise("heap", 0, pinned, "mergeable")
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        if not first:
            holder.madvise("heap", 0, pinned, "mergeable")
        found = estimate(str(holder.pid), str(a.pid), "--interval", "0.5")
        lost = sum(contents_of(A, 1, A_CONTENTS)[1, at] - 1 for at in range(pinned))
        everything = A - A_CONTENTS
        assert interval(found["host"]) == (everything - lost, everything, everything)
        (reason,) = found["reasons"]
        assert f"have copies: {pinned} " in reason
        ksm.merge_all(scans=6)
        assert ksm.read("pages_sharing") == everything - lost * first


def test_without_kcore_each_page_of_who_has_pinned_some_may_be_pinned(ksm: Ksm) -> None:
    pinned, pages = 3, 7
    # Whom a limit holds is accounted for by every kernel.
    limited = (f"--memlock={A * mmap.PAGESIZE}", "setpriv", "--bounding-set=-ipc_lock")
    with Workload() as load:
        holder = load.spawn("holder", ("prlimit", *limited))
        holder.map("heap", pages)
        holder.fill("heap", 0, pages, seed=1, modulo=A_CONTENTS)
        holder.tell("pin", "heap", 0, pinned)
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        words = (str(holder.pid), str(a.pid), "--interval", "0.5")
        found = estimate(*words, prefix=("setpriv", "--bounding-set=-sys_rawio"))
        assert found["spent"]["read_by"] == "mem"
        copies = contents_of(A, 1, A_CONTENTS)
        # Only `a` has offered its pages.
        assert interval(found["host"]) == (A - A_CONTENTS,) * 3
        lost = sum(copies[1, at] - 1 for at in range(pages))
        assert found["host"]["would_save_all_high"] == A + pages - A_CONTENTS
        assert found["host"]["would_save_all_low"] == A - A_CONTENTS - lost
        assert found["reasons"] == [
            f"pinned pages, which do not merge: {pinned} (which ones is not known)"
        ]


def test_a_huge_page_of_which_a_page_is_pinned_does_not_merge(ksm: Ksm) -> None:
    pages, contents = 2048, 97
    with Workload() as load:
        holder = load.spawn("holder")
        holder.map("heap", pages)
        holder.madvise("heap", 0, pages, "hugepage")
        holder.fill("heap", 0, pages, seed=1, modulo=contents)
        holder.tell("pin", "heap", pages // 2, 1)
        holder.madvise("heap", 0, pages, "mergeable")
        assert in_offered_areas(holder.pid, "AnonHugePages")
        found = estimate(str(holder.pid), "--interval", "0.5")
        in_huge = (2 << 20) // mmap.PAGESIZE
        assert f"have copies: {in_huge} " in found["reasons"][0]
        # The pages before it have all contents, so these merge.
        assert interval(found["host"]) == (
            0,
            pages - in_huge - contents,
            pages - in_huge - contents,
        )
        ksm.merge_all(scans=6)
        assert ksm.read("pages_sharing") == pages - in_huge - contents


def test_equal_pages_of_two_nodes_stay_apart_if_ksmd_is_told_so(ksm: Ksm) -> None:
    near = 97
    with Workload() as load:
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        begin = a.address("heap")
        addresses = [begin + page * mmap.PAGESIZE for page in range(A)]
        move_pages(a.pid, addresses[:near], 0)
        move_pages(a.pid, addresses[near:], 1)
        # Of a hundred contents each is on node 1, and 97 on node 0, each once.
        # What was merged may be anywhere afterwards.
        for across, apart in ((0, near), (1, 0)):
            ksm.write("merge_across_nodes", across)
            try:
                found = estimate(str(a.pid), "--interval", "0.5")
                assert interval(found["host"]) == (A - A_CONTENTS - apart,) * 3
                ksm.merge_all(scans=6)
                assert ksm.read("pages_sharing") == A - A_CONTENTS - apart
            finally:
                ksm.unmerge()
                ksm.write("merge_across_nodes", 1)


@pytest.mark.parametrize("kind", ["huge", "memfd", "unreadable", "orphan"])
def test_other_kinds_of_memory(ksm: Ksm, kind: str) -> None:
    """To the page, and so it merges."""
    # Whole huge pages: what is left of one would be zeros.
    pages, contents = (1024, 97) if kind == "huge" else (B, B_CONTENTS)
    with memory(kind, pages, contents) as child:
        if kind == "orphan":
            status = Path(f"/proc/{child.pid}/status")
            wait_until(lambda: "State:\tZ" in status.read_text(), status.read_text)
        else:
            huge = in_offered_areas(child.pid, "AnonHugePages")
            before = faults(child.pid)
            assert bool(huge) == (kind == "huge")
        found = estimate(str(child.pid), "--interval", "0.5")
        assert (found["confidence"], found["reasons"]) == ("exact", [])
        unseen = kind == "unreadable" and os.uname().release.startswith("6.1.")
        assert found["host"]["would_save"] == (0 if unseen else pages - contents)
        if kind != "orphan":
            assert in_offered_areas(child.pid, "AnonHugePages") == huge
            assert faults(child.pid) == before
        ksm.merge_all(scans=6)
        assert ksm.read("pages_sharing") == found["host"]["would_save"]


def test_with_too_small_a_budget_the_interval_has_what_was_not_examined(ksm: Ksm) -> None:
    with Workload() as load:
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        found = estimate(str(a.pid), "--budget", "0.1")
    host = found["host"]
    assert "the budget of 0.1 s of CPU was too small" in found["reasons"][0]
    assert host["would_save_low"] <= A - A_CONTENTS <= host["would_save_high"]
    # No more than all that it has.
    assert host["would_save_high"] <= found["left_out"]["unexamined"] + found["spent"]["pages"]


def test_zero_pages_are_free_with_use_zero_pages(ksm: Ksm) -> None:
    ksm.write("use_zero_pages", 1)
    try:
        with Workload(), writer(ZEROS, "zeros") as zeros:
            found = estimate(str(zeros.pid), "--interval", "0.5")
            assert found["host"]["would_save"] == ZEROS
            ksm.merge_all()
            after = estimate(str(zeros.pid), "--interval", "0.5")
            assert after["spent"]["pages"] == found["spent"]["pages"] - ZEROS
            # Before 6.5 KSM does not count them.
            freed = ksm.read("ksm_zero_pages") if ksm.has("ksm_zero_pages") else 0
            assert freed == ZEROS * ksm.has("ksm_zero_pages")
            assert after["host"]["saved_now"] == after["host"]["would_save"] == freed
    finally:
        ksm.unmerge()
        ksm.write("use_zero_pages", 0)


# Of clock_nanosleep(), which it calls between two readings and nowhere else.
NANOSLEEP = {"x86_64": "230", "aarch64": "115"}[os.uname().machine]


@contextmanager
def waiting(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that has read the pages, and waits before it reads them again."""
    command = ["ksmwatch", "estimate", "--json", "--interval", "20", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asked:
        call = Path(f"/proc/{asked.pid}/syscall")
        wait_until(
            lambda: call.read_text().split()[0] == NANOSLEEP,
            lambda: f"it is in {call.read_text()}",
            every=0.02,
        )
        yield asked


def test_a_process_that_ends_is_told(ksm: Ksm) -> None:
    with Workload() as load:
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        b = tenant(load, "b", B, seed=1, contents=B_CONTENTS)
        with waiting(str(a.pid), str(b.pid)) as asked:
            b.exit()
            found = json.loads(asked.communicate()[0])
        assert asked.returncode == 0
        assert found["confidence"] == "estimated"
        assert "1 (they ended meanwhile)" in found["reasons"][0]
        assert found["host"]["would_save"] == A - A_CONTENTS


def test_ctrl_c_shows_what_is_known(ksm: Ksm) -> None:
    with Workload() as load:
        a = tenant(load, "a", A, seed=1, contents=A_CONTENTS)
        with waiting(str(a.pid)) as asked:
            asked.send_signal(signal.SIGINT)
            found = json.loads(asked.communicate()[0])
        assert asked.returncode == 130
        assert found["reasons"] == ["it was interrupted: pages that change may count as equal"]
        assert found["host"]["would_save"] == A - A_CONTENTS
