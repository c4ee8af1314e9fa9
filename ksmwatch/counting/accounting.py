"""Accounts and the exact reads that settle them: everything except the hooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ksmwatch.counting import ledger
from ksmwatch.counting.audit_schedule import Allowance, Schedule
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.exact_read import ExactReader, ExactReading, Outcome, Readers
from ksmwatch.counting.findings import Findings, Sweep, Unread
from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import Count, Ledger
from ksmwatch.counting.node_reads import NodeReads
from ksmwatch.kernel import procfs
from ksmwatch.probes.map_records import Total
from ksmwatch.probes.maps import Maps

# The audit looks at all accounts this often if no snapshot does.
_LOOK_SECONDS = 60.0


class Accounting:
    """Reads processes until each account is right. Only one thread may use it."""

    def __init__(
        self,
        maps: Maps,
        readers: Readers,
        explain: Callable[[], str | None],
        host: Host,
        *,
        tells_missed: bool,
    ) -> None:
        self._maps = maps
        self._reader = ExactReader(maps, readers, host)
        # None if nodes of memory cannot be read, or there is only one.
        self._nodes = NodeReads(self._reader.read_nodes, host) if readers.nodes else None
        self._findings = Findings(explain, host)
        # What exact reads have found in an mm. It is asked for each that has moved.
        self.evidence = self._findings.evidence
        self._host = host
        self._ledger = Ledger()
        # The result of the last look, as the ledger gave it.
        self._counted: list[Count] | None = None
        self._audit = Schedule(evidence=tells_missed)
        # Counts that the audit has not looked at yet, and when it looks without receiving any.
        self._news: list[Count] | None = None
        # Counts of which the audit has seen that none has moved since it was read.
        self._still: list[Count] | None = None
        self._look_at = 0.0
        # Totals when doubts were last settled, and whether some were left.
        self._doubts_seen = 0
        self._left = True

    # ---- what is known ----

    @property
    def losses(self) -> Counter[str]:
        """What could not be read, or not completely."""
        return self._findings.losses

    def counts(self) -> list[Count]:
        """Every account's count, exact unless its process must be read."""
        # Baselines first: an account is settled only after it was opened, so a baseline that is
        # missed here leaves a count in doubt, never wrongly exact.
        baselines = self._maps.baselines()
        found = self._ledger.counts(self._maps.accounts(), baselines)
        if found is not self._counted:
            self._findings.forget_others(found)
            self._counted = found
        self._news = self._findings.judge(found)
        if self._nodes is not None:
            self._nodes.see(self._news)
        return self._news

    def unsettled(self) -> bool:
        """Whether an account may be in doubt: one was put in doubt since, or was left so."""
        return self._left or self._maps.total(Total.DOUBTS) != self._doubts_seen

    def all_zero(self) -> bool:
        """Whether no mm certainly has KSM mappings. Looks at every account."""
        return not any(map(self._may_map, self.counts()))

    def _may_map(self, count: Count) -> bool:
        """Whether the mm may have KSM mappings. An mm that no process uses has no PTE left."""
        empty = count.exact and count.mappings == 0
        return not empty and self._is_alive(count)

    def _is_alive(self, count: Count) -> bool:
        """Whether the process after which the account is named still exists."""
        return self._findings.start_ticks(count.pid) == count.start_ticks

    def missing(self, why: Unread) -> int:
        """The number of processes that were not read for this reason."""
        return len(self._findings.missing(why))

    @property
    def complete(self) -> bool:
        """Whether every process that had to be read has been."""
        return not any(map(self.missing, Unread))

    def audited(self) -> AuditState:
        """The wrong counts that reads have found."""
        return self._findings.audited

    # ---- accounts ----

    def distrust(self, why: str | None = None) -> None:
        """From now on, no current account counts as exact until it has been read."""
        accounts = self._maps.accounts().items()
        self._findings.distrust(((mm, account.id) for mm, account in accounts), why)
        self._left = True

    def forget(self) -> None:
        """Close every account."""
        for mm in self._maps.accounts():
            self._maps.close_account(mm)

    # ---- exact reads ----

    def see_migrations(self) -> None:
        """Call it about every second."""
        self._reader.see_migrations()

    def read(self, pid: int, sweep: Sweep | None = None) -> ExactReading:
        """Read a process exactly, settle its account, and remember the result."""
        reading = self._reader.read(pid)
        self._findings.enter(reading, sweep)
        self._left |= reading.outcome not in (Outcome.SETTLED, Outcome.ROOMLESS, Outcome.GONE)
        return reading

    def sweep(self, sweep: Sweep, progress: Callable[[], None]) -> None:
        """Read every process exactly, until a listing shows none that was not read.

        The hooks follow forks of a process that has been read. A child of a process that was not
        yet read is in a later listing.
        """
        self.distrust(sweep.why)
        if self._maps.counts_nodes and not sweep.baseline:
            self._forget_nodes()
        seen: set[int] = set()
        while new := [pid for pid in procfs.pids(self._host.proc) if pid not in seen]:
            for pid in new:
                seen.add(pid)
                self.read(pid, sweep)
                progress()

    def _forget_nodes(self) -> None:
        """Events were lost, so no account is known to have its mappings on the right nodes."""
        for mm, account in self._maps.accounts().items():
            unknown = ledger.settle_nodes(account, self._maps.baseline(mm), None)
            self._maps.put_baseline(mm, unknown)

    def settle(self, budget: Budget, residue_since: float | None) -> None:
        """Read processes that are in doubt or were not read.

        `residue_since`: when KSM had unmerged everything. Processes that still have mappings, and
        were not read since, are read too.
        """
        self._find_room(budget)
        for pid in self._findings.missing(Unread.DISTURBED):
            if not budget.left():
                return
            self.read(pid)
        self._settle_doubts(budget)
        if residue_since is not None:
            self._verify_residue(budget, residue_since)

    def _find_room(self, budget: Budget) -> None:
        """Retry processes that found no room for an account, until one finds none."""
        for pid in self._findings.missing(Unread.ROOMLESS):
            if not budget.left() or self.read(pid).outcome is not Outcome.SETTLED:
                return

    def _settle_doubts(self, budget: Budget) -> None:
        """Look at accounts only if one was put in doubt since the last time, or was left so."""
        if not self.unsettled():
            return
        self._doubts_seen, self._left = self._maps.total(Total.DOUBTS), False
        doubtful = (each for each in self.counts() if not each.exact and self._is_alive(each))
        for number, each in enumerate(doubtful):
            # One at least: on an overloaded host the rest of the pass may take all of the budget.
            if not budget.left() and (number or not budget.given):
                self._left = True
                return
            self.read(each.pid)

    def _verify_residue(self, budget: Budget, since: float) -> None:
        for each in self.counts():
            if not budget.left():
                return
            at = self.evidence(each).read_at
            if each.mappings and each.pid and (at is None or at < since):
                self._read_with_areas(each.pid)

    def audit(self, allowance: Allowance) -> None:
        """Read the next processes, as far as the allowance goes, and that of nodes."""
        while allowance.left() and self._audit_due():
            allowance.spend(self._audit_next)
        while self._nodes is not None and self._nodes.due():
            self._nodes.read_next()

    def audits(self, allowance: Allowance) -> bool:
        """Whether there is something to read, and CPU time for it."""
        audits = allowance.left() and self._audit_due()
        return audits or (self._nodes is not None and self._nodes.due())

    def _audit_due(self) -> bool:
        """Whether the audit has a process to read, or accounts to look at."""
        now = self._host.clock()
        return self._news is not None or now >= self._look_at or self._audit.due(now)

    def _audit_next(self) -> None:
        """Check which accounts have moved, and read the next process."""
        now = self._host.clock()
        if now >= self._look_at and self._news is None:
            self.counts()
        if self._news is not None:
            # The list is another one as soon as one count is.
            if self._news is not self._still:
                moved = [each.pid for each in self._news if self._has_moved(each)]
                self._audit.see(moved)
                self._still = None if moved else self._news
            self._news, self._look_at = None, now + _LOOK_SECONDS
        pid = self._audit.next(
            now,
            lambda: [each.pid for each in self.counts() if each.pid],
            lambda: procfs.pids(self._host.proc),
        )
        if pid is not None:
            self._read_with_areas(pid)
            self._findings.count_audit(self._audit.completed)

    def _has_moved(self, count: Count) -> bool:
        """Whether something happened to the mm since it was read, or since its areas were."""
        evidence = self.evidence(count)
        return count.pid != 0 and (evidence.moves != count.moves or evidence.stray is None)

    def _read_with_areas(self, pid: int) -> None:
        reading = self.read(pid)
        if reading.outcome is Outcome.SETTLED and reading.account is not None:
            self._findings.enter_areas(reading, self._reader.read_areas(pid, reading.found or 0))
