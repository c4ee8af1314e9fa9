"""Inside a test kernel whose clock counts instructions: what the daemon uses.

`python -m bench.daemon_guest BASELINE CASE...` prints lines `sample JSON`. The clock of such a
guest goes on by one nanosecond with each instruction, so CPU seconds are billions of instructions,
and are the same every time. A case is `start`, `commands`, `programs`, `asleep`, `churn`, or
PROCESSES:MERGING:PAGES, perhaps with `:fork`, and with `:rest` or `:owners=N`. After `baseline `,
the daemon is that of the command BASELINE.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.crowd import (
    Auditing,
    Crowd,
    churn,
    cpu_seconds,
    lasting_family,
    pss_bytes,
    resident_once,
    ruler,
    share_at_rest,
    voluntary_switches,
)
from bench.smaps_poller import poll
from bench.start_guest import OPTIONS, measure_commands, measure_programs, measure_starts
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm

# As long as the longest pause of a daemon in which nothing moves.
_QUIET_SECONDS = 60
_CHURN_SECONDS = 15
_SCRAPES_A_MINUTE = 4
_SETTLE_SECONDS = 120
_ROUNDS = 3
# Older than what a scrape may be served from.
_CACHE_SECONDS = 1.2
_QUICK = {"pages_to_scan": 20_000, "sleep_millisecs": 1}
# With more, an audit takes longer than anybody would wait for this.
_AUDITED_PROCESSES = 1_000
_CGROUPS = Path("/sys/fs/cgroup/system.slice")


@dataclass(frozen=True)
class Build:
    """A ksmwatch: its command, and what the names of its samples begin with."""

    program: str = "ksmwatch"
    prefix: str = ""

    def daemon(self, *options: str) -> Daemon:
        """With the least that it needs."""
        return Daemon(*OPTIONS, *options, program=self.program)

    def report(self, name: str, **numbers: Any) -> None:
        """Print a sample."""
        print("sample", json.dumps({"case": self.prefix + name, **numbers}), flush=True)


def used(daemon: Daemon, action: Callable[[], object]) -> float:
    """CPU seconds that the daemon's processes use for something, the median of some times."""
    pids = lasting_family(daemon.process.pid)
    found = []
    for _ in range(_ROUNDS):
        time.sleep(_CACHE_SECONDS)
        before = cpu_seconds(pids)
        action()
        found.append(cpu_seconds(pids) - before)
    return statistics.median(found)


def settled(daemon: Daemon) -> dict[str, Any]:
    """The first snapshot that is exact."""
    document = settled_snapshot(daemon, seconds=_SETTLE_SECONDS)
    assert document["host"]["confidence"] == "exact", document["host"]
    return document


def smaps_seconds() -> float:
    """CPU seconds to read smaps_rollup of all processes, as a script does."""
    began = time.process_time()
    poll()
    return time.process_time() - began


class Scraper:
    """Asks as Prometheus does: compressed, and always by the same connection."""

    def __init__(self, daemon: Daemon) -> None:
        self.connection = HTTPConnection("127.0.0.1", daemon.port)

    def __call__(self) -> bytes:
        """The page as it was sent."""
        self.connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        answer = self.connection.getresponse()
        assert answer.headers["Content-Encoding"] == "gzip"
        return answer.read()


def divide(crowd: Crowd, owners: int) -> None:
    """Move the processes to cgroups, each of which is an owner."""
    for number in range(owners):
        (_CGROUPS / f"tenant-{number}.service").mkdir(parents=True, exist_ok=True)
    for number, pid in enumerate(crowd.children()):
        place = _CGROUPS / f"tenant-{number % owners}.service"
        (place / "cgroup.procs").write_text(str(pid))


def measure_crowd(build: Build, name: str) -> None:
    """One crowd, and all that the daemon is asked."""
    words = name.split(":")
    processes, merging, pages = map(int, words[:3])
    owners = next((int(word[7:]) for word in words if word.startswith("owners=")), 0)
    fork = "fork" in words
    auditing, audited = Auditing(), not owners and processes <= _AUDITED_PROCESSES
    options = (*auditing.options,) if audited else (f"--owners.top={owners + 5}",)
    with (
        Ksm(**_QUICK) as ksm,
        Crowd(processes, merging, pages, ksm=ksm, fork=fork) as crowd,
        ExitStack() as cleanup,
    ):
        if owners:
            divide(crowd, owners)
        # Now, not before: it would audit all processes whose pages were merged since its start.
        daemon = cleanup.enter_context(build.daemon(*options))
        document = settled(daemon)
        # Forked, the process that they were forked from has them too.
        assert document["host"]["mappings"] == (merging + fork) * pages, document["host"]
        if audited:
            auditing.finish(daemon)
        # As in a daemon that has run for some time: sums are kept by difference since a change. It
        # is seen only by a snapshot that is made after it, and which no scrape has cached.
        crowd.do("touch", 1)
        scrape = Scraper(daemon)
        cleanup.callback(scrape.connection.close)
        # The first may come before a second is over in which nothing has moved.
        for _ in range(2):
            time.sleep(_CACHE_SECONDS)
            scrape()
        still = used(daemon, scrape)
        if owners:
            asked = after_moves(daemon, crowd, scrape)
        else:
            asked = undisturbed(daemon, scrape, rest="rest" in words)
        build.report(
            name,
            processes=processes,
            pages=pages,
            owners=len(document["owners"]),
            audited=audited,
            scrape=still,
            scrape_bytes=len(scrape()),
            **asked,
        )


def undisturbed(daemon: Daemon, scrape: Scraper, *, rest: bool) -> dict[str, float]:
    """What it uses if nothing moves, scraped or at rest, and what a script uses."""
    if rest:
        lasting = {"rest": share_at_rest(daemon, _QUIET_SECONDS)}
    else:
        lasting = {"minute": minute(daemon, scrape)}
    return {
        "snapshot": used(daemon, daemon.snapshot),
        **lasting,
        "pss": pss_bytes(lasting_family(daemon.process.pid)),
        "map_bytes": daemon.snapshot()["map"]["memory_bytes"],
        "smaps": smaps_seconds(),
    }


def minute(daemon: Daemon, scrape: Scraper) -> float:
    """CPU seconds in a minute with four scrapes."""
    pids = lasting_family(daemon.process.pid)
    before = cpu_seconds(pids)
    for _ in range(_SCRAPES_A_MINUTE):
        time.sleep(60 / _SCRAPES_A_MINUTE)
        scrape()
    return cpu_seconds(pids) - before


def after_moves(daemon: Daemon, crowd: Crowd, scrape: Scraper) -> dict[str, float]:
    """A scrape each time that some processes have written to a page, or all have."""

    def after(number: int) -> None:
        crowd.do("touch", number)
        scrape()

    return {
        "scrape some": used(daemon, lambda: after(max(1, crowd.merging // 100))),
        "scrape all": used(daemon, lambda: after(crowd.merging)),
    }


def measure_asleep(build: Build) -> None:
    """Without a KSM page on the host."""
    with Ksm(**_QUICK), build.daemon() as daemon:
        settled(daemon)
        pids = lasting_family(daemon.process.pid)
        # Until what the start has left to do is done.
        time.sleep(_CACHE_SECONDS)
        before = voluntary_switches(pids)
        share = share_at_rest(daemon, _QUIET_SECONDS)
        minute = 60 / _QUIET_SECONDS * (voluntary_switches(pids) - before)
        build.report("asleep", rest=share, wakeups=minute, memory=resident_once(pids))


def measure_churn(build: Build) -> None:
    """While a thousand processes a second begin and end."""
    with Ksm(**_QUICK) as ksm, build.daemon() as daemon:
        for name, pages in (("churn", 0), ("churn with KSM pages", 20)):
            with churn(1000, _CHURN_SECONDS + 5, pages, ksm) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write("\n")
                child.stdin.flush()
                before = time.monotonic()
                share = share_at_rest(daemon, _CHURN_SECONDS)
                forks = int(child.stdout.readline())
                build.report(name, rest=share, forks=forks / (time.monotonic() - before))


def measure(build: Build, case: str) -> None:
    if case == "start":
        measure_starts(build.report, build.program, keeps_programs=not build.prefix)
    elif case == "commands":
        measure_commands(build.report, build.program)
    elif case == "programs":
        measure_programs(build.report)
    elif case == "asleep":
        measure_asleep(build)
    elif case == "churn":
        measure_churn(build)
    else:
        measure_crowd(build, case)


def main(argv: list[str]) -> int:
    """Measure the cases in turn."""
    baseline, *cases = argv
    Build().report("ruler", seconds=ruler())
    for words in cases:
        case = words.removeprefix("baseline ")
        build = Build() if case == words else Build(baseline, "baseline ")
        try:
            measure(build, case)
        except (AssertionError, OSError, RuntimeError):
            # The others are worth having.
            traceback.print_exc()
            build.report(case, failed=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
