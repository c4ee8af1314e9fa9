"""How values look: units, widths, and names that want to do harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.terminal_text import fit
from ksmwatch.top import columns
from ksmwatch.top.columns import amount, chosen, duration, heads, line
from ksmwatch.top.rows import build
from ksmwatch.top.sample import make_sample
from ksmwatch.top.values import SORTABLE
from ksmwatch.top.view import Grouping, Options, Unit, View
from tests.made_up_host import document

PAGE = 4096


@pytest.mark.parametrize(
    ("pages", "unit", "expected"),
    [
        (None, Unit.MIB, "-"),
        (0, Unit.MIB, "0.0"),
        (0, Unit.PAGES, "0"),
        (1234567, Unit.PAGES, "1,234,567"),
        (1.5, Unit.PAGES, "1.5"),
        (0.01, Unit.PAGES, "<0.1"),
        (1500.5, Unit.PAGES, "1,500"),
        (3, Unit.KIB, "12"),
        (256 * 1000, Unit.MIB, "1,000.0"),
        (1, Unit.MIB, "<0.1"),
        (-1, Unit.MIB, ">-0.1"),
        (-256, Unit.MIB, "-1.0"),
        (262144, Unit.GIB, "1.00"),
    ],
)
def test_amounts(pages: float | None, unit: Unit, expected: str) -> None:
    assert amount(pages, unit, PAGE) == expected


@pytest.mark.parametrize(("pages", "expected"), [(256, "+1.0"), (-256, "-1.0"), (0, "0.0")])
def test_signed_amounts(pages: int, expected: str) -> None:
    assert amount(pages, Unit.MIB, PAGE, signed=True) == expected


@given(st.integers(-(2**40), 2**40), st.sampled_from(Unit))
def test_what_is_not_zero_never_looks_like_zero(pages: int, unit: Unit) -> None:
    text = amount(pages, unit, PAGE)
    assert (text.strip("-0.,") == "") is (pages == 0)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(13, "1,234,567,890"), (12, "1234567890"), (9, "1.23e+09"), (5, "1e+09"), (4, "####")],
)
def test_a_number_is_never_cut(width: int, expected: str) -> None:
    assert amount(1234567890, Unit.PAGES, PAGE, width=width) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (0.26, "0.3 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


# ---- columns ----


@pytest.mark.parametrize("grouping", [Grouping.OWNER, Grouping.PROCESS])
@pytest.mark.parametrize("sort", SORTABLE)
@given(width=st.integers(80, 250))
def test_columns_fill_a_terminal_and_no_more(width: int, sort: str, grouping: Grouping) -> None:
    options = Options(grouping=grouping, sort=sort)
    shown = chosen(options, width)
    keys = [c.key for c in shown]
    assert sum(c.width for c in shown) + len(shown) - 1 <= width
    assert {"name", "mapped"} <= set(keys)
    if sort in {c.key for c in columns.sortable(grouping)}:
        assert sort in keys
    # In the order of the catalogue.
    order = [c.key for c in columns.possible(grouping)]
    assert keys == [key for key in order if key in keys]


def test_eighty_columns_hold_what_matters() -> None:
    keys = [c.key for c in chosen(Options(), 80)]
    assert keys == ["kind", "name", "procs", "mapped", "kernel", "lag", "came", "went"]
    assert len(chosen(Options(), 250)) == len(columns.possible(Grouping.OWNER))


def test_heads_show_order_and_rates() -> None:
    shown = chosen(Options(), 80)
    head = " ".join(heads(shown, Options(sort="lag", rates=True, inverted=True)))
    assert "LAG▲" in head
    assert "CAME/s" in head
    assert "MAPPED▼" in " ".join(heads(shown, Options()))
    assert len(head) == 80


def made(count: int = 8, change: dict[str, Any] | None = None, **options: Any) -> View:
    host = document(count)
    host["processes"][0] |= change or {}
    if change:
        host["owners"] = []
    return build(make_sample(host), None, Options(**options))


def texts(view: View, width: int = 200) -> dict[str, str]:
    """The first row by column."""
    shown = chosen(view.options, width)
    return {
        c.key: text.strip() for c, text in zip(shown, line(view.rows[0], shown, view), strict=True)
    }


def test_a_row_of_an_owner() -> None:
    found = texts(made(1, {"mappings": 256, "kernel_lag": -256}, unit=Unit.MIB))
    assert found["name"] == "+ web"
    assert (found["mapped"], found["lag"], found["procs"]) == ("1.0", "-1.0", "1")
    assert (found["stray"], found["read"], found["state"]) == ("<0.1", "2.5 s", "exact")


def test_a_row_of_a_process_names_its_owner() -> None:
    found = texts(made(1, grouping=Grouping.PROCESS))
    assert (found["pid"], found["name"], found["owner"], found["kind"]) == (
        "1000",
        "kvm",
        "web",
        "vm",
    )
    assert found["share"] == "100.0"


def test_what_is_unknown_is_a_dash() -> None:
    change: dict[str, Any] = {
        "kernel_merging_pages": None,
        "movements": {},
        "last_read_seconds": None,
    }
    found = texts(made(1, change, grouping=Grouping.PROCESS))
    assert (found["kernel"], found["came"], found["read"]) == ("-", "-", "-")


def test_a_host_without_mappings_has_no_shares() -> None:
    view = build(make_sample(document(1, host=document(0)["host"])), None, Options())
    assert texts(view)["share"] == "-"


def test_members_stand_below_their_group() -> None:
    view = made(1, tree=True)
    shown = chosen(view.options, 80)
    lines = [" ".join(line(row, shown, view)) for row in view.rows]
    assert lines[0][10:].startswith("- web")
    assert lines[1].startswith(" " * 14 + "1000 kvm")


# ---- hostile names ----

hostile = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Cs", "Mn", "Me", "Zl", "Zp"]),
        st.sampled_from("\x1b\n\r\t\x9b[2J\u202e\u200d\udcff\u0301測試🦜"),
    ),
    max_size=60,
)


@given(hostile, st.integers(0, 40), st.booleans())
def test_a_name_is_as_wide_as_its_column_whatever_it_holds(
    name: str,
    width: int,
    right: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    from rich.cells import cell_len

    text = fit(name, width, right=right)
    assert cell_len(text) == width
    assert text.isprintable()
    # A terminal is given bytes.
    text.encode()


@given(hostile, hostile)
def test_a_hostile_process_makes_one_line_of_the_right_width(name: str, owner: str) -> None:
    change = {
        "name": name,
        "comm": owner,
        "owner": {"kind": "vm", "name": owner, "id": name, "unit": name, "uid": None},
    }
    for grouping in Grouping:
        view = made(3, change, grouping=grouping, tree=True, filter=name[:3])
        shown = chosen(view.options, 80)
        for row in view.rows:
            text = " ".join(line(row, shown, view))
            assert text.isprintable()
            assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("tenant", 8, "tenant  "),
        ("tenant", 4, "ten…"),
        ("測試測試", 5, "測試…"),
        ("測試測試", 6, "測試… "),
        ("a\x1b[2Jb", 8, "a?[2Jb  "),
        ("e\u0301", 2, "é "),
        ("e\u0301\u0301", 3, "é? "),
        ("x", 0, ""),
        ("", 2, "  "),
    ],
)
def test_fit(name: str, width: int, expected: str) -> None:
    assert fit(name, width) == expected
