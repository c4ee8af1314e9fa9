"""Names of processes: read once while events say when they change, else every time."""

from __future__ import annotations

import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from ksmwatch.owners import OwnerKind
from ksmwatch.processes import CGROUP_SECONDS, Connector, Identity, ProcessTable
from tests.fakes import Clock


class FakeProcess:
    """psutil's view: a name for every pid but 404."""

    asked = 0

    def __init__(self, pid: int) -> None:
        if pid == 404:
            raise psutil.NoSuchProcess(pid)
        self._pid = pid

    def name(self) -> str:
        """The long name."""
        type(self).asked += 1
        return f"name-of-{self._pid}"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("ksmwatch.processes.psutil.Process", FakeProcess)
    FakeProcess.asked = 0
    return tmp_path


def put(proc: Path, pid: int, comm: bytes, ticks: int, parent: int = 1) -> None:
    """A process as /proc shows it, with a hostile name in stat."""
    directory = proc / str(pid)
    directory.mkdir(exist_ok=True)
    (directory / "comm").write_bytes(comm + b"\n")
    (directory / "cmdline").write_bytes(b"/bin/" + comm + b"\0")
    (directory / "status").write_bytes(b"Name:\t" + comm + b"\nUmask:\t0\nUid:\t1000\t0\t0\t0\n")
    move(proc, pid, "/system.slice/a.service")
    rest = " ".join(["S", str(parent), *["0"] * 17, str(ticks), "0"])
    (directory / "stat").write_bytes(f"{pid} (".encode() + comm + f") {rest}\n".encode())


def move(proc: Path, pid: int, cgroup: str) -> None:
    """To another cgroup, of which nobody is told."""
    (proc / str(pid) / "cgroup").write_text(f"0::{cgroup}\n")


def names(identity: Identity | None) -> tuple[int, str, str] | None:
    return None if identity is None else (identity.start_ticks, identity.comm, identity.name)


def owner_name(identity: Identity | None) -> str | None:
    return None if identity is None else identity.owner.name


def test_identity(proc: Path) -> None:
    put(proc, 7, b"tenant) 1 (x", 9000)
    identity = ProcessTable(proc).identify(7)
    assert names(identity) == (9000, "tenant) 1 (x", "name-of-7")
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


def test_no_such_process(proc: Path) -> None:
    table = ProcessTable(proc)
    assert table.identify(8) is None
    # It ended while it was looked at.
    put(proc, 404, b"a", 1)
    assert table.identify(404) is None
    put(proc, 9, b"a", 1)
    (proc / "9/stat").write_text("")
    assert table.identify(9) is None


def test_without_events_every_look_reads_anew(proc: Path) -> None:
    table = ProcessTable(proc)
    put(proc, 7, b"before", 1)
    table.identify(7)
    put(proc, 7, b"after", 1)
    identity = table.identify(7)
    assert identity is not None
    assert identity.comm == "after"
    assert FakeProcess.asked == 2


def test_with_events_a_name_is_remembered_until_it_changes(proc: Path) -> None:
    table = ProcessTable(proc)
    table.following = True
    put(proc, 7, b"before", 1)
    put(proc, 8, b"other", 1)
    first, other = table.identify(7), table.identify(8)
    put(proc, 7, b"after", 1)
    put(proc, 8, b"another", 1)
    assert table.identify(7) == first
    table.forget(7)
    assert names(table.identify(7)) == (1, "after", "name-of-7")
    assert table.identify(8) == other
    table.forget()
    assert names(table.identify(8)) == (1, "another", "name-of-8")
    assert FakeProcess.asked == 4


def test_a_move_to_another_cgroup_is_seen_in_time(proc: Path) -> None:
    clock = Clock()
    table = ProcessTable(proc, clock=clock)
    table.following = True
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS - 1
    assert owner_name(table.identify(7)) == "a.service"
    clock.now += 1
    assert owner_name(table.identify(7)) == "b.service"
    assert FakeProcess.asked == 2


def test_who_stays_in_the_cgroup_is_not_read_anew(proc: Path) -> None:
    clock = Clock()
    table = ProcessTable(proc, clock=clock)
    table.following = True
    put(proc, 7, b"tenant", 1)
    first = table.identify(7)
    for _ in range(3):
        clock.now += CGROUP_SECONDS
        assert table.identify(7) is first
    # After a look at the cgroup the time begins again.
    move(proc, 7, "/system.slice/b.service")
    clock.now += CGROUP_SECONDS - 1
    assert table.identify(7) is first
    assert FakeProcess.asked == 1


def test_who_ended_unnoticed_is_nobody(proc: Path) -> None:
    clock = Clock()
    table = ProcessTable(proc, clock=clock)
    table.following = True
    put(proc, 7, b"tenant", 1)
    table.identify(7)
    for path in (proc / "7").iterdir():
        path.unlink()
    (proc / "7").rmdir()
    clock.now += CGROUP_SECONDS
    assert table.identify(7) is None


@pytest.mark.parametrize(("changed", "remembered"), [(7, False), (None, False), (8, True)])
def test_what_changes_while_it_is_read_is_not_remembered(
    proc: Path, monkeypatch: pytest.MonkeyPatch, changed: int | None, *, remembered: bool
) -> None:
    table = ProcessTable(proc)
    table.following = True
    put(proc, 7, b"before", 1)

    def name(self: FakeProcess) -> str:
        # The connector's thread hears of an exec just now.
        table.forget(changed)
        return "read"

    monkeypatch.setattr(FakeProcess, "name", name)
    table.identify(7)
    put(proc, 7, b"after", 1)
    identity = table.identify(7)
    assert identity is not None
    assert identity.comm == ("before" if remembered else "after")


EXEC, COMM, EXIT = 0x2, 0x200, 0x80000000
FORK, UID, COREDUMP = 0x1, 0x4, 0x40000000


@pytest.mark.parametrize(
    ("what", "forgotten"),
    [(EXEC, True), (COMM, True), (EXIT, True), (UID, True), (FORK, False), (COREDUMP, False)],
)
def test_which_events_make_it_forget(proc: Path, what: int, *, forgotten: bool) -> None:
    table = ProcessTable(proc)
    table.following = True
    put(proc, 7, b"before", 1)
    table.identify(7)
    put(proc, 7, b"after", 1)
    message = {"what": what, "process_tgid": 7, "process_pid": 70}
    Connector(table, Counter())._take(message)
    identity = table.identify(7)
    assert identity is not None
    assert identity.comm == ("after" if forgotten else "before")


def test_a_message_without_an_event_is_nothing(proc: Path) -> None:
    Connector(ProcessTable(proc), Counter())._take({})


class FakeSocket:
    """A process connector that says what it is told, breaks, and refuses the third listener."""

    messages: tuple[tuple[dict[str, int], ...], ...] = ()
    listeners = 0

    def __enter__(self) -> Self:
        type(self).listeners += 1
        if self.listeners == 3:
            raise PermissionError(1, "Operation not permitted")
        return self

    def __exit__(self, *args: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None

    def get(self, msg_seq: int) -> tuple[dict[str, int], ...]:
        """The next messages, then the end."""
        if not type(self).messages:
            raise OSError(105, "No buffer space available")
        first, *rest = type(self).messages
        type(self).messages = tuple(rest)
        return first


def test_a_broken_stream_of_events_ends_remembering_until_it_is_back(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = types.ModuleType("cn_proc")
    marshal = type("ProcEventMarshal", (), {"msg_map": {}})
    vars(fake).update(
        ProcEventMarshal=marshal, ProcEventSocket=FakeSocket, proc_event_exec=object()
    )
    for name in ("pyroute2", "pyroute2.netlink"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    package = types.ModuleType("pyroute2.netlink.connector")
    vars(package).update(cn_proc=fake)
    monkeypatch.setitem(sys.modules, "pyroute2.netlink.connector", package)
    monkeypatch.setattr(
        FakeSocket, "messages", (({"what": EXIT, "process_tgid": 7},), ({"what": FORK},))
    )
    table, losses = ProcessTable(proc), Counter[str]()
    put(proc, 7, b"before", 1)
    followed: list[bool] = []

    def forget(pid: int | None = None) -> None:
        followed.append(table.following)

    monkeypatch.setattr(table, "forget", forget)
    monkeypatch.setattr("ksmwatch.processes._RETRY_SECONDS", 0)
    connector = Connector(table, losses)
    connector.start()
    connector._thread.join()
    # Once before it follows, for what was missed, and once for the exit; then once more.
    assert followed == [False, True, False]
    assert table.following is False
    # It breaks twice, and the third time it cannot even begin.
    assert losses == {"connector_lost": 3}


def test_children_of_who_ended_are_read_anew(proc: Path) -> None:
    put(proc, 5, b"parent", 1)
    put(proc, 6, b"child", 2, parent=5)
    table = ProcessTable(proc)
    table.following = True

    def parent_of_6() -> int | None:
        found = table.identify(6)
        return None if found is None else found.ppid

    table.identify(5)
    assert parent_of_6() == 5
    put(proc, 6, b"child", 2, parent=1)
    assert parent_of_6() == 5
    table.forget(5)
    assert parent_of_6() == 1
