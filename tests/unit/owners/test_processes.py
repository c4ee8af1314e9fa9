"""Names of processes: read once while events say when they change, else every time."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ksmwatch.owners.owner import OwnerKind
from ksmwatch.owners.processes import Identity, ProcessTable, full_name
from tests.fakes import Proc
from tests.process_table import Table, move, owner_name, put


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path


def names(identity: Identity | None) -> tuple[int, str, str] | None:
    return None if identity is None else (identity.start_ticks, identity.comm, identity.name)


def test_identity(proc: Path) -> None:
    put(proc, 7, b"tenant) 1 (x", 9000)
    identity = ProcessTable(proc).identify(7)
    assert names(identity) == (9000, "tenant) 1 (x", "tenant) 1 (x")
    assert identity is not None
    assert identity.owner.key == (OwnerKind.UNIT, "a.service")
    assert identity.cgroup == b"0::/system.slice/a.service\n"


def test_the_owner_is_of_command_line_and_users_too(proc: Path) -> None:
    passwd = proc / "passwd"
    passwd.write_text("root:x:0:0::/:/bin/sh\n#\nalice:x:1000:1000:::\nalias:x:1000:1:::\n")
    put(proc, 7, b"sleep", 1)
    move(proc, 7, "/")
    table = ProcessTable(proc, passwd)
    assert owner_name(table.identify(7)) == "alice"
    (proc / "7/cmdline").write_bytes(b"qemu-system-x86_64\0-name\0guest=web\0")
    identity = table.identify(7)
    assert identity is not None
    assert (identity.owner.kind, identity.owner.name) == (OwnerKind.VM, "web")


def test_without_users_there_are_numbers(proc: Path) -> None:
    put(proc, 7, b"sleep", 1)
    move(proc, 7, "/")
    assert owner_name(ProcessTable(proc, proc / "none").identify(7)) == "1000"


def test_a_name_that_is_not_utf8(proc: Path) -> None:
    put(proc, 7, b"\xff\xfe", 1)
    identity = ProcessTable(proc).identify(7)
    assert identity is not None
    assert identity.comm == "\ufffd\ufffd"


def test_a_name_that_was_cut_off(tmp_path: Path) -> None:
    program = tmp_path / "a-name-of-more-than-fifteen"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        assert full_name(process.pid, "a-name-of-more-") == "a-name-of-more-than-fifteen"
        assert full_name(process.pid, "short") == "short"
        process.kill()
    assert full_name(process.pid, "a-name-of-more-") == "a-name-of-more-"


def test_no_such_process(proc: Path) -> None:
    table = ProcessTable(proc)
    assert table.identify(8) is None
    # It ended while it was looked at.
    put(proc, 9, b"a", 1)
    (proc / "9/stat").write_text("")
    assert table.identify(9) is None
    put(proc, 9, b"a", 1)
    (proc / "9/status").unlink()
    assert table.identify(9) is None


def test_without_events_every_look_reads_anew(proc: Path) -> None:
    table = ProcessTable(proc)
    put(proc, 7, b"before", 1)
    table.identify(7)
    put(proc, 7, b"after", 1)
    identity = table.identify(7)
    assert identity is not None
    assert identity.comm == "after"
    assert table.catch_up()


def test_with_events_a_name_is_remembered_until_it_changes(proc: Path) -> None:
    table = Table(proc)
    put(proc, 7, b"before", 1)
    put(proc, 8, b"other", 1)
    first, other = table.identify(7), table.identify(8)
    put(proc, 7, b"after", 1)
    put(proc, 8, b"another", 1)
    assert table.identify(7) is first
    assert table.hear(7, 99)
    assert names(table.identify(7)) == (1, "after", "after")
    assert table.identify(8) is other
    assert table.reads == 3


def test_when_an_event_was_lost_all_are_read_anew(proc: Path) -> None:
    table = Table(proc)
    for pid in (7, 8):
        put(proc, pid, b"before", 1)
        table.identify(pid)
        put(proc, pid, b"after", 1)
    assert not table.hear(7, None)
    assert [table.comm(7), table.comm(8)] == ["after", "after"]
    assert table.hear()


def test_what_changes_while_it_is_read_is_read_again(proc: Path) -> None:
    table = Table(proc)
    put(proc, 7, b"before", 1)
    table.identify(7)
    # An exec between two of its files: the connector tells it afterwards.
    put(proc, 7, b"after", 1)
    table.hear(7)
    assert table.comm(7) == "after"


def test_children_of_who_ended_are_read_anew(proc: Path) -> None:
    put(proc, 5, b"parent", 1)
    put(proc, 6, b"child", 2, parent=5)
    table = Table(proc)

    def parent_of_6() -> int | None:
        found = table.identify(6)
        return None if found is None else found.ppid

    table.identify(5)
    assert parent_of_6() == 5
    put(proc, 6, b"child", 2, parent=1)
    assert parent_of_6() == 5
    table.hear(5)
    assert parent_of_6() == 1
    # The child first, then its parent, then a process whose parent is unknown.
    table.hear(6, 5, 1)
    assert parent_of_6() == 1


def test_a_guest_is_told_by_its_program_and_from_a_name_space(tmp_path: Path) -> None:
    proc = Proc(tmp_path / "proc")
    pod = "c0ffee12-3456-4789-8abc-def012345678"
    mount = tmp_path / "proc/1/root/sys/fs/cgroup/kubepods/burstable/podX/own"
    mount.mkdir(parents=True)
    (mount / "cgroup.procs").write_text(f"{os.getpid()}\n")
    for name, path in (("1", "/../../../../init.scope"), ("self", "/")):
        proc.path.joinpath(name).mkdir(exist_ok=True)
        proc.path.joinpath(name, "cgroup").write_text(f"0::{path}\n")
    guest = proc.process(7, comm="microvm", cgroup="/../../../besteffort/podX/vm")
    (guest / "cgroup").write_text(f"0::/../../pod{pod}/{'ab' * 32}\n")
    unit = proc.process(8, comm="microvm", cgroup="/../../../../system.slice/a.service")
    (unit / "cmdline").write_bytes(b"microvm@web\0-name\0web\0")
    (unit / "exe").symlink_to("/nix/store/1-qemu/bin/qemu-system-x86_64")
    table = ProcessTable(proc.path, tmp_path / "passwd")
    seen = [table.identify(pid) for pid in (7, 8)]
    assert [i and (i.owner.kind, i.owner.id, i.owner.qos) for i in seen] == [
        ("pod", pod, "burstable"),
        ("vm", "a.service/qemu/web", None),
    ]


def test_who_must_be_identified_again_is_told_once(tmp_path: Path) -> None:
    for pid, parent in ((7, 1), (8, 7), (9, 1), (10, 1)):
        put(tmp_path, pid, b"x", 1, parent=parent)
    table = Table(tmp_path)
    # Before anything is remembered, all must be.
    assert table.take_forgotten() is None
    for pid in (7, 8, 9):
        table.identify(pid)
    assert table.take_forgotten() == set()
    table.hear(7, 99)
    # A child has another parent, if this one has ended.
    assert table.take_forgotten() == {7, 8}
    assert table.take_forgotten() == set()
    table.hear(9, None)
    assert table.take_forgotten() is None
    assert table.take_forgotten() == set()


def test_without_events_all_must_be_identified_each_time(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    assert table.take_forgotten() is table.take_forgotten() is None
