"""Fuzzing inside a test kernel, as root: `python -m tests.fuzz.fuzz --seed 1 -- DAEMON-OPTION...`.

While a random program runs (ksmfuzz), the daemon counts. At each pause of the program its
snapshot must equal the page tables, to the page. Exit status 1: it did not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tests import node_oracle, oracle
from tests.fuzz import swap
from tests.fuzz.generator import Generator, Pause
from tests.fuzz.restarts import Restarts
from tests.kernel.compare import Counting, settled_snapshot
from tests.ksmctl import Ksm
from tests.waiting import Deadline, Pace

# A page on its way to another place is in neither count for a moment.
_ATTEMPTS = 3
# The daemon looks for unknown nodes within a hundredth of a core. So only each fourth pause waits
# for that; at the others, the nodes are compared that are known by then.
_KNOWN_SECONDS = 600
_KNOWN_EVERY = 4
_TRIES_PER_PREFIX = 3
# A program with fewer would show little about restarts.
_KILLS = 3
# Counts stay in doubt until they have been read: a read was put off, a file was opened again
# because an exec came between, or the walk of a family gave up. Emulated CPUs take turns, so a
# task that is changing the tree may stand still during all attempts of ksmd, on one CPU whenever
# it is preempted.
HARMLESS = ["families_changed", "mm_opened_unseen", "reads_disturbed"]
# Losses that follow from skipped runs, by the events that were skipped. The daemon reports them and
# sweeps for them. A wrong count is never one of them.
_CONSEQUENCES = {
    "conversions_unseen": {"merge", "protect"},
    "stale_accounts": {"mm_goes", "emptied"},
}


class DifferenceError(Exception):
    """A count was wrong."""


def counted(document: dict[str, Any]) -> dict[int, int]:
    """The sum over everything in the snapshot that has a pid."""
    sums: dict[int, int] = defaultdict(int)
    for process in document["processes"]:
        if process["mappings"]:
            sums[process["pid"]] += process["mappings"]
    return dict(sums)


def missed_runs(document: dict[str, Any]) -> dict[str, int]:
    """Runs that the kernel skipped, by event."""
    return {p["event"]: p["missed"] for p in document["probes"] if p["missed"]}


def twice(document: dict[str, Any]) -> list[int]:
    """Processes that are listed more than once."""
    pids = Counter(process["pid"] for process in document["processes"])
    return [pid for pid, times in pids.items() if times > 1]


def by_space(counts: Mapping[int, int], pause: Pause) -> dict[str, int]:
    """Counts by address space; for processes outside the program, by process."""
    return {
        f"mm {pause.spaces[pid]}" if pid in pause.spaces else f"pid {pid}": count
        for pid, count in counts.items()
    }


def misplaced(document: dict[str, Any]) -> list[str]:
    """Nodes of memory that are called known and are wrong. Counts must have been right before.

    Processes with one address space are one entry, under the name of one of them.
    """
    host = document["host"]
    if host["nodes"] is None:
        return []
    found, sums = [], Counter[str]()
    for each in document["processes"]:
        if each["nodes"]:
            sums.update(each["nodes"])
            truth = node_oracle.by_node(each["pid"])
            if truth != {int(node): pages for node, pages in each["nodes"].items()}:
                found.append(f"process {each['pid']}: on nodes {each['nodes']}, true {truth}")
    if +Counter(host["nodes"]) != sums:
        found.append(f"the host: on nodes {host['nodes']}, its processes {dict(sums)}")
    return found


def known(daemon: Counting) -> dict[str, Any]:
    """A snapshot in which all nodes are known, or the last one before the deadline."""
    # More looks would take the daemon's time on an emulated core.
    deadline, pace = Deadline(_KNOWN_SECONDS), Pace(2)
    while True:
        document = settled_snapshot(daemon)
        if not document["host"]["mappings_on_unknown_nodes"] or deadline.passed:
            return document
        pace.pause()


def misplaced_at_last(daemon: Counting) -> list[str]:
    """The same once all nodes are known, so that the program goes on with known ones."""
    began = time.monotonic()
    document = known(daemon)
    if unknown := document["host"]["mappings_on_unknown_nodes"]:
        return [f"the nodes of {unknown} mappings stay unknown"]
    print(f"all known after {time.monotonic() - began:.0f} s, {on_nodes(document)}", flush=True)
    return misplaced(document)


def expected_losses(document: dict[str, Any]) -> set[str]:
    """Losses that the probes explain."""
    missed = missed_runs(document).keys()
    return {loss for loss, events in _CONSEQUENCES.items() if events & missed}


def complaints(
    document: dict[str, Any], truth: Mapping[int, int], pause: Pause, tolerated: Collection[str]
) -> list[str]:
    """What is wrong with a snapshot, except for tolerated losses."""
    ours, real = by_space(counted(document), pause), by_space(truth, pause)
    found = [
        f"{space}: {ours.get(space, 0)} counted, {real.get(space, 0)} are true"
        for space in sorted({*ours, *real})
        if ours.get(space, 0) != real.get(space, 0)
    ]
    found += [f"pid {pid} is listed more than once" for pid in twice(document)]
    if document["host"]["confidence"] != "exact":
        found.append(f"{document['host']['confidence']}: {document['host']['reason']}")
    forgiven = {*tolerated, *expected_losses(document)}
    if document["totals"]["miscounted_mms"]:
        found.append(f"miscounted: {document['totals']}")
    if document["audit"]["surplus"] or document["audit"]["missing"]:
        found.append(f"the audit corrected: {document['audit']}")
    events = document["host"]["events"]
    # A daemon that continues with counts has missed attempts made while it took stock.
    too_many = events["copied"] > events["cow_attempts"] and not document["map"]["adopted"]
    if events["unattributed"] or too_many:
        found.append(f"COW breaks are not told from unmapping: {events}")
    found += [
        f"loss: {name} {count}"
        for name, count in document["losses"].items()
        if count and name not in forgiven
    ]
    return found


def describe(document: dict[str, Any], truth: Mapping[int, int], pause: Pause) -> str:
    """All that the daemon says about the processes that differ."""
    ours, real = by_space(counted(document), pause), by_space(truth, pause)
    wrong = {space for space in {*ours, *real} if ours.get(space) != real.get(space)}
    lines = [
        f"  process {pid} has {space}, true {truth.get(pid, 0)}"
        for pid in pause.spaces
        if (space := f"mm {pause.spaces[pid]}") in wrong
    ]
    lines += [
        f"  snapshot: {process}"
        for process in document["processes"]
        if wrong & by_space({process["pid"]: 0}, pause).keys()
    ]
    return "\n".join(lines)


def check(
    daemon: Counting, pause: Pause, tolerated: Collection[str], *, waits: bool = False
) -> dict[str, Any]:
    """The snapshot, if it is the truth. `waits`: until all nodes are known, which are compared."""
    for attempt in range(_ATTEMPTS):
        began = time.monotonic()
        document = settled_snapshot(daemon)
        settled = time.monotonic() - began
        truth = oracle.host()
        wrong = complaints(document, truth, pause, tolerated) or misplaced(document)
        if waits and not wrong:
            wrong = misplaced_at_last(daemon)
        if not wrong:
            break
        print(f"attempt {attempt}:", *wrong, sep="\n  ", flush=True)
    else:
        print(describe(document, truth, pause))
        print("totals", document["totals"], "losses", document["losses"])
        print("missed", missed_runs(document))
        raise DifferenceError
    spaces, events = set(pause.spaces.values()), document["host"]["events"]
    print(
        f"{'unmerged' if pause.unmerged else 'quiescent'} {pause.operations}: "
        f"{sum(counted(document).values())} mappings, {len(pause.spaces)} processes, "
        f"{len(spaces)} address spaces, {swap.used()} pages in swap, {on_nodes(document)}"
        f"{events['copied']} COW breaks, {events['unanswered_attempts']} more begun, "
        f"settled in {settled:.1f} s" + (f", at attempt {attempt + 1}" if attempt else ""),
        flush=True,
    )
    if pause.unmerged:
        report_leftovers(truth, pause)
    return document


def on_nodes(document: dict[str, Any]) -> str:
    """How many mappings are known to be on which node of memory, if there are several."""
    nodes = document["host"]["nodes"]
    return "" if nodes is None else f"on nodes {nodes}, "


def report_leftovers(truth: Mapping[int, int], pause: Pause) -> None:
    """Where there are KSM pages although everything was unmerged."""
    for pid in truth:
        for area in oracle.areas(pid):
            if area.pages:
                print(
                    f"  left in process {pid} (mm {pause.spaces.get(pid)}): {area.pages} at "
                    f"{area.start:x}-{area.end:x} {' '.join(sorted(area.flags))}"
                )


def settings_of(seed: int) -> dict[str, int]:
    """Ksmd's settings for a seed: chains of stable nodes or none, zero pages or not."""
    # On emulated cores, a faster ksmd leaves no time to the processes.
    settings = {"pages_to_scan": 500, "sleep_millisecs": 20}
    settings["use_zero_pages"] = seed % 2
    settings["max_page_sharing"] = (256, 2, 7)[seed % 3]
    if Path("/sys/devices/system/node/node1").exists():
        settings["merge_across_nodes"] = seed // 4 % 2
    if Ksm.has("smart_scan"):
        settings["smart_scan"] = seed // 2 % 2
    return settings


def fuzz(arguments: argparse.Namespace, operations: int) -> bool:
    """Whether the counts were right at all pauses of a program."""
    began = time.monotonic()
    paused = 0.0
    document = None
    options = [f"--without={verb}" for verb in arguments.without]
    if arguments.print:
        options.append("--print")
    with (
        Ksm(**settings_of(arguments.seed)),
        Restarts(arguments.daemon, arguments.restart) as restarts,
        Generator(arguments.seed, operations, arguments.pause, *options) as generator,
    ):
        ready = time.monotonic()
        print(f"seed {arguments.seed}: the daemon is ready in {ready - began:.0f} s", flush=True)
        print("ksmd:", settings_of(arguments.seed))
        for number, pause in enumerate(generator, 1):
            stopped = time.monotonic()
            with restarts.daemon() as daemon:
                try:
                    waits = number % _KNOWN_EVERY == 1
                    document = check(daemon, pause, arguments.tolerate, waits=waits)
                except DifferenceError:
                    print(*daemon.log()[-20:], sep="\n")
                    print(f"DIFFERENCE: seed {arguments.seed}, at operation {pause.operations}")
                    return False
            paused += time.monotonic() - stopped
            restarts.want(number)
        ran = time.monotonic() - ready - paused
        print(f"{operations} operations, {operations / ran:.0f} per second")
        print(*generator.counters, sep="\n")
        print("totals", document and document["totals"])
        print("missed", document and missed_runs(document))
        print(f"the daemon was killed {restarts.kills} times")
        if arguments.restart and restarts.kills < _KILLS:
            print(f"TOO FEW: at least {_KILLS} kills were wanted; use more operations")
            return False
    return True


def shrink(arguments: argparse.Namespace) -> int:
    """The length of the shortest prefix that was seen to fail."""
    works, fails = 0, arguments.ops
    while fails - works > max(1, fails // 50):
        middle = (works + fails) // 2
        if all(fuzz(arguments, middle) for _ in range(_TRIES_PER_PREFIX)):
            works = middle
        else:
            fails = middle
    return int(fails)


def main(argv: list[str]) -> int:
    """Run it; 0 if no difference was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds, one after another")
    parser.add_argument("--ops", type=int, default=20000)
    parser.add_argument("--pause", type=int, default=2000)
    parser.add_argument("--print", action="store_true", help="each operation, on stderr")
    parser.add_argument("--without", action="append", default=[], metavar="VERB")
    parser.add_argument("--tolerate", action="append", default=HARMLESS, metavar="LOSS")
    parser.add_argument(
        "--restart",
        type=float,
        default=0,
        metavar="SECONDS",
        help="kill -9 the daemon when it has lived so long, on a slow machine longer",
    )
    parser.add_argument("--shrink", action="store_true", help="find a short prefix that fails")
    parser.add_argument("daemon", nargs="*", help="options of the daemon, after --")
    arguments = parser.parse_args(argv)
    failed = []
    with swap.ready():
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            arguments.seed = seed
            if not fuzz(arguments, arguments.ops):
                failed.append(seed)
                if arguments.shrink:
                    print(f"the shortest prefix that failed: {shrink(arguments)}")
    print("seeds with differences:", failed or "none")
    return 1 if failed else 0


def shortly(*options: str) -> int:
    """2,000 operations, compared four times and once more when all is unmerged; no audit."""
    return main(["--ops", "2000", "--pause", "500", *options, "--", "--audit.cpu-percent=0"])


def at_length(operations: int, seed: int, *daemon: str) -> int:
    """Compared after each 2,000 operations; no audit, which would hide errors."""
    program = [f"--ops={operations}", f"--seed={seed}"]
    return main([*program, "--", "--audit.cpu-percent=0", *daemon])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
