"""Identity and owner of each process: from /proc, again when the process connector reports changes.

A process is (pid, start time), never a bare pid.
"""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ksmwatch.counting.backend import Budget
from ksmwatch.kernel import cgroup_top, procfs
from ksmwatch.kernel.cgroup_members import CgroupMembers
from ksmwatch.owners.judgement import owner_of
from ksmwatch.owners.owner import Owner
from ksmwatch.owners.process_connector import Connector
from ksmwatch.probes.cgroup_moves import SeenMoves

# Where moves to other cgroups are not seen, cgroups that were read this long ago are read again for
# a snapshot, as far as time allows. Managers usually move a process before it execs; only an
# administrator's own move shows late.
CGROUP_SECONDS = 30.0


# TASK_COMM_LEN minus the NUL: the kernel cut a longer name off.
_COMM_LENGTH = 15


def full_name(pid: int, comm: str) -> str:
    """The comm. If it may be cut off, what psutil makes of it and of the command line."""
    if len(comm.encode()) < _COMM_LENGTH:
        return comm
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return comm


@dataclass(frozen=True, slots=True)
class Identity:
    """Names and owner of one process. `comm` is the kernel's; for `name` see `full_name`.

    `cgroup`: the unchanged /proc/PID/cgroup from which the owner was derived.
    """

    ppid: int
    start_ticks: int
    comm: str
    name: str
    cgroup: bytes
    owner: Owner
    family: tuple[int, int] | None = None
    # Its path in the unified hierarchy, None if there is none. Derived.
    cgroup_path: str | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cgroup_path", procfs.unified_path(self.cgroup))


def _alone(proc: Path) -> bool:
    """Whether the unified hierarchy of cgroups is the only one.

    Beside it, cpusets (v1) that lose their last CPU lose their processes too, without an event
    that is followed here.
    """
    try:
        return procfs.unified_alone(procfs.read_cgroup(proc / "self"))
    except OSError:
        return False


@functools.lru_cache(maxsize=4096)
def _the(owner: Owner) -> Owner:
    """One object for all equal owners: there are fewer owners than processes."""
    return owner


@dataclass
class _Room:
    """The known processes of a cgroup, and when the longest unchecked of them was checked."""

    pids: dict[int, None]
    at: float


class _Rounds:
    """Which processes have to be asked for their cgroup, because it does not list them."""

    def __init__(self, members: CgroupMembers, clock: Callable[[], float]) -> None:
        self._members = members
        self._clock = clock
        # By cgroup, in the order in which they were last checked.
        self._rooms: dict[bytes, _Room] = {}
        # Processes of the last one that are still to be asked.
        self._unlisted: deque[int] = deque()

    def add(self, pid: int, cgroup: bytes, at: float) -> None:
        """A process was in this cgroup then."""
        self._rooms.setdefault(cgroup, _Room({}, at)).pids[pid] = None

    def remove(self, pid: int, cgroup: bytes) -> None:
        """A process is no longer known to be there."""
        pids = self._rooms[cgroup].pids
        del pids[pid]
        if not pids:
            del self._rooms[cgroup]

    def clear(self) -> None:
        """No process is known."""
        self._rooms.clear()

    def due(self, doubted: float, budget: Budget) -> Iterator[int]:
        """Processes to ask, as far as time allows. Some may be known no longer.

        `doubted`: cgroups that were last checked until then are checked again.
        """
        while budget.left():
            if self._unlisted:
                yield self._unlisted.popleft()
                continue
            cgroup = next(iter(self._rooms), None)
            if cgroup is None or self._rooms[cgroup].at > doubted:
                return
            room = self._rooms[cgroup] = self._rooms.pop(cgroup)
            room.at = self._clock()
            listed = self._members.of(cgroup)
            self._unlisted.extend(pid for pid in room.pids if pid not in listed)


class ProcessTable:
    """Identities of the requested processes, until an event says that they have changed.

    Without a connector, nothing is remembered. Only one thread may use it.
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
        self._rounds = _Rounds(CgroupMembers(proc), clock)
        self._alone = _alone(proc)
        # Who is where was in doubt then.
        self._doubted = -math.inf
        self._clock = clock
        # Users of this host, not of a directory service, which may never answer. Others appear by
        # number.
        self._users = procfs.read_users(passwd)
        self._connector: Connector | None = None
        # Those whose identity may be another one than at the last `take_forgotten`; None: any.
        self._forgotten: set[int] | None = None
        self._known: dict[int, Identity] = {}
        # Of the known processes.
        self._children: dict[int, set[int]] = {}

    def follow(self, connector: Connector) -> None:
        """Remember identities, and trust them until the connector reports a change."""
        self._connector = connector

    @property
    def descriptor(self) -> int | None:
        """Readable when processes have changed; None without a connector."""
        return None if self._connector is None else self._connector.descriptor

    def catch_up(self) -> bool:
        """Forget processes that have changed. False if events were lost.

        Call it about every second, so that the connector's buffer has room.
        """
        if self._connector is None:
            return True
        whole = True
        for pid in self._connector.changed():
            if pid is None:
                whole = False
                self._known.clear()
                self._children.clear()
                self._rounds.clear()
                self._forgotten = None
            else:
                self._forget(pid)
        return whole

    def _forget(self, pid: int) -> None:
        """A process changed or ended."""
        identity = self._drop(pid)
        if identity is None:
            return
        siblings = self._children[identity.ppid]
        siblings.discard(pid)
        if not siblings:
            del self._children[identity.ppid]
        # If it has ended, its children have another parent.
        children = self._children.pop(pid, set())
        for child in children:
            self._drop(child)
        if self._forgotten is not None:
            self._forgotten |= {pid, *children}

    def _drop(self, pid: int) -> Identity | None:
        identity = self._known.pop(pid, None)
        if identity is not None:
            self._rounds.remove(pid, identity.cgroup)
        return identity

    def take_forgotten(self) -> set[int] | None:
        """Processes that have to be identified again since the last call; None: all."""
        forgotten = self._forgotten
        self._forgotten = None if self._connector is None else set()
        return forgotten

    def _remember(self, pid: int, identity: Identity, at: float) -> None:
        self._known[pid] = identity
        self._rounds.add(pid, identity.cgroup, at)
        self._children.setdefault(identity.ppid, set()).add(pid)

    def identify(self, pid: int) -> Identity | None:
        """The process that has this pid now; None if there is none."""
        known = self._known.get(pid)
        if known is not None:
            return known
        now = self._clock()
        identity = self._read(pid)
        if identity is not None and self._connector is not None:
            self._remember(pid, identity, now)
        return identity

    def look_again(self, moved: SeenMoves | None, budget: Budget) -> None:
        """Find out which processes are in another cgroup now. `moved`: as the backend says.

        Of those that it may not have seen, as many are checked as time allows, the longest
        unchecked first.
        """
        now = self._clock()
        if moved is None or not self._alone:
            self._doubted = max(self._doubted, now - CGROUP_SECONDS)
        if moved is not None:
            if not moved.whole:
                self._doubted = now
            for pid in moved.pids:
                self._forget(pid)
        for pid in self._rounds.due(self._doubted, budget):
            known = self._known.get(pid)
            if known is not None and self._has_moved(pid, known):
                self._forget(pid)

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
