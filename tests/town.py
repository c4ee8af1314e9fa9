"""Tenants with known owners, and a guest: compares the exported owners with the known ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families

from tests import oracle
from tests.children import running
from tests.waiting import wait_until
from tests.workload import Tenant, Workload

# Kind, name and id.
Key = tuple[str, str, str]
UUID = "0c5e2f7e-0000-4000-8000-000000000001"


class Town:
    """Tenants by owner, who live, share, write, fork and die at random."""

    def __init__(self, load: Workload) -> None:
        self._load = load
        self._random = random.Random(4)
        self._count = 0
        self.owners: dict[Tenant, Key] = {}
        # The first of each family: a unit or a container ends with it.
        self._founders: dict[Tenant, Tenant] = {}

    def next_name(self) -> str:
        """A name that no tenant has yet."""
        self._count += 1
        return f"t{self._count}"

    def settle(self, tenant: Tenant, owner: Key) -> None:
        """A new tenant, with pages equal to those of others."""
        pages = self._random.randrange(100, 400)
        tenant.offer("heap", pages, seed=self._random.randrange(3), modulo=7)
        self.owners[tenant] = owner
        self._founders[tenant] = tenant

    def churn(self) -> None:
        """Something happens to every tenant."""
        for tenant in list(self.owners):
            first = self._random.randrange(50)
            match self._random.randrange(5):
                case 0:
                    tenant.write("heap", first, 40)
                case 1:
                    tenant.madvise("heap", first, 30, "dontneed")
                case 2:
                    self._fork(tenant)
                case 3:
                    tenant.munmap("heap", first, 20)
                    tenant.offer("heap", 200, seed=1, modulo=3)
                case _:
                    self._kill(tenant)

    def _fork(self, tenant: Tenant) -> None:
        name = self.next_name()
        tenant.tell("fork", name)
        child = self._load.take(name)
        self.owners[child] = self.owners[tenant]
        self._founders[child] = self._founders[tenant]

    def _kill(self, tenant: Tenant) -> None:
        """A tenant whose end does not end others of its family."""
        if list(self._founders.values()).count(tenant) <= 1:
            tenant.kill()
            del self.owners[tenant], self._founders[tenant]

    def truth(self, besides: Mapping[int, Key] = MappingProxyType({})) -> dict[Key, int]:
        """Mappings by owner: the oracle's, by the known owner. `besides`: by pid."""
        sums: Counter[Key] = Counter()
        of_pid = {**besides, **{tenant.pid: owner for tenant, owner in self.owners.items()}}
        for pid, mappings in oracle.host().items():
            sums[of_pid[pid]] += mappings
        return dict(sums)


def exported(metrics: str) -> dict[Key, int]:
    """Mappings by owner as scraped, for those that have any; they add up to the host's."""
    rows: dict[Key, int] = {}
    total = None
    for family in text_string_to_metric_families(metrics):
        for name, labels, value, *_ in family.samples:
            if name == "ksmwatch_owner_mappings" and value:
                rows[labels["kind"], labels["name"], labels["id"]] = int(value)
            elif name == "ksmwatch_mappings":
                total = value
    assert total == sum(rows.values())
    return rows


_RAM_MB, _FILLED_MB = 24, 16
# Mappings that KSM must have made at least.
MERGEABLE = (_FILLED_MB << 20) // oracle.PAGE // 2


def guest_command(directory: Path, name: str) -> list[str]:
    """QEMU as started by hand: firmware runs, and most of its memory has equal pages."""
    image = directory / "pages"
    image.write_bytes((b"ksmwatch" * (oracle.PAGE // 8)) * ((_FILLED_MB << 20) // oracle.PAGE))
    return [
        "qemu-system-x86_64",
        *("-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"),
        *("-name", f"guest={name},debug-threads=on", "-uuid", UUID),
        *("-m", str(_RAM_MB), "-machine", "pc,mem-merge=on"),
        *("-device", f"loader,file={image},addr=0x200000,force-raw=on"),
    ]


def guest(directory: Path, name: str) -> AbstractContextManager[Popen[bytes]]:
    """A virtual machine of our own."""
    return running(guest_command(directory, name))


def wait_for_memory(pid: int) -> None:
    """Until QEMU has filled its memory."""

    def filled() -> int:
        areas = [area for area in oracle.areas(pid) if "mg" in area.flags]
        return sum(area.anonymous for area in areas)

    wait_until(lambda: filled() >= _FILLED_MB << 10, lambda: f"{filled()} KiB", seconds=600)
