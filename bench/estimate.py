"""`make bench-estimate`: what `ksmwatch estimate` costs per page, in instructions.

It runs beside a plain hash of the same pages, and beside ksmd's own scan of them.
"""

from __future__ import annotations

from bench.estimate_guest import COPIES, PAGES
from bench.guests import KERNEL, run
from bench.results import Goal, Result, save, table

NAME = "estimate"
_WAYS = {
    "sampled": "**estimate from a sample**: the beginning of each page, some whole, twice",
    "exact": "exact estimate (`--precision 0`): all that may have a copy whole, twice",
    "hash": "a plain hash (BLAKE2b) of each page, read once",
    "siphash": "the same with SipHash, by which the estimate compares pages",
    "ksmd": "one scan by ksmd, of three in which it merges",
}
# How many times less than a hash of everything a sample has to cost.
CHEAPER = 5.0


def cheaper(result: Result, way: str) -> float:
    """How many times less the sample costs than this hash of each page."""
    return float(result["ways"][way]["page"] / result["ways"]["sampled"]["page"])


def section(result: Result) -> str:
    """Method and table."""
    ways = result["ways"]
    rows = [(text, f"{ways[way]['page']:,.0f}") for way, text in _WAYS.items() if way in ways]
    method = (
        f"`make bench-estimate`, {result['date']}, Linux {result['kernel']}. Counted, not timed, "
        f"with `-icount shift=0`. One process has {PAGES:,} pages; {COPIES:,} of them have "
        "contents with five copies each. The estimate reads page frames out of `/proc/kcore`. "
        f"For the sample {ways['sampled']['whole']:,} pages were read whole."
    )
    head = ("way to look at a page", "instructions")
    return "\n\n".join(["## Estimate", method, table(head, rows)])


def goals(result: Result) -> list[Goal]:
    """A sample is much cheaper than a hash of everything."""
    times = cheaper(result, "hash")
    return [
        Goal(
            f"estimate from a sample: {CHEAPER:.0f} times cheaper than hashing every page",
            f"{times:.1f} times (BLAKE2b; SipHash: {cheaper(result, 'siphash'):.1f} times)",
            times >= CHEAPER,
            "it makes a system call, and some steps of Python, for each page; "
            "a scan by ksmd is not much cheaper",
        )
    ]


def main() -> None:
    """Measure, and keep the result."""
    samples = run("bench.estimate_guest", icount=True, memory="2G")
    ways = {
        sample["way"]: {key: value for key, value in sample.items() if key != "way"}
        for sample in samples
    }
    save(NAME, {"kernel": KERNEL, "ways": ways})


if __name__ == "__main__":
    main()
