"""`top` for scripts: text, JSON lines or CSV on a stream. Loads no terminal library."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from typing import Annotated, Any, Final, Literal, NotRequired, TextIO, TypedDict, cast

from ksmwatch.errors import SourceError
from ksmwatch.option_values import OutputForm
from ksmwatch.schema_marks import Fields
from ksmwatch.top import columns, header, rows
from ksmwatch.top.alerts import alerts_of
from ksmwatch.top.host_figures import HostFigures, figures
from ksmwatch.top.sample import Sample
from ksmwatch.top.source import Source, read
from ksmwatch.top.toned_text import plain
from ksmwatch.top.values import (
    MOVEMENTS,
    held_by,
    movement,
    processes_of,
    read_age_of,
    remote_of,
    state_of,
)
from ksmwatch.top.view import Grouping, Options, Row, View

SCHEMA: Final = "ksmwatch.top/1"
# The output need not fit a screen.
_WIDTH = 10_000


@dataclass(frozen=True)
class Batch:
    """How many samples to print, and how. `times`: None means until stopped."""

    options: Options
    format: OutputForm = OutputForm.TEXT
    times: int | None = 1
    seconds: float = 2.0


def run(
    source: Source,
    batch: Batch,
    out: TextIO,
    sleep: Callable[[float], None] = time.sleep,
    previous: Sample | None = None,
) -> None:
    """Print samples. Raises SourceError if there is nothing to print."""
    for turn in count():
        reading = read(source)
        if reading.sample is None:
            raise SourceError(reading.problem or "")
        view = rows.build(reading.sample, previous, batch.options)
        _print(view, batch.format, source.label, out, first=not turn)
        out.flush()
        previous = reading.sample
        if batch.times is not None and turn + 1 >= batch.times:
            return
        sleep(batch.seconds)


def _print(view: View, form: OutputForm, label: str, out: TextIO, *, first: bool) -> None:
    if form is OutputForm.JSON:
        # One line per sample, in ASCII: it stays one line whatever a name contains.
        print(json.dumps(to_document(view, label)), file=out)
    elif form is OutputForm.CSV:
        _csv(view, out, head=first)
    else:
        _text(view, label, out, gap=not first)


def _text(view: View, label: str, out: TextIO, *, gap: bool) -> None:
    if gap:
        print(file=out)
    known = figures(view.sample, view.previous)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view.sample.time))
    print(f"{plain(header.title(view.sample, label))}, {at}", file=out)
    for line in header.lines(view.sample, known, view.options, _WIDTH):
        print(plain(line), file=out)
    for alert in alerts_of(view.sample, known, view.options):
        print(f"! {alert.text}", file=out)
    if not view.rows:
        return
    shown = columns.chosen(view.options, _WIDTH)
    print(file=out)
    print(" ".join(columns.heads(shown, view.options)).rstrip(), file=out)
    for row in view.rows:
        print(" ".join(columns.line(row, shown, view)).rstrip(), file=out)


class RowDocument(TypedDict):
    """A row: pages, pages per second or seconds; null if unknown."""

    kind: str
    name: str
    mapped: int
    kernel: int | None
    lag: int | None
    came: float | None
    went: float | None
    merged: float | None
    forked: float | None
    copied: float | None
    unmapped: float | None
    stray: int | None
    remote: int | None
    read: float | None
    state: str
    # Groups, and their members.
    procs: NotRequired[int]
    # Owners, and their members.
    saved: NotRequired[int | None]
    wasted: NotRequired[float | None]
    age: NotRequired[float | None]
    # Of processes.
    pid: NotRequired[int]
    start_time: NotRequired[int]
    depth: NotRequired[int]
    owner: NotRequired[str]


class TopDocument(TypedDict):
    """The output of `--json`."""

    schema: Literal["ksmwatch.top/1"]
    time: float
    source: str
    page_size: int
    host: Annotated[dict[str, Any], Fields(HostFigures)]
    alerts: list[str]
    grouping: Grouping
    rates: bool
    rows: list[RowDocument]


def values(row: Row, view: View) -> RowDocument:
    """A row for programs."""
    of, grouping = row.of, view.options.grouping
    found: RowDocument = {
        "kind": of.kind,
        "name": of.name,
        "mapped": of.mappings,
        "kernel": of.kernel,
        "lag": of.lag,
        "came": movement(of, view, MOVEMENTS["came"]),
        "went": movement(of, view, MOVEMENTS["went"]),
        "merged": movement(of, view, MOVEMENTS["merged"]),
        "forked": movement(of, view, MOVEMENTS["forked"]),
        "copied": movement(of, view, MOVEMENTS["copied"]),
        "unmapped": movement(of, view, MOVEMENTS["unmapped"]),
        "stray": of.stray,
        "remote": remote_of(of),
        "read": read_age_of(of),
        "state": state_of(of),
    }
    if grouping is not Grouping.PROCESS:
        found["procs"] = processes_of(of)
    if grouping is Grouping.OWNER:
        found["saved"] = held_by(of, "saved_bytes")
        found["wasted"] = held_by(of, "wasted")
        found["age"] = held_by(of, "median_age")
    process = row.process
    if process is not None:
        found["pid"], found["start_time"] = process.pid, process.start_time
        found["depth"], found["owner"] = row.depth, process.owner.name
    return found


def to_document(view: View, label: str) -> TopDocument:
    """A view for programs."""
    known = figures(view.sample, view.previous)
    return {
        "schema": SCHEMA,
        "time": view.sample.time,
        "source": label,
        "page_size": view.sample.page_size,
        "host": asdict(known),
        "alerts": [alert.text for alert in alerts_of(view.sample, known, view.options)],
        "grouping": view.options.grouping,
        "rates": view.options.rates,
        "rows": [values(row, view) for row in view.rows],
    }


def _csv(view: View, out: TextIO, *, head: bool) -> None:
    keys = [c.key for c in columns.sortable(view.options.grouping)]
    writer = csv.writer(out, lineterminator="\n")
    if head:
        writer.writerow(["time", *keys])
    for row in view.rows:
        found = cast("dict[str, Any]", values(row, view))
        cells = [columns.clean_cell(found[key]) for key in keys]
        writer.writerow([view.sample.time, *cells])
