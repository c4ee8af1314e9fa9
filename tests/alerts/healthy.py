"""`make test-alerts-healthy`: an hour of load on a healthy host, with the rules as shipped.

`python -m tests.alerts.healthy --seconds 3600` boots a guest and continues there. Random programs
(tests/fuzz) map, merge, write, fork, move, swap, exec and exit, together with tenants
(tests/fleet), with pauses. In the first quarter of an hour the daemon is killed, stopped in good
order and killed, and a successor continues each time. No alert may fire. Exit status 1: one did.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.alerts.conftest import RULES
from tests.alerts.station import Station
from tests.debs import environment
from tests.fleet.guest import Tenants
from tests.fuzz import swap
from tests.fuzz.generator import Generator
from tests.guests import Guest, module, status
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Workload

HOST = "healthy"
PINNED = "--state.pin-path=/sys/fs/bpf/ksmwatch-healthy"
SCRAPE_SECONDS = 15
RESTART_SECONDS = 300
RESTARTS = 3
_OPERATIONS = 2000
_PAUSE = 200
_REST_SECONDS = 2


class Watch:
    """The daemon at the station, started again now and then."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._daemon = self._start()
        self._begin = time.monotonic()
        self.restarts = 0

    def _start(self) -> Daemon:
        daemon = Daemon(PINNED)
        daemon.wait_until_ready()
        self._station.watch(HOST, daemon.port)
        return daemon

    def restart_if_due(self) -> None:
        """Killed and stopped in good order by turns; in between nothing answers."""
        if self.restarts == RESTARTS or time.monotonic() - self._begin < RESTART_SECONDS:
            return
        if self.restarts % 2:
            self._daemon.stop()
        else:
            self._daemon.process.kill()
        self._daemon.__exit__(None, None, None)
        self._daemon = self._start()
        self._begin = time.monotonic()
        self.restarts += 1

    def stop(self) -> None:
        """End it."""
        assert self._daemon.stop() == 0
        self._daemon.__exit__(None, None, None)


@contextmanager
def watching() -> Iterator[tuple[Station, Watch]]:
    """A station with the shipped rules, and a daemon."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Station(Path(directory), RULES.read_text(), SCRAPE_SECONDS) as station,
    ):
        watch = Watch(station)
        yield station, watch
        watch.stop()


def load(watch: Watch, tenants: Tenants, seed: int) -> None:
    """One random program, with rests, as on a host that has something to do."""
    with Generator(seed, _OPERATIONS, _PAUSE) as generator:
        for _ in generator:
            tenants.act()
            time.sleep(_REST_SECONDS)
            watch.restart_if_due()


def boot(argv: list[str]) -> int:
    """The same load in a guest."""
    programs = environment(("prometheus", "prometheus-alertmanager"))
    guest = Guest("6.12", cpus=1, environment=programs)
    return status(guest, *module("tests.alerts.healthy", *argv))


def watch(seconds: float) -> int:
    """Generate load for this long; 0 if no alert fired."""
    with (
        swap.ready(),
        Ksm(pages_to_scan=500, sleep_millisecs=20) as ksm,
        watching() as (station, daemon),
        Workload() as workload,
    ):
        ksm.start()
        tenants = Tenants(workload, random.Random(1))
        end = time.monotonic() + seconds
        seed = 0
        while time.monotonic() < end:
            seed += 1
            load(daemon, tenants, seed)
            print(f"{time.strftime('%T')} seed {seed}, pending: {station.pending()}", flush=True)
        fired = sorted({notice.alert for notice in station.receiver.notices})
        up = station.ask(f"sum_over_time(up[{seconds:.0f}s])")[HOST]
    print(
        f"{seed} programs, {daemon.restarts} restarts, {up:.0f} scrapes, alerts:", fired or "none"
    )
    return 1 if fired else 0


def main(argv: list[str]) -> int:
    """Run it; 0 if no alert fired."""
    parser = argparse.ArgumentParser(prog="python -m tests.alerts.healthy")
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args(argv)
    in_guest = "KSMWATCH_VM_KERNEL" in os.environ
    return watch(arguments.seconds) if in_guest else boot(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
