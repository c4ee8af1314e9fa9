"""Snapshots in which few of many accounts have changed, each compared with the page tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import oracle
from tests.kernel.compare import assert_exact, mappings
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload, mergeable

_PAGES, _TENANTS, _MOVED = 40, 50, 3


class Crowd:
    """Fifty processes, and what each should have merged."""

    def __init__(self, load: Workload) -> None:
        self._load = load
        self._tenants = [mergeable(load, f"t{n}", _PAGES) for n in range(_TENANTS)]
        self.expected = {tenant.pid: _PAGES for tenant in self._tenants}

    def write(self) -> None:
        """COW breaks, in three of them."""
        for number, tenant in enumerate(self._three()):
            tenant.write("heap", 0, 1 + number)
            self.expected[tenant.pid] -= 1 + number

    def unmap(self) -> None:
        """Three lose their last page."""
        for tenant in self._three():
            tenant.munmap("heap", _PAGES - 1, 1)
            self.expected[tenant.pid] -= 1

    def offer(self, ksm: Ksm) -> None:
        """Three get more pages that merge, which ksmd replaces by pages that are there."""
        for tenant in self._three():
            tenant.offer("more", 4, seed=2, modulo=4)
            self.expected[tenant.pid] += 4
        ksm.merge_all()

    def convert(self, ksm: Ksm) -> None:
        """Two get pages of which there are no others yet: one is converted in place."""
        for tenant in self._three()[:2]:
            tenant.offer("new", 3, seed=9, modulo=0)
            self.expected[tenant.pid] += 3
        ksm.merge_all()

    def fork_exec_exit(self) -> None:
        """A child, a process that executes, one that ends."""
        parent, executing, ending = self._three()
        child = parent.fork("child")
        self._tenants.append(child)
        self.expected[child.pid] = self.expected[parent.pid]
        del self.expected[executing.pid], self.expected[ending.pid]
        self._tenants.remove(executing)
        self._tenants.remove(ending)
        executing.exec()
        ending.exit()

    def end_one(self) -> None:
        """A process ends, and nothing else happens."""
        tenant = self._tenants.pop(0)
        del self.expected[tenant.pid]
        tenant.exit()

    def _three(self) -> list[Tenant]:
        """The next three; later ones take their turns first."""
        three, self._tenants = self._tenants[:_MOVED], self._tenants[_MOVED:]
        self._tenants += three
        return three


def runs(daemon: Daemon) -> Iterator[int]:
    """How often each program that the daemon runs itself has run (BPF_PROG_TYPE_SYSCALL)."""
    for path in Path(f"/proc/{daemon.process.pid}/fdinfo").iterdir():
        found = dict(re.findall(r"^(\w+):\t(\S+)$", path.read_text(), re.MULTILINE))
        if found.get("prog_type") == "31":
            yield int(found["run_cnt"])


@pytest.fixture
def counting_runs() -> Iterator[None]:
    """The kernel counts how often programs run."""
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    switch.write_text("1")
    yield
    switch.write_text("0")


@pytest.mark.usefixtures("counting_runs")
@pytest.mark.parametrize("probes", ["fentry", "kprobe"])
def test_few_of_many_change(probes: str, ksm: Ksm) -> None:
    with Workload() as load:
        crowd = Crowd(load)
        ksm.merge_all()
        # The age of a mapping would show a movement as well.
        with Daemon(f"--probes={probes}", "--ages.one-in=0", http=False) as daemon:
            assert_exact(daemon, crowd.expected)
            for _ in range(2):
                before = sum(runs(daemon))
                crowd.write()
                assert_exact(daemon, crowd.expected)
                crowd.unmap()
                assert_exact(daemon, crowd.expected)
                assert sum(runs(daemon)) >= before + 2
                crowd.fork_exec_exit()
                assert_exact(daemon, crowd.expected)
                crowd.write()
                crowd.end_one()
                assert_exact(daemon, crowd.expected)
            crowd.offer(ksm)
            assert_exact(daemon, crowd.expected)
            crowd.convert(ksm)
            assert mappings(assert_exact(daemon, crowd.expected)) == oracle.host()
            assert daemon.stop() == 0
