"""What `top` shows about the host, from one sample or two. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ksmwatch.top.sample import Sample, UnmergeNeed


@dataclass(frozen=True)
class HostFigures:
    """Figures of the host. Amounts in pages, or bytes if the name says so; None if unknown.

    `claim`: the kernel's number for the saving, `pages_sharing`. `unmerge`: whether `run=2`
    would fit into memory, and what it needs, see docs/snapshot.md. `scan_rate`: pages that ksmd
    scans per second. `ksmd_cpu_share`: 1 is one whole CPU. Both are measured between two
    samples.
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
    """Growth per second of a counter in the sources; None if unknown."""
    if previous is None or sample.time <= previous.time:
        return None
    before, now = (count(s.document["sources"]) for s in (previous, sample))
    if before is None or now is None or now < before:
        return None
    return (now - before) / (sample.time - previous.time)
