"""Why little merges: one built case for each cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ksmwatch.diagnose.advice import ADVISOR, TUNERS, Conditions
from ksmwatch.diagnose.causes import Cause, Code, of_host, of_process
from ksmwatch.diagnose.evidence import HostEvidence, Memory, Offers, PageSample, ProcessEvidence
from ksmwatch.diagnose.read_evidence import parse_memory
from tests.fakes import WELL_MERGED


def host(mergeable: int | None = 3, **numbers: int) -> HostEvidence:
    return HostEvidence(WELL_MERGED | numbers, mergeable)


def codes(causes: list[Cause]) -> list[Code]:
    return [cause.code for cause in causes]


# ---- host ----


def test_where_most_is_merged_nothing_is_wrong() -> None:
    (cause,) = of_host(host())
    assert cause.code is Code.MERGED
    assert cause.evidence == {"pages": 1070, "merged": 1000}


@pytest.mark.parametrize(("run", "code"), [(0, Code.STOPPED), (2, Code.UNMERGED)])
def test_ksmd_that_does_not_run_comes_first(run: int, code: Code) -> None:
    (cause,) = of_host(host(run=run))
    assert cause.code is code
    assert "/sys/kernel/mm/ksm/run" in cause.advice


NOTHING = {f"pages_{kind}": 0 for kind in ("shared", "sharing", "unshared", "volatile")}


@pytest.mark.parametrize(("mergeable", "code"), [(0, Code.NOBODY), (None, Code.UNSEEN)])
def test_nobody_has_offered_memory(mergeable: int | None, code: Code) -> None:
    """If not all could be read, no process is known to have."""
    assert codes(of_host(host(mergeable, **NOTHING))) == [code]
    assert codes(of_host(host(mergeable, run=0, **NOTHING))) == [Code.STOPPED, code]
    looked = replace(host(0, **NOTHING), offers=Offers(0, Memory(), complete=mergeable == 0))
    assert codes(of_host(looked)) == [code]


@pytest.mark.parametrize(("run", "code"), [(0, Code.STOPPED), (2, Code.UNMERGED)])
def test_memory_is_offered_that_ksmd_has_never_seen(run: int, code: Code) -> None:
    """harvester#2302, kubevirt#10477: no counter of ksmd's tells."""
    waiting = replace(host(0, run=run, full_scans=0, **NOTHING), offers=Offers(2, Memory(16384)))
    (cause,) = of_host(waiting)
    assert cause.code is code
    assert "16.0 MiB are offered by 2 processes." in cause.what
    assert cause.evidence == {"run": run, "offered_kb": 16384, "processes": 2}


def test_memory_is_offered_and_ksmd_has_just_begun() -> None:
    begun = replace(host(0, full_scans=0, **NOTHING), offers=Offers(1, Memory(16384)))
    assert codes(of_host(begun)) == [Code.YOUNG]
    later = replace(host(0, **NOTHING), offers=Offers(1, Memory(16384)))
    assert codes(of_host(later)) == [Code.NOT_SCANNED]


def test_nothing_but_page_cache_is_offered() -> None:
    cached = replace(host(0, **NOTHING), offers=Offers(1, Memory(cached=31744)))
    (cause,) = of_host(cached)
    assert cause.code is Code.PAGE_CACHE
    assert cause.evidence == {"cached_kb": 31744, "offered_kb": 31744}


def test_what_ksmd_knows_is_not_all_that_is_offered() -> None:
    """Of what it knows most is merged, but that is the smaller part."""
    mib = 1024
    swapped = replace(host(), offers=Offers(2, Memory(4280, 4000, swapped=1920 * mib)))
    found = of_host(swapped)
    assert codes(found) == [Code.SWAPPED]
    assert found[0].evidence == {"swapped_kb": 1920 * mib, "offered_kb": 1920 * mib + 4280}
    (cause,) = of_host(replace(host(), offers=Offers(2, Memory(40000, 4000))))
    assert cause.code is Code.NOT_SCANNED
    assert cause.evidence == {"known_pages": 1070, "pages": 10000}
    assert codes(of_host(replace(host(), offers=Offers(2, Memory(8000, 4000))))) == [Code.MERGED]


def test_zero_pages_are_merged_pages() -> None:
    """kubevirt/enhancements#381: guests full of zeroes, and use_zero_pages."""
    (cause,) = of_host(host(0, ksm_zero_pages=1664, **NOTHING))
    assert cause.code is Code.MERGED
    assert cause.evidence == {"pages": 1664, "merged": 1664, "zero_pages": 1664}
    (cause,) = of_host(host(pages_unshared=900, pages_sharing=0, ksm_zero_pages=3000))
    assert (cause.code, cause.evidence["merged"]) == (Code.MERGED, 3100)
    (cause,) = of_process(process(0, zero=6656), host())
    assert cause.code is Code.MERGED
    assert cause.evidence == {"offered_kb": 6656, "merged_kb": 6656, "zero_kb": 6656}
    # Without an rmap_item they have been looked at.
    assert codes(of_process(process(0, zero=6656, offered=2048), host())) == [Code.MERGED]


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        ({"merge_across_nodes": 0}, Code.ACROSS_NODES),
        ({"stable_node_dups": 500, "stable_node_chains": 10, "max_page_sharing": 2}, "sharing"),
        ({"smart_scan": 1, "pages_skipped": 7000}, Code.SKIPPING),
    ],
)
def test_switches_that_limit_merging_are_named(switch: dict[str, int], code: str) -> None:
    sampled = replace(with_sample(PageSample(100, 0, 2.0), **switch), nodes=2)
    first, unique = of_host(sampled)
    assert first.code == code or code in first.code
    assert unique.code is Code.UNIQUE
    assert "fix the limits above" in unique.advice
    assert codes(of_host(replace(host(pages_unshared=5000, **switch), nodes=2)))[0] is first.code


def test_what_a_switch_cannot_limit_is_not_named() -> None:
    still = {"merge_across_nodes": 1, "stable_node_dups": 3, "stable_node_chains": 3}
    (cause,) = of_host(replace(with_sample(PageSample(100, 0, 2.0), **still), nodes=2))
    assert cause.code is Code.UNIQUE
    one_node = with_sample(PageSample(100, 0, 2.0), merge_across_nodes=0, smart_scan=1)
    assert codes(of_host(one_node)) == [Code.UNIQUE]


def test_merging_across_nodes_is_changed_after_unmerging() -> None:
    files = frozenset({"merge_across_nodes"})
    limited = replace(
        with_sample(PageSample(100, 0, 2.0), merge_across_nodes=0),
        nodes=2,
        conditions=Conditions(files=files),
    )
    advice = of_host(limited)[0].advice
    forecast, unmerge, switch, start = (
        advice.index(step)
        for step in ("ksmwatch forecast", "echo 2 >", "/merge_across_nodes", "echo 1 > /sys/k")
    )
    assert forecast < unmerge < switch
    assert unmerge < start


def test_who_holds_a_file_is_named() -> None:
    files = frozenset({"advisor_mode", "advisor_target_scan_time", "advisor_max_cpu"})
    held = Conditions(files, holders=(ADVISOR, TUNERS[0]))
    slow = replace(host(run=1, pages_sharing=99_999_900), conditions=held)
    (cause,) = of_host(slow)
    assert "advisor_target_scan_time" in cause.advice
    assert "raise pages_to_scan" not in cause.advice
    (cause,) = of_host(replace(host(run=0), conditions=Conditions(holders=(TUNERS[0],))))
    assert "/etc/ksmtuned.conf" in cause.advice
    assert "libvirt" in cause.advice
    assert "echo 1" not in cause.advice


def test_who_uses_ksm_is_not_known_but_somebody_does() -> None:
    assert codes(of_host(host(None))) == [Code.MERGED]


def test_ksmd_has_not_been_everywhere_twice() -> None:
    assert codes(of_host(host(full_scans=1))) == [Code.YOUNG]
    assert codes(of_host(host(full_scans=2))) == [Code.MERGED]


def test_a_scan_that_takes_hours() -> None:
    (cause,) = of_host(host(pages_sharing=99_999_900))
    assert cause.code is Code.SLOW
    # A hundred million pages, a hundred of them every 20 ms.
    assert cause.evidence["scan_seconds"] == 20000.0
    assert "333 minutes" in cause.what


def test_a_first_scan_that_takes_hours() -> None:
    """What is offered tells, not what ksmd has seen of it."""
    begun = host(0, full_scans=0, **NOTHING)
    terabyte = replace(begun, offers=Offers(9, Memory(1 << 30)))
    young, slow = of_host(terabyte)
    assert (young.code, slow.code) == (Code.YOUNG, Code.SLOW)
    assert slow.evidence["pages"] == 1 << 28
    assert "895 minutes" in slow.what


def test_ksmd_that_scans_nothing_is_not_waited_for() -> None:
    waiting = replace(
        host(0, pages_to_scan=0, full_scans=0, **NOTHING), offers=Offers(1, Memory(16384))
    )
    for judged in (waiting, host(pages_to_scan=0, pages_sharing=99_999_900)):
        (cause,) = of_host(judged)
        assert cause.code is Code.SLOW
        assert cause.what == "ksmd runs, but scans no page: pages_to_scan is 0."
        assert "Wait" not in cause.advice
        assert "raise pages_to_scan" in cause.advice


def test_a_scan_without_a_pace_is_not_judged() -> None:
    known = host(pages_sharing=99_999_900)
    ksm = {name: number for name, number in known.ksm.items() if name != "sleep_millisecs"}
    assert codes(of_host(replace(known, ksm=ksm))) == [Code.MERGED]


@pytest.mark.parametrize("kind", ["pages_unshared", "pages_volatile"])
def test_what_cannot_merge(kind: str) -> None:
    (cause,) = of_host(host(**{kind: 5000}))
    assert cause.code is Code.UNEQUAL
    assert cause.evidence[kind] == 5000
    assert codes(of_host(host(**{kind: 900}))) == [Code.MERGED]


def with_sample(sample: PageSample, **numbers: int) -> HostEvidence:
    return replace(host(pages_unshared=5000, **numbers), sample=sample)


@pytest.mark.parametrize(
    ("changed", "seconds", "code"),
    [
        (0, 2.0, Code.UNIQUE),
        (90, 2.0, Code.CHANGING),
        # The scan takes 1.2 s: what changes later does not matter.
        (10, 2.0, Code.UNIQUE),
        # Here it takes far longer than we have looked.
        (10, 0.1, Code.CHANGING),
    ],
)
def test_a_sample_tells_what_changes_from_what_is_unique(
    changed: int, seconds: float, code: Code
) -> None:
    (cause,) = of_host(with_sample(PageSample(100, changed, seconds)))
    assert cause.code is code
    assert cause.evidence["changed"] == changed
    assert cause.evidence["sampled_pages"] == 100
    assert cause.evidence["pages_unshared"] == 5000


@pytest.mark.parametrize(
    ("equal", "merged", "code"),
    [(100, 400, Code.HELD), (50, 0, Code.UNIQUE), (90, 1600, Code.UNIQUE)],
)
def test_equal_pages_that_do_not_merge_are_not_called_unique(
    equal: int, merged: int, code: Code
) -> None:
    """What is pinned by a pipe, or by io_uring of root since 7.3, is in no number."""
    judged = with_sample(PageSample(100, 0, 2.0, equal))
    (cause,) = of_process(process(offered=4000, merged=merged), judged)
    assert cause.code is code
    assert cause.evidence["equal"] == equal


def test_a_sample_of_a_process_is_judged_by_its_own_pages() -> None:
    judged = with_sample(PageSample(100, 70, 2.0))
    assert codes(of_process(process(offered=4000, merged=400), judged)) == [Code.CHANGING]
    assert codes(of_process(process(offered=4000, merged=3000), judged)) == [Code.MERGED]


# ---- processes ----


def process(rmap_items: int | None = 1000, **memory: int) -> ProcessEvidence:
    return ProcessEvidence(7, "seven", Memory(**memory), rmap_items)


def test_a_process_that_merges_well() -> None:
    assert codes(of_process(process(offered=4000, merged=3000), host())) == [Code.MERGED]


def test_a_process_that_never_asked() -> None:
    (cause,) = of_process(process(unasked=204800), host())
    assert cause.code is Code.NOT_ASKED
    assert cause.what == "200.0 MiB of its memory were never offered to KSM."


def test_little_unasked_memory_is_no_cause() -> None:
    found = of_process(process(offered=4000, merged=3000, unasked=1000), host())
    assert codes(found) == [Code.MERGED]


@pytest.mark.parametrize(
    ("member", "code"),
    [
        ("shared", Code.SHARED),
        ("hugetlb", Code.HUGETLB),
        ("special", Code.SPECIAL),
        ("pinned", Code.PINNED),
    ],
)
def test_memory_that_ksm_cannot_take(member: str, code: Code) -> None:
    (cause,) = of_process(process(**{member: 5000}), host())
    assert cause.code is code
    assert cause.evidence == {f"{member}_kb": 5000}


def test_libraries_and_the_vdso_are_no_cause() -> None:
    found = of_process(process(offered=40000, merged=30000, shared=3000), host())
    assert codes(found) == [Code.MERGED]
    assert codes(of_process(process(unasked=9000, special=4), host())) == [Code.NOT_ASKED]


def test_ksmd_has_not_looked_at_it_yet() -> None:
    found = of_process(process(offered=40000, rmap_items=13), host(full_scans=1))
    assert codes(found) == [Code.NOT_SCANNED, Code.YOUNG]
    assert found[0].evidence == {"ksm_rmap_items": 13, "pages": 10000}


def test_it_was_looked_at_and_not_merged() -> None:
    found = of_process(process(offered=4000, rmap_items=1000), host())
    assert codes(found) == [Code.UNEQUAL]


def test_page_cache_of_a_private_mapping_is_no_fault_of_the_heap() -> None:
    """cloud-hypervisor#3968, kata#4076: 31 MiB advised and only read, 3 MiB of heap."""
    (cause,) = of_process(process(0, cached=31744, unasked=3072), host())
    assert cause.code is Code.PAGE_CACHE
    assert "31.0 MiB of the 31.0 MiB" in cause.what
    found = of_process(process(2, cached=31744, offered=8, unasked=3072), host())
    assert codes(found) == [Code.PAGE_CACHE]


def test_what_is_in_swap_cannot_merge() -> None:
    """Of 2 GiB 128 MiB are there, nearly all merged."""
    mib = 1024
    (cause,) = of_process(process(offered=128 * mib, merged=117 * mib, swapped=1920 * mib), host())
    assert cause.code is Code.SWAPPED
    assert cause.evidence == {"swapped_kb": 1920 * mib, "offered_kb": 2048 * mib}
    assert "Nothing to do" not in cause.advice
    half = process(offered=1024 * mib, merged=1000 * mib, swapped=300 * mib, unasked=7)
    assert codes(of_process(half, host())) == [Code.SWAPPED, Code.MERGED]


def test_memory_with_tags_never_merges() -> None:
    """memcmp_pages() of arm64: nothing is found by looking at contents."""
    (cause,) = of_process(process(offered=40000, tagged=39000), host())
    assert cause.code is Code.TAGGED
    assert cause.evidence == {"tagged_kb": 39000, "offered_kb": 40000}
    half = process(offered=40000, tagged=20000, rmap_items=10000)
    assert codes(of_process(half, host())) == [Code.TAGGED, Code.UNEQUAL]
    smaps = "1000-9000 rw-p 0 00:00 0\nRss: 16 kB\nAnonymous: 16 kB\nVmFlags: rd mg{}\n"
    assert parse_memory(smaps.format(" mt").encode(), "") == Memory(offered=16, tagged=16)
    assert parse_memory(smaps.format("").encode(), "") == Memory(offered=16)


def test_memory_of_its_own_that_is_in_swap_was_not_offered_either() -> None:
    smaps = "1000-9000 rw-p 00000000 00:00 0\nAnonymous: 4 kB\nSwap: 12 kB\nVmFlags: rd wr\n"
    assert parse_memory(smaps.encode(), "") == Memory(unasked=16)


def test_a_stopped_ksmd_is_not_too_slow() -> None:
    (cause,) = of_process(process(0, offered=16384), host(run=0, full_scans=0, **NOTHING))
    assert cause.code is Code.STOPPED
    assert "16.0 MiB are offered." in cause.what
    assert "pages_to_scan" not in cause.advice


def test_ksmd_that_is_stopped_is_said_of_a_process_too() -> None:
    found = of_process(process(unasked=5000), host(run=0))
    assert codes(found) == [Code.STOPPED, Code.NOT_ASKED]
