"""Mappings by node of memory, in a guest with several, compared with what move_pages() says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.compare import assert_exact, process
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import mechanisms
from tests.ksmctl import Ksm
from tests.nodes import move_pages, pages_by_node
from tests.oracle import PAGE
from tests.waiting import Deadline, Pace
from tests.workload import Tenant, Workload

PINS = Path("/sys/fs/bpf/ksmwatch-nodes")
# Of each tenant, on node 0 and on node 1: two primes.
NEAR, FAR = 211, 113
_KNOWN_SECONDS = 300
_DIRECTORIES = Path("/sys/devices/system/node").glob("node[0-9]")
NODES = sorted(path.name.removeprefix("node") for path in _DIRECTORIES)


def addresses(tenant: Tenant, region: str, first: int, pages: int) -> list[int]:
    begin = tenant.address(region)
    return [begin + page * PAGE for page in range(first, first + pages)]


def offered(load: Workload, name: str) -> Tenant:
    """A tenant whose pages are equal to those of each other one, on two nodes."""
    tenant = load.spawn(name)
    for seed, (region, pages) in enumerate({"near": NEAR, "far": FAR}.items()):
        tenant.offer(region, pages, seed=seed + 1, modulo=0)
        move_pages(tenant.pid, addresses(tenant, region, 0, pages), seed)
    return tenant


def on(first: int, second: int) -> dict[str, int]:
    """Mappings on the first two nodes, and none on others."""
    return {node: number for node, number in (("0", first), ("1", second)) if number}


def nodes_of(told: dict[str, Any]) -> dict[str, int]:
    """The nodes on which it has mappings: a process, or the host."""
    return {node: number for node, number in told["nodes"].items() if number}


def truth(tenant: Tenant, **left: int) -> dict[str, int]:
    """On which nodes the pages from the beginning of each region are."""
    found: Counter[int] = Counter()
    for region, pages in left.items():
        found.update(pages_by_node(tenant.pid, addresses(tenant, region, 0, pages)))
    return {str(node): number for node, number in found.items() if number}


def known(daemon: Daemon, what: str = "nodes") -> dict[str, Any]:
    """A snapshot in which every mapping's node is known, or whether it is remote."""
    deadline, pace = Deadline(_KNOWN_SECONDS), Pace()
    while True:
        document = daemon.snapshot()
        host = document["host"]
        if host["mappings_on_unknown_nodes"] == 0 and host[what] is not None:
            return document
        assert not deadline.passed, host
        pace.pause()


def assert_nodes(document: dict[str, Any], tenants: dict[Tenant, dict[str, int]]) -> None:
    """Each tenant, the host and the owners have these mappings on each node."""
    sums: Counter[str] = Counter()
    for tenant, nodes in tenants.items():
        assert nodes_of(process(document, tenant.pid)) == nodes
        sums.update(nodes)
    assert nodes_of(document["host"]) == sums
    assert sorted(document["host"]["nodes"]) == NODES
    owners: Counter[str] = Counter()
    for owner in document["owners"]:
        assert owner["mappings_on_unknown_nodes"] == 0
        owners.update(nodes_of(owner))
    assert owners == sums


@pytest.fixture
def apart(ksm: Ksm) -> Iterator[Ksm]:
    """Ksmd merges within each node."""
    ksm.write("merge_across_nodes", 0)
    yield ksm
    # It can be changed only if there is no KSM page.
    ksm.unmerge()
    ksm.write("merge_across_nodes", 1)


@dataclass
class Two:
    """Two tenants, and what is left of their regions: pages from the beginning."""

    one: Tenant
    two: Tenant
    left: dict[Tenant, dict[str, int]]

    def counts(self) -> dict[int, int]:
        return {tenant.pid: sum(regions.values()) for tenant, regions in self.left.items()}

    def nodes(self) -> dict[Tenant, dict[str, int]]:
        return {tenant: truth(tenant, **regions) for tenant, regions in self.left.items()}


def merged(load: Workload, ksm: Ksm) -> Two:
    """All their pages are merged, on both nodes."""
    one, two = offered(load, "one"), offered(load, "two")
    ksm.merge_all()
    return Two(one, two, {tenant: {"near": NEAR, "far": FAR} for tenant in (one, two)})


def options_of(probes: str) -> tuple[str, ...]:
    return f"--probes={probes}", f"--state.pin-path={PINS}", "--audit.cpu-percent=0"


@pytest.mark.parametrize("probes", mechanisms())
def test_each_movement_counts_on_the_node_of_its_page(apart: Ksm, probes: str) -> None:
    with Workload() as load, Daemon(*options_of(probes), http=False) as daemon:
        both = merged(load, apart)
        assert both.nodes()[both.one] == on(NEAR, FAR)
        assert_exact(daemon, both.counts())
        # The daemon was asleep until then, so it has to look at the pages.
        assert_nodes(known(daemon), both.nodes())
        # Here it has not: all movements of this process are seen.
        late = offered(load, "late")
        apart.merge_all()
        both.left[late] = {"near": NEAR, "far": FAR}
        assert_nodes(assert_exact(daemon, both.counts()), both.nodes())
        # Copied, unmapped, gone.
        both.one.write("near", NEAR - 10, 10)
        both.two.munmap("far", FAR - 20, 20)
        late.exit()
        del both.left[late]
        both.left[both.one]["near"] -= 10
        both.left[both.two]["far"] -= 20
        assert_nodes(assert_exact(daemon, both.counts()), both.nodes())
        # To the other node, for both.
        move_pages(both.one.pid, addresses(both.one, "near", 0, 30), 1)
        assert both.nodes()[both.one] == on(NEAR - 40, FAR + 30)
        assert_nodes(assert_exact(daemon, both.counts()), both.nodes())
        assert daemon.stop() == 0
    PINS.rmdir()


@pytest.mark.parametrize("probes", mechanisms())
def test_what_came_without_an_event_is_looked_for(apart: Ksm, probes: str) -> None:
    with Workload() as load:
        both = merged(load, apart)
        # All of it was there before the start.
        with Daemon(*options_of(probes), http=False) as daemon:
            assert_exact(daemon, both.counts())
            assert_nodes(known(daemon), both.nodes())
            # Fork copies PTEs, and nothing reports that.
            child = both.one.fork("child")
            both.left[child] = dict(both.left[both.one])
            assert_exact(daemon, both.counts())
            assert_nodes(known(daemon), both.nodes())
            child.write("far", FAR - 7, 7)
            both.left[child]["far"] -= 7
            assert_nodes(assert_exact(daemon, both.counts()), both.nodes())
            daemon.process.kill()
            daemon.process.wait()
        both.two.write("near", NEAR - 5, 5)
        both.left[both.two]["near"] -= 5
        with Daemon(*options_of(probes), http=False) as daemon:
            document = assert_exact(daemon, both.counts())
            assert document["map"]["adopted"]
            # Nothing was lost, so nothing has to be looked for.
            assert_nodes(document, both.nodes())
            assert daemon.stop() == 0
    PINS.rmdir()


# Before 6.6, nothing can be read exactly without frame numbers.
@pytest.mark.once
def test_without_frame_numbers_only_events_tell(apart: Ksm) -> None:
    denied = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    with Workload() as load:
        both = merged(load, apart)
        with Daemon("--audit.cpu-percent=0", prefix=denied, http=False) as daemon:
            document = assert_exact(daemon, both.counts())
            host = document["host"]
            assert host["nodes"] == dict.fromkeys(NODES, 0)
            assert host["mappings_on_unknown_nodes"] == 2 * (NEAR + FAR)
            assert host["remote_mappings"] is None
            late = offered(load, "late")
            apart.merge_all()
            both.left[late] = {"near": NEAR, "far": FAR}
            document = assert_exact(daemon, both.counts())
            assert nodes_of(process(document, late.pid)) == on(NEAR, FAR)
            assert nodes_of(document["host"]) == on(NEAR, FAR)
            assert document["host"]["mappings_on_unknown_nodes"] == 2 * (NEAR + FAR)
            assert daemon.stop() == 0


def test_remote_mappings_are_those_on_other_nodes_than_its_own(apart: Ksm) -> None:
    with Workload() as load, Daemon("--audit.cpu-percent=0") as daemon:
        one, two = offered(load, "one"), offered(load, "two")
        # The guest's first CPU is of node 0, and its second of node 1. Two is bound to none.
        os.sched_setaffinity(one.pid, {1})
        apart.merge_all()
        both = NEAR + FAR
        assert_exact(daemon, {one.pid: both, two.pid: both})
        document = known(daemon, "remote_mappings")
        bound = process(document, one.pid)
        assert bound["home_node"] == 1
        assert bound["remote_mappings"] == NEAR
        memory = numa_maps(two.pid)
        home = max(memory, key=lambda node: memory[node])
        free = process(document, two.pid)
        assert free["home_node"] == home
        assert free["remote_mappings"] == (FAR if home == 0 else NEAR)
        remote = NEAR + free["remote_mappings"]
        assert document["host"]["remote_mappings"] == remote
        lines = daemon.metrics().splitlines()
        assert f'ksmwatch_node_mappings{{node="0"}} {2.0 * NEAR}' in lines
        assert f'ksmwatch_node_mappings{{node="1"}} {2.0 * FAR}' in lines
        assert 'ksmwatch_node_mappings{node="unknown"} 0.0' in lines
        assert f"ksmwatch_remote_mappings {float(remote)}" in lines
        assert daemon.stop() == 0


def numa_maps(pid: int) -> dict[int, int]:
    """Pages of a process by node; it has no huge ones."""
    found: Counter[int] = Counter()
    for word in Path(f"/proc/{pid}/numa_maps").read_text().split():
        name, _, number = word.partition("=")
        if name in ("N0", "N1"):
            found[int(name[1:])] += int(number)
    return dict(found)
