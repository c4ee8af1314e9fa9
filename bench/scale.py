"""`make bench-scale`: how the daemon's cost grows with processes and with merged pages.

`python -m bench.scale scrapes` measures only the crowds that belong to many owners, and keeps what
was measured last of the others, and how long instructions took then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bench.baseline import COMMIT, program
from bench.guests import Sample, at_rest, method, milliseconds, run, with_ruler
from bench.results import Goal, Result, load, save, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "scale"
# Processes, and merged pages of each. All are forked from one process with these pages.
_SIZES = ((10, 1_000), (100, 1_000), (1_000, 1_000), (1_000, 10_000), (10_000, 100))
_CASES = [f"{processes}:{processes}:{pages}:fork" for processes, pages in _SIZES]
_POLLED = "1000:1000:10000:fork"
_INTERVAL_SECONDS = 15
_FACTOR = 80
# Crowds whose processes belong to so many owners; some are measured with the baseline, too.
_SCRAPED = "1000:1000:20:fork:owners=50"
_SCRAPED_MORE = "1000:1000:20:fork:owners=500"
_SCRAPED_LARGE = "10000:10000:20:fork:owners=50"
_BASELINE = "baseline "
_SCRAPES = (_SCRAPED, _SCRAPED_MORE, _SCRAPED_LARGE)
_BESIDE = (_SCRAPED, _SCRAPED_LARGE)
# How much less a scrape shall take than the baseline's, by what has moved before it.
_LESS = {"": ("nothing", 30.0), " some": ("1 %", 12.0), " all": ("all", 2.5)}
# What stands in the way.
_WHY_NOT = {
    "": "most of such a scrape does not depend on the processes: HTTP, numbers of the host, and "
    "looks at every probe",
    " some": "a quarter of it is what a scrape takes when nothing moved, and a seventh compresses "
    "lines: each move changes every owner's share of the saving; the rest is spread over some "
    "fifteen stages, of which none takes much",
    " all": "a moved process is counted, named and added up again in Python; only its record is "
    "unpacked, and its numbers are added up, in loops in C",
}
_MOST_GROWTH = 1.5
_MIB = 1 << 20
_METHOD = """`make bench-scale`, {date}, Linux {kernel}. Processes are forked from one whose pages
are merged, so that many processes have many pages; ksmd is stopped and knows no page of theirs. *In
15 s* is CPU time in milliseconds: a quarter of what the daemon uses in a minute in which it is
scraped every 15 s, and one round of a script through smaps_rollup of every process
(`bench/smaps_poller.py`). Before, the daemon's audit has read each process once; that takes longer
with 10,000, for which the audit's whole allowance is added. A process has written to a page, too:
the first change after all were added up takes more. Not measured: 10,000 processes with more than
100 pages each."""
_SCRAPES_METHOD = """A scrape with series by owner, compressed, by a connection that stays, as
Prometheus does it. The processes have 20 merged pages each, and belong to real cgroups, one for
each owner. CPU time in milliseconds, the median of 3: after nothing has moved, a page in 1 % of
the processes, or one in each. *x* is the ratio of {commit}, an earlier commit, measured in the
same guest, to the present version."""


def daemon_interval(result: Result, case: str) -> float:
    """CPU milliseconds of the daemon in 15 seconds, with one scrape."""
    found = result["cases"][case]
    share = at_rest(result, found["minute"] / 60, audits=not found["audited"])
    return 1000 * _INTERVAL_SECONDS * share


def _row(result: Result, case: str) -> tuple[object, ...]:
    processes, _, pages, _ = case.split(":")
    mappings = int(processes) * int(pages)
    found = result["cases"].get(case, {"failed": True})
    if found.get("failed"):
        return (f"{int(processes):,}", f"{mappings:,}", *["not measured"] * 7)
    ours, theirs = daemon_interval(result, case), milliseconds(result, found["smaps"])
    return (
        f"{int(processes):,}",
        f"{mappings:,}",
        f"{milliseconds(result, found['snapshot']):.1f}",
        f"{milliseconds(result, found['scrape']):.1f}",
        f"{ours:.1f}",
        f"{theirs:.1f}",
        f"{theirs / ours:.1f} x",
        f"{found['pss'] / _MIB:.1f}",
        f"{found['map_bytes'] / _MIB:.1f}",
    )


def section(result: Result) -> str:
    """Method and table."""
    head = (
        *("processes", "merged pages", "snapshot, ms", "scrape, ms", "ksmwatch in 15 s"),
        *("smaps_rollup in 15 s", "", "PSS, MiB", "BPF maps, MiB"),
    )
    rows = [_row(result, case) for case in _CASES]
    parts = ["## Scale", _METHOD.format(**result), method(result), table(head, rows), _PICTURE]
    titles = ("processes", "owners", "bytes", "none, 1 %, all moved", COMMIT, "x")
    scrapes = table(titles, _scrape_rows(result))
    return "\n\n".join([*parts, _SCRAPES_METHOD.format(commit=COMMIT), scrapes])


def _scrapes(result: Result, case: str) -> list[float] | None:
    """Milliseconds of a scrape, by what has moved before it."""
    found = result["cases"].get(case, {"failed": True})
    if found.get("failed"):
        return None
    return [milliseconds(result, found[f"scrape{moved}"]) for moved in _LESS]


def _scrape_rows(result: Result) -> Iterator[tuple[str, ...]]:
    for case in _SCRAPES:
        processes, *_, owners = case.split(":")
        head = (f"{int(processes):,}", owners.removeprefix("owners="))
        ours, theirs = _scrapes(result, case), _scrapes(result, _BASELINE + case)
        if ours is None:
            yield (*head, *["not measured"] * 2, "-", "-")
            continue
        size = f"{result['cases'][case]['scrape_bytes']:,}"
        before, ratios = "-", "-"
        if theirs is not None:
            before = _list(theirs)
            ratios = _list([then / now for then, now in zip(theirs, ours, strict=True)])
        yield (*head, size, _list(ours), before, ratios)


def _list(numbers: list[float]) -> str:
    return ", ".join(f"{number:.1f}" for number in numbers)


_PICTURE = "![CPU time in 15 seconds, by merged pages](overhead-scale.svg)"


def figures(result: Result) -> dict[str, Figure]:
    """CPU time in 15 seconds by merged pages, of the daemon and of the script."""
    from matplotlib.figure import Figure

    every = {case: result["cases"].get(case, {"failed": True}) for case in _CASES}
    found = {case: one for case, one in every.items() if not one.get("failed")}
    points = sorted((one["processes"] * one["pages"], case) for case, one in found.items())
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    pages = [number for number, _ in points]
    ours = [daemon_interval(result, case) for _, case in points]
    theirs = [milliseconds(result, found[case]["smaps"]) for _, case in points]
    for label, values in (("ksmwatch, scraped once", ours), ("smaps_rollup of all", theirs)):
        axes.loglog(pages, values, "o", label=label)
    for (number, case), value in zip(points, ours, strict=True):
        axes.annotate(
            f"{found[case]['processes']:,} processes",
            (number, value),
            xytext=(0, -11),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axes.margins(0.12)
    axes.set_xlabel("merged pages on the host")
    axes.set_ylabel("ms of CPU in 15 s")
    axes.legend()
    return {"overhead-scale.svg": figure}


def goals(result: Result) -> list[Goal]:
    """The goals that polling costs much more, and that a scrape costs less than it did."""
    found = result["cases"][_POLLED]
    factor = milliseconds(result, found["smaps"]) / daemon_interval(result, _POLLED)
    return [
        Goal(
            f"{_FACTOR} x less CPU than polling smaps_rollup at 15 s, for 1,000 processes that "
            "each have 10,000 merged pages",
            f"{factor:.0f} x",
            factor >= _FACTOR,
            _why(result),
        ),
        *_scrape_goals(result),
    ]


def _scrape_goals(result: Result) -> Iterator[Goal]:
    ours, theirs = _scrapes(result, _SCRAPED), _scrapes(result, _BASELINE + _SCRAPED)
    if ours and theirs:
        for now, then, (moved, (what, least)) in zip(ours, theirs, _LESS.items(), strict=True):
            yield Goal(
                f"a scrape of 1,000 processes and 50 owners, when {what} moved, beside {COMMIT}: "
                f"{least:g} x less CPU time",
                f"{then / now:.3g} x ({now:.1f} ms instead of {then:.1f})",
                then >= least * now,
                _WHY_NOT[moved],
            )
    large, before = _scrapes(result, _SCRAPED_LARGE), _scrapes(result, _BASELINE + _SCRAPED_LARGE)
    if ours and large:
        growth = large[0] / ours[0]
        grew = f" ({COMMIT}: {before[0] / theirs[0]:.3g} x)" if theirs and before else ""
        yield Goal(
            "a scrape of 10,000 processes, when nothing moved: at most "
            f"{_MOST_GROWTH} x that of 1,000",
            f"{growth:.3g} x{grew}",
            growth <= _MOST_GROWTH,
            _WHY_GROWTH,
        )


_WHY_GROWTH = "something is done for each process although nothing has moved"


def _why(result: Result) -> str:
    """What the daemon spends its time on, compared with a round through all page tables."""
    found = result["cases"][_POLLED]
    ours = daemon_interval(result, _POLLED)
    scrape = milliseconds(result, found["scrape"])
    allowed = milliseconds(result, found["smaps"]) / _FACTOR
    return f"of {ours:.1f} ms in 15 s, {scrape:.1f} are the scrape; the goal allows {allowed:.1f}"


def _measure(cases: Sequence[str]) -> list[Sample]:
    """Some cases, in a guest of their own."""
    return run("bench.daemon_guest", str(program()), *cases, icount=True, memory="6G")


def main(argv: list[str]) -> int:
    """Measure, and keep the result."""
    # What goals are about comes first.
    polled = sorted(_CASES, key=lambda case: case != _POLLED)
    beside = [prefix + case for case in _BESIDE for prefix in ("", _BASELINE)]
    scrapes = [*beside, _SCRAPED_MORE]
    only = argv == ["scrapes"]
    guests = [scrapes] if only else [polled, scrapes]
    with ThreadPoolExecutor(len(guests)) as pool:
        samples = [sample for found in pool.map(_measure, guests) for sample in found]
    result = with_ruler(samples, "case")
    if only and (before := load(NAME)) is not None:
        kept = {name: each for name, each in before.items() if name != "date"}
        result = {**kept, "cases": {**before["cases"], **result["cases"]}}
    save(NAME, result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
