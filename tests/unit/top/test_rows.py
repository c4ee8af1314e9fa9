"""Rows of a view: groups, trees, filter, order, movements, history."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.snapshot.document import to_document
from ksmwatch.top.rows import build
from ksmwatch.top.sample import Sample, make_sample
from ksmwatch.top.sparkline_points import SparklinePoints
from ksmwatch.top.values import SORTABLE, movement, value
from ksmwatch.top.view import CAME, Grouping, Options, View
from tests.made_up import snapshot
from tests.made_up_host import document


def sample(count: int = 14, step: int = 0, **changes: Any) -> Sample:
    return make_sample(document(count, step, **changes))


def view(made: Sample | None = None, before: Sample | None = None, **options: Any) -> View:
    return build(made or sample(), before, Options(**options))


def names(made: View) -> list[str]:
    return [row.of.name for row in made.rows]


def pids(made: View) -> list[int | None]:
    return [row.process.pid if row.process else None for row in made.rows]


def altered(changes: dict[int, dict[str, Any]], count: int = 4, step: int = 0) -> Sample:
    """A host with a changed process 1000 + n, without sums by owner."""
    made = document(count, step, owners=[])
    for n, change in changes.items():
        made["processes"][n] |= change
    return make_sample(made)


# ---- groups ----


def test_owners_have_the_sums_of_their_processes() -> None:
    made = sample()
    (web,) = [row for row in view(made).rows if row.of.name == "web"]
    members = [p for p in made.processes if p.owner.name == "web"]
    assert [p.pid for p in web.members] == [1000, 1007]
    assert web.of.mappings == sum(p.mappings for p in members)
    assert web.of.kernel == sum(p.kernel or 0 for p in members)
    assert (web.of.kind, web.of.stray, web.process) == ("vm", 3, None)


@pytest.mark.parametrize("grouping", Grouping)
def test_every_grouping_has_the_sum_of_the_host(grouping: Grouping) -> None:
    made = view(sample(50), grouping=grouping)
    rows = [row.of.mappings for row in made.rows]
    assert sum(rows) == made.sample.document["host"]["mappings"]


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        (Grouping.KIND, {"vm", "container", "pod", "unit", "user", "command"}),
        (
            Grouping.UNIT,
            {"101.scope", "102.scope", "docker-5f2a.scope", "postgresql.service", "(no unit)"},
        ),
        (Grouping.USER, {"alice", "(no user)"}),
    ],
)
def test_groupings(grouping: Grouping, expected: set[str]) -> None:
    assert set(names(view(grouping=grouping))) == expected


def test_two_owners_of_one_name_stay_two() -> None:
    other = {"kind": "vm", "name": "web", "id": "proxmox/999"}
    made = view(altered({1: {"owner": other}}, 2))
    assert names(made) == ["web", "web"]
    assert made.rows[0].key != made.rows[1].key


def test_an_owner_that_is_not_told_is_unknown() -> None:
    made = view(altered({0: {"owner": None}, 1: {"owner": None, "comm": "java"}}, 3))
    found = {(row.of.kind, row.of.name) for row in made.rows}
    assert found == {("unknown", "kvm"), ("unknown", "java"), ("container", "cache")}


def test_sums_of_owners_are_those_of_the_document() -> None:
    made = document(14)
    web = next(owner for owner in made["owners"] if owner["name"] == "web")
    web |= {"mappings": 7, "kernel_lag": -2, "stray_mappings": None, "estimated_processes": 1}
    web["movements"]["forked"] = 99
    shown = view(make_sample(made))
    (row,) = [row for row in shown.rows if row.of.name == "web"]
    found = [value(row.of, key, shown) for key in ("mapped", "lag", "stray", "forked", "saved")]
    assert found == [7, -2, None, 99, web["saved_bytes"]]
    assert value(row.of, "state", shown) == "estimated"


def test_mappings_without_a_process_have_a_row() -> None:
    made = to_document(snapshot(unnamed=5))
    shown = view(make_sample(made), tree=True)
    (row,) = [row for row in shown.rows if row.of.kind == "unknown"]
    assert (row.of.mappings, row.members, row.fold) == (5, (), "")
    assert value(row.of, "state", shown) == "estimated"
    assert value(row.of, "read", shown) is None


@pytest.mark.parametrize("column", ["kernel", "lag", "stray"])
def test_a_sum_with_an_unknown_part_is_unknown(column: str) -> None:
    field = {"kernel": "kernel_merging_pages", "lag": "kernel_lag", "stray": "stray_mappings"}
    made = view(altered({7: {field[column]: None}}, 9))
    found = {row.of.name: value(row.of, column, made) for row in made.rows}
    assert found["web"] is None
    assert found["database"] is not None


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"confidence": "estimated", "residue": "left"}, "estimated"),
        ({"residue": "left"}, "left"),
        ({"residue": "kept"}, "kept"),
        ({"residue": "left", "mappings": 0}, "exact"),
        ({}, "exact"),
    ],
)
def test_a_group_is_as_doubtful_as_its_worst_member(change: dict[str, Any], state: str) -> None:
    made = view(altered({7: change}, 8))
    (web,) = [row for row in made.rows if row.of.name == "web"]
    assert value(web.of, "state", made) == state


# ---- folding and trees ----


def test_a_folded_group_unfolds_below_itself() -> None:
    folded = view()
    assert {row.fold for row in folded.rows} == {"+"}
    key = next(row.key for row in folded.rows if row.of.name == "web")
    unfolded = view(turned=frozenset({key}))
    at = names(unfolded).index("web")
    assert unfolded.rows[at].fold == "-"
    assert {p for p in pids(unfolded) if p} == {1000, 1007}
    assert [row.depth for row in unfolded.rows[at : at + 4]] == [0, 1, 1, 0]


def test_in_tree_mode_all_groups_are_unfolded_but_those_that_were_turned() -> None:
    key = next(row.key for row in view().rows if row.of.name == "web")
    made = view(tree=True, turned=frozenset({key}))
    assert {p for p in pids(made) if p} == {1000 + n for n in range(14)} - {1000, 1007}


def test_processes_stand_below_their_parents() -> None:
    made = view(sample(10), grouping=Grouping.PROCESS, tree=True, sort="pid")
    assert pids(made) == list(range(1000, 1010))
    assert [row.depth for row in made.rows] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert [row.fold for row in made.rows if row.fold] == ["-", "-"]


def test_a_folded_process_hides_everything_below_it() -> None:
    chain = altered({n: {"ppid": 999 + n} for n in range(1, 4)})
    options: dict[str, Any] = {"grouping": Grouping.PROCESS, "tree": True, "sort": "pid"}
    assert [row.depth for row in view(chain, **options).rows] == [0, 1, 2, 3]
    made = view(chain, **options, turned=frozenset({(1001, 7001)}))
    assert [(row.process.pid, row.fold) for row in made.rows if row.process] == [
        (1000, "-"),
        (1001, "+"),
    ]


def test_a_parent_that_is_younger_than_its_child_is_another() -> None:
    made = altered({1: {"ppid": 1000}, 0: {"start_time": 8000}})
    shown = view(made, grouping=Grouping.PROCESS, tree=True)
    assert {row.depth for row in shown.rows} == {0}


def test_a_loop_of_parents_loses_nobody() -> None:
    parents = {0: 1002, 1: 1000, 2: 1001, 3: 1003}
    loop = altered({n: {"ppid": ppid, "start_time": 5} for n, ppid in parents.items()})
    made = view(loop, grouping=Grouping.PROCESS, tree=True, sort="pid")
    assert sorted(p or 0 for p in pids(made)) == [1000, 1001, 1002, 1003]


@given(st.lists(st.integers(998, 1030), min_size=1, max_size=25), st.sampled_from(SORTABLE))
def test_a_tree_shows_every_process_once(parents: list[int], sort: str) -> None:
    changes = {n: {"ppid": ppid, "start_time": n % 3} for n, ppid in enumerate(parents)}
    made = altered(changes, len(parents))
    shown = view(made, grouping=Grouping.PROCESS, tree=True, sort=sort)
    assert sorted(p or 0 for p in pids(shown)) == [1000 + n for n in range(len(parents))]


def test_a_very_long_chain_of_forks_is_no_recursion() -> None:
    made = altered({n: {"ppid": 999 + n} for n in range(1, 3000)}, 3000)
    shown = view(made, grouping=Grouping.PROCESS, tree=True)
    assert shown.rows[-1].depth == 2999


# ---- filter ----


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 14),
        ("WEB", 2),
        ("kvm", 4),
        ("proxmox/102", 2),
        ("docker-5f2a", 2),
        ("1003", 1),
        ("postgres", 2),
        ("100", 2),
        ("nobody", 0),
    ],
)
def test_filter(text: str, expected: int) -> None:
    made = view(filter=text, grouping=Grouping.PROCESS)
    assert (len(made.rows), made.selected) == (expected, expected)


def test_a_filter_that_takes_a_part_of_an_owner_shows_the_sum_of_the_part() -> None:
    made = sample()
    shown = view(made, filter="1007")
    (row,) = shown.rows
    (process,) = [p for p in made.processes if p.pid == 1007]
    assert (row.of.name, row.of.mappings, len(row.members)) == ("web", process.mappings, 1)
    assert value(row.of, "saved", shown) is None


def test_a_filter_finds_owners_without_processes() -> None:
    made = document(14)
    shown = view(make_sample(made | {"processes": []}), filter="proxmox")
    assert set(names(shown)) == {"web", "database"}


def test_a_filter_reaches_groups_by_their_processes() -> None:
    assert names(view(filter="java")) == ["shop/cart-7d4b9"]


# ---- order ----


@pytest.mark.parametrize("grouping", [Grouping.OWNER, Grouping.PROCESS])
@pytest.mark.parametrize("sort", SORTABLE)
@pytest.mark.parametrize("inverted", [False, True])
def test_order(sort: str, grouping: Grouping, *, inverted: bool) -> None:
    made = view(sample(30, 1), sample(30), sort=sort, grouping=grouping, inverted=inverted)
    found = [value(row.of, sort, made) for row in made.rows]
    small_first = (sort in ("pid", "kind", "name", "owner", "state")) is not inverted
    if found[0] is None:
        # A group has no pid.
        assert set(found) == {None}
    else:
        assert found == sorted(found, reverse=not small_first)
        assert len(found) == (30 if grouping is Grouping.PROCESS else 7)


@pytest.mark.parametrize("inverted", [False, True])
def test_unknown_is_last_in_either_order(*, inverted: bool) -> None:
    made = altered({1: {"kernel_merging_pages": None}})
    shown = view(made, sort="kernel", grouping=Grouping.PROCESS, inverted=inverted)
    assert pids(shown)[-1] == 1001


def test_equals_keep_the_order_of_the_document() -> None:
    made = altered({n: {"mappings": 5} for n in range(4)})
    for inverted in (False, True):
        shown = view(made, grouping=Grouping.PROCESS, inverted=inverted)
        assert pids(shown) == [1000, 1001, 1002, 1003]


# ---- movements ----


def came(made: View, pid: int) -> float | None:
    (row,) = [row for row in made.rows if row.process and row.process.pid == pid]
    return movement(row.of, made, CAME)


def processes(made: Sample, before: Sample | None = None, **options: Any) -> View:
    return view(made, before, grouping=Grouping.PROCESS, **options)


def test_totals_are_those_of_the_document() -> None:
    made = sample(4)
    moves = made.processes[2].movements
    assert came(processes(made), 1002) == moves["merged"] + moves["forked"]


def test_rates_are_per_second() -> None:
    # Two seconds apart; process n merges n pages.
    made = processes(sample(4, 1), sample(4), rates=True)
    assert [came(made, 1000 + n) for n in range(4)] == [0, 0.5, 1, 1.5]


def test_the_rate_of_a_group_is_the_sum() -> None:
    made = view(sample(14, 1, owners=[]), sample(14), rates=True)
    (web,) = [row for row in made.rows if row.of.name == "web"]
    assert value(web.of, "merged", made) == 3.5


def test_the_rate_of_an_owner_counts_its_ended_processes() -> None:
    made = document(14, 1)
    made["processes"] = []
    shown = view(make_sample(made), sample(14), rates=True)
    (web,) = [row for row in shown.rows if row.of.name == "web"]
    assert value(web.of, "merged", shown) == 3.5


def test_a_process_that_was_not_listed_had_not_moved() -> None:
    fresh = {"merged": 10, "converted": 0, "other": 0, "forked": 0, "exited": 0}
    now = altered({3: {"movements": fresh}}, 4, 1)
    assert came(processes(now, sample(3), rates=True), 1003) == 5


def test_without_a_sample_before_there_is_no_rate() -> None:
    assert came(processes(sample(4), rates=True), 1002) is None
    assert came(processes(sample(4), sample(4), rates=True), 1002) is None


def test_another_daemon_makes_the_rate_unknown() -> None:
    assert came(processes(sample(4, 1), sample(4, 2), rates=True), 1002) is None
    again = sample(4, 0, time=1700001000.0)
    assert came(processes(again, sample(4, 2), rates=True), 1002) is None


@pytest.mark.parametrize("rates", [False, True])
def test_polling_knows_no_movements(*, rates: bool) -> None:
    made = altered({1: {"movements": {}}}, 4, 1)
    assert came(processes(made, sample(4), rates=rates), 1001) is None


# ---- sparklines ----


def test_points_of_processes_and_groups() -> None:
    points = SparklinePoints(length=2)
    made = [sample(8, step) for step in range(3)]
    for each in made:
        points.add(each, Grouping.OWNER)
    shown = view(made[-1], tree=True)
    web = next(row for row in shown.rows if row.of.name == "web")
    process = next(row for row in shown.rows if row.process and row.process.pid == 1003)
    assert points.of(web) == tuple(
        s.processes[0].mappings + s.processes[7].mappings for s in made[1:]
    )
    assert points.of(process) == tuple(s.processes[3].mappings for s in made[1:])


def test_points_of_who_is_gone_are_forgotten() -> None:
    points = SparklinePoints()
    points.add(sample(2), Grouping.PROCESS)
    row = processes(sample(2)).rows[0]
    points.add(sample(0), Grouping.PROCESS)
    assert points.of(row) == ()
