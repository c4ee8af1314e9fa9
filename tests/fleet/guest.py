"""One host of the fleet: a daemon, and tenants that merge, write, fork, exit and come again.

Inside a test kernel, as root: `python -m tests.fleet.guest --port 10054 --seconds 300 --seed 1`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from pathlib import Path

from tests import provoke
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

_CGROUPS = Path("/sys/fs/cgroup")
# As libvirt, the kubelet and systemd name them; the last part of a path is a name.
_PLACES = (
    "machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
    "machine.slice/machine-qemu\\x2d2\\x2ddb.scope",
    "machine.slice/machine-qemu\\x2d3\\x2dbuild.scope",
    "system.slice/cache.service",
)
_PAGES = (3001, 2003, 4001, 1009)
_STEP_SECONDS = 5
# ksmd scans for two chapters of this many steps, and is stopped in the third.
_CHAPTER = 12


def place(pid: int, path: str) -> None:
    """Put a process into a cgroup."""
    directory = _CGROUPS / path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text(str(pid))


class Tenants:
    """One in each place; what they do next is a matter of chance."""

    def __init__(self, load: Workload, chance: random.Random) -> None:
        self._load = load
        self._chance = chance
        self._tenants = [self._come(n) for n in range(len(_PLACES))]

    def _come(self, n: int) -> Tenant:
        name = _PLACES[n].rpartition("/")[2].partition(".")[0].rpartition("2d")[2]
        tenant = self._load.spawn(name)
        place(tenant.pid, _PLACES[n])
        pages = _PAGES[n] + self._chance.randrange(500)
        tenant.offer("heap", pages, seed=7, modulo=61)
        return tenant

    def act(self) -> None:
        """One of them writes; seldom one goes, and another takes its place."""
        n = self._chance.randrange(len(self._tenants))
        self._tenants[n].write(
            "heap", self._chance.randrange(800), 50 + self._chance.randrange(150)
        )
        if self._chance.random() < 0.1:
            self._tenants[n].kill()
            self._tenants[n] = self._come(n)
        elif self._chance.random() < 0.2:
            self._tenants[n].fork("child").exit()


def live(load: Workload, ksm: Ksm, seconds: float, chance: random.Random) -> None:
    """The life of a host: ksmd scans in some chapters, and is stopped in others."""
    provoke.not_mergeable(load, ksm, pages=61)
    ksm.write("pages_to_scan", 300)
    ksm.write("sleep_millisecs", 100)
    tenants = Tenants(load, chance)
    end = time.monotonic() + seconds
    for step in itertools.count():
        if time.monotonic() >= end:
            return
        if step % _CHAPTER == 0:
            (ksm.stop if step // _CHAPTER % 3 == 2 else ksm.start)()
        tenants.act()
        time.sleep(_STEP_SECONDS)


def main(argv: list[str]) -> int:
    """Run a host for a while; 0 if the daemon ended in good order."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.guest")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("daemon", nargs="*", help="options of the daemon, after --")
    arguments = parser.parse_args(argv)
    options = (f"--web.listen-address=:{arguments.port}", *arguments.daemon)
    with Ksm() as ksm, Daemon(*options) as daemon, Workload() as load:
        print("ready", flush=True)
        live(load, ksm, arguments.seconds, random.Random(arguments.seed))
        return daemon.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
