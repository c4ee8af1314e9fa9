"""Alerts: what is wrong with a host, or with the counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ksmwatch.terminal_text import clean
from ksmwatch.top.columns import amounts, needs
from ksmwatch.top.host_figures import HostFigures
from ksmwatch.top.sample import Sample
from ksmwatch.top.toned_text import Tone
from ksmwatch.top.view import Options

# The alarming ones.
_VERDICTS = {"uncertain": "may not fit", "too_little": "would not fit"}


@dataclass(frozen=True)
class Alert:
    """A problem, in one sentence.

    WARN: look at it. BAD: do not trust the counts, or the kernel made an error.
    """

    tone: Tone
    text: str


def alerts_of(sample: Sample, known: HostFigures, options: Options) -> list[Alert]:
    """All alerts, the worst first."""
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
