"""Unprivileged containers of LXC and Incus: idmapped users, on an idmapped mount."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.asking import why
from tests.kernel.compare import assert_exact, process
from tests.kernel.daemon import Daemon
from tests.kernel.idmapped import FIRST, UserNamespace, user_namespace
from tests.ksmctl import Ksm
from tests.workload import Tenant, Workload, built

pytestmark = pytest.mark.once

CGROUPS = Path("/sys/fs/cgroup")
PAGES = 1009


@pytest.fixture
def container(tmp_path: Path) -> Iterator[tuple[UserNamespace, Path]]:
    """Its users, and its root, in which the host's root owns what it shows as its own."""
    image, rootfs = tmp_path / "image", tmp_path / "rootfs"
    for directory in (tmp_path, image, rootfs):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    shutil.copy(built("ksmload"), image / "ksmload")
    with user_namespace() as namespace:
        namespace.show(image, rootfs)
        assert (rootfs / "ksmload").stat().st_uid == FIRST
        try:
            yield namespace, rootfs / "ksmload"
        finally:
            subprocess.run(["umount", rootfs], check=True)


def enter(cgroup: str, tenant: Tenant) -> None:
    """Move a process to a cgroup, as the container's manager or its systemd does."""
    directory = CGROUPS / cgroup
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text(str(tenant.pid))


def merge(tenant: Tenant) -> None:
    tenant.offer("heap", PAGES, seed=4, modulo=0)


def test_a_container_with_users_of_its_own(ksm: Ksm, container: tuple[UserNamespace, Path]) -> None:
    """Its root, a user of it, and one of another project (Incus) with the same range."""
    namespace, program = container
    places = {
        "root": ("lxc.payload.web", 0, "web"),
        "www": ("lxc.payload.web/system.slice/nginx.service", 33, "web"),
        "other": ("lxc.payload.shop_web", 33, "shop_web"),
    }
    with Daemon() as daemon, Workload() as load:
        tenants = {}
        for name, (cgroup, user, _) in places.items():
            tenant = load.spawn(name, namespace.as_user(user), program)
            assert Path(f"/proc/{tenant.pid}").stat().st_uid == FIRST + user
            enter(cgroup, tenant)
            merge(tenant)
            tenants[name] = tenant
        ksm.merge_all()
        counts = {tenant.pid: PAGES for tenant in tenants.values()}
        document = assert_exact(daemon, counts)
        for name, (_, _, owner) in places.items():
            found = process(document, tenants[name].pid)
            assert (found["comm"], found["confidence"]) == (name, "exact")
            told = {key: found["owner"][key] for key in ("kind", "name", "id", "claimed")}
            right = {"kind": "container", "name": owner, "id": f"lxc/{owner}", "claimed": False}
            assert told == right
        assert {o["id"]: o["mappings"] for o in document["owners"] if o["mappings"]} == {
            "lxc/web": 2 * PAGES,
            "lxc/shop_web": PAGES,
        }
        tenants["www"].write("heap", 0, 101)
        counts[tenants["www"].pid] -= 101
        assert_exact(daemon, counts)
        ksm.start()
        assert why(tenants["www"].pid) == ["merged"]


def test_outside_of_a_container_a_user_has_its_number_on_the_host(
    ksm: Ksm, container: tuple[UserNamespace, Path]
) -> None:
    """A user namespace alone, in no cgroup: an owner is a command of that user."""
    namespace, program = container
    with Daemon() as daemon, Workload() as load:
        tenants = [load.spawn(name, namespace.as_user(33), program) for name in ("a", "b")]
        for tenant in tenants:
            merge(tenant)
        ksm.merge_all()
        document = assert_exact(daemon, {tenant.pid: PAGES for tenant in tenants})
        for tenant in tenants:
            owner = process(document, tenant.pid)["owner"]
            assert (owner["kind"], owner["id"]) == ("command", f"{FIRST + 33}/{tenant.name}")
