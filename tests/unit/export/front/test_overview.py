"""The page for a person, as text: what it says, and that nothing but text comes from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.export.front import overview
from ksmwatch.export.front.hour_lines import PastHour, Quantity
from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.front.overview import OverviewState
from ksmwatch.export.metric_family import Samples
from ksmwatch.export.samples import Series, samples
from ksmwatch.snapshot.last_hour import HourPoint
from ksmwatch.snapshot.model import Snapshot
from tests.hostile import HOSTILE, examples
from tests.made_up import poll, snapshot
from tests.page.hosts import HOSTILE_NAMES, Ordinary, changed_samples, hostile

# Of an element without an end.
VOID = {"meta", "link", "br", "wbr"}
TAGS = {
    *("html", "head", "title", "meta", "link", "style", "body", "header", "main", "footer", "nav"),
    *("h1", "h2", "p", "a", "div", "span", "strong", "bdi", "dl", "dt", "dd", "ul", "li"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "rect", "polyline", "circle", "pre", "wbr"),
}


class Markup(HTMLParser):
    """Elements of a page, which have to be closed in their order; and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without an end."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        if self.elements and self.elements[-1][0] == "wbr":
            self.texts[-1] += data
        elif self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What is read, in one line."""
        return " ".join(" ".join(self.texts).split())


def shown(
    source: Snapshot | Samples | None, *, history: PastHour | None = None, **changes: Any
) -> Markup:
    """The page of a host."""
    found = samples(source, Series()) if isinstance(source, Snapshot) else source
    values: dict[str, Any] = {
        "host": "kvm-01",
        "telemetry_path": "/metrics",
        "reading": KnownSamples(found),
        "history": history or PastHour(),
        "now": 5000.0,
        "runbook": frozenset({"KsmwatchPolling", "KsmwatchDrift"}),
        "refresh": True,
    }
    return Markup(overview.overview(OverviewState(**{**values, **changes})).body.decode())


def test_it_says_how_much_is_merged_and_how_exact_that_is() -> None:
    text = shown(Ordinary(10)()).text
    assert "KSM on kvm-01" in text
    assert "ksmwatch 0.1.0, kernel 7.3.9-test" in text
    assert re.search(
        r"KSM mappings [\d.]+ GiB [\d,]+ pages, exact: a walk of the page tables", text
    )
    assert "The kernel's own number" in text
    assert "70 pages too few, until ksmd visits them" in text
    assert "ksmd Scanning looking for equal pages, for 30 seconds; 11 full scans" in text
    assert "How it counts Live, by BPF 1 of 1 probes attached" in text
    assert "No problem is visible now." in text


def test_savings_are_one_number_or_the_two_bounds() -> None:
    alone = shown(changed_samples(saved_bytes=3 << 20, saved_at_most_bytes=3 << 20)).text
    assert "Saved by merging 3.0 MiB memory needed without KSM, minus memory used KSM" in alone
    forked = shown(changed_samples(saved_bytes=3 << 20, saved_at_most_bytes=9 << 20)).text
    assert "Saved by merging 3.0 MiB to 9.0 MiB" in forked
    unknown = shown(changed_samples(saved_bytes=None, saved_at_most_bytes=None)).text
    assert "Saved by merging" not in unknown


def test_polled_counts_are_called_so() -> None:
    page = shown(poll())
    assert "How it counts Polling" in page.text
    assert "estimated: mappings that come and go between two readings are not seen" in page.text
    assert "Problem: Live counting is not possible" in page.text
    assert ("a", {"href": "/runbook/KsmwatchPolling"}) in page.elements


def test_what_is_not_known_is_not_shown_as_zero() -> None:
    text = shown([("ksmwatch_mode", [(("bpf",), 1.0)])]).text
    assert "ksmd Unknown" in text
    assert "KSM mappings" not in text
    assert "Unmerging" not in text


def test_before_the_first_snapshot_it_says_so() -> None:
    text = shown(None).text
    assert "The baseline is not done" in text
    assert "starting - ksmwatch" in text


def test_the_title_counts_problems_and_not_notes() -> None:
    assert "kvm-01: 0 problems - ksmwatch" in shown(snapshot()).text
    assert "Note: Since the daemon started, counts that were called exact" in shown(snapshot()).text
    assert "kvm-01: 1 problem - ksmwatch" in shown(poll()).text


# ---- owners ----


def test_owners_are_a_table_with_bars_in_order_of_size() -> None:
    page = shown(Ordinary(40)())
    widths = [float(a["width"] or "") for tag, a in page.elements if tag == "rect"]
    assert widths[0] == 100
    assert widths == sorted(widths, reverse=True)
    hidden = [a.get("aria-hidden") for tag, a in page.elements if a.get("class") == "bar"]
    assert hidden == ["true"] * len(widths)
    heads = [attributes["scope"] for tag, attributes in page.elements if tag == "th"]
    assert heads == ["col"] * 3 + ["row"] * 7


def test_more_owners_than_a_page_has_room_for_are_counted() -> None:
    rows = [(("unit", f"u{n}", f"u{n}"), 4096.0 * (n + 1)) for n in range(30)]
    found: Samples = [
        ("ksmwatch_mode", [(("bpf",), 1.0)]),
        ("ksmwatch_owner_mapped_bytes", [*rows, (("other", "other", "other"), 1e12)]),
    ]
    page = shown(found)
    assert [a["scope"] for tag, a in page.elements if tag == "th"].count("row") == 20
    assert "The metrics have 11 more." in page.text
    assert "u29 unit" in page.text
    # Nothing is known of what it saves.
    assert page.text.count("unknown") == 20


def test_hostile_names_are_text() -> None:
    page = shown(hostile())
    assert {tag for tag, _ in page.elements} <= TAGS
    for name in HOSTILE_NAMES:
        assert " ".join(name.split()) in page.text


@given(st.lists(st.sampled_from(HOSTILE) | st.text(max_size=30), min_size=3, max_size=3))
@examples(300)
def test_no_text_becomes_markup(words: list[str]) -> None:
    words = [word.encode(errors="replace").decode() for word in words]
    kind, name, key = words
    found: Samples = [
        ("ksmwatch_mode", [(("bpf",), 1.0)]),
        ("ksmwatch_build_info", [((name, key), 1.0)]),
        ("ksmwatch_losses", [((kind,), 1.0)]),
        ("ksmwatch_owner_mapped_bytes", [((kind, name, key), 4096.0)]),
        ("ksmwatch_probe_attached", [((kind, name, key), 0.0)]),
    ]
    page = shown(found, host=name, telemetry_path=f"/{key}")
    assert {tag for tag, _ in page.elements} <= TAGS
    allowed = {"class", "id", "href", "role", "scope", "lang", "charset", "name", "content", "rel"}
    allowed |= {"http-equiv", "tabindex", "viewbox", "preserveaspectratio", "width", "height"}
    for _, attributes in page.elements:
        assert {a for a in attributes if not a.startswith("aria-")} <= allowed


# ---- what it may load ----


def test_no_script_and_no_style_but_its_own_may_run() -> None:
    page = overview.overview(
        OverviewState("h", "/m", KnownSamples(), PastHour(), 0.0, frozenset(), refresh=True)
    )
    policy = page.headers["Content-Security-Policy"]
    text = page.body.decode()
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        *("default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    ]
    assert "<script" not in text
    assert "style=" not in text
    assert not re.search(r"\bon[a-z]+=", text)
    assert "http://" not in text
    assert "https://" not in text
    assert page.headers["X-Content-Type-Options"] == "nosniff"


# ---- the last hour ----

MAPPED = Quantity("mapped", lambda point: point.mapped_bytes, rate=False, show=str)
SAVED = Quantity("saved", lambda point: point.saved_bytes, rate=False, show=str)
COPIED = Quantity("copied", lambda point: point.copied, rate=True, show=str)


def reading(mapped: float, copied: float) -> KnownSamples:
    return KnownSamples(
        [
            ("ksmwatch_mapped_bytes", [((), mapped)]),
            ("ksmwatch_departures", [(("unmapped",), 7.0), (("copied",), copied)]),
        ]
    )


def filled(times: Iterator[float] | range) -> PastHour:
    """What was answered at these times, without a history."""
    past = PastHour()
    for at in times:
        past.add(float(at), reading(1024.0 * at, 10.0 * at), None)
    return past


def recorded(*times: float, joined: bool = True) -> list[HourPoint]:
    """What a history has of these times."""
    return [HourPoint(at, joined, 1024.0 * at, None, 10.0 * at, None) for at in times]


def test_lines_are_drawn_from_what_was_answered() -> None:
    page = shown(snapshot(), history=filled(range(1000, 5000, 60)), now=5000.0)
    lines = [a for tag, a in page.elements if tag == "polyline"]
    # Of mapped memory and of copies; the rest was unknown.
    assert len(lines) == 2
    images = [a["aria-label"] for tag, a in page.elements if a.get("role") == "img"]
    assert images[1] == (
        "Merged pages copied by writes, line of the last 58 minutes: 10.0 a second all the time"
    )
    places = [float(x) for pair in (lines[0]["points"] or "").split() for x in pair.split(",")[:1]]
    assert places == sorted(places)
    # From the first point to now.
    assert 0 <= places[0] < 5
    assert 290 < places[-1] <= 300
    assert "A scrape or a view of this page adds a point." in page.text


def test_a_short_history_is_not_drawn_as_a_long_one() -> None:
    page = shown(snapshot(), history=filled(range(4880, 5000, 20)), now=5000.0)
    (line, *_) = (a["points"] or "" for tag, a in page.elements if tag == "polyline")
    # Two of the ten minutes that the line has at least.
    assert float(line.split(",")[0]) == pytest.approx(300 * 0.8)


def test_nothing_is_drawn_where_nobody_has_asked() -> None:
    past = filled(iter([*range(2000, 3000, 60), *range(4000, 4900, 60)]))
    assert [len(piece) for piece in past.pieces(MAPPED, 5000.0)] == [17, 15]
    # Of a rate the first after a gap is not known.
    assert [len(piece) for piece in past.pieces(COPIED, 5000.0)] == [16, 14]
    assert past.pieces(SAVED, 5000.0) == []


def test_a_counter_that_begins_anew_is_no_rate() -> None:
    past = PastHour()
    for at, copied in ((0, 100), (20, 300), (40, 5), (60, 45)):
        past.add(float(at), reading(0, copied), None)
    assert past.pieces(COPIED, 60.0) == [[(20.0, 10.0)], [(60.0, 2.0)]]


def test_the_lines_are_bounded_however_often_somebody_asks() -> None:
    past = filled(iter(n / 10 for n in range(100_000)))
    (piece,) = past.pieces(MAPPED, 10_000.0)
    assert 300 < len(piece) <= 451
    assert piece[0][0] >= 10_000.0 - 3600


def test_without_points_there_is_no_line() -> None:
    assert "No lines yet." in shown(snapshot()).text
    assert "No lines yet." in shown(snapshot(), history=filled(range(4990, 4991))).text


def test_a_history_fills_the_lines_although_nobody_has_asked() -> None:
    past = PastHour()
    past.add(5000.0, reading(1024.0 * 5000, 50_000), recorded(*range(1500, 4991, 10)))
    (piece,) = past.pieces(MAPPED, 5000.0)
    assert [at for at, _ in piece] == [*range(1500, 5001, 10)]
    assert set(past.pieces(COPIED, 5000.0)[0]) == {
        (float(at), 10.0) for at in range(1510, 5001, 10)
    }
    page = shown(snapshot(), history=past, now=5000.0)
    assert "From 58 minutes ago to now, upwards from 0. The points are those of the" in page.text
    assert "A scrape" not in page.text


def test_what_was_answered_is_not_mixed_into_the_history() -> None:
    past = PastHour()
    past.add(4990.0, reading(0, 0), recorded(4980.0))
    past.add(4995.0, reading(0, 0), recorded(4990.0))
    past.add(4999.0, reading(7, 0), [])
    assert past.pieces(MAPPED, 5000.0) == [
        [(4980.0, 1024.0 * 4980), (4990.0, 1024.0 * 4990), (4999.0, 7.0)]
    ]


def test_a_history_that_stands_still_is_not_continued_by_a_line() -> None:
    past = PastHour()
    past.add(4700.0, reading(0, 0), recorded(4600.0, 4700.0))
    past.add(4900.0, reading(9, 0), [])
    assert past.pieces(MAPPED, 4900.0)[-1] == [(4900.0, 9.0)]


def test_a_break_in_the_history_is_a_gap_in_the_lines() -> None:
    past = PastHour()
    points = [*recorded(4000, 4010), *recorded(4030, joined=False), *recorded(4040)]
    past.add(4040.0, reading(0, 0), points)
    assert [[at for at, _ in piece] for piece in past.pieces(MAPPED, 4040.0)] == [
        [4000, 4010],
        [4030, 4040],
    ]
    assert [[at for at, _ in piece] for piece in past.pieces(COPIED, 4040.0)] == [[4010], [4040]]
