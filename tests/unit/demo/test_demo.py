"""The demo's judgement: where it is shown, what fits on the screen, what counts as a difference."""

from __future__ import annotations

import socket

import pytest

from demo import run, view
from demo.show import Reading, Score
from demo.tenants import LAYOUTS, expected_merged


def row(ours: int = 7, truth: int | None = 7, confidence: str = "exact") -> view.Row:
    return view.Row("web-a", 42, ours, truth, 9, confidence)


def reading(*rows: view.Row, ours: int = 7, alone: bool = True, steady: bool = True) -> Reading:
    host = view.Host(ours, "exact", 2, 7, scanning=False)
    return Reading(rows, host, steady=steady, alone=alone)


@pytest.mark.parametrize(
    ("wanted", "check", "may_write", "kernel"),
    [
        (None, {"live": True}, True, None),
        (None, {"live": True}, False, "7.3"),
        (None, {"live": False, "obstacle": "No KSM."}, True, "7.3"),
        (None, {}, True, "7.3"),
        ("6.12", {"live": True}, True, "6.12"),
    ],
)
def test_the_host_is_used_only_if_it_can_do_everything(
    wanted: str | None, check: dict[str, object], *, may_write: bool, kernel: str | None
) -> None:
    assert run.choose_place(wanted, check, may_write=may_write).kernel == kernel


def test_a_long_parenthesis_is_left_to_ksmwatch_check() -> None:
    assert run.brief("No probe (short).") == "No probe (short)."
    assert run.brief(f"No probe ({'x' * 200}).") == "No probe (see ksmwatch check)."


def test_a_taken_port_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run.free_port(port) not in (0, port)
    assert run.free_port(port) == port


def test_a_scrape_is_read_exactly() -> None:
    text = "# HELP ksmwatch_mappings x\nksmwatch_mappings_other 1.0\nksmwatch_mappings 3012.0\n"
    assert run.mappings_in(text) == 3012
    assert run.mappings_in("ksmwatch_mode 1\n") is None


def test_every_page_but_a_tenants_own_is_merged() -> None:
    merged = expected_merged(LAYOUTS)
    assert merged == {"web-a": 806, "web-b": 806, "db": 710, "batch": 710}


@pytest.mark.parametrize(
    ("seen", "equal", "different", "unsettled"),
    [
        (reading(row()), 2, 0, 0),
        (reading(row(), alone=False), 1, 0, 0),
        (reading(row(ours=8), ours=8), 0, 2, 0),
        (reading(row(), ours=8), 1, 1, 0),
        (reading(row(truth=None)), 0, 0, 0),
        (reading(row(confidence="estimated")), 0, 0, 1),
        (reading(row(), steady=False), 0, 0, 1),
    ],
)
def test_score(seen: Reading, equal: int, different: int, unsettled: int) -> None:
    score = Score()
    score.take("act", seen)
    assert (score.equal, len(score.different), len(score.unsettled)) == (
        equal,
        different,
        unsettled,
    )
    assert score.good == (not different and not unsettled)


@pytest.mark.parametrize("columns", [10, 40, 80, 200])
@pytest.mark.parametrize("lines", [1, 5, 12, 16, 24, 60])
def test_a_frame_fits_the_terminal(columns: int, lines: int) -> None:
    host = view.Host(7, "exact", 2, 7, scanning=False)
    past = [f"{i}/7  something happened" for i in range(9)]
    frame = view.Frame("title", "word " * 20, host, [row()] * 5, past, "q ends")
    shown = [view.text(line, columns) for line in view.layout(frame, max(columns, 20), lines)]
    assert len(shown) <= lines
    assert max(map(len, shown)) <= columns
    if (columns, lines) == (200, 60):
        assert shown[-3] == past[-1]


def test_columns_are_aligned() -> None:
    head, body = (view.text(line) for line in view.table([row()]))
    assert head == "PROCESS    PID  KSMWATCH  TRUTH  KERNEL    LAG  CONFIDENCE"
    assert body == "web-a       42         7      7       9     -2  exact"


def test_colour_is_only_added() -> None:
    line: view.Line = [("a", "red"), ("b", ""), (" ", "")]
    assert view.text(line) == "ab"
    assert view.text(line, colour=True) == "\x1b[31ma\x1b[0mb"
