"""What a backend says of itself: its mode, and the state of probes, maps and audit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How the counts came about. NONE: a kernel without KSM."""

    BPF = "bpf"
    POLL = "poll"
    NONE = "none"


@dataclass(frozen=True)
class ProbeState:
    """One probe of the plan as it is now. `missed`: runs that the kernel skipped."""

    event: str
    mechanism: str
    symbol: str
    attached: bool
    missed: int


@dataclass(frozen=True)
class MapState:
    """Fill at the last look at all counts, and size of the account map. `memory` in bytes.

    `kept`: maps and attachments outlive the daemon. `adopted`: an earlier daemon made them.
    """

    accounts: int
    limit: int
    memory: int
    kept: bool
    adopted: bool


@dataclass(frozen=True)
class AuditState:
    """What the auditor has done.

    Surplus and missing: pages by which counts that passed for exact were wrong. Corrected:
    pages by which counts were wrong after a loss that had put them in doubt.
    """

    reads: int = 0
    rounds: int = 0
    surplus: int = 0
    missing: int = 0
    corrected_surplus: int = 0
    corrected_missing: int = 0
    # Counted less found, of the last drift; None while there was none.
    last: int | None = None

    @property
    def drift(self) -> int:
        """Pages by which counts were wrong unannounced, of either sign."""
        return self.surplus + self.missing
