"""`make bench-freshness`: how soon a write or an exit shows, here and in the kernel's counters."""

from __future__ import annotations

import sys

from bench.guests import KERNEL, Sample, run
from bench.results import Goal, Result, save, table

NAME = "freshness"
_CHANGES = {
    "write": "writes to 211 of 1009 merged pages",
    "exit": "a process with 1009 merged pages is killed",
}

_METHOD = """`make bench-freshness`, {date}, Linux {kernel} in QEMU without hardware
virtualization, so that a request alone takes a tenth of a second. The time from the return of the
write, or the end of the process, until a source is right, which is polled without a pause: median
and worst of 5. *Scanning*: ksmd runs at the kernel's default speed, with nothing else to scan. A
scrape may be served from a snapshot that is at most a second old, as its HELP says."""


def _cell(result: Result, change: str, source: str, *, scanning: bool) -> str:
    for found in result["samples"]:
        if (found["change"], found["source"], found["scanning"]) == (change, source, scanning):
            return _worst(found)
    return "-"


def _worst(found: Sample) -> str:
    if "patience" in found:
        return f"not within {found['patience']} s"
    return f"{found['median']:.2f} s, at worst {found['worst']:.2f} s"


def section(result: Result) -> str:
    """Method and table."""
    sources = list(dict.fromkeys(found["source"] for found in result["samples"]))
    rows = [
        (
            words,
            source,
            _cell(result, change, source, scanning=True),
            _cell(result, change, source, scanning=False),
        )
        for change, words in _CHANGES.items()
        for source in sources
        if (change, source) != ("exit", "ksm_merging_pages")
    ]
    head = ("change", "source", "ksmd scanning", "ksmd stopped")
    return "\n\n".join(["## Freshness", _METHOD.format(**result), table(head, rows)])


def goals(result: Result) -> list[Goal]:
    """The goal that a count is right in the next snapshot."""
    mine = [s for s in result["samples"] if s["source"] == "snapshot"]
    right = all(s.get("asked") == 1 for s in mine)
    return [
        Goal(
            "freshness: a count is right in the next snapshot, whatever ksmd does",
            "in the first snapshot requested, every time" if right else "later",
            right,
            "",
        )
    ]


def main() -> int:
    """Measure, and keep the result."""
    samples = run("bench.freshness_guest", icount=False, memory="2G")
    save(NAME, {"kernel": KERNEL, "samples": samples})
    return 0


if __name__ == "__main__":
    sys.exit(main())
