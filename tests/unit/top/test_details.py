"""The details of a row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.snapshot.document import to_document
from ksmwatch.top import details
from ksmwatch.top.details import sparkline
from ksmwatch.top.rows import build
from ksmwatch.top.sample import make_sample
from ksmwatch.top.toned_text import Tone, plain
from ksmwatch.top.view import Grouping, Options, Unit
from tests.made_up import process, snapshot
from tests.made_up_host import document


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 10, ""),
        ([5], 10, "▁"),
        ([5, 5, 5], 10, "▁▁▁"),
        ([0, 7], 10, "▁█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 10, "▁▂▃▄▅▆▇█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 3, "▁▅█"),
        ([1, 2], 0, ""),
        ([1, 2], -5, ""),
    ],
)
def test_sparkline(values: list[int], width: int, expected: str) -> None:
    assert sparkline(values, width) == expected


@given(st.lists(st.integers(-(10**12), 10**12)), st.integers(0, 200))
def test_a_sparkline_has_a_bar_per_value(values: list[int], width: int) -> None:
    assert len(sparkline(values, width)) == min(len(values), width)


def shown(
    made: dict[str, Any], *, width: int = 200, history: tuple[int, ...] = (), **options: Any
) -> dict[str, str]:
    """Details of the first row, by label."""
    view = build(make_sample(made), None, Options(**{"unit": Unit.PAGES, **options}))
    found = {}
    for line in details.lines(view.rows[0], view, history, width):
        label, text = line
        found[label[1].strip()] = text[1].strip()
    return found


def test_of_a_process() -> None:
    found = shown(to_document(snapshot()), grouping=Grouping.PROCESS, history=(90, 95, 100))
    assert found == {
        "process": "42 tenant-with-a-long-name",
        "owner": "unit tenant.service  id tenant.service  manager systemd",
        "history": "▁▅█  90 to 100 pages",
        "came": "merged 80  converted 10  forked 25  other 5",
        "went": "copied 12  unmapped 7  exited 1",
        "counts": "ours 100 pages  kernel 110 pages  lag -10 pages",
        "state": "exact  read 2.5 s ago",
        "stray": "3 pages in areas not mergeable:  7f0000000000-7f0000010000 [heap] 3",
        "ask": "ksmwatch why 42  ksmwatch estimate 42",
        "nodes": "node 0 60  node 1 40  remote 40 pages",
    }


def test_of_an_owner_the_host_is_asked() -> None:
    assert shown(document())["ask"] == "ksmwatch why  ksmwatch estimate"


@pytest.mark.parametrize(("stray", "text"), [(None, "not audited yet"), ((), "none")])
def test_stray_areas(stray: Any, text: str) -> None:
    made = to_document(snapshot(processes=(process(stray=stray),)))
    assert shown(made, grouping=Grouping.PROCESS)["stray"] == text


def test_of_an_owner() -> None:
    found = shown(to_document(snapshot()))
    assert found["owner"] == "unit tenant.service  id tenant.service  manager systemd"
    # Also of processes that have ended.
    assert found["came"] == "merged 81  converted 12  forked 26  other 7"
    assert found["saved"] == "88 pages, its part of the host's  zero pages 8 pages"
    assert found["unmerge"] == (
        "needs 88 to 108 pages of 256,000  fits  limited by /system.slice/tenant.service"
    )
    assert found["1 proc."] == "42 tenant-with-a-long-name 100"
    assert found["history"] == "-"


def test_of_mappings_without_a_process() -> None:
    made = to_document(snapshot(processes=(), unnamed=5))
    found = shown(made)
    assert found["owner"] == "unknown unknown  id unknown"
    assert found["state"] == "estimated"
    assert found["0 proc."] == "-"


def test_of_another_group() -> None:
    found = shown(document(14), grouping=Grouping.UNIT, filter="101.scope")
    assert found["unit"] == "101.scope"
    assert found["2 proc."].startswith("1000 kvm ")
    assert "saved" not in found


def test_of_many_members_the_largest() -> None:
    found = shown(document(140), filter="web", width=400)
    assert found["20 proc."].endswith("  and 8 more")


def test_polling_knows_no_movements_and_doubts() -> None:
    made = document(1)
    made["processes"][0] |= {"movements": {}, "confidence": "estimated", "last_read_seconds": None}
    found = shown(made, grouping=Grouping.PROCESS)
    assert found["came"] == "merged -  converted -  forked -  other -"
    assert found["state"] == "estimated  not read yet"


def test_what_is_behind_is_marked() -> None:
    made = document(1)
    made["processes"][0]["kernel_lag"] = made["processes"][0]["mappings"]
    view = build(make_sample(made), None, Options(grouping=Grouping.PROCESS))
    tones = {a[1].strip(): b[0] for a, b in details.lines(view.rows[0], view, (), 200)}
    assert tones["counts"] is Tone.WARN
    assert tones["came"] is Tone.PLAIN


@given(st.text(max_size=60), st.integers(12, 120))
def test_no_line_is_wider_or_breaks(name: str, width: int) -> None:
    made = document(20)
    for each in made["processes"]:
        each |= {"name": name, "comm": name}
        each["owner"] |= {"name": name, "id": name, "unit": name, "manager": name}
    for grouping in Grouping:
        view = build(make_sample(made), None, Options(grouping=grouping))
        for line in details.lines(view.rows[0], view, (1, 2, 3), width):
            assert plain(line).isprintable()
            assert len(plain(line)) <= width
