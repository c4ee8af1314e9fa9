"""Who a process is, and whose: /proc names it, the process connector says when that changed.

A process is (pid, start time), never a bare pid.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ksmwatch.counting.backend import Budget
from ksmwatch.kernel import cgroup_top, procfs
from ksmwatch.owners.judgement import owner_of
from ksmwatch.owners.owner import Owner
from ksmwatch.owners.process_connector import Connector

# A move to another cgroup gives no event, so a cgroup that was read so long ago is read again when
# somebody asks, as far as time allows. Managers move a process before it execs, as a rule: what is
# late is an administrator's own move.
CGROUP_SECONDS = 30.0


# TASK_COMM_LEN less the NUL: a longer name was cut off.
_COMM_LENGTH = 15


def full_name(pid: int, comm: str) -> str:
    """The comm; if it may be cut off, what psutil makes of it and of the command line."""
    if len(comm.encode()) < _COMM_LENGTH:
        return comm
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return comm


@dataclass(frozen=True, slots=True)
class Identity:
    """Names and owner of one process. `comm` is the kernel's, `name` see `full_name`.

    `cgroup`: /proc/PID/cgroup as it is, from which the owner was made.
    """

    ppid: int
    start_ticks: int
    comm: str
    name: str
    cgroup: bytes
    owner: Owner
    family: tuple[int, int] | None = None


@functools.lru_cache(maxsize=4096)
def _the(owner: Owner) -> Owner:
    """One object for all owners that are equal: there are fewer owners than processes."""
    return owner


@dataclass(slots=True)
class _Known:
    identity: Identity
    # When its cgroup was read.
    at: float


class ProcessTable:
    """Identities of the processes that were asked for, until an event says they changed.

    Without a connector nothing is remembered. Only one thread may use it.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        passwd: Path = Path("/etc/passwd"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._proc = proc
        # A daemon is not moved while it runs.
        self._top = cgroup_top.read_top(proc)
        self._clock = clock
        # Of this host, not of a directory service: to ask that can take for ever. Others go by
        # their number.
        self._users = procfs.read_users(passwd)
        self._connector: Connector | None = None
        self._known: dict[int, _Known] = {}
        # Of those that are known.
        self._children: dict[int, set[int]] = {}

    def follow(self, connector: Connector) -> None:
        """Remember, and believe it until the connector says otherwise."""
        self._connector = connector

    def catch_up(self) -> bool:
        """Forget who has changed by now; False if some of it was not heard of.

        To be called about every second, so that the connector's buffer has room.
        """
        if self._connector is None:
            return True
        whole = True
        for pid in self._connector.changed():
            if pid is None:
                whole = False
                self._known.clear()
                self._children.clear()
            else:
                self._forget(pid)
        return whole

    def _forget(self, pid: int) -> None:
        """A process changed or ended."""
        known = self._known.pop(pid, None)
        if known is None:
            return
        siblings = self._children[known.identity.ppid]
        siblings.discard(pid)
        if not siblings:
            del self._children[known.identity.ppid]
        # It may have ended: its children have another parent then.
        for child in self._children.pop(pid, ()):
            del self._known[child]

    def _remember(self, pid: int, identity: Identity, at: float) -> None:
        self._known[pid] = _Known(identity, at)
        self._children.setdefault(identity.ppid, set()).add(pid)

    def identify(self, pid: int) -> Identity | None:
        """The process that has this pid now; None when there is none."""
        known = self._known.get(pid)
        if known is not None:
            return known.identity
        now = self._clock()
        identity = self._read(pid)
        if identity is not None and self._connector is not None:
            self._remember(pid, identity, now)
        return identity

    def look_again(self, budget: Budget) -> None:
        """Look who has moved to another cgroup, those first that were not looked at for longest."""
        now = self._clock()
        # In order of when they were looked at.
        for pid, known in list(self._known.items()):
            if now < known.at + CGROUP_SECONDS or not budget.left():
                return
            if self._has_moved(pid, known.identity):
                self._forget(pid)
            elif pid in self._known:
                known.at = now
                self._known[pid] = self._known.pop(pid)

    def _has_moved(self, pid: int, identity: Identity) -> bool:
        try:
            return procfs.read_cgroup(self._proc / str(pid)) != identity.cgroup
        except OSError:
            return True

    def _read(self, pid: int) -> Identity | None:
        directory = self._proc / str(pid)
        try:
            comm, ppid, ticks, family = procfs.read_origin(directory)
            cgroup = procfs.read_cgroup(directory)
            cmdline = procfs.read_cmdline(directory)
            uid = procfs.read_uid(directory)
        except (OSError, IndexError, ValueError):
            return None
        exe = procfs.read_exe(directory)
        owner = owner_of(cmdline, cgroup, comm, uid, self._users, exe=exe, top=self._top)
        owner = _the(owner)
        return Identity(ppid, ticks, comm, full_name(pid, comm), cgroup, owner, family)
