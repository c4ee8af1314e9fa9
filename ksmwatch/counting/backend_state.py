"""What a backend says about itself: its mode, and the state of probes, maps and audit."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Mode(StrEnum):
    """How counts are made. NONE: a kernel without KSM."""

    BPF = "bpf"
    POLL = "poll"
    NONE = "none"


class ProbeState(NamedTuple):
    """The current state of a probe of the plan. `missed`: runs that the kernel skipped."""

    event: str
    mechanism: str
    symbol: str
    attached: bool
    missed: int


class MapState(NamedTuple):
    """Use of the account map at the last look at all counts, and its size. `memory` in bytes.

    `kept`: maps and attachments outlive the daemon. `adopted`: an earlier daemon created them.
    `programs`: compiled, kept (in a file), or adopted. `tells_copies`: whether COW breaks are told
    from unmapping. `nodes`: the nodes of memory by which mappings are counted, if they are.
    `ageless`: why it is not known how old mappings are when they end; None if it is.
    """

    accounts: int
    limit: int
    memory: int
    kept: bool
    adopted: bool
    programs: str = "compiled"
    tells_copies: bool = True
    nodes: tuple[int, ...] = ()
    ageless: str | None = None


class AuditState(NamedTuple):
    """The work of the audit.

    Surplus and missing: pages by which counts called exact were wrong. Corrected: pages by which
    counts were wrong after a loss that had put them in doubt.
    """

    reads: int = 0
    rounds: int = 0
    surplus: int = 0
    missing: int = 0
    corrected_surplus: int = 0
    corrected_missing: int = 0
    # The count minus what was found, at the last drift; None until there is one.
    last: int | None = None

    @property
    def drift(self) -> int:
        """Pages by which counts were wrong unannounced, of either sign."""
        return self.surplus + self.missing
