"""Owners on a host where everything is real, compared with the page tables, during churn.

There are units of the system and of a user, containers with and without root, a virtual machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import oracle
from tests.kernel.compare import seen_in_peace, settled_snapshot
from tests.ksmctl import Ksm
from tests.systemd.service import Service, run, show, wait_for
from tests.town import MERGEABLE, UUID, Key, Town, exported, guest_command, wait_for_memory
from tests.workload import Tenant, Workload, built

USER = "tenant"
EACH = 6
ROUNDS = 3
Start = Callable[[Workload, str], tuple[Tenant, Key]]


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    run("dpkg", "--install", os.environ["DEB"])
    wait_for("it is not ready", lambda: show("ActiveState") == "active")
    yield
    run("dpkg", "--purge", "ksmwatch")


@pytest.fixture(scope="module")
def user() -> int:
    """A user with a session of its own, and a file system for containers; its number."""
    run("useradd", "--create-home", USER)
    run("usermod", "--add-subuids=200000-265535", "--add-subgids=200000-265535", USER)
    # Not at boot, when no user is logged in.
    Path("/etc/systemd/system/systemd-logind.service").unlink()
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "systemd-logind.service")
    run("loginctl", "enable-linger", USER)
    uid = pwd.getpwnam(USER).pw_uid
    wait_for("there is no session", Path(f"/run/user/{uid}/bus").exists)
    root = rootfs()
    root.mkdir()
    shutil.copy(built("ksmload"), root / "ksmload")
    run("chown", "--recursive", f"{USER}:{USER}", str(root))
    return uid


def rootfs() -> Path:
    return Path(pwd.getpwnam(USER).pw_dir) / "rootfs"


def as_user(*argv: str) -> str:
    """Run a command in the user's session; returns its output."""
    run_dir = f"/run/user/{pwd.getpwnam(USER).pw_uid}"
    session = (f"XDG_RUNTIME_DIR={run_dir}", f"DBUS_SESSION_BUS_ADDRESS=unix:path={run_dir}/bus")
    return run("runuser", "--user", USER, "--", "env", "--chdir=/", *session, *argv)


def start_unit(load: Workload, name: str) -> tuple[Tenant, Key]:
    """A service of the system."""
    unit = f"web-{name}.service"
    run("systemd-run", "--quiet", f"--unit={unit}", str(built("ksmload")), load.path, name)
    return load.take(name), ("unit", unit, unit)


def start_scope(load: Workload, name: str) -> tuple[Tenant, Key]:
    """A scope in a slice."""
    unit = f"job-{name}.scope"
    options = ("--quiet", "--scope", "--slice=batch.slice", f"--unit={unit}")
    return load.spawn(name, ("systemd-run", *options)), ("unit", unit, unit)


def start_user_unit(load: Workload, name: str) -> tuple[Tenant, Key]:
    """A service of the user."""
    unit, uid = f"editor-{name}.service", pwd.getpwnam(USER).pw_uid
    ksmload = str(rootfs() / "ksmload")
    as_user("systemd-run", "--user", "--quiet", f"--unit={unit}", ksmload, load.path, name)
    return load.take(name), ("unit", unit, f"{uid}/{unit}")


def podman(load: Workload, name: str) -> tuple[str, ...]:
    """The command for a container without an image."""
    directory = str(Path(load.path).parent)
    return (
        *("podman", "run", "--detach", "--rm", "--network=none", "--log-driver=none"),
        *(f"--volume={directory}:/load", "--rootfs", str(rootfs())),
        *("/ksmload", f"/load/{Path(load.path).name}", name),
    )


def start_container(load: Workload, name: str) -> tuple[Tenant, Key]:
    """A container of root's."""
    found = run(*podman(load, name)).strip()
    return load.take(name), ("container", found[:12], found)


def start_rootless(load: Workload, name: str) -> tuple[Tenant, Key]:
    """A container of the user's."""
    found = as_user(*podman(load, name)).strip()
    return load.take(name), ("container", found[:12], f"{pwd.getpwnam(USER).pw_uid}/{found}")


STARTS: tuple[Start, ...] = (
    start_unit,
    start_scope,
    start_user_unit,
    start_container,
    start_rootless,
)


def scrape() -> str:
    with urllib.request.urlopen("http://127.0.0.1:10054/metrics") as answer:
        return str(answer.read().decode())


def start_guest(directory: Path, name: str) -> tuple[int, Key]:
    """A virtual machine that a unit runs; its process id."""
    unit = f"{name}.service"
    run("systemd-run", "--quiet", f"--unit={unit}", *guest_command(directory, name))
    pid = int(run("systemctl", "show", "--property=MainPID", "--value", unit))
    return pid, ("vm", name, f"{unit}/qemu/{UUID}")


def test_owners_are_right_and_their_sums_exact_during_churn(user: int, tmp_path: Path) -> None:
    with Ksm() as ksm, Workload() as load:
        town = Town(load)

        def settle(start: Start) -> None:
            town.settle(*start(load, town.next_name()))

        for _ in range(EACH):
            for start in STARTS:
                settle(start)
        assert len(town.owners) == EACH * len(STARTS)
        guests = dict(start_guest(tmp_path, name) for name in ("mail", "build"))
        for pid in guests:
            wait_for_memory(pid)
        # Huge pages are split first, and smart_scan passes over pages for a while.
        ksm.merge_all(scans=12)
        for _ in range(ROUNDS):
            ksm.start()
            town.churn()
            for start in STARTS:
                settle(start)
            ksm.stop()
            settled_snapshot(Service())
            # Firmware may be writing to a page just now.
            truth, rows = seen_in_peace(
                lambda: town.truth(besides=guests), lambda: exported(scrape())
            )
            assert rows == truth
            assert {kind for kind, _, _ in truth} == {"unit", "container", "vm"}
            for pid, vm in guests.items():
                assert truth[vm] == oracle.process(pid) > MERGEABLE
        state = Service().snapshot()
        assert state["host"]["confidence"] == "exact", state["host"]["reason"]
        assert state["audit"]["surplus"] == state["audit"]["missing"] == 0
        run("systemctl", "stop", "mail.service", "build.service")
