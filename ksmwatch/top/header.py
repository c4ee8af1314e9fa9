"""The lines above the table: the source, the host in three lines, and alerts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ksmwatch.terminal_text import clean
from ksmwatch.top.alerts import Alert
from ksmwatch.top.columns import amount, between, duration
from ksmwatch.top.host_figures import HostFigures
from ksmwatch.top.sample import Sample
from ksmwatch.top.toned_text import Line, Tone, plain
from ksmwatch.top.view import Options

_RUN = {0: "stopped, pages stay merged", 1: "scanning", 2: "stopped and unmerged"}
_CONFIDENCE = {"exact": Tone.GOOD, "estimated": Tone.WARN, "unknown": Tone.BAD}

# The space between items of a line, and the width of an item in columns.
_GAP, _PLACE = 2, 28


def lines(sample: Sample, known: HostFigures, options: Options, width: int) -> list[Line]:
    """The lines of a header that fit, without alerts. Each piece is harmless text."""
    return [
        _spread(_mapped(sample, known, options), width),
        _spread(_saving(sample, known, options), width),
        _spread(_ksmd(known), width, _GAP),
    ]


def _spread(items: Sequence[Line], width: int, place: int = _PLACE) -> Line:
    """Items side by side, each with the same width. Items that do not fit are left out."""
    line: Line = []
    used = 0
    for item in items:
        text = plain(item)
        gap = max(-used % place, _GAP) if used else 0
        if used + gap + len(text) > width:
            break
        line += [(Tone.PLAIN, " " * gap), *item] if gap else item
        used += gap + len(text)
    return line


@dataclass(frozen=True)
class Status:
    """The source's state. `problem`: why the last reading failed. `age`: of the data, in seconds.

    `late`: an answer is overdue. `past`: the shown time, in words, if it is not now.
    """

    problem: str | None
    age: float | None
    paused: bool
    late: bool
    past: str | None = None


def status_lines(status: Status) -> list[Line]:
    """The state of the source; nothing while all is well."""
    shown = "" if status.age is None else f" Shown: {duration(status.age)} old."
    if status.past is not None:
        # Short enough for 80 columns, with any time.
        keys = "t T: a moment. j J: 10 min. p: now"
        return [[(Tone.WARN, f"! PAST. {status.past}. "), (Tone.LABEL, keys)]]
    if status.problem is not None:
        return [[(Tone.BAD, f"! LOST.{shown} {clean(status.problem)} Trying again.")]]
    if status.paused:
        return [[(Tone.WARN, f"! PAUSED.{shown} p resumes.")]]
    return [[(Tone.WARN, f"! LATE.{shown} No answer yet.")]] if status.late else []


def alert_lines(found: Sequence[Alert], room: int) -> list[Line]:
    """As many alerts as fit, then the number of others."""
    if len(found) > room:
        found = [*found[: room - 1], Alert(Tone.WARN, f"and {len(found) - room + 1} more: press a")]
    return [[(alert.tone, f"! {alert.text}")] for alert in found]


def title(sample: Sample, source: str) -> Line:
    """The source, and how it counts."""
    document = sample.document
    mode = {"bpf": "live", "poll": "polling", "none": "no KSM in this kernel"}.get(
        document["mode"], document["mode"]
    )
    asleep = ", asleep" if document["asleep"] and document["mode"] == "bpf" else ""
    return [
        (Tone.LABEL, "ksmwatch "),
        (Tone.PLAIN, clean(f"{mode}{asleep}, kernel {document['kernel']}, {source}")),
    ]


def _mapped(sample: Sample, known: HostFigures, options: Options) -> list[Line]:
    def show(pages: int | None, *, signed: bool = False) -> str:
        return amount(pages, options.unit, sample.page_size, signed=signed)

    doubt = "" if known.confidence == "exact" else "~"
    lag = known.kernel_lag
    behind = lag is not None and abs(lag) * 100 > known.mappings
    return [
        [
            (Tone.LABEL, "mapped "),
            (Tone.PLAIN, f"{doubt}{show(known.mappings)} {options.unit} "),
            (_CONFIDENCE.get(known.confidence, Tone.BAD), clean(known.confidence)),
        ],
        [(Tone.LABEL, "kernel says "), (Tone.PLAIN, show(known.kernel_mappings))],
        [(Tone.LABEL, "lag "), (Tone.WARN if behind else Tone.PLAIN, show(lag, signed=True))],
    ]


def _saving(sample: Sample, known: HostFigures, options: Options) -> list[Line]:
    page_size = sample.page_size

    def show(size: float | None) -> str:
        return amount(None if size is None else size / page_size, options.unit, page_size)

    claim = None if known.claim is None else known.claim * page_size
    saved = between(show(known.saved_bytes), show(known.saved_at_most_bytes))
    return [
        [(Tone.LABEL, "saved "), (Tone.PLAIN, f"{saved} {options.unit}")],
        [(Tone.LABEL, "kernel claims "), (Tone.PLAIN, show(claim))],
        [(Tone.LABEL, "MemAvailable "), (Tone.PLAIN, show(known.available_bytes))],
        [(Tone.LABEL, "kernel's profit "), (Tone.PLAIN, show(known.profit_bytes))],
    ]


def _ksmd(known: HostFigures) -> list[Line]:
    if known.run is None:
        return [[(Tone.LABEL, "ksmd "), (Tone.PLAIN, "state unknown")]]
    state = _RUN.get(known.run, f"run={known.run}")
    tone = Tone.PLAIN if known.run == 1 else Tone.WARN
    age = "" if known.run_age is None else f" for {duration(known.run_age)}"
    items: list[Line] = [[(Tone.LABEL, "ksmd "), (tone, state), (Tone.PLAIN, age)]]
    if known.full_scans is not None:
        items.append([(Tone.LABEL, "scans "), (Tone.PLAIN, f"{known.full_scans:,}")])
    if known.pages_to_scan is not None and known.sleep_milliseconds is not None:
        pace = f"{known.pages_to_scan:,} pages/{known.sleep_milliseconds} ms"
        items.append([(Tone.LABEL, "pace "), (Tone.PLAIN, pace)])
    if known.scan_rate is not None:
        items.append([(Tone.LABEL, "now "), (Tone.PLAIN, f"{known.scan_rate:,.0f}/s")])
    if known.ksmd_cpu_share is not None:
        items.append([(Tone.LABEL, "CPU "), (Tone.PLAIN, f"{100 * known.ksmd_cpu_share:.1f}%")])
    return items
