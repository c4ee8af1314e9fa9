"""Plain text: harmless names, aligned tables, the meminfo line of 2011."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.commands import forecast as forecast_command
from ksmwatch.commands import meminfo, text_tables
from ksmwatch.commands import snapshot as snapshot_command
from ksmwatch.snapshot.document import to_document
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.terminal_text import clean
from ksmwatch.units import PAGE_SIZE
from tests.made_up import nothing, numbers, poll, process, snapshot

MEMINFO = """\
MemTotal:        2048000 kB
PageTables:         1234 kB
SecPageTables:         0 kB
Hugepagesize:       2048 kB
"""


def text(made: Snapshot) -> str:
    return snapshot_command.text(to_document(made))


@given(st.text())
def test_a_clean_name_cannot_move_the_cursor(name: str) -> None:
    cleaned = clean(name)
    assert len(cleaned) == len(name)
    assert not any(unicodedata.category(c).startswith("C") for c in cleaned)
    # Only what is harmful is replaced.
    assert all(a in (b, "?") for a, b in zip(cleaned, name, strict=True))
    assert len(cleaned.splitlines()) <= 1 + sum(c in "\u2028\u2029" for c in cleaned)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nginx: worker", "nginx: worker"),
        ("a\nb\tc", "a?b?c"),
        ("\x1b[2Jgone", "?[2Jgone"),
        ("\x9b31m", "?31m"),
        ("right\u202eleft", "right?left"),
        ("zero\u200bwidth", "zero?width"),
        ("\udcff", "?"),
        ("größe 測試", "größe 測試"),
        ("", ""),
    ],
)
def test_clean(name: str, expected: str) -> None:
    assert clean(name) == expected


def test_table_aligns_numbers_to_the_right_and_names_to_the_left() -> None:
    rows = [(1, "a\nb", 5), (12345, "tenant", 1000)]
    assert text_tables.table(("PID", "NAME", "MAPPINGS"), rows) == (
        "  PID  NAME    MAPPINGS\n    1  a?b            5\n12345  tenant      1000"
    )


def test_a_live_host() -> None:
    assert text(snapshot()).splitlines() == [
        "KSM mappings  100 pages, 0.4 MiB (exact)",
        "kernel says   115 pages, lag -15",
        "mode          bpf",
        "",
        "PID  NAME                     MAPPINGS  MIB  KERNEL  LAG  CONFIDENCE",
        " 42  tenant-with-a-long-name       100  0.4     110  -10  exact",
    ]


def test_what_is_unknown_is_a_dash() -> None:
    made = snapshot(processes=(process(kernel_merging_pages=None),), numbers=numbers(ksm={}))
    lines = text(made).splitlines()
    assert lines[1] == "kernel says   - pages, lag -"
    assert " ".join(lines[-1].split()) == "42 tenant-with-a-long-name 100 0.4 - - exact"


def test_reasons_and_losses_are_told() -> None:
    made = poll(losses={"reads_denied": 2, "accounts_full": 0, "connector_lost": 1})
    assert text(made).splitlines()[2:6] == [
        "mode          poll",
        "why           polled",
        "because       No BPF here.",
        "losses        reads_denied 2, connector_lost 1",
    ]


def test_a_host_that_sleeps_has_no_table() -> None:
    assert text(snapshot(asleep=True, processes=())).splitlines()[2:] == [
        "mode          bpf, asleep"
    ]


def test_a_kernel_without_ksm() -> None:
    lines = text(nothing()).splitlines()
    assert lines[0] == "KSM mappings  0 pages, 0.0 MiB (exact)"
    assert lines[2] == "mode          none, asleep"


def test_a_hostile_name_stays_on_its_line() -> None:
    made = snapshot(processes=(process(name="\x1b[2J\n  1  init  9999"),))
    lines = text(made).splitlines()
    assert len(lines) == 6
    assert "?[2J?  1  init  9999" in lines[5]


@pytest.mark.parametrize("pages", [0, 1, 25_000, 1 << 31])
def test_meminfo_has_ksmsharing_right_after_pagetables(pages: int) -> None:
    lines = meminfo.with_ksm(MEMINFO, pages, PAGE_SIZE).splitlines()
    before = MEMINFO.splitlines()
    # The format of the patch: "KsmSharing:     %8lu kB\n"
    assert lines[2] == "KsmSharing:     %8lu kB" % (pages * PAGE_SIZE // 1024)  # noqa: UP031
    assert lines[:2] + lines[3:] == before


def test_meminfo_line_to_the_letter() -> None:
    assert "KsmSharing:         4096 kB" in meminfo.with_ksm(MEMINFO, 1024, 4096).splitlines()


def test_meminfo_without_pagetables_has_it_at_the_end() -> None:
    lines = meminfo.with_ksm("MemTotal: 1 kB\nMemFree: 1 kB\n", 1, 4096).splitlines()
    assert lines == ["MemTotal: 1 kB", "MemFree: 1 kB", "KsmSharing:            4 kB"]


# ---- forecast ----


def forecast(made: Snapshot) -> list[str]:
    return forecast_command.text(to_document(made)).splitlines()


def test_a_forecast() -> None:
    assert forecast(snapshot()) == [
        "run=2 needs   0.3 to 0.4 MiB (exact): fits",
        "available     1000.0 MiB",
        "",
        "OWNER           KIND  AT LEAST  AT MOST  LEFT  LIMITED BY                    VERDICT",
        "tenant.service  unit       0.3      0.4   1.0  /system.slice/tenant.service  fits",
    ]


def test_a_forecast_of_what_is_not_known() -> None:
    made = snapshot(numbers=numbers(ksm={}, meminfo={}), rooms={})
    lines = forecast(made)
    assert lines[:2] == [
        "run=2 needs   - to 0.4 MiB (exact): unknown",
        "available     - MiB",
    ]
    assert " ".join(lines[-1].split()) == "tenant.service unit - 0.4 - host unknown"


def test_a_forecast_of_a_kernel_without_ksm() -> None:
    assert forecast(nothing())[0] == "run=2 needs   - to 0.0 MiB (exact): fits"


@pytest.mark.parametrize(
    ("available", "words"), [(399, "may not fit"), (319, "does not fit"), (400, "fits")]
)
def test_verdicts_in_words(available: int, words: str) -> None:
    made = snapshot(numbers=numbers(meminfo={"MemAvailable": available}))
    assert forecast(made)[0].endswith(f": {words}")


def test_a_forecast_as_json_has_keys_of_the_snapshot() -> None:
    document = to_document(snapshot())
    found = forecast_command.document_of(document)
    assert found["schema"] == "ksmwatch.forecast/1"
    assert found["host"]["unmerge"] == document["host"]["unmerge"]
    assert [owner["unmerge"] for owner in found["owners"]] == [document["owners"][0]["unmerge"]]
