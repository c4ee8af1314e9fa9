"""What is above the table: facts of the host, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ksmwatch.commands.text_tables import clean
from ksmwatch.top.columns import UNKNOWN, amount, duration
from ksmwatch.top.sample import Sample, UnmergeNeed
from ksmwatch.top.view import Options


class Tone(StrEnum):
    """What a piece of text is, for those who have colours."""

    PLAIN = "plain"
    LABEL = "label"
    TITLE = "title"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Alert:
    """Something that is wrong, in one sentence.

    WARN: look at it. BAD: do not trust the counts, or the kernel has done wrong.
    """

    tone: Tone
    text: str


@dataclass(frozen=True)
class HostFigures:
    """Of the host. Amounts in pages, or bytes where the name says so, None where unknown.

    `claim`: the kernel's number for the saving, `pages_sharing`. `unmerge`: whether `run=2`
    would fit into memory, and what it needs, see docs/snapshot.md. `scan_rate`: pages per
    second that ksmd looks at; `ksmd_cpu_share`: CPU time per time, 1 is one whole CPU; both
    measured between two samples.
    """

    mappings: int
    confidence: str
    reason: str | None
    kernel_mappings: int | None
    kernel_lag: int | None
    saved_bytes: int | None
    saved_at_most_bytes: int | None
    claim: int | None
    profit_bytes: int | None
    available_bytes: int | None
    unmerge: UnmergeNeed
    run: int | None
    run_age: float | None
    full_scans: int | None
    pages_to_scan: int | None
    sleep_milliseconds: int | None
    scan_rate: float | None
    ksmd_cpu_share: float | None


def figures(sample: Sample, previous: Sample | None) -> HostFigures:
    """The facts of a sample."""
    host, sources = sample.document["host"], sample.document["sources"]
    ksm: Mapping[str, int] = sources["ksm"] or {}
    available = sources["meminfo"].get("MemAvailable")
    return HostFigures(
        mappings=host["mappings"],
        confidence=host["confidence"],
        reason=host["reason"],
        kernel_mappings=host["kernel_mappings"],
        kernel_lag=host["kernel_lag"],
        saved_bytes=host["saved_bytes"],
        saved_at_most_bytes=host.get("saved_at_most_bytes"),
        claim=ksm.get("pages_sharing"),
        profit_bytes=ksm.get("general_profit"),
        available_bytes=None if available is None else available * 1024,
        unmerge=host["unmerge"],
        run=host["run"],
        run_age=host["run_age_seconds"],
        full_scans=ksm.get("full_scans"),
        pages_to_scan=ksm.get("pages_to_scan"),
        sleep_milliseconds=ksm.get("sleep_millisecs"),
        scan_rate=_rate(sample, previous, lambda found: (found["ksm"] or {}).get("pages_scanned")),
        ksmd_cpu_share=_rate(sample, previous, lambda found: found["ksmd_cpu_seconds"]),
    )


def _rate(
    sample: Sample, previous: Sample | None, count: Callable[[Mapping[str, Any]], float | None]
) -> float | None:
    """How much a count of the sources grows per second; None where that is unknown."""
    if previous is None or sample.time <= previous.time:
        return None
    before, now = (count(s.document["sources"]) for s in (previous, sample))
    if before is None or now is None or now < before:
        return None
    return (now - before) / (sample.time - previous.time)


def alerts(sample: Sample, known: HostFigures, options: Options) -> list[Alert]:
    """What is wrong, the worst first."""
    found = list(_alerts(sample, known, options))
    return sorted(found, key=lambda alert: alert.tone is not Tone.BAD)


def _alerts(sample: Sample, known: HostFigures, options: Options) -> Iterator[Alert]:
    yield from _doubts(sample, known)
    yield from _residue(sample, known, options)
    yield from _errors(sample)


def _doubts(sample: Sample, known: HostFigures) -> Iterator[Alert]:
    if sample.document["mode_reason"]:
        yield Alert(Tone.WARN, f"not live: {clean(sample.document['mode_reason'])}")
    if known.reason and known.confidence == "unknown":
        yield Alert(Tone.BAD, f"counts unknown: {clean(known.reason)}")
    elif known.reason:
        yield Alert(Tone.WARN, f"estimated: {clean(known.reason)}")


def _residue(sample: Sample, known: HostFigures, options: Options) -> Iterator[Alert]:
    left = sample.document["host"]["residue"]["left"]
    if left:
        yield Alert(Tone.BAD, f"left behind by run=2: {amounts(left, options, sample)}")
    verdict = _VERDICTS.get(known.unmerge["verdict"])
    if verdict is not None:
        need = needs(known.unmerge, options, sample.page_size)
        yield Alert(Tone.WARN, f"unmerge {verdict}: run=2 needs {need}")


# Of those that are alarming.
_VERDICTS = {"uncertain": "may not fit", "too_little": "would not fit"}


def needs(unmerge: UnmergeNeed, options: Options, page_size: int) -> str:
    """What unmerging needs, of what is available."""
    sizes = (unmerge["at_least_bytes"], unmerge["at_most_bytes"], unmerge["available_bytes"])
    least, most, available = (
        None if size is None else amount(size / page_size, options.unit, page_size)
        for size in sizes
    )
    span = f"at most {most}" if least is None else f"{least} to {most}"
    return f"{span} {options.unit}" + (f" of {available}" if available else "")


def _errors(sample: Sample) -> Iterator[Alert]:
    document = sample.document
    audit = document["audit"] or {}
    if audit.get("surplus") or audit.get("missing"):
        wrong = f"+{audit['surplus']} -{audit['missing']} pages"
        yield Alert(Tone.WARN, f"drift: exact counts were wrong by {wrong} (corrected)")
    missed = document["totals"].get("miscounted_pages")
    if missed:
        yield Alert(Tone.WARN, f"miscounted: {missed} pages of processes that ended")
    lost = ", ".join(f"{kind} {n}" for kind, n in sorted(document["losses"].items()) if n)
    if lost:
        yield Alert(Tone.WARN, f"lost: {clean(lost)}")
    detached = [probe["event"] for probe in document["probes"] if not probe["attached"]]
    if detached:
        yield Alert(Tone.BAD, f"not attached: {clean(', '.join(detached))}")
    if document["sources"]["failures"]:
        yield Alert(Tone.WARN, f"unreadable: {clean(', '.join(document['sources']['failures']))}")


def amounts(pages: float | None, options: Options, sample: Sample, *, signed: bool = False) -> str:
    """An amount with its unit."""
    text = amount(pages, options.unit, sample.page_size, signed=signed)
    return text if pages is None else f"{text} {options.unit}"


_RUN = {0: "stopped, pages stay merged", 1: "scanning", 2: "stopped and unmerged"}
_CONFIDENCE = {"exact": Tone.GOOD, "estimated": Tone.WARN, "unknown": Tone.BAD}

# Between items of a line, and the place of each where they stand in columns.
_GAP, _PLACE = 2, 28

Line = list[tuple[Tone, str]]


def lines(sample: Sample, known: HostFigures, options: Options, width: int) -> list[Line]:
    """The lines of a header, without alerts, of what fits. Each piece is harmless text."""
    return [
        _spread(_mapped(sample, known, options), width),
        _spread(_saving(sample, known, options), width),
        _spread(_ksmd(known), width, _GAP),
    ]


def _spread(items: Sequence[Line], width: int, place: int = _PLACE) -> Line:
    """Items side by side, each with as much place; those that do not fit are left out."""
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
    """Of the source. `problem`: why the last reading failed. `age`: of what is shown, seconds.

    `late`: an answer should have come by now.
    """

    problem: str | None
    age: float | None
    paused: bool
    late: bool


def status_lines(status: Status) -> list[Line]:
    """What is to say of the source besides its name: nothing while all is well."""
    shown = "" if status.age is None else f" Shown: {duration(status.age)} old."
    if status.problem is not None:
        return [[(Tone.BAD, f"! LOST.{shown} {clean(status.problem)} Trying again.")]]
    if status.paused:
        return [[(Tone.WARN, f"! PAUSED.{shown} p resumes.")]]
    return [[(Tone.WARN, f"! LATE.{shown} No answer yet.")]] if status.late else []


def alert_lines(found: Sequence[Alert], room: int) -> list[Line]:
    """Alerts, as many as there is room for; then how many more there are."""
    if len(found) > room:
        found = [*found[: room - 1], Alert(Tone.WARN, f"and {len(found) - room + 1} more: press a")]
    return [[(alert.tone, f"! {alert.text}")] for alert in found]


def title(sample: Sample, source: str) -> Line:
    """What is watched, and how it counts."""
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


def between(least: str, most: str) -> str:
    """Two bounds as they are shown: one number if they look the same, or if there is but one."""
    return least if most in (least, UNKNOWN) else f"{least} to {most}"


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


def plain(line: Line) -> str:
    """Text without tones."""
    return "".join(text for _, text in line)
