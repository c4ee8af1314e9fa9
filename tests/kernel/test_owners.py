"""Whose pages: dozens of processes in real cgroups, and a real QEMU guest, during churn.

The directories have the names that systemd, libvirt, container runtimes and the kubelet give
them. The rootless container is a user namespace of an unprivileged user, in such a directory.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import oracle
from tests.kernel.compare import settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload

pytestmark = pytest.mark.once

CGROUPS = Path("/sys/fs/cgroup")
CONTAINER = "5f2ac0de" * 8
POD = "0c5e2f7e-0000-4000-8000-000000000001"
# Kind, name and id.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Place:
    """A directory of cgroups, and who owns what is in it. `rootless`: in a user namespace."""

    path: str
    owner: Key
    rootless: bool = False


PLACES = (
    Place("system.slice/nginx.service", ("unit", "nginx.service", "nginx.service")),
    Place("system.slice/run-u12.scope", ("unit", "run-u12.scope", "run-u12.scope")),
    Place("batch.slice", ("slice", "batch.slice", "batch.slice")),
    Place(
        f"system.slice/docker-{CONTAINER}.scope",
        ("container", CONTAINER[:12], CONTAINER),
    ),
    Place(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
        f"{POD.replace('-', '_')}.slice/cri-containerd-{'ab' * 32}.scope",
        ("pod", POD, POD),
    ),
    Place(
        f"kubepods/besteffort/pod{POD[:-1]}2/{'cd' * 32}",
        ("pod", f"{POD[:-1]}2", f"{POD[:-1]}2"),
    ),
    Place(
        "machine.slice/machine-qemu\\x2d4\\x2dmail.scope/libvirt/emulator",
        ("vm", "mail", "libvirt/qemu-4-mail"),
    ),
    Place("qemu.slice/101.scope", ("vm", "101", "proxmox/101")),
    Place("lxc.payload.cache", ("container", "cache", "lxc/cache")),
    Place("user.slice/user-54321.slice/session-3.scope", ("user", "54321", "54321")),
    Place(
        "user.slice/user-54321.slice/user@54321.service/app.slice/app-editor.scope",
        ("unit", "app-editor.scope", "54321/app-editor.scope"),
    ),
    Place(
        "user.slice/user-54321.slice/user@54321.service/user.slice/"
        f"libpod-{'ef' * 32}.scope/container",
        ("container", ("ef" * 6), f"54321/{'ef' * 32}"),
        rootless=True,
    ),
)
EACH = 3
ROUNDS = 3
# Of an unprivileged user, who maps itself to root.
ROOTLESS = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "unshare", "-Ur")


def enter(path: str, pid: int) -> None:
    """Move a process to a cgroup."""
    directory = CGROUPS / path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text(str(pid))


class Town:
    """Tenants by owner, who live, share, write, fork and die at random."""

    def __init__(self, load: Workload) -> None:
        self._load = load
        self._random = random.Random(4)
        self._count = 0
        self.owners: dict[Tenant, Key] = {}

    def settle(self, place: Place) -> None:
        """A new tenant, whose pages are equal to those of others."""
        self._count += 1
        tenant = self._load.spawn(f"t{self._count}", ROOTLESS if place.rootless else ())
        enter(place.path, tenant.pid)
        pages = self._random.randrange(100, 400)
        tenant.map("heap", pages)
        tenant.fill("heap", 0, pages, seed=self._random.randrange(3), modulo=7)
        tenant.madvise("heap", 0, pages, "mergeable")
        self.owners[tenant] = place.owner

    def churn(self) -> None:
        """Something happens to every tenant."""
        for tenant, owner in list(self.owners.items()):
            first = self._random.randrange(50)
            match self._random.randrange(5):
                case 0:
                    tenant.write("heap", first, 40)
                case 1:
                    tenant.madvise("heap", first, 30, "dontneed")
                case 2:
                    self._count += 1
                    self.owners[tenant.fork(f"t{self._count}")] = owner
                case 3:
                    tenant.munmap("heap", first, 20)
                    tenant.map("heap", 200)
                    tenant.fill("heap", 0, 200, seed=1, modulo=3)
                    tenant.madvise("heap", 0, 200, "mergeable")
                case _:
                    tenant.kill()
                    del self.owners[tenant]

    def truth(self) -> dict[Key, int]:
        """Mappings by owner: the oracle's, by who the test knows it is."""
        sums: Counter[Key] = Counter()
        of_pid = {tenant.pid: owner for tenant, owner in self.owners.items()}
        for pid, mappings in oracle.host().items():
            sums[of_pid[pid]] += mappings
        return dict(sums)


def exported(daemon: Daemon) -> dict[Key, int]:
    """Mappings by owner as they are scraped, of those that have any; and they are the host's."""
    rows: dict[Key, int] = {}
    total = None
    for family in text_string_to_metric_families(daemon.metrics()):
        for name, labels, value, *_ in family.samples:
            if name == "ksmwatch_owner_mappings" and value:
                rows[labels["kind"], labels["name"], labels["id"]] = int(value)
            elif name == "ksmwatch_mappings":
                total = value
    assert total == sum(rows.values())
    return rows


def test_owners_are_right_and_their_sums_exact_during_churn(ksm: Ksm) -> None:
    with Daemon() as daemon, Workload() as load:
        town = Town(load)
        for _ in range(EACH):
            for place in PLACES:
                town.settle(place)
        assert len(town.owners) == EACH * len(PLACES) >= 36
        for _ in range(ROUNDS):
            ksm.merge_all()
            ksm.start()
            town.churn()
            for place in PLACES:
                town.settle(place)
            ksm.stop()
            document = settled_snapshot(daemon)
            truth = town.truth()
            assert document["host"]["confidence"] == "exact", document["host"]["reason"]
            assert exported(daemon) == truth
            assert len(truth) >= len(PLACES) - 1
            listed = {
                (o["kind"], o["name"], o["id"]): o["mappings"]
                for o in document["owners"]
                if o["mappings"]
            }
            assert listed == truth
        assert document["audit"]["surplus"] == document["audit"]["missing"] == 0


RAM_MB, FILLED_MB = 24, 16


@contextlib.contextmanager
def guest(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU as one starts it by hand: firmware runs, and most of its memory has equal pages."""
    image = directory / "pages"
    image.write_bytes((b"ksmwatch" * (oracle.PAGE // 8)) * (FILLED_MB << 20 >> 12))
    process = subprocess.Popen(
        [
            "qemu-system-x86_64",
            *("-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"),
            *("-name", "guest=web-1,debug-threads=on", "-uuid", POD),
            *("-m", str(RAM_MB), "-machine", "pc,mem-merge=on"),
            *("-device", f"loader,file={image},addr=0x200000,force-raw=on"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for_memory(pid: int) -> None:
    """Until QEMU has filled its memory."""
    deadline = time.monotonic() + 300
    while True:
        areas = [area for area in oracle.areas(pid) if "mg" in area.flags]
        if sum(area.anonymous for area in areas) >= FILLED_MB << 10:
            return
        assert time.monotonic() < deadline, f"{areas}"
        time.sleep(0.2)


def test_a_qemu_guest_is_attributed_by_name_with_as_many_as_smaps_says(
    ksm: Ksm, tmp_path: Path
) -> None:
    with Daemon() as daemon, guest(tmp_path) as qemu:
        enter("system.slice/guests.service", qemu.pid)
        wait_for_memory(qemu.pid)
        # Huge pages are split first, and smart_scan passes over pages for a while.
        ksm.merge_all(scans=12)
        # Nothing that the firmware does moves a page between two looks, with ksmd stopped.
        for _ in range(20):
            before = oracle.process(qemu.pid)
            document = settled_snapshot(daemon)
            if before == oracle.process(qemu.pid):
                break
        (owner,) = (o for o in document["owners"] if o["mappings"])
        assert (owner["kind"], owner["name"], owner["uuid"]) == ("vm", "web-1", POD)
        assert owner["id"] == f"guests.service/qemu/{POD}"
        assert owner["mappings"] == before > FILLED_MB * 256 // 2
        (process,) = (p for p in document["processes"] if p["mappings"])
        assert process["pid"] == qemu.pid
        assert process["confidence"] == "exact"
        assert ("vm", "web-1", owner["id"]) in exported(daemon)
