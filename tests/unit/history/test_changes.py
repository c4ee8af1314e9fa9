"""What changed most: how much, when, and why; nothing is claimed about what nobody saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ksmwatch.commands.history_view import sentence
from ksmwatch.counting.backend_state import Mode
from ksmwatch.history.changes import Change, because, changes
from ksmwatch.history.past import Past
from ksmwatch.history.reader import HistoryReader
from ksmwatch.history.store import FILE_NAME, Store
from ksmwatch.probes.map_records import Movement
from ksmwatch.snapshot.process import Confidence
from tests.past import BEGIN, past_moment, past_snapshot, vm

M = Movement
Row = tuple[float, Mapping[str, int], Mapping[str, Any]]


def past(tmp_path: Any, rows: Sequence[Row]) -> Past:
    """From seconds, mappings by machine, and more of a moment; as the file gives it back."""
    store = Store(tmp_path / FILE_NAME, 10**7)
    for seconds, mappings, more in rows:
        store.add(past_moment(seconds, mappings, **more))
    store.close()
    reader = HistoryReader(tmp_path)
    found = reader.past(reader.between(0, 9e9))
    reader.close()
    return found


def first(tmp_path: Any, rows: Sequence[Row]) -> Change:
    return changes(past(tmp_path, rows))[0]


def falling(seconds: float, web: int, copied: int, unmapped: int = 0) -> Row:
    moves = {"web": {M.MERGED: 1000, M.COPIED: copied, M.UNMAPPED: unmapped}}
    return seconds, {"web": web, "db": 500}, {"moves": moves}


def test_a_loss_by_writes_is_told_with_its_time(tmp_path: Any) -> None:
    rows = [falling(10.0 * n, 1000, 3) for n in range(30)]
    rows += [falling(300.0 + 10 * n, 1000 - 20 * n, 3 + 20 * n) for n in range(31)]
    rows += [falling(610.0 + 10 * n, 400, 603) for n in range(30)]
    found = first(tmp_path, rows)
    assert (found.mappings, found.reason, found.part, found.exact) == (-600, "copied", 1.0, True)
    assert (found.since - BEGIN, found.until - BEGIN) == (300.0, 600.0)
    told = sentence(found, found.until)
    assert told.startswith("vm web lost 600 mappings by writes from ")


def test_a_steep_fall_is_told_without_its_slow_end(tmp_path: Any) -> None:
    rows = [falling(10.0 * n, 1000 - (n > 2) * 900 - n // 10, 900 * (n > 2)) for n in range(200)]
    found = first(tmp_path, rows)
    assert (found.since - BEGIN, found.until - BEGIN) == (20.0, 30.0)
    assert found.mappings == -900


def test_the_main_of_several_reasons_is_named(tmp_path: Any) -> None:
    found = first(tmp_path, [falling(0, 1000, 0), falling(10, 400, 400, 300)])
    assert because(found) == "mostly by writes"


def test_a_write_while_ksm_unmerges_may_be_ksmds(tmp_path: Any) -> None:
    run = past_snapshot(0, {}).run._replace(run=2)
    last = falling(10, 400, 600)
    found = first(tmp_path, [falling(0, 1000, 0), (last[0], last[1], {**last[2], "run": run})])
    assert because(found) == "by unmerging or writes"


def test_a_gain_by_fork(tmp_path: Any) -> None:
    rows: list[Row] = [
        (0, {"web": 100}, {"moves": {"web": {M.MERGED: 100}}}),
        (10, {"web": 300}, {"moves": {"web": {M.MERGED: 100, M.FORKED: 200}}}),
    ]
    found = first(tmp_path, rows)
    assert (found.mappings, because(found)) == (200, "by forks")


def test_a_machine_that_ends(tmp_path: Any) -> None:
    rows: list[Row] = [(0, {"web": 900, "db": 5}, {}), (10, {"db": 5}, {})]
    found = first(tmp_path, rows)
    assert (found.mappings, because(found)) == (-900, "when it ended")


def test_an_owner_too_small_to_be_known_is_not_gone(tmp_path: Any) -> None:
    rows: list[Row] = [
        (0, {"web": 900, "db": 800}, {"top": 1}),
        (10, {"web": 700, "db": 800}, {"top": 1}),
    ]
    # Each is known at one moment, so nobody knows what changed; of the others, the sum is known.
    assert [(c.owner["kind"], c.mappings) for c in changes(past(tmp_path, rows))] == [
        ("other", -100)
    ]


def test_a_change_in_a_gap_is_nobodys(tmp_path: Any) -> None:
    rows: list[Row] = [(0, {"web": 900}, {}), (500, {"web": 100}, {"since": 500.0})]
    assert changes(past(tmp_path, rows)) == []


def test_movements_are_counted_across_a_restart(tmp_path: Any) -> None:
    rows = [falling(0, 1000, 500), falling(10, 800, 700), falling(20, 600, 200)]
    rows[2] = (rows[2][0], rows[2][1], {**rows[2][2], "began": BEGIN + 15})
    found = first(tmp_path, rows)
    assert (found.mappings, because(found)) == (-400, "by writes")


def test_polled_counts_have_no_reason(tmp_path: Any) -> None:
    polled = {"moved": {}, "mode": Mode.POLL}
    rows: list[Row] = [(s, {"web": n}, polled) for s, n in ((0, 1000), (10, 600))]
    found = first(tmp_path, rows)
    assert (found.mappings, because(found)) == (-400, "")


def test_who_has_not_moved_yet_has_moved_nothing(tmp_path: Any) -> None:
    # Known by an exact read, before the first event.
    rows: list[Row] = [(0, {"web": 0}, {"moved": {}}), falling(10, 1000, 0)]
    found = first(tmp_path, rows)
    assert (found.mappings, because(found)) == (1000, "by merging")


def test_an_estimated_count_is_called_so(tmp_path: Any) -> None:
    doubtful = past_snapshot(10, {"web": 400}).processes[0]
    members = (doubtful._replace(confidence=Confidence.ESTIMATED, owner=vm("web")),)
    rows: list[Row] = [(0, {"web": 1000}, {}), (10, {"web": 400}, {"processes": members})]
    found = first(tmp_path, rows)
    assert not found.exact
    assert "lost about 600 mappings" in sentence(found, found.until)


@pytest.mark.parametrize("counts", [(5, 5, 5), (7,)])
def test_nothing_changed(tmp_path: Any, counts: tuple[int, ...]) -> None:
    rows: list[Row] = [(10.0 * n, {"web": count}, {}) for n, count in enumerate(counts)]
    assert changes(past(tmp_path, rows)) == []
