"""A table of invented processes that follows an invented connector, and counts what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from ksmwatch.owners.process_connector import Connector
from ksmwatch.owners.processes import Identity, ProcessTable
from tests.fakes import Clock


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


def owner_name(identity: Identity | None) -> str | None:
    return None if identity is None else identity.owner.name
