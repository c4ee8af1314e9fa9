"""Owners of dozens of processes in real cgroups, and of a real QEMU guest, during churn.

The directories have the names that systemd, libvirt, container runtimes and the kubelet give
them. The rootless container is a user namespace of an unprivileged user, in such a directory. Real
ones are in tests/systemd.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import oracle
from tests.kernel.compare import seen_in_peace, settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.town import MERGEABLE, UUID, Key, Town, exported, guest, wait_for_memory
from tests.workload import Workload

pytestmark = pytest.mark.once

CGROUPS = Path("/sys/fs/cgroup")
CONTAINER = "5f2ac0de" * 8
POD = "0c5e2f7e-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Place:
    """A directory of cgroups, and its owner. `rootless`: in a user namespace."""

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


def spawn(load: Workload, town: Town, place: Place) -> None:
    """A new tenant there."""
    tenant = load.spawn(town.next_name(), ROOTLESS if place.rootless else ())
    enter(place.path, tenant.pid)
    town.settle(tenant, place.owner)


def test_owners_are_right_and_their_sums_exact_during_churn(ksm: Ksm) -> None:
    with Daemon() as daemon, Workload() as load:
        town = Town(load)
        for _ in range(EACH):
            for place in PLACES:
                spawn(load, town, place)
        assert len(town.owners) == EACH * len(PLACES) >= 36
        for _ in range(ROUNDS):
            ksm.merge_all()
            ksm.start()
            town.churn()
            for place in PLACES:
                spawn(load, town, place)
            ksm.stop()
            document = settled_snapshot(daemon)
            truth = town.truth()
            assert document["host"]["confidence"] == "exact", document["host"]["reason"]
            assert exported(daemon.metrics()) == truth
            assert len(truth) >= len(PLACES) - 1
            listed = {
                (o["kind"], o["name"], o["id"]): o["mappings"]
                for o in document["owners"]
                if o["mappings"]
            }
            assert listed == truth
        assert document["audit"]["surplus"] == document["audit"]["missing"] == 0


def test_a_qemu_guest_is_attributed_by_name_with_as_many_as_smaps_says(
    ksm: Ksm, tmp_path: Path
) -> None:
    with Daemon() as daemon, guest(tmp_path, "web-1") as qemu:
        enter("system.slice/guests.service", qemu.pid)
        wait_for_memory(qemu.pid)
        # Huge pages are split first, and smart_scan passes over pages for a while.
        ksm.merge_all(scans=12)
        # Nothing that the firmware does moves a page between two looks, with ksmd stopped.
        truth, document = seen_in_peace(
            lambda: oracle.process(qemu.pid), lambda: settled_snapshot(daemon)
        )
        (owner,) = (o for o in document["owners"] if o["mappings"])
        assert (owner["kind"], owner["name"], owner["uuid"]) == ("vm", "web-1", UUID)
        assert owner["id"] == f"guests.service/qemu/{UUID}"
        assert owner["mappings"] == truth > MERGEABLE
        (process,) = (p for p in document["processes"] if p["mappings"])
        assert process["pid"] == qemu.pid
        assert process["confidence"] == "exact"
        assert ("vm", "web-1", owner["id"]) in exported(daemon.metrics())
