"""Who a process is: psutil names it, the kernel's process connector says when that changed.

A process is (pid, start time), never a bare pid.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from ksmwatch import sources

# include/uapi/linux/cn_proc.h
_EXEC, _COMM, _EXIT = 0x2, 0x200, 0x80000000


@dataclass(frozen=True)
class Identity:
    """Names of one process. `comm` is the kernel's, `name` what psutil makes of it."""

    start_ticks: int
    comm: str
    name: str


class ProcessTable:
    """Identities of the processes that were asked for, until an event says they changed."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._known: dict[int, Identity] = {}
        self._lock = threading.Lock()
        # Without events nothing may be remembered.
        self.following = False

    def identify(self, pid: int) -> Identity | None:
        """The process that has this pid now; None when there is none."""
        with self._lock:
            known = self._known.get(pid)
        if known is not None and self.following:
            return known
        identity = self._read(pid)
        if identity is not None:
            with self._lock:
                self._known[pid] = identity
        return identity

    def _read(self, pid: int) -> Identity | None:
        directory = self._proc / str(pid)
        try:
            ticks = sources.read_start_ticks(directory)
            comm = (directory / "comm").read_text(errors="replace").rstrip("\n")
            name = psutil.Process(pid).name()
        except (OSError, psutil.Error, IndexError):
            return None
        return Identity(ticks, comm, name)

    def forget(self, pid: int | None = None) -> None:
        """A process changed or ended; without a pid: anything may have."""
        with self._lock:
            if pid is None:
                self._known.clear()
            else:
                self._known.pop(pid, None)


class Connector:
    """Listens to the process connector on a thread of its own, and keeps the table true.

    Needs CAP_NET_ADMIN and the initial network namespace; without it names are read anew
    for every snapshot.
    """

    def __init__(self, table: ProcessTable, losses: Counter[str]) -> None:
        self._table = table
        self._losses = losses
        self._thread = threading.Thread(target=self._listen, name="connector", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def _listen(self) -> None:
        # Imported here: pyroute2 costs memory that a one-shot command need not pay.
        from pyroute2.netlink.connector import cn_proc

        class Marshal(cn_proc.ProcEventMarshal):  # type: ignore[misc]
            """A comm may be invalid UTF-8, on which pyroute2 would raise: do not decode it."""

            msg_map = {  # noqa: RUF012 - pyroute2's own protocol
                **cn_proc.ProcEventMarshal.msg_map,
                _COMM: cn_proc.proc_event_exec,
            }

        try:
            with cn_proc.ProcEventSocket() as sock:
                sock.set_marshal(Marshal())
                sock.bind()
                sock.control(listen=True)
                self._table.forget()
                self._table.following = True
                while True:
                    for message in sock.get(msg_seq=-1):
                        self._take(message)
        except Exception:  # noqa: BLE001 - pyroute2 raises many kinds; any of them ends the stream
            self._table.following = False
            self._losses["connector_lost"] += 1

    def _take(self, message: dict[str, int]) -> None:
        if message.get("what") in (_EXEC, _COMM, _EXIT):
            self._table.forget(message["process_tgid"])
