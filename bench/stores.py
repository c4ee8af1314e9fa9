"""`make bench-stores`: what a store of a fleet costs, fed with 2,000 invented hosts."""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.results import Goal, Result, save, table
from bench.store_feed import requests, send
from tests.debs import unpacked
from tests.panels import fleet_queries
from tests.prometheus import query
from tests.stores.programs import Server, receiving_prometheus, victoria_metrics
from tests.waiting import wait_until

NAME = "stores"
LARGE = 10_000
SCRAPE_SECONDS = 30
_HOUR = 3600
_DAY = 86_400
STORES = {"victoria-metrics": "VictoriaMetrics", "prometheus": "Prometheus"}

Found = Mapping[str, float]

_METHOD = """`make bench-stores`, {date}, on the machine itself, with Debian's packages
({versions}). Invented hosts are scraped every {interval} s of simulated
time, and sent by remote write as fast as the store takes them: {fleet.hosts:,} hosts and
{fleet.scrapes} scrapes with the series of the fleet dashboard, and {everything.hosts:,} hosts and
{everything.scrapes} scrapes with all series. Gauges wander, counters grow, states stay. CPU time is
the store's, user and system. *Disk* is index and data after a shutdown; for Prometheus it is a
block, without the write-ahead log. *Memory* is resident, at the end. *Dashboard* is every query of
the fleet dashboard, with a point every {interval} s, over the whole time. The machine had other
work to do, which can only make CPU times longer."""
_EXTRAPOLATED = """For {large:,} hosts, extrapolated: CPU time, memory, disk and the dashboard are
assumed to grow with the number of hosts. No run had that many. In the short run with all series
most of the disk is index, so neither its disk nor its dashboard is extrapolated."""


@dataclass(frozen=True)
class Load:
    """What a store is fed with."""

    sent: str
    hosts: int
    scrapes: int


LOADS = {
    "fleet": Load("for the fleet dashboard", 2000, 120),
    "everything": Load("everything, 50 owners", 500, 20),
}


def _cells(result: Result, columns: Callable[[Found, Load], Sequence[str]]) -> list[list[str]]:
    """A row for each store and load."""
    return [
        [name, load.sent, *columns(result["stores"][f"{store} {key}"], load)]
        for store, name in STORES.items()
        for key, load in LOADS.items()
    ]


def _measured(found: Found, load: Load) -> list[str]:
    return [
        f"{load.hosts:,}",
        f"{found['series']:,.0f}",
        f"{found['samples'] / found['cpu']:,.0f}",
        f"{found['disk'] / found['samples']:.2f}",
        f"{found['memory'] / 1e6:,.0f}",
        f"{found['dashboard cpu']:.2f}",
    ]


def _large(found: Found, load: Load) -> list[str]:
    factor = LARGE / load.hosts
    rate = found["series"] * factor / SCRAPE_SECONDS
    # In a shorter run most of the disk is index, and the dashboard shows less.
    whole = load.scrapes * SCRAPE_SECONDS >= _HOUR
    day = rate * _DAY * found["disk"] / found["samples"]
    return [
        f"{rate:,.0f}",
        f"{rate * found['cpu'] / found['samples']:.2f}",
        f"{factor * found['memory'] / 1e9:,.1f}",
        f"{day / 1e9:,.1f}" if whole else "-",
        f"{factor * found['dashboard cpu']:,.0f}" if whole else "-",
    ]


def measured_table(result: Result) -> str:
    head = (
        *("store", "series of a host", "hosts", "series", "samples a CPU second"),
        *("disk, bytes a sample", "memory, MB", "dashboard, CPU s"),
    )
    return table(head, _cells(result, _measured))


def large_table(result: Result) -> str:
    """The same for a large fleet; docs/fleet.md shows it."""
    head = (
        *("store", "series of a host", "samples a second", "cores to take them"),
        *("memory, GB", "disk, GB a day", "dashboard of an hour, CPU s"),
    )
    return table(head, _cells(result, _large))


def section(result: Result) -> str:
    """Method and tables."""
    method = _METHOD.format(**{**result, **LOADS}, interval=SCRAPE_SECONDS)
    extrapolated = _EXTRAPOLATED.format(large=LARGE)
    parts = ["## Stores", method, measured_table(result), extrapolated, large_table(result)]
    return "\n\n".join(parts)


def goals(_: Result) -> list[Goal]:
    """None: these are costs of other programs."""
    return []


# ---- measuring ----


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _size(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def _disk(server: Server, name: str, directory: Path) -> int:
    """The space of the samples on disk, in the long run."""
    if name == "victoria-metrics":
        server.stop()
        return _size(directory)
    url = f"http://127.0.0.1:{server.port}/api/v1/admin/tsdb/snapshot"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")):
        return sum(map(_size, directory.rglob("snapshots")))


def _dashboard(port: int, begin: int, end: int) -> None:
    """Ask what the fleet dashboard asks."""
    for expression in fleet_queries(6 * SCRAPE_SECONDS):
        asked = {
            "query": expression,
            "start": begin,
            "end": end,
            "step": SCRAPE_SECONDS,
            "nocache": 1,
        }
        url = f"http://127.0.0.1:{port}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url) as answer:
            assert json.load(answer)["data"]["result"], expression


def _fed(server: Server, name: str, load: Load) -> dict[str, float]:
    """Feed a store, and ask it."""
    chance = np.random.default_rng(1)
    prepared = list(requests(load.hosts, everything=name == "everything"))
    client = http.client.HTTPConnection("127.0.0.1", server.port)
    first = int(time.time()) - load.scrapes * SCRAPE_SECONDS
    end = first + (load.scrapes - 1) * SCRAPE_SECONDS
    began = _cpu(server.pid)
    for at in range(first, end + 1, SCRAPE_SECONDS):
        for request in prepared:
            send(client, request.body(at, chance))
    wait_until(
        lambda: (
            [float(row["value"][1]) for row in query(server.port, "count(up)", end)] == [load.hosts]
        ),
        "not all hosts are there",
    )
    series = sum(map(len, prepared))
    fed = _cpu(server.pid)
    _dashboard(server.port, first, end)
    return {
        "series": series,
        "samples": series * load.scrapes,
        "cpu": fed - began,
        "dashboard cpu": _cpu(server.pid) - fed,
        "memory": _memory(server.pid),
    }


def measure(store: str, name: str, load: Load) -> dict[str, float]:
    """One store, one load."""
    start = {"victoria-metrics": victoria_metrics, "prometheus": receiving_prometheus}[store]
    with tempfile.TemporaryDirectory() as text, start(Path(text)) as server:
        found = _fed(server, name, load)
        return found | {"disk": _disk(server, store, Path(text))}


def _version(package: str) -> str:
    return (unpacked(package) / ".complete").read_text().rpartition("_")[0].replace("_", " ")


def main() -> int:
    """Measure, and keep the result."""
    found = {}
    for store in STORES:
        for name, load in LOADS.items():
            measured = measure(store, name, load)
            print(store, name, json.dumps(measured), flush=True)
            found[f"{store} {name}"] = measured
    versions = ", ".join(map(_version, STORES))
    save(NAME, {"versions": versions, "stores": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
