"""Processes that are moved to another cgroup, and so to another owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.probes.cgroup_moves import KEPT
from tests.kernel.compare import assert_exact, process
from tests.kernel.daemon import Daemon
from tests.kernel.hooks import mechanisms
from tests.ksmctl import Ksm
from tests.waiting import wait_until
from tests.workload import Tenant, Workload, mergeable

SLICE = Path("/sys/fs/cgroup/tests.slice")
UNITS = ("one.service", "two.service")


def enter(tenant: Tenant, unit: str) -> None:
    """Move it there."""
    directory = SLICE / unit
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text(str(tenant.pid))


def owner(daemon: Daemon, tenant: Tenant) -> str:
    """The owner's name in the next snapshot."""
    return str(process(daemon.snapshot(), tenant.pid)["owner"]["name"])


def owners(daemon: Daemon) -> dict[str, int]:
    """Mappings by owner in the next snapshot."""
    return {o["name"]: o["mappings"] for o in daemon.snapshot()["owners"] if o["mappings"]}


@pytest.mark.parametrize("probes", mechanisms())
def test_the_next_snapshot_has_the_new_owner(probes: str, ksm: Ksm) -> None:
    one, two = UNITS
    with Daemon(f"--probes={probes}", http=False) as daemon, Workload() as load:
        a, b = mergeable(load, "a", 307), mergeable(load, "b", 211)
        for tenant in (a, b):
            enter(tenant, one)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 307, b.pid: 211})
        assert owners(daemon) == {one: 518}
        for _ in range(3):
            enter(a, two)
            assert owners(daemon) == {one: 211, two: 307}
            enter(a, one)
            enter(b, two)
            assert owners(daemon) == {one: 307, two: 211}
            enter(b, one)
            assert owners(daemon) == {one: 518}


def test_more_moves_than_are_kept_hide_none(ksm: Ksm) -> None:
    one, two = UNITS
    with Daemon(http=False) as daemon, Workload() as load:
        a, b = mergeable(load, "a", 307), mergeable(load, "b", 211)
        for tenant in (a, b):
            enter(tenant, one)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 307, b.pid: 211})
        assert owner(daemon, a) == one
        enter(a, two)
        for number in range(KEPT):
            enter(b, UNITS[number % 2])
        # There may be no time for it in the first snapshot.
        wait_until(lambda: owner(daemon, a) == two, lambda: owner(daemon, a))


def test_a_move_while_ksm_is_asleep_is_seen(ksm: Ksm) -> None:
    one, two = UNITS
    with Daemon(http=False) as daemon, Workload() as load:
        a, b = mergeable(load, "a", 307), mergeable(load, "b", 211)
        enter(a, one)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 307, b.pid: 211})
        assert owner(daemon, a) == one
        ksm.unmerge()
        assert_exact(daemon, {})
        assert daemon.snapshot()["asleep"] is True
        enter(a, two)
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 307, b.pid: 211})
        assert owner(daemon, a) == two


def room(daemon: Daemon, unit: str) -> int | None:
    """What is left in an owner's tightest cgroup, by the next snapshot; None without a limit."""
    (found,) = (each for each in daemon.snapshot()["owners"] if each["name"] == unit)
    limit = found["unmerge"]["limit"]
    return None if limit is None else int(limit["left_bytes"])


def test_the_next_snapshot_has_a_limit_that_was_just_written(ksm: Ksm) -> None:
    one, two = UNITS
    root = SLICE.parent
    with Daemon(http=False) as daemon, Workload() as load:
        a = mergeable(load, "a", 307)
        enter(a, one)
        (SLICE / two).mkdir(exist_ok=True)
        for directory in (root, SLICE):
            (directory / "cgroup.subtree_control").write_text("+memory")
        limit = SLICE / one / "memory.max"
        ksm.merge_all()
        assert_exact(daemon, {a.pid: 307})
        assert room(daemon, one) is None
        for most in (1 << 30, 1 << 31):
            limit.write_text(str(most))
            left = room(daemon, one)
            assert left is not None
            # Its pages are charged to the cgroup in which it got them.
            assert most - (1 << 29) < left <= most
        limit.write_text("max")
        assert room(daemon, one) is None
        # That of a cgroup above it counts as well, and goes with its controller.
        (SLICE / "memory.max").write_text(str(1 << 30))
        assert room(daemon, one) is not None
        (SLICE / "memory.max").write_text("max")
        limit.write_text(str(1 << 30))
        assert room(daemon, one) is not None
        (SLICE / "cgroup.subtree_control").write_text("-memory")
        assert room(daemon, one) is None
        # Another cgroup at the same path has a limit of its own.
        (SLICE / "cgroup.subtree_control").write_text("+memory")
        limit.write_text(str(1 << 30))
        assert room(daemon, one) is not None
        enter(a, two)
        (SLICE / one).rmdir()
        enter(a, one)
        assert room(daemon, one) is None
