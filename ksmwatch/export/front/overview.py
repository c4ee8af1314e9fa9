"""The landing page at `/`: the state of the host in words, a table and small charts.

HTML without scripts. Texts from outside (names of owners) are escaped here, after
`owners.safe_text` has removed control characters. <bdi> isolates them, so that text which runs from
right to left does not reverse its surroundings.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ksmwatch.export.front.hour_lines import PastHour, Point, Quantity
from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.front.page import Page
from ksmwatch.export.front.style import HEADERS, document
from ksmwatch.export.front.symptoms import Symptom, symptoms
from ksmwatch.export.front.wording import duration, size

REFRESH_SECONDS = 15
# In the query that stops refreshing, for people who have the page read aloud.
STILL = "refresh=off"
_OWNERS = 20
_WIDTH, _HEIGHT = 300.0, 60.0
# Fewer make no line.
_POINTS = 2
_SHORTEST_SECONDS = 600.0

_QUANTITIES = (
    Quantity("Memory with KSM mappings", lambda p: p.mapped_bytes, rate=False, show=size),
    Quantity("Saved, at least", lambda p: p.saved_bytes, rate=False, show=size),
    Quantity(
        "Merged pages copied by writes",
        lambda p: p.copied,
        rate=True,
        show=lambda n: f"{n:,.1f} a second",
    ),
    Quantity(
        "CPU time of ksmd",
        lambda p: p.ksmd_cpu,
        rate=True,
        show=lambda n: f"{n:.1%} of a core",
    ),
)

_TABLE = """<h2 id="owners">Largest owners</h2>
<div class="panel"><div class="scroll" tabindex="0" role="region" aria-labelledby="owners"><table>
<caption class="soft">Whose memory is merged. Bars compare with the largest.</caption>
<thead><tr><th scope="col">Owner</th><th scope="col">Mapped</th>
<th scope="col">Saved</th></tr></thead>
<tbody>{rows}</tbody></table></div>{left_out}</div>"""
_CONFIDENCE = {
    "": "of unknown confidence",
    "polled": "estimated: mappings that come and go between two readings are not seen",
    "exact": "exact: a walk of the page tables would find the same",
    "estimated": "estimated: some processes are being read again",
    "unknown": "unknown: the sum may be wrong",
}
_RUN = {
    0: ("Stopped", "merged pages stay merged"),
    1: ("Scanning", "looking for equal pages"),
    2: ("Stopped", "everything unmerged"),
}


@dataclass(frozen=True)
class OverviewState:
    """The input of a page. `now`: on the monotonic clock. `runbook`: the existing pages."""

    host: str
    telemetry_path: str
    reading: KnownSamples
    history: PastHour
    now: float
    runbook: frozenset[str]
    refresh: bool


def overview(view: OverviewState) -> Page:
    reading = view.reading
    found = symptoms(reading)
    grave = sum(symptom.grave for symptom in found)
    state = f"{grave} {'problem' if grave == 1 else 'problems'}" if reading.known else "starting"
    parts = [_head(view)]
    if not reading.known:
        parts.append(
            '<p class="panel">The baseline is not done: ksmwatch is making the first counts.</p>'
        )
    elif reading.state("ksmwatch_mode") == "none":
        parts.append('<p class="panel">This kernel has no KSM: there is nothing to count.</p>')
    else:
        parts += [
            _found(found, view.runbook),
            _numbers(reading),
            _lines(view),
            _owners(reading),
        ]
    parts.append(_foot(view))
    again = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if view.refresh else ""
    title = f"{html.escape(view.host)}: {state} - ksmwatch"
    return Page(document(title, "".join(parts), again), HEADERS)


def _head(view: OverviewState) -> str:
    builds = view.reading.all("ksmwatch_build_info")
    about = "".join(
        f'<p class="soft">ksmwatch {html.escape(version)}, kernel {html.escape(kernel)}</p>'
        for version, kernel in builds
    )
    return f"<header><h1>KSM on <bdi>{html.escape(view.host)}</bdi></h1>{about}</header><main>"


def _found(found: Sequence[Symptom], runbook: frozenset[str]) -> str:
    if not found:
        body = (
            '<p class="good">No problem is visible now.</p><p class="soft">Prometheus alerts on '
            "rates and durations.</p>"
        )
    else:
        rows = "".join(f"<li class={_class(f)}>{_symptom(f, runbook)}</li>" for f in found)
        body = f'<ul class="found" role="list">{rows}</ul>'
    return f'<h2 id="wrong">What is wrong now</h2><div class="panel">{body}</div>'


def _class(symptom: Symptom) -> str:
    return '"bad"' if symptom.grave else '"warn"'


def _symptom(symptom: Symptom, runbook: frozenset[str]) -> str:
    word = "Problem" if symptom.grave else "Note"
    name = html.escape(symptom.alert)
    link = f' <a href="/runbook/{name}">What to do: {name}</a>' if name in runbook else ""
    return f"<strong>{word}:</strong> {html.escape(symptom.text)}{link}"


def _numbers(reading: KnownSamples) -> str:
    facts = (look(reading) for look in (_saved, _mapped, _kernels, _ksmd, _unmerging, _counting))
    rows = "".join(
        f'<div class="panel"><dt>{name}</dt><dd><strong>{html.escape(value)}</strong>'
        f'<span class="soft">{html.escape(more)}</span></dd></div>'
        for name, value, more in filter(None, facts)
    )
    return f'<h2 id="now">Now</h2><dl>{rows}</dl>'


# Name, value and an explanation; None if unknown.
_Fact = tuple[str, str, str] | None


def _saved(r: KnownSamples) -> _Fact:
    least, most = r.one("ksmwatch_saved_bytes"), r.one("ksmwatch_saved_at_most_bytes")
    if least is None or most is None:
        return None
    known = "memory needed without KSM, minus memory used"
    if size(least) != size(most):
        known += "; given as bounds, because processes forked without exec"
    return "Saved by merging", _between(least, most), known


def _mapped(r: KnownSamples) -> _Fact:
    mapped, mappings = r.one("ksmwatch_mapped_bytes"), r.one("ksmwatch_mappings")
    if mapped is None or mappings is None:
        return None
    level = r.state("ksmwatch_confidence") or ""
    if level == "estimated" and r.state("ksmwatch_mode") == "poll":
        level = "polled"
    return "KSM mappings", size(mapped), f"{mappings:,.0f} pages, {_CONFIDENCE[level]}"


def _kernels(r: KnownSamples) -> _Fact:
    kernel, lag = r.one("ksmwatch_kernel_mappings"), r.one("ksmwatch_kernel_lag_pages")
    if kernel is None or lag is None:
        return None
    behind = f"{abs(lag):,.0f} pages too {'few' if lag > 0 else 'many'}, until ksmd visits them"
    return (
        "The kernel's own number",
        f"{kernel:,.0f} pages",
        behind if lag else "equal to our count",
    )


def _ksmd(r: KnownSamples) -> _Fact:
    run = r.one("ksmwatch_kernel_run")
    if run is None:
        return "ksmd", "Unknown", "its files cannot be read"
    state, more = _RUN.get(int(run), (f"run={run:.0f}", "a state that ksmwatch does not know"))
    age, scans = r.one("ksmwatch_kernel_run_age_seconds"), r.one("ksmwatch_kernel_full_scans")
    if age is not None:
        more += f", for {duration(age)}"
    if scans is not None:
        more += f"; {scans:,.0f} full scans"
    return "ksmd", state, more


def _unmerging(r: KnownSamples) -> _Fact:
    most = r.one("ksmwatch_unmerge_needed_bytes", "most")
    free = r.one("ksmwatch_kernel_memory_available_bytes")
    if most is None or free is None:
        return None
    least = r.one("ksmwatch_unmerge_needed_bytes", "least")
    need = f"at most {size(most)}" if least is None else _between(least, most)
    return "Unmerging all would need", need, f"{size(free)} of memory are available"


def _counting(r: KnownSamples) -> _Fact:
    mode = r.state("ksmwatch_mode")
    if mode == "poll":
        return "How it counts", "Polling", "reads page tables one after the other"
    probes = r.all("ksmwatch_probe_attached")
    asleep = (
        "asleep, as no KSM page exists and ksmd is stopped; " if r.one("ksmwatch_asleep") else ""
    )
    attached = f"{sum(probes.values()):.0f} of {len(probes)} probes attached"
    return "How it counts", "Live, by BPF", asleep + attached


def _lines(view: OverviewState) -> str:
    age = view.now - view.history.begin(view.now)
    span = max(_SHORTEST_SECONDS, age)
    figures = "".join(_figure(view, quantity, span) for quantity in _QUANTITIES)
    note = f"From {duration(age)} ago to now, upwards from 0."
    if not figures:
        note = "No lines yet."
    note += (
        " The points are those of the history."
        if view.history.recorded
        else " A scrape or a view of this page adds a point."
    )
    lines = f'<div class="lines">{figures}</div><p class="soft">{note}</p>'
    return f'<h2 id="hour">The last hour</h2>{lines}'


def _figure(view: OverviewState, quantity: Quantity, span: float) -> str:
    pieces = view.history.pieces(quantity, view.now)
    points = [point for piece in pieces for point in piece]
    if len(points) < _POINTS:
        return ""
    values = [value for _, value in points]
    low, high = quantity.show(min(values)), quantity.show(max(values))
    now = quantity.show(values[-1])
    words = f"{now} all the time" if low == high else f"now {now}; {low} to {high}"
    drawn = "".join(_drawn(piece, view.now, span, max(values)) for piece in pieces)
    label = f"{quantity.title}, line of the last {duration(points[-1][0] - points[0][0])}: {words}"
    return (
        f'<figure class="panel"><figcaption>{quantity.title}: {words}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{drawn}</svg></figure>'
    )


def _drawn(piece: Sequence[Point], now: float, span: float, high: float) -> str:
    """A piece of a line, on a scale from zero to the largest value."""
    places = [
        (
            _WIDTH * (1 - (now - at) / span),
            _HEIGHT - 2 - (_HEIGHT - 4) * (value / high if high > 0 else 0.0),
        )
        for at, value in piece
    ]
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="1.5"/>'
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'


def _owners(reading: KnownSamples) -> str:
    mapped = reading.all("ksmwatch_owner_mapped_bytes")
    if not mapped:
        return '<h2 id="owners">Owners</h2><p class="panel">No process has a KSM page.</p>'
    rows = sorted(mapped.items(), key=lambda row: (row[0][0] == "other", -row[1]))
    largest = max(mapped.values())
    shown = "".join(_owner(reading, labels, size_, largest) for labels, size_ in rows[:_OWNERS])
    more = len(rows) - _OWNERS
    left_out = f'<p class="soft">The metrics have {more} more.</p>' if more > 0 else ""
    return _TABLE.format(rows=shown, left_out=left_out)


def _owner(reading: KnownSamples, labels: tuple[str, ...], mapped: float, largest: float) -> str:
    kind, name, key = labels
    least = reading.one("ksmwatch_owner_saved_bytes", *labels)
    most = reading.one("ksmwatch_owner_saved_at_most_bytes", *labels)
    doubt = reading.one("ksmwatch_owner_processes", *labels, "estimated")
    about = [kind] if key == name else [kind, key]
    if doubt:
        about.append("estimated")
    small = ", ".join(f"<bdi>{html.escape(word)}</bdi>" for word in about)
    width = 100 * mapped / largest if largest > 0 else 0.0
    return (
        f'<tr><th scope="row"><bdi>{_breakable(name)}</bdi> <span class="soft">{small}</span>'
        '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{max(0.0, width):.1f}" height="4"/></svg></th>'
        f"<td>{'~' if doubt else ''}{size(mapped)}</td><td>{_between(least, most)}</td></tr>"
    )


def _breakable(name: str) -> str:
    """A name as HTML. A narrow column breaks it after a separator, not within a word."""
    return "<wbr>".join(map(html.escape, re.split(r"(?<=[./_@:-])(?=\w)", name)))


def _between(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return "unknown"
    low, high = size(least), size(most)
    return low if low == high else f"{low} to {high}"


def _foot(view: OverviewState) -> str:
    if view.refresh:
        moving = (
            f'Refreshed every {REFRESH_SECONDS} seconds. <a href="/?{STILL}">Stop refreshing</a>'
        )
    else:
        moving = 'Not refreshed. <a href="/">Refresh again</a>'
    links = "".join(
        f'<li><a href="{html.escape(path)}">{name}</a></li>'
        for path, name in (
            (view.telemetry_path, "Metrics"),
            ("/-/healthy", "Health"),
            ("/-/ready", "Readiness"),
        )
    )
    return (
        f'</main><footer><p class="soft">{moving}</p>'
        f'<nav aria-label="Other pages"><ul role="list">{links}</ul></nav></footer>'
    )
