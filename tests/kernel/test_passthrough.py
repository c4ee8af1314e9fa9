"""A guest to which a device is passed through (VFIO): all of its memory is pinned.

Wants a machine with an IOMMU: `tests/vm/run --iommu`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import why
from tests.kernel.compare import assert_exact
from tests.kernel.daemon import Daemon
from tests.kernel.memory import PAGE_KB, status_kb
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Tenant, Workload

pytestmark = pytest.mark.once

PCI = Path("/sys/bus/pci/devices")
# QEMU's device for teaching (edu).
VENDOR = "0x1234"
PAGES = 3001


@pytest.fixture(scope="module")
def group() -> Path:
    """The file by which a process drives the device."""
    for name in ("vfio_iommu_type1", "vfio-pci"):
        subprocess.run(["/sbin/modprobe", name], check=True)
    (device,) = (path for path in PCI.iterdir() if (path / "vendor").read_text().strip() == VENDOR)
    (device / "driver_override").write_text("vfio-pci")
    Path("/sys/bus/pci/drivers_probe").write_text(device.name)
    found = Path("/dev/vfio", os.readlink(device / "iommu_group").rpartition("/")[2])
    wait_until(found.exists, f"there is no {found}")
    return found


@pytest.fixture
def guests(ksm: Ksm) -> Iterator[tuple[Tenant, Tenant]]:
    """Two with equal memory."""
    with Workload() as load:
        both = [load.spawn(name) for name in ("guest", "twin")]
        for tenant in both:
            tenant.offer("ram", PAGES, seed=1)
        guest, twin = both
        yield guest, twin


def test_a_device_that_is_there_from_the_start(
    ksm: Ksm, group: Path, guests: tuple[Tenant, Tenant]
) -> None:
    guest, _ = guests
    guest.tell("passthrough", "ram", 0, PAGES, group)
    # VFIO counts what it pins as locked.
    assert status_kb(guest.pid, "VmLck") == PAGES * PAGE_KB
    ksm.merge_all(stop=False)
    assert why(guest.pid)[0] == "pinned"


def test_a_device_that_is_plugged_in_and_out(
    ksm: Ksm, group: Path, guests: tuple[Tenant, Tenant]
) -> None:
    guest, twin = guests
    with Daemon(http=False) as daemon:
        ksm.merge_all()
        assert_exact(daemon, {guest.pid: PAGES, twin.pid: PAGES})
        guest.tell("passthrough", "ram", 0, PAGES, group)
        assert_exact(daemon, {twin.pid: PAGES})
        guest.kill()
        assert_exact(daemon, {twin.pid: PAGES})
