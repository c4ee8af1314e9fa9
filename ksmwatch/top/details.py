"""Details of one row: its history, why mappings came and went, where they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.terminal_text import clean, fit
from ksmwatch.top.columns import UNKNOWN, amount, amounts, between, duration, needs
from ksmwatch.top.sample import SampledHolding, SampledProcess
from ksmwatch.top.toned_text import Line, Tone
from ksmwatch.top.values import lags, movement, state_of, value
from ksmwatch.top.view import CAME, WENT, Group, Grouping, Row, View

_BARS = "▁▂▃▄▅▆▇█"
_LABEL = 9
_MAX_MEMBERS = 12

# A label, its text, and the look of the text.
_Fact = tuple[str, Iterable[str], Tone]


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The last values as bars from the lowest to the highest; low bars if all are equal.

    There is a space for an unknown value.
    """
    shown = values[-width:] if width > 0 else ()
    known = [value for value in shown if value is not None]
    if not known:
        return " " * len(shown)
    low, high = min(known), max(known)
    step = (high - low) / (len(_BARS) - 1) or 1
    return "".join(" " if v is None else _BARS[round((v - low) / step)] for v in shown)


def lines(
    row: Row, view: View, history: Sequence[int | None], width: int, seconds: float = 0.0
) -> list[Line]:
    """The details, as many lines as needed, none wider than `width`.

    `seconds`: between two values of the history, if that is not the time between two samples.
    """
    past = _history(view, history, width, seconds)
    facts = [*_identity(row, view), past, *_figures(row, view)]
    if isinstance(row.of, Group):
        facts += _holding(row.of, view) if row.of.holding else ()
        facts += _members(row.of, view)
    else:
        facts += _process(row.of, view)
    facts.append(_questions(row))
    return [line for fact in facts for line in _flow(fact, width)]


def _flow(fact: _Fact, width: int) -> Iterator[Line]:
    """A label and its items, wrapped between items."""
    label, items, tone = fact
    room = max(width - _LABEL, 1)
    text = ""
    for item in items:
        harmless = clean(item)
        if text and len(text) + 2 + len(harmless) > room:
            yield _line(label, text, tone, room)
            label, text = "", harmless
        else:
            text = f"{text}  {harmless}" if text else harmless
    yield _line(label, text or UNKNOWN, tone, room)


def _line(label: str, text: str, tone: Tone, room: int) -> Line:
    return [(Tone.LABEL, fit(label, _LABEL)), (tone, fit(text, room))]


def _identity(row: Row, view: View) -> Iterator[_Fact]:
    process, grouping = row.process, view.options.grouping
    holding = row.of.holding if isinstance(row.of, Group) else None
    owner = holding.owner if holding else row.members[0].owner
    known = {"unit": owner.unit, **owner.more}
    more = [f"{key} {text}" for key, text in known.items() if text and text != owner.id]
    if process is not None:
        yield "process", [f"{process.pid} {process.name}"], Tone.TITLE
        yield "owner", [f"{owner.kind} {owner.name}", f"id {owner.id}", *more], Tone.PLAIN
    elif grouping is Grouping.OWNER:
        yield "owner", [f"{owner.kind} {owner.name}", f"id {owner.id}", *more], Tone.TITLE
    else:
        yield grouping, [row.of.name], Tone.TITLE


def _questions(row: Row) -> _Fact:
    """Commands that say more: why little is merged, and what would merge."""
    about = "" if row.process is None else f" {row.process.pid}"
    return "ask", [f"ksmwatch why{about}", f"ksmwatch estimate{about}"], Tone.LABEL


def _history(view: View, history: Sequence[int | None], width: int, seconds: float) -> _Fact:
    known = [pages for pages in history if pages is not None]
    if not known:
        return "history", (), Tone.PLAIN
    unit, size = view.options.unit, view.sample.page_size
    low, high = (amount(pages, unit, size) for pages in (min(known), max(known)))
    ends = f"{low} to {high} {unit}"
    room = width - _LABEL - len(ends) - 2
    if seconds and len(history) > 1:
        # "in 59 min"
        room -= 10
        ends += f" in {duration(seconds * (min(len(history), max(room, 1)) - 1))}"
    bars = sparkline(history, room)
    return "history", [bars, ends] if bars else [ends], Tone.PLAIN


def _figures(row: Row, view: View) -> Iterator[_Fact]:
    def moved(reasons: Sequence[str]) -> Iterator[str]:
        for reason in reasons:
            found = movement(row.of, view, (reason,))
            yield f"{reason} {amount(found, view.options.unit, view.sample.page_size)}{rate}"

    rate = "/s" if view.options.rates else ""
    yield "came", moved(CAME), Tone.PLAIN
    yield "went", moved(WENT), Tone.PLAIN
    counts = [
        f"ours {amounts(row.of.mappings, view.options, view.sample)}",
        f"kernel {amounts(row.of.kernel, view.options, view.sample)}",
        f"lag {amounts(row.of.lag, view.options, view.sample, signed=True)}",
    ]
    yield "counts", counts, Tone.WARN if lags(row.of) else Tone.PLAIN
    state, age = state_of(row.of), value(row.of, "read", view)
    read = ["not read yet" if age is None else f"read {duration(age)} ago"]
    # Only processes are read, and the source may list none.
    yield (
        "state",
        [state, *(read if row.members else [])],
        Tone.PLAIN if state == "exact" else Tone.WARN,
    )


def _process(process: SampledProcess, view: View) -> Iterator[_Fact]:
    if process.stray is None:
        yield "stray", ["not audited yet"], Tone.PLAIN
    elif not process.stray:
        yield "stray", ["none"], Tone.PLAIN
    else:
        total = f"{amounts(process.stray, view.options, view.sample)} in areas not mergeable:"
        areas = (
            f"{a['start'].removeprefix('0x')}-{a['end'].removeprefix('0x')}"
            f" {a['name'] or '(anonymous)'} {a['mappings']}"
            for a in process.areas
        )
        yield "stray", [total, *areas], Tone.WARN
    yield from _nodes(process, view)


def areas(found: Sequence[AreaDocument], view: View, rows: int) -> Iterator[Line]:
    """Where a process has its KSM mappings: the largest areas, and the number of others."""
    yield [(Tone.TITLE, f"{'ADDRESSES':33} {'MAPPED':>9}  AREA")]
    unit, size = view.options.unit, view.sample.page_size
    for area in found[:rows]:
        where = f"{area['start'].removeprefix('0x')}-{area['end'].removeprefix('0x')}"
        name = clean(area["name"] or "(anonymous)")
        tone, stray = (Tone.PLAIN, "") if area["mergeable"] else (Tone.WARN, "  not mergeable")
        yield [(tone, f"{where:33} {amount(area['mappings'], unit, size):>9}  {name}{stray}")]
    if len(found) > rows:
        yield [(Tone.LABEL, f"and {len(found) - rows} more")]


_VERDICTS = {"fits": "fits", "uncertain": "may not fit", "too_little": "does not fit"}


def _holding(group: Group, view: View) -> Iterator[_Fact]:
    """What the document says about an owner besides its sums."""
    holding, size = group.holding, view.sample.page_size
    assert holding is not None
    if holding.saved_bytes is not None:
        bounds = (holding.saved_bytes, holding.saved_at_most_bytes)
        shown = [
            amounts(None if each is None else each / size, view.options, view.sample)
            for each in bounds
        ]
        saved = between(*shown)
        zeros = amounts(holding.zeros, view.options, view.sample)
        yield "saved", [f"{saved}, its part of the host's", f"zero pages {zeros}"], Tone.PLAIN
    if holding.median_age is not None:
        lasts = [f"half of the copied mappings at most {duration(holding.median_age)}"]
        if holding.wasted is not None:
            lasts.append(f"{holding.wasted:.0%} of merges undone within a scan")
        yield "lasts", lasts, Tone.PLAIN
    if holding.unmerge is not None:
        verdict = holding.unmerge["verdict"]
        need = needs(holding.unmerge, view.options, size)
        limit = holding.unmerge["limit"]
        limited = [f"limited by {limit['cgroup']}"] if limit else []
        items = [f"needs {need}", _VERDICTS.get(verdict, "unknown"), *limited]
        yield "unmerge", items, Tone.PLAIN if verdict in ("fits", "unknown") else Tone.WARN
    yield from _nodes(holding, view)


def _nodes(of: SampledProcess | SampledHolding, view: View) -> Iterator[_Fact]:
    """On which nodes of memory the pages lie. Nothing on a host with one node."""
    if of.nodes is None:
        return
    unit, size = view.options.unit, view.sample.page_size
    items = [f"node {node} {amount(pages, unit, size)}" for node, pages in of.nodes.items()]
    if unknown := of.mappings - sum(of.nodes.values()):
        items.append(f"unknown {amount(unknown, unit, size)}")
    yield "nodes", [*items, f"remote {amounts(of.remote, view.options, view.sample)}"], Tone.PLAIN


def _members(group: Group, view: View) -> Iterator[_Fact]:
    if group.stray:
        yield "stray", [amounts(group.stray, view.options, view.sample)], Tone.WARN
    members = sorted(group.members, key=lambda p: -p.mappings)
    unit, size = view.options.unit, view.sample.page_size
    items = [f"{p.pid} {p.name} {amount(p.mappings, unit, size)}" for p in members[:_MAX_MEMBERS]]
    if group.processes > len(items):
        items.append(f"and {group.processes - len(items)} more")
    yield f"{group.processes} proc.", items, Tone.PLAIN
