"""Sums by owner: nothing is lost or invented, unknown stays unknown, totals never fall."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.owners.owner import UNKNOWN, Owner, OwnerKind
from ksmwatch.owners.rollup import Holding, Moves, OwnerKey, Turnover, common, roll_up, total
from ksmwatch.owners.savings import Bounds
from ksmwatch.owners.sums import full
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Confidence, Process
from ksmwatch.units import PAGE_SIZE
from tests.made_up import UNIT, numbers, process, snapshot

VM = Owner(OwnerKind.VM, "web", "proxmox/100", manager="proxmox")
# A unit whose id is that of the VM.
TWIN = Owner(OwnerKind.UNIT, "web", "proxmox/100")
OWNERS = (UNIT, VM, TWIN)


@st.composite
def processes(draw: st.DrawFn) -> Process:
    return process(
        owner=draw(st.sampled_from(OWNERS)),
        mappings=draw(st.integers(0, 1 << 40)),
        confidence=draw(st.sampled_from([Confidence.EXACT, Confidence.ESTIMATED])),
        kernel_merging_pages=draw(st.none() | st.integers(0, 1000)),
        zero_pages=draw(st.none() | st.integers(0, 1000)),
    )


HOSTS = st.builds(
    lambda many, unnamed, shared: snapshot(
        processes=tuple(many),
        unnamed=unnamed,
        numbers=numbers(ksm={"pages_shared": shared, "pages_sharing": 0}),
    ),
    st.lists(processes(), max_size=12),
    st.sampled_from([0, 0, 1, 7, 1 << 33]),
    st.integers(0, 1 << 41),
)


@given(HOSTS)
def test_owners_add_up_to_the_host(made: Snapshot) -> None:
    host = to_document(made)["host"]
    assert sum(h.mappings for h in made.owners) == host["mappings"]
    assert sum(h.bytes for h in made.owners) == host["bytes"]
    assert sum(h.processes for h in made.owners) == len(made.processes)
    assert sum(h.estimated for h in made.owners) == host["estimated_processes"]
    assert len({h.owner.key for h in made.owners}) == len(made.owners)


@given(HOSTS)
def test_the_saving_is_shared_out_whole(made: Snapshot) -> None:
    assert made.saved is not None
    for bound in (0, 1):
        parts = [h.saved[bound] for h in made.owners if h.saved]
        # Each part is rounded to a byte.
        slack = max(1, len(parts)) + made.saved[bound] * 1e-12
        assert abs(sum(parts) - made.saved[bound]) <= slack
    for h in made.owners:
        assert h.saved is not None
        assert 0 <= h.saved.least <= h.saved.most <= h.bytes + (10**4 << 12)


@given(HOSTS)
def test_every_owner_is_the_sum_of_its_processes(made: Snapshot) -> None:
    for holding in made.owners:
        own = [p for p in made.processes if p.owner.key == holding.owner.key]
        if holding.owner is UNKNOWN:
            assert (own, holding.mappings) == ([], made.unnamed)
            continue
        assert holding.mappings == sum(p.mappings for p in own)
        kernel = [p.kernel_merging_pages for p in own]
        assert (holding.kernel_merging_pages is None) == (None in kernel)
        if holding.kernel_merging_pages is not None:
            assert holding.kernel_merging_pages == sum(k or 0 for k in kernel)
            assert holding.kernel_lag == holding.mappings - holding.kernel_merging_pages


def test_what_nobody_is_known_for_is_held_by_the_unknown() -> None:
    made = snapshot(unnamed=30)
    assert [(h.owner, h.mappings) for h in made.owners] == [(UNIT, 100), (UNKNOWN, 30)]
    unknown = made.owners[1]
    assert (unknown.processes, unknown.estimated) == (0, 0)
    assert unknown.kernel_merging_pages is unknown.kernel_lag is None
    assert unknown.stray_mappings is unknown.zero_pages is None
    assert to_document(made)["host"]["mappings"] == 130
    assert to_document(made)["host"]["unnamed_mappings"] == 30


def test_an_owner_in_the_document() -> None:
    (owner,) = to_document(snapshot())["owners"]
    assert owner == {
        "kind": "unit",
        "name": "tenant.service",
        "id": "tenant.service",
        "manager": "systemd",
        "claimed": False,
        "uuid": None,
        "pod": None,
        "qos": None,
        "container": None,
        "unit": None,
        "slice": None,
        "uid": None,
        "processes": 1,
        "estimated_processes": 0,
        "mappings": 100,
        "bytes": 100 * PAGE_SIZE,
        "saved_bytes": 88 * PAGE_SIZE,
        "saved_at_most_bytes": 88 * PAGE_SIZE,
        "movements": {
            "merged": 81,
            "converted": 12,
            "other": 7,
            "forked": 26,
            "copied": 13,
            "unmapped": 8,
            "exited": 9,
        },
        "kernel_merging_pages": 110,
        "kernel_lag": -10,
        "stray_mappings": 3,
        "zero_pages": 8,
        "median_age_seconds": 3.6,
        "wasted_share": 0.25,
        "nodes": {"0": 60, "1": 40},
        "mappings_on_unknown_nodes": 0,
        "remote_mappings": 40,
        "unmerge": {
            "at_least_bytes": 88 * PAGE_SIZE,
            "at_most_bytes": 108 * PAGE_SIZE,
            "available_bytes": 1024000 << 10,
            "verdict": "fits",
            "limit": {
                "cgroup": "/system.slice/tenant.service",
                "at_most_bytes": 108 * PAGE_SIZE,
                "left_bytes": 1 << 20,
            },
        },
    }


def test_the_saving_is_shared_out_by_what_each_would_need() -> None:
    members = [
        process(owner=VM, mappings=300, zero_pages=0, family=(1, 1)),
        process(mappings=100, zero_pages=0, family=(2, 2)),
    ]
    vm, unit = rolled_up(members, 40)
    assert (vm.saved, unit.saved) == (bounds(270), bounds(90))


def rolled_up(members: list[Process], pages_shared: int) -> tuple[Holding, ...]:
    sums = full(members, {})
    return roll_up(sums.owners, sums.need, 0, pages_shared, {})


def bounds(pages: int) -> Bounds:
    return Bounds(pages * PAGE_SIZE, pages * PAGE_SIZE)


def test_a_zero_page_is_a_saving_of_its_owner() -> None:
    made = snapshot(
        processes=(process(mappings=0, zero_pages=1664, movements=()),),
        numbers=numbers(ksm={"pages_shared": 0, "pages_sharing": 0, "ksm_zero_pages": 1664}),
    )
    assert made.saved == bounds(1664)
    assert [h.saved for h in made.owners] == [bounds(1664)]


def test_zero_pages_of_nobody_that_is_known_may_be_saved() -> None:
    kernel = {"pages_shared": 0, "pages_sharing": 0, "ksm_zero_pages": 1664}
    made = snapshot(processes=(), numbers=numbers(ksm=kernel))
    assert made.saved == Bounds(0, 1664 * PAGE_SIZE)


def test_without_the_kernels_number_no_saving_is_known() -> None:
    made = snapshot(numbers=numbers(ksm={"run": 1}))
    assert made.saved is None
    assert [h.saved for h in made.owners] == [None]


@pytest.mark.parametrize(
    ("parts", "expected"), [([], 0), ([1, 2], 3), ([0, None], None), ([None], None), ([0, 0], 0)]
)
def test_total(parts: list[int | None], expected: int | None) -> None:
    assert total(parts) == expected


def test_owners_are_in_order_of_mappings_then_of_key() -> None:
    members = [process(owner=o, mappings=7) for o in (VM, TWIN, UNIT)]
    more = process(owner=replace(UNIT, id="z", name="z"), mappings=8)
    assert [h.owner.id for h in rolled_up([*members, more], 0)] == [
        "z",
        "proxmox/100",
        "tenant.service",
        "proxmox/100",
    ]


def test_what_is_true_of_some_processes_only_is_not_said_of_the_owner() -> None:
    one = replace(VM, container="a", unit="u.service", uid=5)
    two = replace(VM, container="b", unit="u.service", uuid="1-2")
    assert common([one, two]) == replace(VM, unit="u.service", uuid="1-2")
    assert common([one]) == one


# ---- movements ----

A, B = UNIT.key, VM.key


def test_totals_do_not_fall_when_a_process_ends() -> None:
    turnover = Turnover()
    assert turnover.see([((1, 1), A, (5,), (1,)), ((2, 2), A, (7,), (0,))]) == {A: (12, 1)}
    assert turnover.see([((2, 2), A, (9,), (0,))], [(1, 1)]) == {A: (14, 1)}
    # Another account at the same address.
    assert turnover.see([((1, 3), A, (2,), (2,))]) == {A: (16, 3)}


def test_totals_go_with_the_owner() -> None:
    turnover = Turnover()
    turnover.see([((1, 1), A, (5,), ()), ((2, 2), B, (6,), ())])
    assert turnover.see([], [(1, 1)]) == {B: (6,)}
    assert turnover.see([((3, 3), A, (1,), ())]) == {A: (1,), B: (6,)}


def test_what_was_moved_before_stays_with_who_owned_it_then() -> None:
    turnover = Turnover()
    turnover.see([((1, 1), A, (5,), ()), ((2, 2), A, (1,), ())])
    assert turnover.see([((1, 1), B, (8,), ())]) == {A: (6,), B: (3,)}


def test_nothing_new_is_the_same_object() -> None:
    turnover = Turnover()
    first = turnover.see([((1, 1), A, (5,), ())])
    assert turnover.see([]) is first
    assert turnover.see([((1, 1), A, (5,), ())]) is first


def test_what_a_daemon_before_us_has_told_is_not_told_again() -> None:
    turnover = Turnover()
    turnover.begin_after([((1, 1), (5,), ())])
    assert turnover.see([((1, 1), A, (7,), ()), ((2, 2), B, (6,), ())]) == {A: (2,), B: (6,)}


@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.integers(0, 3), st.integers(0, 2)),
            st.tuples(st.sampled_from([A, B]), st.integers(0, 9)),
        ),
        max_size=12,
    )
)
def test_no_total_ever_falls_and_nothing_is_counted_twice(
    looks: list[dict[tuple[int, int], tuple[OwnerKey, int]]],
) -> None:
    turnover = Turnover()
    moved: dict[tuple[int, int], int] = {}
    before: dict[OwnerKey, Moves] = {}
    known: dict[tuple[int, int], tuple[OwnerKey, int]] = {}
    grown = 0
    for look in looks:
        gone = moved.keys() - look.keys()
        moved = {account: moved.get(account, 0) + more for account, (_, more) in look.items()}
        changed = [
            (account, key, (moved[account],), ())
            for account, (key, more) in look.items()
            if known.get(account, (None, 1))[0] != key or more
        ]
        known = look
        totals = dict(turnover.see(changed, gone))
        assert set(totals) == {key for key, _ in look.values()}
        for key, (amount,) in totals.items():
            old = before.get(key, (0,))[0]
            assert amount >= old
            grown += amount - old
        before = totals
    # A number that an account shows again after it was away is another account's.
    assert grown == sum(more for look in looks for _, more in look.values())
