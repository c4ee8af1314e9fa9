"""`ksmwatch estimate` on made-up processes: what is read, and what is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ksmwatch.commands import estimate
from ksmwatch.diagnose.page_survey import Tools
from ksmwatch.errors import ConfigError
from ksmwatch.kernel.page_tables import GUARD, SWAPPED
from ksmwatch.units import PAGE_SIZE
from tests.estimate_host import ALONE, KERNEL, PRESENT, SHARED, ZERO_FRAME, Host, content

Asked = Callable[..., dict[str, Any]]


def owner(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The one with this name."""
    (one,) = (each for each in found["owners"] if each["name"] == name)
    return dict(one)


# ---- what is said ----


def test_equal_pages_are_found_to_the_page(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1, 1, 2, 3, None], name="a")
    host.add(11, [1, 3, 4, None, None], name="b", flags="")
    found = asked()
    assert (found["confidence"], found["reasons"]) == ("exact", [])
    # 1 four times, 3 twice, zeros three times; only a's are offered.
    assert found["host"]["would_save_all"] == 3 + 1 + 2
    assert found["host"]["would_save"] == 2
    assert found["host"]["saved_now"] == 0
    assert (found["zero_pages"], found["within_owners"]) == (3, 2 + 1)
    assert (found["within_tenants"], found["across_tenants"]) == (3, 3)
    a, b = owner(found, "a"), owner(found, "b")
    assert (a["would_save"], b["would_save"]) == (2, 0)
    assert a["would_save_all"] + b["would_save_all"] == pytest.approx(6)
    assert (a["pages"], a["offered_pages"], b["offered_pages"]) == (6, 6, 0)
    assert found["cost"]["pages"] == 11
    assert found["cost"]["book_keeping_bytes"] == 11 * 64
    assert found["cost"]["ksmd_cpu_seconds"] is None


def test_labels_make_one_tenant_of_several(host: Host, asked: Asked) -> None:
    host.add(10, [1], name="a")
    host.add(11, [1], name="b")
    assert asked()["across_tenants"] == 1
    found = asked(labels=(("shop", "container:*"),))
    assert (found["within_tenants"], found["across_tenants"]) == (1, 0)
    assert owner(found, "a")["tenant"] == "shop"


def test_pages_that_share_a_beginning_only_are_not_equal(host: Host, asked: Asked) -> None:
    host.add(10, ["x" * 64 + "1", "x" * 64 + "2"])
    assert asked()["host"]["would_save"] == 0


@pytest.mark.parametrize(("contents", "whole", "saved"), [(20, 0, 0), (10, 20, 10)])
def test_pages_that_begin_with_zeros_are_told_apart_by_their_middle(
    host: Host, asked: Asked, contents: int, whole: int, saved: int
) -> None:
    """They are no pages of zeros, which are all read whole."""
    host.add(10, range(20))
    for at, frame in enumerate(host.memory.frames):
        middle = b"%d" % (at % contents)
        host.memory.frames[frame] = bytes(PAGE_SIZE // 2) + middle.ljust(PAGE_SIZE // 2, b"\1")
    found = asked()
    assert (found["spent"]["whole"], found["host"]["would_save"]) == (whole, saved)
    assert found["zero_pages"] == 0


@pytest.mark.parametrize("different", [100, PAGE_SIZE - 1])
def test_pages_of_zeros_but_for_one_byte_are_no_pages_of_zeros(
    host: Host, asked: Asked, different: int
) -> None:
    host.add(10, [None, None, None])
    page = bytearray(PAGE_SIZE)
    page[different] = 1
    host.memory.frames[100] = bytes(page)
    found = asked()
    assert (found["host"]["would_save"], found["zero_pages"]) == (1, 2)


def test_what_changes_is_not_counted(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1, 1, 1, 2, 2], name="a")

    def change(read: int) -> None:
        # After the first time that all six were read whole.
        host.memory.frames[101] = content("new")

    host.memory.then = change
    found = asked()
    assert found["host"]["would_save"] == 2 + 1
    assert found["spent"]["changed"] == 1
    assert owner(found, "a")["changing"] == pytest.approx(1 / 6, abs=1e-4)


def test_a_page_that_moved_while_it_was_read_does_not_count(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1, 1])
    calls = 0

    def move(read: int) -> None:
        nonlocal calls
        calls += 1
        host.write_entries(10, [PRESENT | 100 | ALONE, PRESENT | 101 | ALONE, PRESENT | 7])

    host.memory.then = move
    host.memory.frames[7] = content(1)
    # It is back in its place, which another page has now, at the second reading.
    found = asked()
    assert calls == 2
    assert found["host"]["would_save"] == 1


def test_merged_pages_count_as_saved_now(host: Host, asked: Asked) -> None:
    host.sys.write("pages_shared", 1)
    host.ksm = {50}
    host.add(10, [1, 1, 1], name="a", frames=[50, 50, 50])
    host.add(11, [1, 2, 2], name="b")
    found = asked()
    assert found["host"]["saved_now"] == 2
    assert found["host"]["would_save"] == 2 + 1 + 1
    assert owner(found, "a")["saved_now"] == 2


def test_where_ksm_pages_cannot_be_told_what_is_saved_is_unknown(
    host: Host, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.sys.write("pages_shared", 1)
    host.add(10, [1, 1])
    monkeypatch.setattr(
        estimate,
        "_tools",
        lambda proc, sys, ksm: Tools(proc, KERNEL, host.memory, ZERO_FRAME, None),
    )
    found = asked()
    assert found["host"]["saved_now"] is None
    assert found["host"]["would_save"] is None
    assert "cannot be distinguished" in found["reasons"][0]
    host.ask(as_json=False)


def test_only_those_that_are_named_are_compared(host: Host, asked: Asked) -> None:
    host.add(10, [1, 2], name="a")
    host.add(11, [1, 2], name="b")
    host.add(12, [1, 3], name="c")
    assert asked("10")["host"]["would_save"] == 0
    assert asked("container:lxc/a", "11")["host"]["would_save"] == 2
    found = asked("a", "lxc/c")
    assert [each["name"] for each in found["owners"]] == ["a", "c"]
    with pytest.raises(ConfigError, match="No process or owner 'nobody' has private memory"):
        host.ask("nobody")


def test_the_kernels_zero_page_takes_no_memory(host: Host, asked: Asked) -> None:
    host.add(10, [None, None, None])
    host.write_entries(10, [PRESENT | ZERO_FRAME, PRESENT | 100 | ALONE, PRESENT | SHARED | 101])
    found = asked()
    assert (found["spent"]["pages"], found["zero_pages"]) == (1, 1)


def test_what_cannot_be_merged_is_in_the_numbers(host: Host, asked: Asked) -> None:
    more = "".join(
        f"{start}-{start}1 rw-p 00000000 00:00 0\nRss: 40 kB\nAnonymous: 0 kB\n"
        f"Private_Hugetlb: 80 kB\nVmFlags: rd {flag}\n"
        for start, flag in enumerate(("ht", "sh", "pf", "dp", "mt"), 100000)
    )
    host.add(10, [1, 1], more=more)
    found = asked()
    left_out = {"swapped": 2, "hugetlb": 20, "shared": 10, "special": 20, "tagged": 10}
    assert found["left_out"] == left_out
    assert found["host"]["would_save"] == 1


def test_poisoned_pages_are_in_the_numbers(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1, 2, 2, 2])
    # On Linux 6.12, 23 is the type of poisoned pages; the others are in swap space, and a guard.
    others = (SWAPPED | 23, SWAPPED | 3, SWAPPED | GUARD | 31)
    host.write_entries(10, [PRESENT | 100 | ALONE, PRESENT | 101 | ALONE, *others])
    assert "poisoned" not in asked()["left_out"]
    host.poisoned = True
    found = asked()
    assert (found["left_out"]["poisoned"], found["host"]["would_save"]) == (1, 1)


@pytest.mark.parametrize(("kernel", "saved"), [((5, 10), 1), ((6, 1), 0), ((6, 5), 0), ((6, 6), 1)])
def test_some_kernels_do_not_see_pages_that_may_not_be_read(
    host: Host, asked: Asked, kernel: tuple[int, int], saved: int
) -> None:
    host.kernel = kernel
    host.add(10, [1, 1])
    smaps = host.proc.path / "10/smaps"
    smaps.write_text(smaps.read_text().replace("VmFlags: rd wr mr", "VmFlags: mr"))
    found = asked()
    assert found["host"]["would_save"] == saved
    assert found["left_out"].get("unreadable", 0) == (0 if saved else 2)


def test_userfaultfd_areas_are_read_only_by_what_never_faults(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1], flags="mg um")
    found = asked()
    assert found["left_out"]["userfaultfd"] == 2
    assert found["spent"]["pages"] == 0
    host.memory.faults = False
    assert asked()["host"]["would_save"] == 1


def test_what_merges_meanwhile_is_said(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1])
    host.memory.then = lambda _: host.sys.write("pages_sharing", 17)
    assert asked()["reasons"] == ["the number of merged pages changed by 17 meanwhile"]


def test_a_process_without_its_main_thread_is_read_by_another_thread(
    host: Host, asked: Asked
) -> None:
    host.add(10, [1, 1, 1], name="a")
    directory = host.proc.path / "10"
    whole = (directory / "status").read_text() + "Threads:\t2\n"
    empty = "".join(line for line in whole.splitlines(keepends=True) if "RssAnon" not in line)
    for tid, status in (("10", empty), ("11", whole)):
        (directory / "task" / tid).mkdir(parents=True)
        (directory / "task" / tid / "status").write_text(status)
    (directory / "status").write_text(empty)
    for name in ("smaps", "pagemap", "ksm_stat"):
        (directory / name).rename(directory / "task/11" / name)
    assert asked("10")["host"]["would_save"] == 2


def pin(host: Host, pid: int, pages: int) -> None:
    """As the kernel counts them."""
    with (host.proc.path / str(pid) / "status").open("a") as status:
        status.write(f"VmPin:\t{4 * pages:8d} kB\n")


def interval(of: dict[str, Any], name: str = "would_save") -> tuple[float, float, float]:
    """From low to high."""
    return of[f"{name}_low"], of[name], of[f"{name}_high"]


def test_a_pinned_page_may_keep_all_its_copies_from_merging(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1, 2, 3], name="a")
    host.add(11, [1, 1, 2, 2], name="b")
    pin(host, 10, 2)
    # A copy of 1, and a page without a copy.
    host.pins = {100, 103}
    found = asked()
    # 1 three times, 2 three times.
    assert interval(found["host"]) == (2, 4, 4)
    assert found["reasons"] == [
        "pinned pages that have copies: 1 (their copies may not merge either)"
    ]
    a, b = owner(found, "a"), owner(found, "b")
    assert interval(b) == pytest.approx((4 / 3, 8 / 3, 8 / 3), abs=1e-3)
    assert a["would_save_low"] + b["would_save_low"] == pytest.approx(2)
    # Apart, b saves one page of each content; together, 1 can merge although it does not in a.
    assert interval(found, "within_owners") == (1, 2, 2)
    assert interval(found, "across_tenants") == (1, 2, 3)


def test_pages_merge_only_within_a_node_of_memory_if_ksmd_is_told_so(
    host: Host, asked: Asked
) -> None:
    host.add(10, [1, 1, 1, None, None, None])
    host.nodes = {100: 0, 101: 0, 102: 1, 103: 0, 104: 1, 105: 1}
    assert asked()["host"]["would_save"] == 2 + 2
    host.sys.write("merge_across_nodes", 0)
    found = asked()
    assert (found["host"]["would_save"], found["zero_pages"]) == (1 + 1, 3)
    # A pinned page is compared with those of its node.
    host.pins = {102}
    assert interval(asked()["host"]) == (2, 2, 2)
    host.pins = {100}
    assert interval(asked()["host"]) == (1, 1, 1)
    host.sys.write("use_zero_pages", 1)
    assert asked()["host"]["would_save"] == 3


@pytest.mark.parametrize("told", [True, False])
def test_a_pinned_page_that_is_not_offered_is_in_nobodys_way(
    host: Host, asked: Asked, *, told: bool
) -> None:
    host.add(10, [1], name="a", flags="")
    host.add(11, [1, 1, 1], name="b")
    pin(host, 10, 1)
    host.pins = {100} if told else None
    found = asked()
    assert interval(found["host"]) == (2, 2, 2)
    # If everything were offered, it would be.
    most = 2 if told else 3
    assert interval(found["host"], "would_save_all") == (0, most, most)


def test_pinned_pages_without_copies_change_nothing(host: Host, asked: Asked) -> None:
    host.add(10, [1, 1, 2])
    pin(host, 10, 1)
    host.pins = {102}
    found = asked()
    assert (found["confidence"], found["host"]["would_save_low"]) == ("exact", 1)


@pytest.mark.parametrize(("freed", "low", "value"), [(0, 0, 1), (1, 2, 2)])
def test_zero_pages_that_ksmd_frees_wait_for_no_copy(
    host: Host, asked: Asked, freed: int, low: int, value: int
) -> None:
    host.sys.write("use_zero_pages", freed)
    host.add(10, [None, None, None])
    host.pins = {100}
    found = asked()
    assert interval(found["host"]) == (low, value, value)
    assert interval(found, "zero_pages") == (2, 2, 2)


def test_where_pinned_pages_cannot_be_told_each_may_be_one(host: Host, asked: Asked) -> None:
    host.pins = None
    host.add(10, [1, 1, 2, None, None], name="a")
    host.add(11, [1, 2, 3, 3, 3], name="b")
    pin(host, 10, 2)
    found = asked()
    assert interval(found["host"]) == (2, 6, 6)
    assert found["confidence"] == "estimated"
    assert found["reasons"] == ["pinned pages, which do not merge: 2 (which ones is not known)"]


def test_the_interval_of_a_sample_knows_of_pinned_pages(
    host: Host, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "SMALL", 100)
    # Of each content the first copy is pinned, and two would merge.
    host.add(10, [at // 3 for at in range(6000)], name="a")
    host.pins = set(range(100, 6100, 3))
    found = asked(precision=10)
    assert found["spent"]["part"] < 1
    assert found["host"]["would_save_low"] == 0
    assert found["host"]["would_save_high"] >= 2000


# ---- what it looks like ----


def test_the_table(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.add(10, [1] * 600, name="web")
    host.add(11, [2, 2, 3, None], name="db\x1b[31m", flags="")
    host.sys.write("run", 0)
    host.ask(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "saved now        0.0 MiB"
    assert lines[1] == "would be saved   2.3 MiB, if what is offered to KSM were merged"
    assert "confidence       exact" in lines
    assert "    Start ksmd: it is offered, and saves 2.3 MiB more of 2.3 MiB." in lines
    assert any("hardly any of its pages has a copy" in line for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert not any("\x1b" in line for line in lines)
