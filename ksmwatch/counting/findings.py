"""The sum of exact reads: wrong counts, processes that were not read, evidence.

A count is trusted only if nothing here contradicts it, however exact its account looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from ksmwatch.counting.backend import Evidence
from ksmwatch.counting.backend_state import AuditState
from ksmwatch.counting.exact_read import ExactReading, Outcome
from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import Count
from ksmwatch.kernel import procfs
from ksmwatch.kernel.areas import Area
from ksmwatch.log import logger

_NONE = Evidence()
# Evidence about this many accounts that no longer exist may be kept in any case.
_SPARE = 1000
# An account: the address of its mm, and its id.
Key = tuple[int, int]


class Unread(Enum):
    """Why a process that had to be read was not read."""

    DENIED = "it could not be read before"
    ROOMLESS = "the account map was full"
    DISTURBED = "it could not be read undisturbed before"


class Sweep(NamedTuple):
    """Every process is being read, so a process that is not read is missing.

    `why`: the loss because of which counts may be wrong. `baseline`: a process may have no account
    without a fault.
    """

    why: str | None = None
    baseline: bool = False


class _Missing(NamedTuple):
    """A process that was not read. `mm`: its address space, if known.

    `trusted`: nothing required a read, so its count is no worse than before.
    """

    why: Unread
    start_ticks: int
    mm: int | None
    trusted: bool


_UNREAD = {
    Outcome.DENIED: Unread.DENIED,
    Outcome.UNPINNED: Unread.DENIED,
    Outcome.DISTURBED: Unread.DISTURBED,
    Outcome.ROOMLESS: Unread.ROOMLESS,
}
_LOSS = {Unread.DENIED: "reads_denied", Unread.DISTURBED: "reads_disturbed"}


class Findings:
    """Remembers readings, and judges counts by them.

    `explain` looks for a loss that explains a wrong count; without one it is drift.
    """

    def __init__(self, explain: Callable[[], str | None], host: Host) -> None:
        self.losses: Counter[str] = Counter()
        self._explain = explain
        self._host = host
        self._audited = AuditState()
        # Accounts that may be wrong until they are read, although none of their events says so,
        # with the reason.
        self._unverified: dict[Key, str | None] = {}
        self._missing: dict[int, _Missing] = {}
        # When accounts were settled, and their areas that are not mergeable.
        self._evidence: dict[Key, Evidence] = {}

    @property
    def audited(self) -> AuditState:
        """The wrong counts so far."""
        return self._audited

    def count_audit(self, rounds: int) -> None:
        """The audit has read another process, and completed this many rounds."""
        self._audited = self._audited._replace(reads=self._audited.reads + 1, rounds=rounds)

    # ---- readings ----

    def enter(self, reading: ExactReading, sweep: Sweep | None) -> None:
        """Take a reading, which may be part of a sweep."""
        if reading.unseen:
            self.losses["mm_opened_unseen"] += reading.unseen
        if reading.refutes and not self._is_first(reading, sweep):
            announced = None if sweep is None else sweep.why
            self._report(reading, self._reason(reading) or announced or self._explain())
        self._see_missing(reading, everybody=sweep is not None)
        if reading.outcome is not Outcome.SETTLED:
            return
        key = _key(reading)
        if key is not None:
            self._unverified.pop(key, None)
            known = self._evidence.get(key, _NONE)
            self._evidence[key] = known._replace(read_at=self._host.clock(), moves=reading.moves)

    def _is_first(self, reading: ExactReading, sweep: Sweep | None) -> bool:
        """Whether nothing was claimed about the process before, so that nothing was wrong."""
        baseline = sweep is not None and sweep.baseline
        known = self._was_missing(reading.pid)
        roomless = known is not None and known.why is Unread.ROOMLESS
        return reading.opened and (baseline or roomless)

    def _reason(self, reading: ExactReading) -> str | None:
        """Why the process was not trusted before this reading."""
        missing = self._was_missing(reading.pid)
        if missing is not None and not missing.trusted:
            return missing.why.value
        key = _key(reading)
        return None if key is None else self._unverified.get(key)

    def _was_missing(self, pid: int) -> _Missing | None:
        missing = self._missing.get(pid)
        return missing if missing is not None and self._is_there(pid, missing) else None

    def _see_missing(self, reading: ExactReading, *, everybody: bool) -> None:
        """Remember a process that was not read, or forget it."""
        why = _UNREAD.get(reading.outcome)
        known = self._missing.get(reading.pid)
        if why is None:
            self._missing.pop(reading.pid, None)
            return
        if why is not Unread.ROOMLESS:
            self.losses[_LOSS[why]] += 1
        elif known is None or known.why is not Unread.ROOMLESS:
            self.losses["accounts_full"] += 1
        trusted = not everybody and why is not Unread.ROOMLESS and (known is None or known.trusted)
        ticks = self.start_ticks(reading.pid)
        if ticks is not None and not (trusted and why is Unread.DISTURBED):
            self._missing[reading.pid] = _Missing(why, ticks, reading.mm, trusted)

    def _report(self, reading: ExactReading, why: str | None) -> None:
        """Export a wrong count with its sign, and log it with its evidence. It is corrected."""
        assert reading.counted is not None
        assert reading.found is not None
        drift, told = reading.counted - reading.found, self._audited
        surplus, missing = max(drift, 0), max(-drift, 0)
        evidence = {
            "pid": reading.pid,
            "counted": reading.counted,
            "found": reading.found,
            "drift": drift,
        }
        if why is not None:
            self._audited = told._replace(
                corrected_surplus=told.corrected_surplus + surplus,
                corrected_missing=told.corrected_missing + missing,
            )
            logger.info("a count was corrected", extra={**evidence, "why": why})
            return
        self._audited = told._replace(
            surplus=told.surplus + surplus, missing=told.missing + missing, last=drift
        )
        logger.warning(
            "the count of a process had drifted from its page tables; corrected",
            extra=evidence,
        )

    def enter_areas(self, reading: ExactReading, stray: tuple[Area, ...] | None) -> None:
        """Where the process has its mappings; None: unknown."""
        key = _key(reading)
        if stray is not None and key is not None:
            self._evidence[key] = self._evidence.get(key, _NONE)._replace(stray=stray)

    # ---- judgement ----

    def distrust(self, accounts: Iterable[Key], why: str | None = None) -> None:
        """These may be wrong until they have been read.

        `why` explains an error; without it the error is drift.
        """
        self._unverified = dict.fromkeys(accounts, why)

    def judge(self, counts: list[Count]) -> list[Count]:
        """The counts; those that a reading must confirm are not exact."""
        if not self._unverified and not self._missing:
            return counts
        missing = {pid: each.mm for pid, each in self._missing.items() if not each.trusted}
        mms = set(missing.values())
        return [
            each._replace(exact=False)
            if (each.mm, each.account) in self._unverified or each.mm in mms or each.pid in missing
            else each
            for each in counts
        ]

    def evidence(self, count: Count) -> Evidence:
        """What exact reads have found in the mm."""
        return self._evidence.get((count.mm, count.account), _NONE)

    def forget_others(self, counts: Sequence[Count]) -> None:
        """Forget accounts that no longer exist. Evidence about them is harmless, and may wait."""
        if not self._unverified and len(self._evidence) <= 2 * len(counts) + _SPARE:
            return
        accounts = {(each.mm, each.account) for each in counts}
        for gone in self._evidence.keys() - accounts:
            del self._evidence[gone]
        for gone in self._unverified.keys() - accounts:
            del self._unverified[gone]

    # ---- processes that were not read ----

    def missing(self, why: Unread) -> list[int]:
        """Existing processes that were not read for this reason."""
        self._missing = {
            pid: each for pid, each in self._missing.items() if self._is_there(pid, each)
        }
        return [pid for pid, each in self._missing.items() if each.why is why]

    def _is_there(self, pid: int, missing: _Missing) -> bool:
        return self.start_ticks(pid) == missing.start_ticks

    def start_ticks(self, pid: int) -> int | None:
        """When the process started, in clock ticks since boot; None if it has gone."""
        try:
            return procfs.read_start_ticks(self._host.proc / str(pid))
        except OSError:
            return None


def _key(reading: ExactReading) -> Key | None:
    if reading.mm is None or reading.account is None:
        return None
    return reading.mm, reading.account
