"""`make test-fleet`: several guests, a Prometheus that scrapes them, one above, and two stores.

On the host: `python -m tests.fleet.run --seconds 180`. Uses the shipped rules and the shipped
examples of federation and remote write, of which only addresses and intervals are changed. With
`--keep DIRECTORY` the first Prometheus's data stay there; `make pictures` draws them.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.guests import Guest, module, started
from tests.kernel.daemon import free_port
from tests.panels import fleet_queries
from tests.prometheus import interval, prometheus, query
from tests.slowness import patience
from tests.stores import metricsql
from tests.stores.answers import PRECISION, Labels, missing, values
from tests.stores.programs import (
    federating,
    receiving_prometheus,
    sending,
    victoria_metrics,
    written,
)
from tests.waiting import wait_until

PORT = 10054
_BOOT_SECONDS = 1200
_SETTLE_SECONDS = 600


@dataclass(frozen=True)
class Host:
    """A guest: its name, its kernel, its tenant, and options of its daemon."""

    name: str
    kernel: str
    tenant: str
    options: tuple[str, ...] = ()


HOSTS = (
    Host("kvm-01", "6.12", "blue", ("--metrics.processes=true",)),
    Host("kvm-02", "7.3", "blue"),
    Host("kvm-03", "6.12", "green"),
)


def guest(
    host: Host, port: int, seconds: float, seed: int
) -> AbstractContextManager[subprocess.Popen[str]]:
    """A guest whose daemon answers at a port of the loopback address."""
    machine = Guest(host.kernel, memory="800M", cpus=1, publish=(f"{port}:{PORT}",))
    options = ("--port", str(PORT), "--seconds", str(seconds), "--seed", str(seed))
    return started(machine, *module("tests.fleet.guest", *options, "--", *host.options))


def scrape(port: int) -> bytes:
    """What the daemon of a host answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return bytes(answer.read())


def answers(port: int) -> bool:
    """Whether the daemon of a host answers yet. A guest without a network makes us wait."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=patience(10)):
            return True
    except OSError:
        return False


def scrape_seconds(ports: Iterable[int]) -> int:
    """The time between two scrapes with which the slowest host keeps up, once all answer."""
    for port in ports:
        wait_until(partial(answers, port), f"nobody answers at {port}", seconds=_BOOT_SECONDS)
    return max(5, *(interval(partial(scrape, port)) for port in ports))


def targets(ports: dict[Host, int]) -> list[dict[str, Any]]:
    """The hosts, as the Prometheus that scrapes them is told."""
    return [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"instance": host.name, "cluster": "test", "tenant": host.tenant},
        }
        for host, port in ports.items()
    ]


def value(port: int, expression: str) -> float:
    """The one number that a query returns; NaN if there is none yet."""
    rows = query(port, expression)
    return float(rows[0]["value"][1]) if len(rows) == 1 else float("nan")


def wait_for(
    what: str, done: Callable[[], bool], seconds: float, why: Callable[[], str] = lambda: "no"
) -> None:
    """Returns when something is so. `why`: the reason if it never is."""
    try:
        wait_until(done, why, seconds=seconds, every=2)
    except AssertionError as error:
        raise SystemExit(f"FAILED: {what}: {error}") from None
    print(f"ok: {what}", flush=True)


def check(scraper: int, above: int, seconds: int) -> None:
    """Host by host and in sum, at both levels."""
    number = len(HOSTS)
    wait_for(
        f"{number} hosts answer, each counts live, and all sums are exact at a time",
        lambda: (
            value(scraper, 'sum(ksmwatch_confidence{level="exact"})') == number
            and value(scraper, 'sum(ksmwatch_mode{mode="bpf"})') == number
        ),
        _BOOT_SECONDS,
    )
    wait_for(
        "hosts merge",
        lambda: value(scraper, "count(ksmwatch_saved_bytes > 0)") == number,
        _SETTLE_SECONDS,
    )
    for tenant in {host.tenant for host in HOSTS}:
        mine = sum(host.tenant == tenant for host in HOSTS)
        wait_for(
            f"tenant {tenant} has {mine} hosts, in the Prometheus above too",
            lambda tenant=tenant, mine=mine: (  # type: ignore[misc]
                value(above, f'tenant:ksmwatch_hosts_up:sum{{tenant="{tenant}"}}') == mine
            ),
            _SETTLE_SECONDS,
        )
    wait_for(
        "every query of the fleet dashboard has data in the Prometheus above",
        lambda: all(query(above, text) for text in fleet_queries(6 * seconds)),
        _SETTLE_SECONDS,
    )


def check_stores(scraper: int, stores: Mapping[str, int], seconds: int) -> None:
    """Stores that are written to have every sample, and the same answers."""
    # A scrape takes a while, and its samples have the time at which it began.
    late = 2 * seconds
    queries = fleet_queries(6 * seconds)
    wait_for(
        "every query of the fleet dashboard has had data for a while",
        lambda: all(values(scraper, text, time.time() - late) for text in queries),
        _SETTLE_SECONDS,
    )
    at = time.time() - late
    for name, port in stores.items():
        lacking = partial(missing, scraper, port, written(), at, PRECISION[name])
        wait_for(
            f"{name} has every sample that was sent to it",
            lambda lacking=lacking: not lacking(),  # type: ignore[misc]
            _SETTLE_SECONDS,
            lambda lacking=lacking: f"it lacks those of {lacking()}",  # type: ignore[misc]
        )
        # What VictoriaMetrics means by a rate is a matter of tests/stores.
        otherwise = metricsql.is_otherwise if name == "victoria-metrics" else lambda _: False
        asked = [text for text in queries if not otherwise(text)]
        for text in asked:
            ours, theirs = values(scraper, text, at), values(port, text, at)
            if not alike(ours, theirs, PRECISION[name]):
                raise SystemExit(f"FAILED: {name}: {text}: {theirs}, not {ours}")
        print(f"ok: {name} gives the same values for {len(asked)} queries", flush=True)


def alike(ours: dict[Labels, float], theirs: dict[Labels, float], precision: float) -> bool:
    """Whether two answers are there, and the same."""
    return (
        bool(ours)
        and ours.keys() == theirs.keys()
        and all(math.isclose(ours[key], theirs[key], rel_tol=precision) for key in ours)
    )


def report(scraper: int, above: int) -> dict[str, float]:
    """The series of a host, on both levels."""
    return {
        "series of a host, by owner": value(
            scraper, 'count({instance="kvm-02", __name__=~"ksmwatch_owner_.*"})'
        ),
        "series of a host, other": value(
            scraper,
            'count({instance="kvm-02", __name__!~"ksmwatch_owner_.*|instance:.*|ALERTS.*"})',
        ),
        "series of a host, above": value(above, 'count({instance="kvm-02", __name__!~"ALERTS.*"})'),
        "sums of a tenant": value(above, 'count({__name__=~"tenant:.*", tenant="blue"})'),
    }


def firing(scraper: int) -> list[str]:
    """Alerts that fire."""
    rows = query(scraper, 'ALERTS{alertstate="firing"}')
    return [f"{row['metric']['alertname']} on {row['metric']['instance']}" for row in rows]


def main(argv: list[str]) -> int:
    """Run the fleet; 0 if all was as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.run")
    parser.add_argument("--seconds", type=float, default=60, help="so long after all is well")
    parser.add_argument("--keep", type=Path, help="leave the data of Prometheus here")
    arguments = parser.parse_args(argv)
    with ExitStack() as stack:
        directories = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(3)]
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            directories[0] = arguments.keep
        ports = {host: free_port() for host in HOSTS}
        for seed, (host, port) in enumerate(ports.items()):
            stack.enter_context(guest(host, port, 36_000, seed))
        every = scrape_seconds(ports.values())
        servers = {
            "victoria-metrics": stack.enter_context(victoria_metrics(directories[2])),
            "prometheus": stack.enter_context(receiving_prometheus(directories[2])),
        }
        stores = {name: server.port for name, server in servers.items()}
        config = sending(targets(ports), every, stores)
        scraper = stack.enter_context(prometheus(config, directories[0]))
        above = stack.enter_context(prometheus(federating(scraper, every), directories[1]))
        check(scraper, above, every)
        time.sleep(arguments.seconds)
        check_stores(scraper, stores, every)
        print(json.dumps(report(scraper, above), indent=1))
        alerts = firing(scraper)
        print("alerts that fire:", alerts or "none")
    return 1 if alerts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
