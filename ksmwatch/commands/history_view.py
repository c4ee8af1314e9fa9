"""The counts of the past as text, JSON or CSV. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TextIO, TypedDict

from ksmwatch.commands.text_tables import mib_or_dash, or_dash, table
from ksmwatch.history.changes import Change, because, changes
from ksmwatch.history.moment import HostNumbers, OwnerNumbers, seamless
from ksmwatch.history.past import (
    REASONS,
    Moved,
    Numbers,
    Past,
    PastMoment,
    PastOwner,
    continues,
    moved,
)
from ksmwatch.history.retention import Span, merged
from ksmwatch.history.times import shown, shown_to_the_minute, whole
from ksmwatch.owners.owner import OwnerKind
from ksmwatch.schema_marks import Keys
from ksmwatch.snapshot.process import Confidence
from ksmwatch.terminal_text import clean

_CAME, _WENT = REASONS[:4], REASONS[4:]
# Lines of a table that fit a screen, and the lengths of time that one stands for.
_LINES = 20
_STEPS = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
_MAX_OWNERS = 20
_MINUTE = 60.0


@dataclass(frozen=True)
class HistoryView:
    """What is shown: the whole host, or one owner. `now`: times of another day get their date."""

    past: Past
    since: float
    until: float
    now: float
    only_owner: bool


def fitting_step(seconds: float) -> float:
    """The shortest step by which a time fits a screen."""
    return next((step for step in _STEPS if seconds / step <= _LINES), seconds / _LINES)


# -- Text ------------------------------------------------------------------------------------


def text(view: HistoryView) -> str:
    """What changed most, the numbers over time, and all owners unless one was requested."""
    found = changes(view.past)
    lines = [sentence(found[0], view.now) if found else "No owner's mappings changed.", ""]
    lines.append(_title(view))
    lines += ["", _times(view)]
    if not view.only_owner and view.past.owners:
        lines += ["", _owners(view, found)]
    return "\n".join(lines)


def sentence(change: Change, now: float) -> str:
    who = f"{change.owner['kind']} {change.owner['name']}"
    if change.owner["kind"] == "other":
        who = "All other owners together"
    verb = "gained" if change.mappings > 0 else "lost"
    about = "" if change.exact else "about "
    write = shown_to_the_minute if change.until - change.since >= _MINUTE else shown
    # The date of the end is that of the beginning, if it has none.
    begin, end = write(change.since, now), write(change.until, change.since)
    words = [clean(who), verb, f"{about}{abs(change.mappings):,} mappings", because(change)]
    return " ".join(filter(None, [*words, f"from {begin} to {end}."]))


def _title(view: HistoryView) -> str:
    who = "host"
    if view.only_owner:
        facts = view.past.owners[0].facts
        who = clean(f"{facts['kind']} {facts['name']}")
    first, last = view.past.moments[0], view.past.moments[-1]
    return f"{who}, {whole(first.time)} to {whole(last.time)}"


def _times(view: HistoryView) -> str:
    moments = view.past.moments
    numbers: Sequence[Numbers | None]
    numbers = view.past.owners[0].numbers if view.only_owner else [m.host for m in moments]
    spans = [Span(place, m.since, m.time) for place, m in enumerate(moments)]
    step = fitting_step(moments[-1].time - moments[0].time)
    head = ("TIME", "MAPPED", "CHANGE", "CAME", "WENT", "KERNEL", "SAVED MIB", "STATE")
    rows: list[tuple[object, ...]] = []
    before: int | None = None
    for merge in merged(spans, step):
        place = merge.id
        gap = None if before is None else _gap(moments[before], merge.since, view.now)
        if gap is not None:
            rows.append(gap)
            before = None
        first = min((*merge.gone, place)) if before is None else before
        rows.append(_row(view, numbers, first, place))
        before = place
    return table(head, rows)


def _gap(before: PastMoment, since: float, now: float) -> tuple[object, ...] | None:
    """The line for a time about which nothing is known; None if there is none."""
    if seamless(before.time, since):
        return None
    until = shown(since, before.time)
    return (shown(before.time, now), *["-"] * 6, f"no record until {until}")


def _row(
    view: HistoryView, numbers: Sequence[Numbers | None], first: int, last: int
) -> tuple[object, ...]:
    """The numbers at one place, and what happened since another."""
    found, before = numbers[last], numbers[first]
    time = shown(view.past.moments[last].time, view.now)
    if found is None:
        return (time, *["-"] * 6, "unknown")
    change = None if before is None or first == last else found.mappings - before.mappings
    total = _moved_between(view.past, numbers, first, last)
    return (
        time,
        found.mappings,
        "-" if change is None else f"{change:+}" if change else 0,
        "-" if total is None else sum(total[reason] for reason in _CAME),
        "-" if total is None else sum(total[reason] for reason in _WENT),
        or_dash(kernel_of(found)),
        mib_or_dash(found.saved_bytes),
        state_of_numbers(found),
    )


def kernel_of(numbers: Numbers) -> int | None:
    """The kernel's own number for the mappings."""
    if isinstance(numbers, OwnerNumbers):
        return numbers.kernel
    if numbers.pages_shared is None or numbers.pages_sharing is None:
        return None
    return numbers.pages_shared + numbers.pages_sharing


def state_of_numbers(numbers: Numbers) -> Confidence:
    """Whether the count was exact then."""
    if isinstance(numbers, HostNumbers):
        return Confidence(numbers.confidence)
    return Confidence.ESTIMATED if numbers.estimated else Confidence.EXACT


def _moved_between(
    past: Past, numbers: Sequence[Numbers | None], first: int, last: int
) -> Moved | None:
    if first == last:
        return None
    total = dict.fromkeys(REASONS, 0)
    for before, after in pairwise(range(first, last + 1)):
        found = _moved(past, numbers, before, after)
        if found is None:
            return None
        total = {reason: total[reason] + found[reason] for reason in REASONS}
    return total


def _moved(past: Past, numbers: Sequence[Numbers | None], before: int, after: int) -> Moved | None:
    same = past.moments[before].began == past.moments[after].began
    return moved(numbers[before], numbers[after], same=same)


def _owners(view: HistoryView, found: Sequence[Change]) -> str:
    """Owners, those that changed most first."""
    order = {(c.owner["kind"], c.owner["id"]): place for place, c in enumerate(found)}
    owners = sorted(view.past.owners, key=lambda o: order.get(o.key, len(order)))
    head = ("OWNER", "KIND", "FIRST", "LAST", "CHANGE", "LOWEST", "HIGHEST", "STATE")
    shown_table = table(head, [_owner_row(owner) for owner in owners[:_MAX_OWNERS]])
    more = len(owners) - _MAX_OWNERS
    return f"{shown_table}\nand {more} more" if more > 0 else shown_table


def _owner_row(owner: PastOwner) -> tuple[object, ...]:
    known = [numbers for numbers in owner.numbers if numbers is not None]
    counts = [numbers.mappings for numbers in known]
    first, last = owner.numbers[0], owner.numbers[-1]
    change = None if first is None or last is None else last.mappings - first.mappings
    exact = not any(numbers.estimated for numbers in known)
    return (
        owner.facts["name"],
        owner.facts["kind"],
        "-" if first is None else first.mappings,
        "-" if last is None else last.mappings,
        "-" if change is None else f"{change:+}" if change else 0,
        min(counts),
        max(counts),
        "exact" if exact else "estimated",
    )


# -- JSON ------------------------------------------------------------------------------------


class _Owner(TypedDict):
    kind: OwnerKind | Literal["other"]
    name: str
    id: str


class _ChangeDocument(TypedDict):
    owner: _Owner
    since: float
    until: float
    mappings: int
    reason: str | None
    exact: bool
    sentence: str


class _Gap(TypedDict):
    since: float
    until: float


class _PointDocument(TypedDict):
    """Numbers at `time`. `movements`: since the point before; empty if unknown."""

    time: float
    since: float
    mappings: int
    confidence: Confidence
    processes: int
    estimated_processes: int
    kernel_mappings: int | None
    saved_bytes: int | None
    saved_at_most_bytes: int | None
    movements: Annotated[dict[str, int], Keys(REASONS, all=False)]


class _OwnerPoints(_Owner):
    points: list[_PointDocument]


class HistoryFileDocument(TypedDict):
    """The output of `--json`."""

    schema: Literal["ksmwatch.history/1"]
    since: float
    until: float
    page_size: int
    changes: list[_ChangeDocument]
    gaps: list[_Gap]
    host: list[_PointDocument]
    owners: list[_OwnerPoints]


def document(view: HistoryView) -> HistoryFileDocument:
    """Everything for programs."""
    past = view.past
    hosts: list[Numbers | None] = [moment.host for moment in past.moments]
    return {
        "schema": "ksmwatch.history/1",
        "since": view.since,
        "until": view.until,
        "page_size": past.moments[-1].facts["page_size"],
        "changes": [_change_document(change, view.now) for change in changes(past)],
        "gaps": [{"since": since, "until": until} for since, until in past.gaps()],
        "host": list(_points(past, hosts)),
        "owners": [
            {**_owner(owner.facts), "points": list(_points(past, owner.numbers))}
            for owner in past.owners
        ],
    }


def _owner(facts: Mapping[str, Any]) -> _Owner:
    return {"kind": facts["kind"], "name": facts["name"], "id": facts["id"]}


def _change_document(change: Change, now: float) -> _ChangeDocument:
    return {
        "owner": _owner(change.owner),
        "since": change.since,
        "until": change.until,
        "mappings": change.mappings,
        "reason": change.reason,
        "exact": change.exact,
        "sentence": sentence(change, now),
    }


def _points(past: Past, numbers: Sequence[Numbers | None]) -> Iterator[_PointDocument]:
    """Points at which the numbers are known."""
    for place, (moment, found) in enumerate(zip(past.moments, numbers, strict=True)):
        if found is None:
            continue
        follows = place > 0 and continues(past.moments[place - 1], moment)
        since_then = _moved(past, numbers, place - 1, place) if follows else None
        yield {
            "time": moment.time,
            "since": moment.since,
            "mappings": found.mappings,
            "confidence": state_of_numbers(found),
            "processes": found.processes,
            "estimated_processes": found.estimated,
            "kernel_mappings": kernel_of(found),
            "saved_bytes": found.saved_bytes,
            "saved_at_most_bytes": found.saved_at_most_bytes,
            "movements": dict(since_then or {}),
        }


# -- CSV -------------------------------------------------------------------------------------

_HOST = {"kind": "host", "name": "", "id": ""}
_CELLS = tuple(key for key in _PointDocument.__annotations__ if key != "movements")


def write_csv(view: HistoryView, out: TextIO) -> None:
    """One line for each point of the host and each of an owner."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["kind", "name", "id", *_CELLS, *REASONS])
    hosts: list[Numbers | None] = [moment.host for moment in view.past.moments]
    rows: list[tuple[Mapping[str, Any], Sequence[Numbers | None]]]
    rows = [] if view.only_owner else [(_HOST, hosts)]
    for facts, numbers in [*rows, *((o.facts, o.numbers) for o in view.past.owners)]:
        for point in _points(view.past, numbers):
            cells = [point[key] for key in _CELLS]  # type: ignore[literal-required]
            moves = [point["movements"].get(reason, "") for reason in REASONS]
            names = [clean(facts[key]) for key in ("kind", "name", "id")]
            writer.writerow([*names, *("" if c is None else c for c in cells), *moves])
