"""Exact reads of processes, each between two looks at its account.

A read settles the account only if nothing moved between the looks. It returns what it found;
``findings`` judges what that means for others.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import Any, NamedTuple, TypeVar

from ksmwatch.counting import ledger
from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import Bracket
from ksmwatch.kernel import areas, procfs
from ksmwatch.kernel.areas import Area
from ksmwatch.kernel.node_reader import ByNode, NodeReader
from ksmwatch.kernel.page_tables import CarefulReader, PagemapReader, Reader, SmapsReader
from ksmwatch.kernel.read_areas import read_areas
from ksmwatch.probes.map_records import Account, Baseline, Migrations, Movement, Opened
from ksmwatch.probes.maps import Maps

# An exact read that events keep disturbing is tried this many times before it is postponed.
_BRACKETS = 5
# A call of migrate_pages() moves hundreds of pages, and may wait for each of them to be written.
# If it is considered ended too early, right counts look wrong.
_STUCK_SECONDS = 30.0


_Found = TypeVar("_Found")
# Reads the page tables of an opened process; None if pages may be away.
ReadPages = Callable[[], _Found | None]


class Outcome(Enum):
    """How an exact read of a process ended.

    UNPINNED: it is unknown whose file was read. ROOMLESS: it has mappings, but no account.
    """

    SETTLED = auto()
    DISTURBED = auto()
    GONE = auto()
    DENIED = auto()
    UNPINNED = auto()
    ROOMLESS = auto()


class Opening(Enum):
    """How opening an account ended. BY_EVENT: an event opened it first."""

    OURS = auto()
    BY_EVENT = auto()
    NO_ROOM = auto()


class ExactReading(NamedTuple):
    """The result of one exact read.

    `mm`, `account`: whose mappings these are; None if unknown, or if there is no account.
    `counted`: the number called exact until now, 0 without an account; None if there was none.
    `found`: the mappings in the page tables. `moves`: those of the account then. `opened`: it had
    mappings but no account, and has one now. `unseen`: how often no probe saw the opening of the
    file.
    """

    pid: int
    outcome: Outcome
    mm: int | None = None
    account: int | None = None
    counted: int | None = None
    found: int | None = None
    moves: tuple[int, ...] | None = None
    opened: bool = False
    unseen: int = 0

    @property
    def refutes(self) -> bool:
        """Whether a number called exact was wrong."""
        return self.counted is not None and self.counted != self.found


class Readers(NamedTuple):
    """What reads page tables. `nodes`: None if nodes of memory cannot be read, or there is one."""

    pages: Reader
    nodes: NodeReader | None = None


class MissedEnds:
    """The number of migrations whose end was missed: nothing has changed for a long time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Calls of migrate_pages() begun and ended, and since when these have not changed.
        self._standing: tuple[int, int] | None = None
        self._since = 0.0
        self.number = 0

    def see(self, migrations: Migrations) -> None:
        """Call it about every second."""
        standing, now = (migrations.begun, migrations.ended), self._clock()
        if standing != self._standing:
            self._standing, self._since = standing, now
        elif now >= self._since + _STUCK_SECONDS:
            self.number = migrations.begun - migrations.ended


def sees_every_call(since: int, now: int) -> bool:
    """Whether every call of migrate_pages() that is under way now was seen to begin.

    `since`: from when on every call is seen. Both by the clock of the programs.
    """
    return now >= since + _STUCK_SECONDS * 1e9


class ExactReader:
    """Reads processes and settles their accounts. Only one thread may use it."""

    def __init__(self, maps: Maps, readers: Readers, host: Host) -> None:
        self._maps = maps
        self._reader, self._nodes = readers.pages, readers.nodes
        self._host = host
        self._missed_ends = MissedEnds(host.clock)

    def see_migrations(self) -> None:
        """Call it about every second: after too long a migration, its end was missed."""
        self._missed_ends.see(self._maps.migrations())

    def read(self, pid: int) -> ExactReading:
        """Read a process exactly, and settle its account if nothing moved meanwhile.

        A main thread that has ended has no memory any more, though other threads may live.
        """
        reading = self._read(pid, pid)
        if reading.outcome is Outcome.GONE:
            for thread in procfs.other_threads(self._host.proc, pid):
                reading = self._read(pid, thread)
                if reading.outcome is not Outcome.GONE:
                    break
        return reading

    def _read(self, pid: int, thread: int) -> ExactReading:
        """The same, by the files of one of its threads."""
        unseen = 0
        while unseen < _BRACKETS:
            try:
                with self._pinned(thread, self._choose()) as (file, read):
                    if file is not None:
                        return self._settle(pid, file, read)._replace(unseen=unseen)
            except OSError as error:
                return ExactReading(pid, _refusal(error), unseen=unseen)
            # The probe missed the opening, or the process exec'ed between two openings.
            unseen += 1
        return ExactReading(pid, Outcome.UNPINNED, unseen=unseen)

    def read_areas(self, pid: int, mappings: int) -> tuple[Area, ...] | None:
        """Areas with KSM mappings that are not mergeable; None if they cannot be read."""
        if not mappings:
            return ()
        try:
            return areas.stray(read_areas(self._host.proc / str(pid), self._reader))
        except OSError:
            return None

    @contextmanager
    def _pinned(
        self, task: int, reader: Reader | CarefulReader | NodeReader
    ) -> Iterator[tuple[Opened | None, ReadPages[Any]]]:
        """An opened file, which pins the mm, and whose it is; None if that is unknown."""
        thread = threading.get_native_id()
        self._maps.forget_opened(thread)
        seen: list[Opened | None] = []
        directory = self._host.proc / str(task)
        with reader.open(directory, lambda: seen.append(self._maps.opened(thread))) as opened:
            file = seen[0]
            if any(each is None or file is None or each.mm != file.mm for each in seen):
                file = None
            yield file, opened.read

    def _choose(self) -> SmapsReader | CarefulReader | PagemapReader:
        """A page that is away unseen would be counted by its migration entry, and its arrival.

        One that is poisoned would be counted by its entry, which goes without an event.
        """
        since = self._maps.read_control().calls_since
        seen = sees_every_call(since, self._host.nanoseconds())
        return self._reader.now(away=not seen)

    def read_nodes(self, pid: int) -> bool:
        """Read on which nodes the mappings lie of a process whose count is exact.

        Whether they are known now.
        """
        if self._nodes is None:
            return False
        with suppress(OSError), self._pinned(pid, self._nodes) as (file, read):
            return file is not None and self._settle_nodes(file.mm, read)
        return False

    def _settle_nodes(self, mm: int, read: ReadPages[ByNode]) -> bool:
        """Read until a result can be trusted; False if none could. Raises OSError."""
        for _ in range(_BRACKETS):
            bracket = self._bracket(mm, read)
            if bracket is None:
                break
            if self._settled_nodes(mm, bracket):
                return True
        return False

    def _settled_nodes(self, mm: int, bracket: Bracket[ByNode]) -> bool:
        """Write the result to the account, if it can be trusted.

        The account is looked at once more, because a program adds to the movements before it adds
        to the nodes. A page may have got another frame while its frame was looked up; then the sum
        is wrong.
        """
        account, found = bracket.after, bracket.found
        if account is None or bracket.disturbed(mm, self._missed_ends.number):
            return False
        if not ledger.stood_still(account, self._maps.account(mm)):
            return False
        baseline = self._maps.baseline(mm)
        count = ledger.count(mm, account, baseline)
        nodes = tuple(found.get(node, 0) for node in range(len(account.nodes)))
        if not count.exact or sum(nodes) != count.mappings:
            return False
        self._put_baseline(mm, ledger.settle_nodes(account, baseline, nodes))
        return True

    def _settle(self, pid: int, file: Opened, read: ReadPages[int]) -> ExactReading:
        """Read until a read was not disturbed."""
        reading = ExactReading(pid, Outcome.DISTURBED, file.mm)
        for _ in range(_BRACKETS):
            try:
                bracket = self._bracket(file.mm, read)
            except OSError as error:
                return reading._replace(outcome=_refusal(error))
            if bracket is None:
                # The kernel may hide for longer than a moment whether pages are away.
                break
            if bracket.disturbed(file.mm, self._missed_ends.number):
                continue
            found, account = bracket.found, bracket.after
            if account is not None:
                return self._settled(reading, account, found)
            if not found:
                return reading._replace(outcome=Outcome.SETTLED, found=0)
            # Without an account, no event could have been seen: open one and look again.
            opening = self._open(file)
            if opening is Opening.NO_ROOM:
                return reading._replace(outcome=Outcome.ROOMLESS, found=found)
            if opening is Opening.OURS:
                reading = reading._replace(counted=0, found=found, opened=True)
        # Without an account, nothing would record that it has to be read.
        if self._maps.account(file.mm) is None and self._open(file) is Opening.NO_ROOM:
            return reading._replace(outcome=Outcome.ROOMLESS)
        return reading

    def _settled(self, reading: ExactReading, account: Account, found: int) -> ExactReading:
        """Write the result to the account."""
        assert reading.mm is not None
        mm = reading.mm
        baseline = self._maps.baseline(mm)
        count = ledger.count(mm, account, baseline)
        self._put_baseline(mm, ledger.settle(account, found, baseline))
        passed = count.exact or reading.opened
        return reading._replace(
            outcome=Outcome.SETTLED,
            account=account.id,
            counted=count.mappings if passed else None,
            found=found,
            moves=account.moves,
        )

    def _put_baseline(self, mm: int, baseline: Baseline) -> None:
        self._maps.put_baseline(mm, baseline)
        if self._maps.account(mm) is None:
            # It has just ended, and its baseline would stay for ever.
            self._maps.close_account(mm)

    def _bracket(self, mm: int, read: ReadPages[_Found]) -> Bracket[_Found] | None:
        """Read between two looks at everything that must not move meanwhile. Raises OSError.

        None if pages may be away.
        """
        migrations = self._maps.migrations()
        self._maps.begin_reading(mm)
        before = self._maps.account(mm)
        found = read()
        if found is None:
            return None
        # Before the account: a conversion that is over by then was counted, or put it in doubt.
        conversion = self._maps.conversion()
        return Bracket(
            migrations_before=migrations,
            before=before,
            found=found,
            conversion=conversion,
            after=self._maps.account(mm),
            moved=self._maps.moved(),
            migrations_after=self._maps.migrations(),
        )

    def _open(self, file: Opened) -> Opening:
        """Open an account, in doubt, for an mm without one."""
        now = self._host.nanoseconds()
        account = Account(
            id=now,
            moves=(0,) * len(Movement),
            doubts=1,
            start_boottime=file.start_boottime,
            tgid=file.tgid,
            # With a zero at its end.
            comm=file.comm.encode(errors="replace")[:15],
            unseen_until=now,
        )
        try:
            ours = self._maps.open_account(file.mm, account)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return Opening.NO_ROOM
        return Opening.OURS if ours else Opening.BY_EVENT


def _refusal(error: OSError) -> Outcome:
    gone = error.errno in (errno.ENOENT, errno.ESRCH)
    return Outcome.GONE if gone else Outcome.DENIED
