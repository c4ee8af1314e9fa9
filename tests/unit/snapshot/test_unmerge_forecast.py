"""What unmerging needs: bounds that hold whatever the pages are, and verdicts that follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.owners.owner import UNKNOWN, Owner, OwnerKind
from ksmwatch.owners.sums import full
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.unmerge_forecast import (
    Forecast,
    Limit,
    Need,
    Verdict,
    Zeros,
    levels,
    limits,
    need,
)
from ksmwatch.units import PAGE_SIZE
from tests.made_up import UNIT, numbers, process, snapshot

VM = Owner(OwnerKind.VM, "web", "proxmox/100")

# The mappings of pages: for each distinct page the owners of its mappings, at least one.
PAGES = st.lists(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6), max_size=12)


def taken(pages: list[list[str]], who: str) -> int:
    """What unmerging them takes: a page for each mapping, minus those without a mapping then."""
    mappings = sum(mapper in who for page in pages for mapper in page)
    freed = sum(all(mapper in who for mapper in page) for page in pages)
    return mappings - freed


@given(PAGES, st.integers(0, 5))
def test_the_host_needs_what_is_between_the_bounds(pages: list[list[str]], stale: int) -> None:
    mappings = sum(map(len, pages))
    found = need(mappings, Zeros(), len(pages) + stale, None)
    truth = taken(pages, "ab") * PAGE_SIZE
    assert found.at_least is not None
    assert found.at_least <= truth <= found.at_most
    if not stale:
        assert found.at_least == truth


@given(PAGES, st.integers(0, 5))
def test_an_owner_needs_what_is_between_the_bounds(pages: list[list[str]], stale: int) -> None:
    mappings = sum(page.count("a") for page in pages)
    found = need(mappings, Zeros(), len(pages) + stale, None)
    assert found.at_least is not None
    assert found.at_least <= taken(pages, "a") * PAGE_SIZE <= found.at_most


def test_zero_pages_need_a_page_each() -> None:
    found = need(100, Zeros(3, 5), 20, None)
    assert (found.at_least, found.at_most) == (83 * PAGE_SIZE, 105 * PAGE_SIZE)


def test_without_pages_shared_there_is_no_lower_bound() -> None:
    assert need(100, Zeros(3, 3), None, 1) == Need(None, 103 * PAGE_SIZE, 1)


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (Need(5, 10, 10), Verdict.FITS),
        (Need(5, 10, 9), Verdict.UNCERTAIN),
        (Need(5, 10, 5), Verdict.UNCERTAIN),
        (Need(5, 10, 4), Verdict.TOO_LITTLE),
        (Need(None, 10, 10), Verdict.FITS),
        (Need(None, 10, 0), Verdict.UNCERTAIN),
        (Need(5, 10, None), Verdict.UNKNOWN),
        (Need(5, 10, 10, counted=False), Verdict.UNKNOWN),
    ],
)
def test_verdicts(known: Need, verdict: Verdict) -> None:
    assert known.verdict is verdict


@pytest.mark.parametrize(
    ("memory", "left", "verdict"),
    [
        (Need(5, 10, 10), None, Verdict.FITS),
        (Need(5, 10, 10), 10, Verdict.FITS),
        # Page cache may be reclaimed.
        (Need(5, 10, 10), -1, Verdict.UNCERTAIN),
        (Need(5, 10, 9), 10, Verdict.UNCERTAIN),
        (Need(5, 10, 4), 9, Verdict.TOO_LITTLE),
        (Need(5, 10, None), 9, Verdict.UNKNOWN),
    ],
)
def test_verdicts_with_a_limit(memory: Need, left: int | None, verdict: Verdict) -> None:
    limit = None if left is None else Limit("/a", 10, left)
    assert Forecast(memory, limit).verdict is verdict


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b", ["/a/b", "/a"]), ("/", []), (None, []), ("", []), ("a/b", [])],
)
def test_levels(path: str | None, expected: list[str]) -> None:
    assert levels(path) == tuple(expected)


def test_the_tightest_limit_counts() -> None:
    members = [
        process(owner=UNIT, cgroup="/a/b", mappings=10, zero_pages=1),
        process(owner=UNIT, cgroup="/a/c", mappings=5, zero_pages=None),
        # A neighbour below the same limit is not unmerged.
        process(owner=VM, cgroup="/a/c", mappings=1000, zero_pages=0),
        # Not below /a.
        process(owner=UNIT, cgroup="/ab", mappings=7, zero_pages=0),
    ]
    page, charges = PAGE_SIZE, full(members, {}).charges
    found = limits(charges, {"/a": 100 * page, "/a/b": 96 * page, "/other": 0})
    assert found == {
        # 84 pages to spare below /a, 85 below /a/b.
        UNIT.key: Limit("/a", 16 * page, 100 * page),
        VM.key: Limit("/a", 1000 * page, 100 * page),
    }
    found = limits(charges, {"/a": 100 * page, "/a/b": 94 * page})
    assert found[UNIT.key] == Limit("/a/b", 11 * page, 94 * page)
    assert limits(charges, {}) == {}


def test_of_zero_pages_that_are_not_known_the_hosts_are_the_bound() -> None:
    ksm = {**(numbers().ksm or {}), "ksm_zero_pages": 50}
    members = (process(), process(owner=VM, mappings=200, zero_pages=None))
    made = snapshot(numbers=numbers(ksm=ksm), processes=members)
    vm, unit = made.forecasts[VM.key].memory, made.forecasts[UNIT.key].memory
    assert (vm.at_least, vm.at_most) == (180 * PAGE_SIZE, 250 * PAGE_SIZE)
    assert (unit.at_least, unit.at_most) == (88 * PAGE_SIZE, 108 * PAGE_SIZE)
    assert made.unmerge.at_most == 350 * PAGE_SIZE


def test_a_host_whose_sum_is_not_known_has_no_verdict() -> None:
    document = to_document(replace(snapshot(unnamed=3), doubt="3 pages"))
    assert document["host"]["unmerge"]["verdict"] == "unknown"
    assert [owner["unmerge"]["verdict"] for owner in document["owners"]] == ["unknown"] * 2
    assert document["owners"][1]["kind"] == UNKNOWN.kind


def test_a_hostile_cgroup_is_harmless_in_the_document() -> None:
    path = "/a\x1b[2J\udcff"
    made = snapshot(processes=(process(cgroup=path),), rooms={path: 1})
    limit = to_document(made)["owners"][0]["unmerge"]["limit"]
    assert limit["cgroup"].startswith("/a?[2J?~")
    assert limit["cgroup"].isprintable()
