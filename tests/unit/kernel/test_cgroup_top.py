"""The place of our cgroup name space's root: invented hosts, seen from inside a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ksmwatch.kernel.cgroup_top import read_top

OWN = "kubepods/besteffort/podX/own"
OTHERS = ("init.scope", "kubepods/burstable/podY/other", "kubepods/besteffort/podX/next")


def host(root: Path, mount: Path, *, own: str, first: str) -> Path:
    proc = root / "proc"
    for name, path in (("self", own), ("1", first)):
        (proc / name).mkdir(parents=True)
        (proc / name / "cgroup").write_text(f"1:name=systemd:/x\n0::{path}\n")
    for path in (OWN, *OTHERS):
        (mount / path).mkdir(parents=True)
        members = f"7\n{os.getpid()}\n" if path == OWN else "7\n8\n"
        (mount / path / "cgroup.procs").write_text(members)
    return proc


@pytest.mark.parametrize("mount", ["proc/1/root/sys/fs/cgroup", "sys/fs/cgroup"])
def test_it_is_found_where_the_hosts_own_mount_is_seen(tmp_path: Path, mount: str) -> None:
    proc = host(tmp_path, tmp_path / mount, own="/", first="/../../../../init.scope")
    assert read_top(proc) == f"/{OWN}"


def test_the_daemon_may_be_below_it(tmp_path: Path) -> None:
    mount = tmp_path / "sys/fs/cgroup"
    proc = host(tmp_path, mount, own="/own", first="/../../../init.scope")
    assert read_top(proc) == "/kubepods/besteffort/podX"


def test_on_the_host_there_is_none(tmp_path: Path) -> None:
    proc = host(tmp_path, tmp_path / "sys/fs/cgroup", own=f"/{OWN}", first="/init.scope")
    assert read_top(proc) is None


def test_where_nothing_is_seen_it_is_not_known(tmp_path: Path) -> None:
    proc = host(tmp_path, tmp_path / "elsewhere", own="/", first="/../../../../init.scope")
    assert read_top(proc) is None
    assert read_top(tmp_path / "nowhere") is None


def test_of_this_machine_it_is_none_or_a_path() -> None:
    top = read_top(Path("/proc"))
    assert top is None or top.startswith("/")
