"""Who a process is, and whose: /proc names it, the process connector says when that changed.

A process is (pid, start time), never a bare pid.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from ksmwatch import sources
from ksmwatch.owners import Owner, owner_of

# include/uapi/linux/cn_proc.h
_EXEC, _UID, _COMM, _EXIT = 0x2, 0x4, 0x200, 0x80000000

# A move to another cgroup gives no event, so a cgroup is read again after so long at the latest.
# Managers move a process before it execs, as a rule: what is late is an administrator's own move.
CGROUP_SECONDS = 30.0


@dataclass(frozen=True)
class Identity:
    """Names and owner of one process. `comm` is the kernel's, `name` what psutil makes of it.

    `cgroup`: /proc/PID/cgroup as it is, from which the owner was made.
    """

    ppid: int
    start_ticks: int
    comm: str
    name: str
    cgroup: bytes
    owner: Owner


@dataclass
class _Known:
    identity: Identity
    # When its cgroup was read.
    at: float


class ProcessTable:
    """Identities of the processes that were asked for, until an event says they changed.

    One thread asks; another may say that something changed.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        passwd: Path = Path("/etc/passwd"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc = proc
        self._clock = clock
        # Of this host, not of a directory service: to ask that can take for ever. Others go by
        # their number.
        self._users = sources.read_users(passwd)
        self._known: dict[int, _Known] = {}
        # Who changed while the process was being read: what was read may be of before.
        self._changed: set[int | None] = set()
        self._lock = threading.Lock()
        # Without events nothing may be remembered.
        self.following = False

    def identify(self, pid: int) -> Identity | None:
        """The process that has this pid now; None when there is none."""
        with self._lock:
            known = self._known.get(pid) if self.following else None
            self._changed.clear()
        if known is not None and self._stays(pid, known):
            return known.identity
        now = self._clock()
        identity = self._read(pid)
        with self._lock:
            if identity is None:
                self._known.pop(pid, None)
            elif self.following and not self._changed & {pid, None}:
                self._known[pid] = _Known(identity, now)
        return identity

    def _stays(self, pid: int, known: _Known) -> bool:
        """Whether the process is still where it was; looked at every CGROUP_SECONDS."""
        now = self._clock()
        if now < known.at + CGROUP_SECONDS:
            return True
        try:
            same = sources.read_cgroup(self._proc / str(pid)) == known.identity.cgroup
        except OSError:
            return False
        known.at = now
        return same

    def _read(self, pid: int) -> Identity | None:
        directory = self._proc / str(pid)
        try:
            ppid, ticks = sources.read_origin(directory)
            comm = (directory / "comm").read_text(errors="replace").rstrip("\n")
            name = psutil.Process(pid).name()
            cgroup = sources.read_cgroup(directory)
            cmdline = sources.read_cmdline(directory)
            uid = sources.read_uid(directory)
        except (OSError, psutil.Error, IndexError, ValueError):
            return None
        return Identity(
            ppid, ticks, comm, name, cgroup, owner_of(cmdline, cgroup, comm, uid, self._users)
        )

    def forget(self, pid: int | None = None) -> None:
        """A process changed or ended; without a pid: anything may have."""
        with self._lock:
            self._changed.add(pid)
            if pid is None:
                self._known.clear()
            elif self._known.pop(pid, None) is not None:
                # It may have ended: its children have another parent then.
                for child in [c for c, k in self._known.items() if k.identity.ppid == pid]:
                    self._changed.add(child)
                    del self._known[child]


# After a stream broke, mostly because its buffer was too small for what came.
_RETRY_SECONDS = 1.0


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
        while self._follow():
            time.sleep(_RETRY_SECONDS)

    def _follow(self) -> bool:
        """Listen until the stream breaks; False if it could not begin, as it never will."""
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
            had_begun, self._table.following = self._table.following, False
            self._losses["connector_lost"] += 1
            return had_begun

    def _take(self, message: dict[str, int]) -> None:
        if message.get("what") in (_EXEC, _UID, _COMM, _EXIT):
            self._table.forget(message["process_tgid"])
