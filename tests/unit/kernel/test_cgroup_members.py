"""Which processes are in a cgroup, by a directory that looks like the mounted hierarchy."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.kernel.cgroup_members import CgroupMembers

UNIT = b"0::/system.slice/a.service\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host on which process 1 is in a unit, with 7 and 8."""
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/self").symlink_to("1")
    (tmp_path / "proc/1/cgroup").write_bytes(UNIT)
    unit = tmp_path / "sys/fs/cgroup/system.slice/a.service"
    unit.mkdir(parents=True)
    (unit / "cgroup.procs").write_text("1\n7\n8\n")
    return tmp_path


def test_a_cgroup_is_listed(root: Path) -> None:
    members = CgroupMembers(root / "proc")
    assert members.of(UNIT) == {1, 7, 8}
    assert not members.of(b"0::/system.slice/b.service\n")


@pytest.mark.parametrize(
    "cgroup",
    [
        # It may move in the other hierarchy.
        b"1:cpu:/a\n" + UNIT,
        # Outside of what is visible.
        b"0::/../a.service\n",
        b"0::/system.slice/a.service (deleted)\n",
        b"",
    ],
)
def test_what_does_not_name_a_cgroup_alone_lists_nobody(cgroup: bytes, root: Path) -> None:
    assert not CgroupMembers(root / "proc").of(cgroup)


def test_in_another_hierarchy_than_ours_nobody_is_listed(root: Path) -> None:
    (root / "sys/fs/cgroup/system.slice/a.service/cgroup.procs").write_text("7\n8\n")
    assert not CgroupMembers(root / "proc").of(UNIT)
