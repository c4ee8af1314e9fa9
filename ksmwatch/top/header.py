"""What is above the table: facts of the host, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ksmwatch.render import clean
from ksmwatch.top.columns import amount, duration
from ksmwatch.top.model import Options
from ksmwatch.top.sample import Sample


class Tone(StrEnum):
    """What a piece of text is, for those who have colours."""

    PLAIN = "plain"
    LABEL = "label"
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
class Facts:
    """Of the host. Amounts in pages, None where unknown.

    `saving`: mappings less `pages_shared`, the pages that they share: what would be needed
    besides if every mapping had a page of its own, and so what `run=2` needs. As true as the
    kernel's `pages_shared`, which lags. `claim`: the kernel's number for it, `pages_sharing`.
    `scan_rate`: pages per second that ksmd looks at, measured between two samples.
    """

    mappings: int
    confidence: str
    reason: str | None
    kernel_mappings: int | None
    kernel_lag: int | None
    saving: int | None
    claim: int | None
    profit_bytes: int | None
    available_bytes: int | None
    run: int | None
    run_age: float
    full_scans: int | None
    pages_to_scan: int | None
    sleep_milliseconds: int | None
    scan_rate: float | None


def facts(sample: Sample, previous: Sample | None) -> Facts:
    """The facts of a sample."""
    host, sources = sample.document["host"], sample.document["sources"]
    ksm: Mapping[str, int] = sources["ksm"] or {}
    shared, available = ksm.get("pages_shared"), sources["meminfo"].get("MemAvailable")
    return Facts(
        mappings=host["mappings"],
        confidence=host["confidence"],
        reason=host["reason"],
        kernel_mappings=host["kernel_mappings"],
        kernel_lag=host["kernel_lag"],
        saving=None if shared is None else host["mappings"] - shared,
        claim=ksm.get("pages_sharing"),
        profit_bytes=ksm.get("general_profit"),
        available_bytes=None if available is None else available * 1024,
        run=host["run"],
        run_age=host["run_age_seconds"],
        full_scans=ksm.get("full_scans"),
        pages_to_scan=ksm.get("pages_to_scan"),
        sleep_milliseconds=ksm.get("sleep_millisecs"),
        scan_rate=_scan_rate(sample, previous),
    )


def _scan_rate(sample: Sample, previous: Sample | None) -> float | None:
    if previous is None or sample.time <= previous.time:
        return None
    counts = [(s.document["sources"]["ksm"] or {}).get("pages_scanned") for s in (previous, sample)]
    before, now = counts
    if before is None or now is None or now < before:
        return None
    return float((now - before) / (sample.time - previous.time))


def alerts(sample: Sample, known: Facts, options: Options) -> list[Alert]:
    """What is wrong, the worst first."""
    found = list(_alerts(sample, known, options))
    return sorted(found, key=lambda alert: alert.tone is not Tone.BAD)


def _alerts(sample: Sample, known: Facts, options: Options) -> Iterator[Alert]:
    yield from _doubts(sample, known)
    yield from _residue(sample, known, options)
    yield from _errors(sample)


def _doubts(sample: Sample, known: Facts) -> Iterator[Alert]:
    if sample.document["mode_reason"]:
        yield Alert(Tone.WARN, f"not live: {clean(sample.document['mode_reason'])}")
    if known.reason and known.confidence == "unknown":
        yield Alert(Tone.BAD, f"counts unknown: {clean(known.reason)}")
    elif known.reason:
        yield Alert(Tone.WARN, f"estimated: {clean(known.reason)}")


def _residue(sample: Sample, known: Facts, options: Options) -> Iterator[Alert]:
    left = sample.document["host"]["residue"]["left"]
    if left:
        yield Alert(Tone.BAD, f"left behind by run=2: {amounts(left, options, sample)}")
    if known.saving is None or known.available_bytes is None:
        return
    available = known.available_bytes / sample.page_size
    if known.saving > available:
        need, have = (amounts(pages, options, sample) for pages in (known.saving, available))
        yield Alert(Tone.WARN, f"unmerge would not fit: run=2 needs {need}, available {have}")


def _errors(sample: Sample) -> Iterator[Alert]:
    document = sample.document
    audit = document["audit"] or {}
    if audit.get("surplus") or audit.get("missing"):
        wrong = f"+{audit['surplus']} -{audit['missing']} pages"
        yield Alert(Tone.WARN, f"drift: exact counts were wrong by {wrong} (healed)")
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

Line = list[tuple[Tone, str]]


def lines(sample: Sample, known: Facts, options: Options) -> list[Line]:
    """The lines of a header, without alerts. Each piece is harmless text."""
    return [_mapped(sample, known, options), _saving(sample, known, options), _ksmd(known)]


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


def _mapped(sample: Sample, known: Facts, options: Options) -> Line:
    def show(pages: int | None, *, signed: bool = False) -> str:
        return amounts(pages, options, sample, signed=signed)

    return [
        (Tone.LABEL, "mapped "),
        (Tone.PLAIN, show(known.mappings) + " "),
        (_CONFIDENCE.get(known.confidence, Tone.BAD), known.confidence),
        (Tone.LABEL, "  kernel says "),
        (Tone.PLAIN, show(known.kernel_mappings)),
        (Tone.LABEL, "  lag "),
        (Tone.WARN if known.kernel_lag else Tone.PLAIN, show(known.kernel_lag, signed=True)),
    ]


def _saving(sample: Sample, known: Facts, options: Options) -> Line:
    def show(pages: float | None, *, signed: bool = False) -> str:
        return amounts(pages, options, sample, signed=signed)

    profit, available = (
        None if n is None else n / sample.page_size
        for n in (known.profit_bytes, known.available_bytes)
    )
    return [
        (Tone.LABEL, "saved "),
        (Tone.PLAIN, show(known.saving)),
        (Tone.LABEL, "  kernel claims "),
        (Tone.PLAIN, show(known.claim)),
        (Tone.LABEL, "  profit "),
        (Tone.PLAIN, show(profit)),
        (Tone.LABEL, "  available "),
        (Tone.PLAIN, show(available)),
    ]


def _ksmd(known: Facts) -> Line:
    if known.run is None:
        return [(Tone.LABEL, "ksmd "), (Tone.PLAIN, "state unknown")]
    state = _RUN.get(known.run, f"run={known.run}")
    parts: Line = [
        (Tone.LABEL, "ksmd "),
        (Tone.PLAIN if known.run == 1 else Tone.WARN, state),
        (Tone.PLAIN, f" for {duration(known.run_age)}"),
    ]
    if known.full_scans is not None:
        parts += [(Tone.LABEL, "  scans "), (Tone.PLAIN, f"{known.full_scans:,}")]
    if known.pages_to_scan is not None and known.sleep_milliseconds is not None:
        pace = f"{known.pages_to_scan:,} pages/{known.sleep_milliseconds} ms"
        parts += [(Tone.LABEL, "  pace "), (Tone.PLAIN, pace)]
    if known.scan_rate is not None:
        parts += [(Tone.LABEL, "  now "), (Tone.PLAIN, f"{known.scan_rate:,.0f} pages/s")]
    return parts


def plain(line: Line) -> str:
    """Text without tones."""
    return "".join(text for _, text in line)
