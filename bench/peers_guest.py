"""Inside a test kernel whose clock counts instructions: ksmwatch and its peers, asked in turn.

`python -m bench.peers_guest PROCESSES PAGES BASELINE` prints lines `sample JSON`: for each tool CPU
seconds for an answer (billions of instructions), and for a minute with four, resident memory, and
the number that it gives before and after some pages were written to and some processes ended.
BASELINE is the command of an earlier ksmwatch.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.crowd import Auditing, Crowd, cpu_seconds, lasting_family, pss_bytes, ruler
from tests import oracle
from tests.children import running
from tests.debs import program
from tests.kernel.daemon import Daemon, free_port
from tests.ksmctl import Ksm
from tests.waiting import wait_until

_QUICK = {"pages_to_scan": 20_000, "sleep_millisecs": 1}
_ROUNDS = 3
_ASKED = 4
_SCAN = Path(__file__).resolve().parents[1] / "tests/workload/build/pagescan"


@dataclass(frozen=True)
class Tool:
    """A way to know. `ask` returns its number of KSM PTEs on the host, None if it has none.

    `used`: CPU seconds so far; `memory`: bytes.
    """

    name: str
    ask: Callable[[], int | None]
    used: Callable[[], float]
    memory: Callable[[], int]


def _resident(name: str, ask: Callable[[], int | None], pids: Callable[[], list[int]]) -> Tool:
    """One that runs all the time, as these processes."""
    return Tool(name, ask, lambda: cpu_seconds(pids()), lambda: pss_bytes(pids()))


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return str(answer.read().decode())


def _number(text: str, name: str) -> int:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return int(float(found[1]))


@contextmanager
def _exporter(package: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A Debian package's exporter on a port of its own, as soon as it answers."""
    port = free_port()
    flag = "-web.listen-address" if package.endswith("process-exporter") else "--web.listen-address"
    with running([program(package, package), *options, f"{flag}=127.0.0.1:{port}"]) as child:
        wait_until(lambda: _answers(port), f"{package} does not answer")
        yield child, port


def _answers(port: int) -> bool:
    try:
        _get(port)
    except OSError:
        return False
    return True


@contextmanager
def ksmwatch() -> Iterator[Tool]:
    """The daemon, scraped, once it has seen each process."""
    auditing = Auditing()
    with Daemon("--backend=bpf", *auditing.options) as daemon:
        auditing.finish(daemon)
        yield _scraped("ksmwatch", daemon)


@contextmanager
def baseline(program: str) -> Iterator[Tool]:
    """An earlier one, whose audit never pauses."""
    with Daemon("--backend=bpf", program=program) as daemon:
        yield _scraped("baseline", daemon)


def _scraped(name: str, daemon: Daemon) -> Tool:
    return _resident(
        name,
        lambda: _number(daemon.metrics(), "ksmwatch_mappings"),
        lambda: lasting_family(daemon.process.pid),
    )


@contextmanager
def node_exporter() -> Iterator[Tool]:
    """Its ksmd collector alone."""
    options = ("--collector.disable-defaults", "--collector.ksmd")
    with _exporter("prometheus-node-exporter", *options) as (child, port):

        def ask() -> int:
            text = _get(port)
            return _number(text, "node_ksmd_pages_shared") + _number(
                text, "node_ksmd_pages_sharing"
            )

        yield _resident("node_exporter", ask, lambda: [child.pid])


@contextmanager
def process_exporter() -> Iterator[Tool]:
    """With smaps, as by default: the nearest thing it has is proportional memory."""
    with _exporter("prometheus-process-exporter", "-procnames", "crowd") as (child, port):

        def ask() -> None:
            assert "namedprocess_namegroup_memory_bytes" in _get(port)

        yield _resident("process-exporter", ask, lambda: [child.pid])


@contextmanager
def smaps_poller() -> Iterator[Tool]:
    """bench/smaps_poller.py."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.smaps_poller"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        into, out = child.stdin, child.stdout

        def ask() -> int:
            into.write("\n")
            into.flush()
            return int(out.readline().split()[0])

        yield _resident("smaps_rollup", ask, lambda: [child.pid])


@contextmanager
def page_scan() -> Iterator[Tool]:
    """tests/workload/pagescan.c, started for each answer as page-types is."""
    used = [0.0]
    memory = [0]

    def ask() -> int:
        pids = [each.name for each in Path("/proc").iterdir() if each.name.isdigit()]
        pipe = subprocess.PIPE
        with subprocess.Popen([_SCAN, *pids], stdin=pipe, stdout=pipe, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            said = child.stdout.read()
            # Not ru_maxrss, which is at least ours: findings/maximum-rss-is-the-parents.sh.
            memory.append(pss_bytes([child.pid]))
            child.stdin.close()
            _, child.returncode, usage = os.wait4(child.pid, 0)
        used.append(usage.ru_utime + usage.ru_stime)
        return int(said.rpartition("sum ")[2])

    yield Tool("pagemap scan", ask, lambda: sum(used), lambda: max(memory))


def _cost(tool: Tool) -> float:
    """CPU seconds of an answer: the median of some."""
    found = []
    for _ in range(_ROUNDS):
        # ksmwatch may answer a scrape from the last one for a second.
        time.sleep(1.2)
        before = tool.used()
        tool.ask()
        found.append(tool.used() - before)
    return statistics.median(found)


def _minute(tool: Tool) -> float:
    """CPU seconds in a minute with some answers."""
    before = tool.used()
    for _ in range(_ASKED):
        time.sleep(60 / _ASKED)
        tool.ask()
    return tool.used() - before


def measure(tool: Tool, crowd: Crowd) -> None:
    """One tool; the truth is read from the page tables before each of its two numbers."""
    tool.ask()
    cost, minute, memory = _cost(tool), _minute(tool), tool.memory()
    numbers = []
    for change in (None, ("touch", crowd.merging // 2), ("end", crowd.merging // 10)):
        if change is not None:
            crowd.do(*change)
            # A scrape may be a second old.
            time.sleep(1.2)
        numbers.append({"truth": sum(oracle.host().values()), "found": tool.ask()})
    report = {
        "tool": tool.name,
        "cost": cost,
        "minute": minute,
        "memory": memory,
        "numbers": numbers,
    }
    print("sample", json.dumps(report), flush=True)


def main(argv: list[str]) -> int:
    """Each tool on a crowd of its own, all alike."""
    processes, pages = map(int, argv[:2])
    before = partial(baseline, argv[2])
    print("sample", json.dumps({"tool": "ruler", "seconds": ruler()}), flush=True)
    for make in (ksmwatch, before, node_exporter, process_exporter, smaps_poller, page_scan):
        with (
            Ksm(**_QUICK) as ksm,
            Crowd(processes, processes, pages, ksm=ksm, fork=False) as crowd,
            make() as tool,
        ):
            measure(tool, crowd)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
