"""`make bench-peers`: ksmwatch, two exporters, a smaps script and a page scan, side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from bench.baseline import COMMIT, program
from bench.guests import Sample, at_rest, method, milliseconds, run, with_ruler
from bench.results import Goal, Result, save, table

NAME = "peers"
_PACKAGES = ("prometheus-node-exporter", "prometheus-process-exporter")
_PROCESSES, _PAGES = 100, 1_000
_ASKED_A_MINUTE = 4
_MIB = 1 << 20
_BASELINE = "baseline"
# The goals: peers, and how many times their CPU time ksmwatch may use.
_MOST = (("smaps_rollup", "the smaps script", 0.6), ("node_exporter", "node_exporter", 8))
# Of each tool, what this run does not measure: which counts it gives, and when they are right.
_STALENESS: Mapping[str, tuple[str, str]] = {
    "ksmwatch": ("host, owner, process", "at once (a scrape: within 1 s)"),
    "node_exporter": ("host", "after ksmd's next visit; never while it is stopped"),
    "process-exporter": ("none; PSS by name", "-"),
    "smaps_rollup": ("process", "at the next round"),
    # KPF_KSM is set for every anonymous page from 6.10 to 7.2, see exact.PagemapReader.
    "pagemap scan": ("process, with other anonymous pages", "at the next round"),
}
_METHOD = """`make bench-peers`, {date}, Linux {kernel}: each tool alone, on {processes} processes
with {pages} merged pages each, while ksmd is stopped. An *error* is its number of KSM mappings on
the host minus that in the page tables: first with everything merged, then after half of the
processes have written to one page, then after a tenth of all have been killed. *CPU per minute* is
that of a minute with an answer every 15 s. It does not include what ksmwatch's hooks cost the
kernel; see *Hot path*."""


def _error(found: Sample) -> str:
    differences = [n["found"] - n["truth"] for n in found["numbers"] if n["found"] is not None]
    return ", ".join(f"{each:+,}" if each else "0" for each in differences) or "has no number"


def cpu_minute(result: Result, found: Mapping[str, Any]) -> float:
    """CPU milliseconds in a minute with four answers."""
    return 60_000 * at_rest(result, found["minute"] / 60, audits=found["tool"] == _BASELINE)


def peers_table(result: Result) -> str:
    """The table that compares the tools."""
    rows = []
    for name, found in result["cases"].items():
        if name == _BASELINE:
            continue
        counts, right = _STALENESS[name]
        rows.append(
            (
                f"**{name}**" if name == "ksmwatch" else name,
                counts,
                _error(found),
                right,
                f"{milliseconds(result, found['cost']):.1f}",
                f"{cpu_minute(result, found):.0f}",
                f"{found['memory'] / _MIB:.0f}",
            )
        )
    head = (
        *("", "KSM mappings by", "errors, pages", "right again"),
        *("CPU per answer, ms", "CPU per minute, ms", "memory, MiB"),
    )
    return table(head, rows)


def section(result: Result) -> str:
    """Method and table."""
    introduction = _METHOD.format(**result, processes=_PROCESSES, pages=f"{_PAGES:,}")
    return "\n\n".join(["## Peers", introduction, method(result), peers_table(result)])


def goals(result: Result) -> list[Goal]:
    """The goals beside a script and beside an exporter."""
    minutes = {name: cpu_minute(result, found) for name, found in result["cases"].items()}
    return [
        Goal(
            f"{_PROCESSES} processes with {_PAGES:,} merged pages each, scraped four times a "
            f"minute: at most {most} x the CPU time of {named}",
            f"{minutes['ksmwatch'] / minutes[peer]:.2f} x ({COMMIT}: "
            f"{minutes[_BASELINE] / minutes[peer]:.2f} x)",
            minutes["ksmwatch"] <= most * minutes[peer],
            _why(result, minutes["ksmwatch"]),
        )
        for peer, named, most in _MOST
    ]


def _why(result: Result, minute: float) -> str:
    """What the daemon spends a minute on."""
    answers = _ASKED_A_MINUTE * milliseconds(result, result["cases"]["ksmwatch"]["cost"])
    return f"of {minute:.1f} ms a minute, {answers:.1f} are the scrapes"


def main() -> int:
    """Measure, and keep the result."""
    samples = run(
        "bench.peers_guest",
        *(str(_PROCESSES), str(_PAGES), str(program())),
        icount=True,
        memory="3G",
        packages=_PACKAGES,
    )
    save(NAME, with_ruler(samples, "tool"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
