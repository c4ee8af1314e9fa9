"""What is said about owners, and what merging would cost."""

from __future__ import annotations

from array import array

import pytest

from ksmwatch.diagnose.content_sample import ContentSample, Domain, Interval, Strata, count
from ksmwatch.diagnose.equal_pages import Copies, Copy, Risk, Rules
from ksmwatch.diagnose.estimate import EstimateParty, EstimateResult, Material, Seen, amount, judge
from ksmwatch.diagnose.merge_cost import MergeCost, cost_of

PARTY = EstimateParty("vm", "libvirt/web", "web", "vm:libvirt/web")
MANY = 1000


def choice(pages: int) -> ContentSample:
    """So many pages in one bucket, all read."""
    return Strata(count([array("I", [5] * pages)], 16), 0).choose(1.0, 0)


def judged(
    *,
    offered: int = 0,
    others: int = 0,
    same: int = MANY,
    saved: float | None = 0.0,
    merging: bool = False,
    complete: bool = True,
    pinned: int = 0,
    held: bool = False,
    unexamined: int = 0,
) -> EstimateResult:
    """Of one owner with so many copies of one content, offered or not."""
    copies = Copies()
    copies.pinned = Risk.OFFERED if held and offered else Risk.IF_OFFERED if held else Risk.NONE
    for amount_of, is_offered in ((offered, True), (others, False)):
        for _ in range(amount_of):
            copies.add(Copy(0, is_offered, merged=False), None)
    pages = offered + others
    domain = Domain({pages.bit_length(): float(pages)}, {5: float(pages)})
    seen = Seen(pages, offered, pinned, unexamined, saved, MANY, same, domain)
    return judge(
        Material(
            [PARTY],
            [seen],
            {(1, None): copies} if pages else {},
            [0, 5],
            choice(pages),
            complete,
            saved,
            0,
            merging,
        ),
        Rules(256, zero_pages=False, tenants=[PARTY.tenant]),
    )


@pytest.mark.parametrize(
    ("wish", "advice"),
    [
        ({"others": 1000}, "Offer it: saves 3.9 MiB more of 3.9 MiB."),
        ({"offered": 1000}, "Start ksmd: it is offered, and saves 3.9 MiB more of 3.9 MiB."),
        (
            {"offered": 1000, "merging": True},
            "Wait: it is offered, and ksmd can save 3.9 MiB more of 3.9 MiB.",
        ),
        (
            {"offered": 600, "others": 400},
            (
                "Start ksmd: it is offered, and saves 2.3 MiB more of 3.9 MiB; if all of it were "
                "offered, 3.9 MiB."
            ),
        ),
        ({"offered": 300, "others": 700}, "Offer it: saves 3.9 MiB more of 3.9 MiB."),
        ({"others": 3, "saved": 700.0}, "Keep it: it saves 2.7 MiB of 0.0 MiB already."),
        (
            {"others": 100, "same": 200},
            "Leave it: 80% of its pages that may have a copy change too fast.",
        ),
        ({"others": 100}, "Leave it: hardly any of its pages has a copy."),
        ({"others": 1000, "complete": False}, "Unknown: no page of it was read whole."),
        ({"same": 0}, "Unknown: it has ended."),
        (
            {"others": 1000, "pinned": 501},
            "Leave it: 2.0 MiB of 3.9 MiB are pinned and cannot merge.",
        ),
        (
            {"others": 500, "held": True},
            "Undecided: saves 0.0 to 1.9 MiB more of 2.0 MiB; copies are pinned.",
        ),
        (
            {"others": 250, "unexamined": 100},
            "Undecided: saves 1.0 to 1.4 MiB more of 1.0 MiB; not all memory was examined.",
        ),
        ({"others": 3, "unexamined": 1000}, "Unknown: 3.9 MiB of it were not examined."),
        (
            {"others": 1000, "unexamined": 2000},
            "Offer it: saves 3.9 to 11.7 MiB more of 3.9 MiB.",
        ),
    ],
)
def test_advice(wish: dict[str, int | bool | float], advice: str) -> None:
    found = judged(**wish)  # type: ignore[arg-type]
    assert [owner.advice for owner in found.owners] == [advice]


def test_what_is_saved_now_is_in_the_sums() -> None:
    found = judged(offered=11, saved=5.0).saving
    assert (found.now, found.offered, found.everything) == (
        Interval.exactly(5),
        Interval.exactly(15),
        Interval.exactly(15),
    )


def test_what_a_pinned_copy_keeps_from_merging_is_not_sure() -> None:
    found = judged(offered=11, saved=5.0, held=True)
    assert found.saving.everything == Interval(15, 5, 15)
    assert found.owners[0].saving.offered == Interval(15, 5, 15)


def test_pages_that_were_not_examined_may_all_have_copies() -> None:
    found = judged(offered=11, saved=5.0, unexamined=7).saving
    assert (found.now, found.everything) == (Interval(5, 5, 12), Interval(15, 15, 22))


def test_a_page_of_others_adds_at_most_half_a_page() -> None:
    domain = Domain({4: 11.0}, {5: 11.0})
    own = Seen(11, 11, 0, 2, 0.0, 11, 11, domain)
    other = Seen(0, 0, 0, 10, 0.0, 0, 0, Domain({}))
    copies = Copies()
    for _ in range(11):
        copies.add(Copy(0, offered=True, merged=False), None)
    party = EstimateParty("vm", "libvirt/db", "db", "vm:libvirt/db")
    found = judge(
        Material(
            [PARTY, party],
            [own, other],
            {(1, None): copies},
            [0, 5],
            choice(11),
            complete=True,
            saved_now=0.0,
            zero_now=0,
            merging=False,
        ),
        Rules(256, zero_pages=False, tenants=["a", "b"]),
    )
    assert found.saving.everything == Interval(10, 10, 22)
    web, db = sorted(found.owners, key=lambda owner: owner.party.name, reverse=True)
    # No more than its 13 pages.
    assert web.saving.everything == Interval(10, 10, 13)
    assert db.saving.everything == Interval(0, 0, 10)
    assert db.advice == "Unknown: 0.0 MiB of it were not examined."


def test_an_unknown_saving_is_unknown_in_the_sums_too() -> None:
    found = judged(offered=11, saved=None).saving
    assert (found.now, found.offered, found.everything) == (None, None, None)


def test_amounts_have_an_error_and_few_digits() -> None:
    assert amount(Interval.exactly(256)) == "1.0"
    assert amount(Interval(256 * 812, 256 * 792, 256 * 832)) == "812 ± 20"
    assert amount(Interval(256 * 0.3, 0, 256 * 22.8)) == "0.0 to 22.8"
    assert amount(Interval(256 * 2, 256, 256 * 150)) == "1 to 150"


# ---- cost ----


def test_cost_by_the_pace_of_now() -> None:
    ksm = {"run": 1, "pages_to_scan": 100, "sleep_millisecs": 20, "pages_scanned": 1_000_000}
    # 3,000,000 pages in batches of 100 with 20 ms between; 5 microseconds of CPU for each.
    assert cost_of(1_000_000, ksm, 5.0) == MergeCost(
        1_000_000, 64_000_000, 615.0, 17, 15.0, ksmd_runs=True
    )


@pytest.mark.parametrize(
    ("scanned", "cpu"), [(99_999, 5.0), (1_000_000, None), (1_000_000, 0.0), (0, 5.0)]
)
def test_without_a_measurement_the_cpu_time_is_unknown(scanned: int, cpu: float | None) -> None:
    ksm = {"pages_to_scan": 100, "sleep_millisecs": 20, "pages_scanned": scanned}
    found = cost_of(1000, ksm, cpu)
    assert found.ksmd_cpu_seconds is None
    assert found.seconds_until_merged == 0.6


def test_without_pages_nothing_takes_an_hour() -> None:
    found = cost_of(0, {"pages_to_scan": 100, "sleep_millisecs": 20}, None)
    assert (found.seconds_until_merged, found.pages_to_scan_for_an_hour) == (0, None)


@pytest.mark.parametrize("ksm", [{}, {"pages_to_scan": 0, "sleep_millisecs": 20}])
def test_without_a_pace_the_time_is_unknown(ksm: dict[str, int]) -> None:
    found = cost_of(1000, ksm, None)
    assert (found.seconds_until_merged, found.pages_to_scan_for_an_hour) == (None, None)


def test_without_sleep_or_with_too_much_to_do_no_setting_takes_an_hour() -> None:
    assert cost_of(10, {"pages_to_scan": 1, "sleep_millisecs": 0}, None) == MergeCost(
        10, 640, 0.0, None, None, ksmd_runs=False
    )
    busy = {"pages_to_scan": 1, "sleep_millisecs": 1, "pages_scanned": 100_000}
    assert cost_of(10**9, busy, 1000.0).pages_to_scan_for_an_hour is None
