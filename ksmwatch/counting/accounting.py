"""Accounts and the exact reads that settle them: everything but the hooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ksmwatch.counting.audit_schedule import Schedule
from ksmwatch.counting.backend import Budget, Evidence
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.exact_read import ExactReader, ExactReading, Outcome
from ksmwatch.counting.findings import Findings, Sweep, Unread
from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import Count, Ledger
from ksmwatch.kernel import procfs
from ksmwatch.kernel.page_tables import PagemapReader, SmapsReader
from ksmwatch.probes.map_records import Total
from ksmwatch.probes.maps import Maps

# The auditor looks at all accounts so often if no snapshot does.
_LOOK_SECONDS = 60.0


class Accounting:
    """Reads processes until each account says the truth. Only one thread may use it."""

    def __init__(
        self,
        maps: Maps,
        reader: SmapsReader | PagemapReader,
        losses: Counter[str],
        explain: Callable[[], str | None],
        host: Host,
        *,
        tells_missed: bool,
    ) -> None:
        self._maps = maps
        self._reader = ExactReader(maps, reader, host)
        self._findings = Findings(losses, explain, host)
        self._host = host
        self._ledger = Ledger()
        self._audit = Schedule(evidence=tells_missed)
        # Counts that the auditor has not looked at yet, and when it looks without being given any.
        self._news: list[Count] | None = None
        self._look_at = 0.0
        # Of the totals, when doubts were last settled; whether that left any.
        self._doubts_seen = 0
        self._left = True

    # ---- what is known ----

    def counts(self) -> list[Count]:
        """Every account's count, exact unless it needs to be read itself."""
        # Baselines first: an account is only ever settled after it was opened, so a baseline
        # that is missed here leaves a count in doubt, never wrongly exact.
        baselines = self._maps.baselines()
        found = self._ledger.counts(self._maps.accounts(), baselines)
        self._findings.forget_others({(each.mm, each.account) for each in found})
        self._news = self._findings.judge(found)
        return self._news

    def unsettled(self) -> bool:
        """Whether an account may be in doubt: one was put in doubt, or was left so."""
        return self._left or self._maps.total(Total.DOUBTS) != self._doubts_seen

    def all_zero(self) -> bool:
        """Whether no mm has KSM mappings, and that is known. It looks at every account."""
        return not any(map(self._may_map, self.counts()))

    def _may_map(self, count: Count) -> bool:
        """Whether the mm may have KSM mappings. One that no process uses has no PTE left."""
        empty = count.exact and count.mappings == 0
        return not empty and self._is_alive(count)

    def _is_alive(self, count: Count) -> bool:
        """Whether the process that the account is named after is there."""
        return self._findings.start_ticks(count.pid) == count.start_ticks

    def missing(self, why: Unread) -> int:
        """How many processes were not read for this reason."""
        return len(self._findings.missing(why))

    @property
    def complete(self) -> bool:
        """Whether no process is left that had to be read and was not."""
        return not any(map(self.missing, Unread))

    def audited(self) -> AuditState:
        """What reads have found wrong."""
        return self._findings.audited

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have said about the mm."""
        return self._findings.evidence(count)

    # ---- accounts ----

    def distrust(self, why: str | None = None) -> None:
        """No account that there is now counts as exact until it has been read."""
        accounts = self._maps.accounts().items()
        self._findings.distrust(((mm, account.id) for mm, account in accounts), why)
        self._left = True

    def forget(self) -> None:
        """Close every account."""
        for mm in self._maps.accounts():
            self._maps.close_account(mm)

    # ---- exact reads ----

    def see_migrations(self) -> None:
        """To be called about every second."""
        self._reader.see_migrations()

    def read(self, pid: int, sweep: Sweep | None = None) -> ExactReading:
        """Read a process exactly, settle its account, and remember what was found."""
        reading = self._reader.read(pid)
        self._findings.enter(reading, sweep)
        self._left |= reading.outcome not in (Outcome.SETTLED, Outcome.ROOMLESS, Outcome.GONE)
        return reading

    def sweep(self, sweep: Sweep, progress: Callable[[], None]) -> None:
        """Read every process exactly, until a listing shows none that was not read.

        Forks of a process that was read are followed by the hooks; a child of one that was
        not yet read is in a later listing.
        """
        self.distrust(sweep.why)
        seen: set[int] = set()
        while new := [pid for pid in procfs.pids(self._host.proc) if pid not in seen]:
            for pid in new:
                seen.add(pid)
                self.read(pid, sweep)
                progress()

    def settle(self, budget: Budget, residue_since: float | None) -> None:
        """Read those that are in doubt or were not read.

        `residue_since`: since when KSM has unmerged everything; who still has mappings, and was
        not read since, is read too.
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
        """Try those again that found no room for an account, until the first that finds none."""
        for pid in self._findings.missing(Unread.ROOMLESS):
            if not budget.left() or self.read(pid).outcome is not Outcome.SETTLED:
                return

    def _settle_doubts(self, budget: Budget) -> None:
        """Looks at no account unless one was put in doubt since the last time, or was left so."""
        if not self.unsettled():
            return
        self._doubts_seen, self._left = self._maps.total(Total.DOUBTS), False
        for each in self.counts():
            if each.exact or not self._is_alive(each):
                continue
            if not budget.left():
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

    def audit_due(self) -> bool:
        """Whether the auditor has a process to read, or accounts to look at."""
        now = self._host.clock()
        return self._news is not None or now >= self._look_at or self._audit.due(now)

    def audit_next(self) -> None:
        """Look which accounts have moved, and read the next process."""
        now = self._host.clock()
        if now >= self._look_at and self._news is None:
            self.counts()
        if self._news is not None:
            self._audit.see(each.pid for each in self._news if self._has_moved(each))
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
        """Whether something happened to the mm since it was read, or since areas were."""
        evidence = self.evidence(count)
        return count.pid != 0 and (evidence.moves != count.moves or evidence.stray is None)

    def _read_with_areas(self, pid: int) -> None:
        reading = self.read(pid)
        if reading.outcome is Outcome.SETTLED and reading.account is not None:
            self._findings.enter_areas(reading, self._reader.read_areas(pid, reading.found or 0))
