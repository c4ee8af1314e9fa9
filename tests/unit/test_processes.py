"""Names of processes: read once while events say when they change, else every time."""

from __future__ import annotations

import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from ksmwatch.processes import Connector, Identity, ProcessTable


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


def put(proc: Path, pid: int, comm: bytes, ticks: int) -> None:
    """A process as /proc shows it, with a hostile name in stat."""
    directory = proc / str(pid)
    directory.mkdir(exist_ok=True)
    (directory / "comm").write_bytes(comm + b"\n")
    rest = " ".join(["S", "1", *["0"] * 17, str(ticks), "0"])
    (directory / "stat").write_bytes(f"{pid} (".encode() + comm + f") {rest}\n".encode())


def test_identity(proc: Path) -> None:
    put(proc, 7, b"tenant) 1 (x", 9000)
    assert ProcessTable(proc).identify(7) == Identity(9000, "tenant) 1 (x", "name-of-7")


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
    assert table.identify(7) == Identity(1, "after", "name-of-7")
    assert table.identify(8) == other
    table.forget()
    assert table.identify(8) == Identity(1, "another", "name-of-8")
    assert FakeProcess.asked == 4


EXEC, COMM, EXIT = 0x2, 0x200, 0x80000000
FORK, UID, COREDUMP = 0x1, 0x4, 0x40000000


@pytest.mark.parametrize(
    ("what", "forgotten"),
    [(EXEC, True), (COMM, True), (EXIT, True), (FORK, False), (UID, False), (COREDUMP, False)],
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
    """A process connector that says one thing and breaks."""

    messages: tuple[tuple[dict[str, int], ...], ...] = ()

    def __enter__(self) -> Self:
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


def test_a_broken_stream_of_events_ends_remembering(
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
    connector = Connector(table, losses)
    connector.start()
    connector._thread.join()
    # Once before it follows, for what was missed, and once for the exit.
    assert followed == [False, True]
    assert table.following is False
    assert losses == {"connector_lost": 1}
