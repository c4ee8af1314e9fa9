"""Names of processes: read once while events say when they change, else every time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ksmwatch.counting.backend import Budget
from ksmwatch.kernel import procfs
from ksmwatch.owners.owner import OwnerKind
from ksmwatch.owners.process_connector import Connector
from ksmwatch.owners.processes import CGROUP_SECONDS, Identity, ProcessTable, full_name
from ksmwatch.probes.cgroup_moves import Moved
from tests.fakes import Clock, Proc


class FakeConnector:
    """Says which processes have changed; None: events were lost."""

    def __init__(self) -> None:
        self.told: list[int | None] = []

    def changed(self) -> Iterator[int | None]:
        """As told, once."""
        while self.told:
            yield self.told.pop(0)


class Table(ProcessTable):
    """A table that follows a connector, and counts what it reads."""

    def __init__(self, proc: Path, clock: Clock | None = None) -> None:
        super().__init__(proc, clock=clock or Clock())
        self.connector = FakeConnector()
        self.follow(cast(Connector, self.connector))
        self.reads = 0

    def _read(self, pid: int) -> Identity | None:
        self.reads += 1
        return super()._read(pid)

    def hear(self, *pids: int | None) -> bool:
        """The connector tells."""
        self.connector.told = list(pids)
        return self.catch_up()

    def comm(self, pid: int) -> str | None:
        identity = self.identify(pid)
        return None if identity is None else identity.comm


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return tmp_path


def put(proc: Path, pid: int, comm: bytes, ticks: int, parent: int = 1) -> None:
    """A process as /proc shows it, with a hostile name in stat."""
    directory = proc / str(pid)
    directory.mkdir(exist_ok=True)
    (directory / "cmdline").write_bytes(b"/bin/" + comm + b"\0")
    (directory / "status").write_bytes(b"Name:\t" + comm + b"\nUmask:\t0\nUid:\t1000\t0\t0\t0\n")
    move(proc, pid, "/system.slice/a.service")
    rest = " ".join(["S", str(parent), *["0"] * 17, str(ticks), "0"])
    (directory / "stat").write_bytes(f"{pid} (".encode() + comm + f") {rest}\n".encode())


def move(proc: Path, pid: int, cgroup: str) -> None:
    """To another cgroup, without an event."""
    (proc / str(pid) / "cgroup").write_text(f"0::{cgroup}\n")


def names(identity: Identity | None) -> tuple[int, str, str] | None:
    return None if identity is None else (identity.start_ticks, identity.comm, identity.name)


def owner_name(identity: Identity | None) -> str | None:
    return None if identity is None else identity.owner.name


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


PLENTY = Budget(1e9)


def test_a_move_to_another_cgroup_is_seen_in_time(proc: Path) -> None:
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS - 1
    table.look_again(None, PLENTY)
    assert owner_name(table.identify(7)) == "a.service"
    clock.now += 1
    table.look_again(None, PLENTY)
    assert owner_name(table.identify(7)) == "b.service"
    assert table.reads == 2


def test_who_stays_in_the_cgroup_is_not_read_anew(proc: Path) -> None:
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    first = table.identify(7)
    for _ in range(3):
        clock.now += CGROUP_SECONDS
        table.look_again(None, PLENTY)
        assert table.identify(7) is first
    # After a look at the cgroup the time begins again.
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS - 1
    table.look_again(None, PLENTY)
    assert table.identify(7) is first
    assert table.reads == 1


def test_with_little_time_those_are_looked_at_that_were_not_for_longest(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    table = Table(proc, clock)
    looked: list[int] = []

    def look(directory: Path) -> bytes:
        looked.append(int(directory.name))
        clock.now += 1
        return (directory / "cgroup").read_bytes()

    for pid in (9, 7, 8):
        put(proc, pid, b"tenant", 1)
        table.identify(pid)
    monkeypatch.setattr(procfs, "read_cgroup", look)
    clock.now += CGROUP_SECONDS
    table.look_again(None, Budget(2, clock))
    assert looked == [9, 7]
    table.look_again(None, Budget(2, clock))
    assert looked == [9, 7, 8]


def test_who_has_ended_is_not_asked_for_its_cgroup(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    table = Table(proc, clock)
    for pid, parent in ((7, 1), (8, 7), (9, 1), (10, 1)):
        put(proc, pid, b"tenant", 1, parent=parent)
        table.identify(pid)
    asked: list[str] = []

    def look(directory: Path) -> bytes:
        asked.append(directory.name)
        clock.now += 1
        return (directory / "cgroup").read_bytes()

    monkeypatch.setattr(procfs, "read_cgroup", look)
    # 8 has another parent then, and will be read anew.
    table.hear(7)
    clock.now += CGROUP_SECONDS
    table.look_again(None, Budget(1, clock))
    assert asked == ["9"]
    # It ends before its turn.
    table.hear(10)
    table.look_again(None, PLENTY)
    assert asked == ["9"]


def test_who_is_listed_in_its_cgroup_is_not_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, cgroups, clock = tmp_path / "proc", tmp_path / "sys/fs/cgroup/system.slice", Clock()
    proc.mkdir()
    for name, listed in (("a.service", (1, 7, 8)), ("b.service", (9,))):
        (cgroups / name).mkdir(parents=True)
        (cgroups / name / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in listed))
    for pid in (1, 7, 8, 9):
        put(proc, pid, b"tenant", 1)
    (proc / "self").symlink_to("1")
    table = Table(proc, clock)
    for pid in (7, 8, 9):
        table.identify(pid)
    asked: list[int] = []

    def look(directory: Path) -> bytes:
        asked.append(int(directory.name))
        return b"0::/system.slice/b.service\n"

    monkeypatch.setattr(procfs, "read_cgroup", look)
    clock.now += CGROUP_SECONDS
    table.look_again(None, PLENTY)
    # 9 was in a.service, and is not listed there.
    assert asked == [9]


def alone(proc: Path) -> None:
    """The unified hierarchy of cgroups is the only one."""
    put(proc, 1, b"daemon", 1)
    (proc / "self").symlink_to("1")


NOBODY = Moved((), whole=True)


def test_who_was_seen_to_move_has_another_owner_at_once(proc: Path) -> None:
    alone(proc)
    table = Table(proc)
    for pid in (7, 8):
        put(proc, pid, b"tenant", 1)
        table.identify(pid)
        move(proc, pid, "/system.slice/b.service")
    table.take_forgotten()
    # Of 99 nothing is known.
    table.look_again(Moved((7, 99), whole=True), PLENTY)
    assert table.take_forgotten() == {7}
    assert owner_name(table.identify(7)) == "b.service"
    assert owner_name(table.identify(8)) == "a.service"


def test_who_was_not_seen_to_move_is_not_looked_at(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(proc)
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    monkeypatch.delattr(procfs, "read_cgroup")
    clock.now += 10 * CGROUP_SECONDS
    table.look_again(NOBODY, PLENTY)


def test_if_not_all_moves_were_seen_everybody_is_looked_at(proc: Path) -> None:
    alone(proc)
    clock = Clock()
    table = Table(proc, clock)
    for pid in (7, 8):
        put(proc, pid, b"tenant", 1)
        table.identify(pid)
        move(proc, pid, f"/system.slice/{pid}.service")
    table.look_again(Moved((), whole=False), Budget(0, clock))
    # There was no time; there is at the next look.
    assert owner_name(table.identify(8)) == "a.service"
    clock.now += 1
    table.look_again(NOBODY, PLENTY)
    assert [owner_name(table.identify(pid)) for pid in (7, 8)] == ["7.service", "8.service"]


def test_beside_other_hierarchies_cgroups_are_looked_at_from_time_to_time(proc: Path) -> None:
    alone(proc)
    (proc / "1/cgroup").write_text("3:cpuset:/\n0::/system.slice/a.service\n")
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS
    table.look_again(NOBODY, PLENTY)
    assert owner_name(table.identify(7)) == "b.service"


def test_who_ended_unnoticed_is_nobody(proc: Path) -> None:
    clock = Clock()
    table = Table(proc, clock)
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    for path in (proc / "7").iterdir():
        path.unlink()
    (proc / "7").rmdir()
    clock.now += CGROUP_SECONDS
    table.look_again(None, PLENTY)
    assert table.identify(7) is None


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
