"""`make accuracy`: how wrong each count is on the benchmark of the 2011 patch.

Boots a test kernel for each setting of ksmd and writes docs/accuracy.md and its plot.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from bench.guests import run

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# pages_to_scan and sleep_millisecs (the kernel's own and slower values), and for how many seconds.
# ksmd merges a page at its second visit at the earliest.
SETTINGS = {(100, 20): 60, (100, 100): 60, (100, 500): 180}
# Number shown, and the keys of a sample that add up to it.
NUMBERS = {
    "pages_sharing": ("pages_sharing",),
    "pages_shared + pages_sharing": ("pages_shared", "pages_sharing"),
    "sum of ksm_merging_pages": ("merging_pages",),
    "ksmwatch": ("ksmwatch",),
}

Samples = list[dict[str, Any]]


@dataclass(frozen=True)
class Error:
    """The error of a number, in pages."""

    mean: float
    largest: int


def error_of(samples: Samples, keys: tuple[str, ...]) -> Error:
    """The error of the sum of some keys, over all samples."""
    errors = [abs(sum(s[key] for key in keys) - s["truth"]) for s in samples]
    return Error(statistics.fmean(errors), max(errors))


def measure(kernel: str, setting: tuple[int, int], mib: int, seconds: int) -> Samples:
    """The samples of one setting, from a guest of its own."""
    scan, sleep = setting
    options = [
        *("--mib", str(mib), "--seconds", str(seconds)),
        *("--pages-to-scan", str(scan), "--sleep-millisecs", str(sleep)),
    ]
    samples = run("bench.accuracy_guest", *options, icount=False, memory="3G", kernel=kernel)
    if not samples:
        raise SystemExit("the guest has printed no sample")
    return [dict(sample) for sample in samples]


def table(results: dict[tuple[int, int], Samples]) -> str:
    """Mean and largest error of each number, for each setting."""
    head = ["pages_to_scan", "sleep_millisecs", "samples", "true mappings (mean)", "number"]
    head += ["mean error", "of the truth", "largest error"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (scan, sleep), samples in results.items():
        truth = statistics.fmean(s["truth"] for s in samples)
        for name, keys in NUMBERS.items():
            error = error_of(samples, keys)
            share = f"{100 * error.mean / truth:.1f} %" if truth else "-"
            cells = [scan, sleep, len(samples), f"{truth:.0f}", name]
            cells += [f"{error.mean:.1f}", share, error.largest]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def plot(results: dict[tuple[int, int], Samples], path: Path) -> None:
    """Plot truth and numbers over time, one picture below the other."""
    figure = Figure(figsize=(8, 2.6 * len(results)), layout="constrained")
    shown = {k: v for k, v in NUMBERS.items() if k != "pages_sharing"}
    for axes, ((scan, sleep), samples) in zip(
        figure.subplots(len(results), squeeze=False)[:, 0], results.items(), strict=True
    ):
        seconds = [s["seconds"] for s in samples]
        axes.plot(seconds, [s["truth"] for s in samples], label="truth", color="black", linewidth=3)
        for style, (name, keys) in zip(("-", "--", ":"), shown.items(), strict=True):
            values = [sum(s[key] for key in keys) for s in samples]
            axes.plot(seconds, values, style, label=name)
        axes.set_title(f"pages_to_scan {scan}, sleep_millisecs {sleep}")
        axes.set_ylabel("pages")
        axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.legend(loc="best", fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def document(results: dict[tuple[int, int], Samples], kernel: str, mib: int) -> str:
    """The whole page."""
    wrong = sum(s["wrong"] for samples in results.values() for s in samples)
    count = sum(map(len, results.values()))
    exact = sum(s["confidence"] == "exact" for samples in results.values() for s in samples)
    return f"""# Accuracy

`make accuracy` wrote this page on {time.strftime("%Y-%m-%d")}, with Debian's kernel {kernel} in
QEMU without hardware virtualization. Do not edit it.

The benchmark is that of the 2011 patch. Two processes, parent and child, fill {mib} MiB each with
one value. All of it is mergeable. Then they write every page with the value that it already has,
again and again. The write copies a merged page, which can then be merged again. A round takes 1.5
s, about as long as a round over the original 1000 MiB.

For each sample, SIGSTOP stops the writers and `run=0` stops ksmd (which keeps merged pages merged),
so that all numbers belong to one moment. *Truth* is read from the page tables by the tests' own
reader. The other numbers count PTEs that map a KSM page, as each source reports them, in pages.

{table(results)}

ksmwatch called {exact} of {count} samples exact. Summed over all samples and processes, its counts
were wrong by {wrong} pages.

![Truth and counts over time](accuracy.svg)
"""


def main(argv: list[str]) -> int:
    """Measure every setting and write the page."""
    parser = argparse.ArgumentParser(prog="make accuracy", description=__doc__)
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--mib", type=int, default=16, help="of each process")
    arguments = parser.parse_args(argv)
    results = {
        setting: measure(arguments.kernel, setting, arguments.mib, seconds)
        for setting, seconds in SETTINGS.items()
    }
    plot(results, DOCS / "accuracy.svg")
    (DOCS / "accuracy.md").write_text(document(results, arguments.kernel, arguments.mib))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
