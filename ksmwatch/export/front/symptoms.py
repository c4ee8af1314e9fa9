"""Current problems, in plain words, each with its runbook page. Pure.

The conditions are those of the alerts with the same name in deploy/prometheus, as far as one moment
shows them. Prometheus judges what needs history (rates and durations).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.front.wording import duration, size

_WORTH_TELLING_BYTES = 16 << 20
_UNMERGING_SECONDS = 900
_NEARLY_FULL = 0.8


@dataclass(frozen=True)
class Symptom:
    """A problem, or something worth knowing. `alert`: its name, and that of its page."""

    alert: str
    text: str
    grave: bool


def symptoms(reading: KnownSamples) -> list[Symptom]:
    """All symptoms, the grave ones first."""
    found = [
        Symptom(alert, text, grave)
        for alert, grave, look in _CHECKS
        if (text := look(reading)) is not None
    ]
    return sorted(found, key=lambda symptom: not symptom.grave)


def _residue(r: KnownSamples, *kinds: str) -> float:
    return sum(abs(r.one("ksmwatch_residue_mappings", kind) or 0.0) for kind in kinds)


def _left(r: KnownSamples) -> str | None:
    left = _residue(r, "left")
    if not left:
        return None
    return f"The kernel left {left:,.0f} KSM mappings, although run=2 should unmerge all."


def _unfinished(r: KnownSamples) -> str | None:
    age = r.one("ksmwatch_kernel_run_age_seconds") or 0.0
    if age <= _UNMERGING_SECONDS or not _residue(r, "unmerging", "unverified"):
        return None
    return f"Unmerging (run=2) began {duration(age)} ago and has not finished."


def _would_not_fit(r: KnownSamples) -> str | None:
    need = r.one("ksmwatch_unmerge_needed_bytes", "least")
    free = r.one("ksmwatch_kernel_memory_available_bytes")
    swap = r.one("ksmwatch_kernel_swap_free_bytes")
    if need is None or free is None or swap is None or need <= free + swap:
        return None
    return (
        f"Unmerging would need at least {size(need)}, but only {size(free + swap)} of memory and "
        "swap are free: the kernel would kill processes."
    )


def _costs(r: KnownSamples) -> str | None:
    saved, records = r.one("ksmwatch_saved_at_most_bytes"), r.one("ksmwatch_bookkeeping_bytes")
    if saved is None or records is None or r.one("ksmwatch_kernel_run") != 1:
        return None
    if saved - records >= -_WORTH_TELLING_BYTES:
        return None
    return f"KSM costs more than it saves: {size(records)} of records for {size(saved)} saved."


def _copies(r: KnownSamples) -> str | None:
    dups, chains = (r.one(f"ksmwatch_kernel_stable_node_{kind}") for kind in ("dups", "chains"))
    page = r.one("ksmwatch_page_size_bytes")
    if dups is None or chains is None or page is None:
        return None
    if (dups - chains) * page <= _WORTH_TELLING_BYTES:
        return None
    return f"ksmd keeps {dups - chains:,.0f} more copies of pages, because of max_page_sharing."


def _kept(r: KnownSamples) -> str | None:
    kept = _residue(r, "kept")
    return f"ksmd is stopped, and {kept:,.0f} mappings stay merged." if kept else None


def _polling(r: KnownSamples) -> str | None:
    if r.one("ksmwatch_fallback") != 1:
        return None
    again = (
        "The reason may pass, and the daemon tries again at least once a minute."
        if r.one("ksmwatch_live_awaited")
        else "The command ksmwatch check says why."
    )
    return f"Live counting is not possible: page tables are polled, and no count is exact. {again}"


def _sum_unknown(r: KnownSamples) -> str | None:
    if r.state("ksmwatch_confidence") != "unknown":
        return None
    return (
        "The host's sum is unknown: events were lost, processes cannot be read, or probes do not "
        "run."
    )


def _probes_missing(r: KnownSamples) -> str | None:
    if r.one("ksmwatch_asleep"):
        return None
    probes = r.all("ksmwatch_probe_attached")
    missing = sorted({labels[0] for labels, attached in probes.items() if not attached})
    if not missing:
        return None
    return f"Not all probes are attached. Events of these kinds are not seen: {', '.join(missing)}."


def _drift(r: KnownSamples) -> str | None:
    wrong = sum(r.all("ksmwatch_drift_pages").values())
    wrong += r.one("ksmwatch_miscounted_pages") or 0.0
    if not wrong:
        return None
    return (
        f"Since the daemon started, counts that were called exact were wrong by {wrong:,.0f} "
        "pages. They were corrected."
    )


def _listed(r: KnownSamples, metric: str) -> str:
    """Values of a metric that are not 0, each after its only label; empty if there are none."""
    found = sorted((label, n) for (label,), n in r.all(metric).items() if n)
    return ", ".join(f"{label} {n:,.0f}" for label, n in found)


def _lost(r: KnownSamples) -> str | None:
    kinds = _listed(r, "ksmwatch_losses")
    if not kinds:
        return None
    return f"Since the daemon started, reads have made up for these losses: {kinds}."


def _forgetful(r: KnownSamples) -> str | None:
    reasons = _listed(r, "ksmwatch_history_unwritten")
    if not reasons:
        return None
    return f"Since the daemon started, moments could not be written into the history: {reasons}."


def _nearly_full(r: KnownSamples) -> str | None:
    used, limit = r.one("ksmwatch_accounts"), r.one("ksmwatch_accounts_limit")
    if not used or not limit or used / limit <= _NEARLY_FULL:
        return None
    return f"The account map is {used / limit:.0%} full. Once it is full, new accounts are lost."


def _refused(r: KnownSamples) -> str | None:
    if r.one("ksmwatch_config_last_reload_successful") != 0:
        return None
    return "The new configuration is invalid; the previous one is in use. A restart would fail."


# The alert, whether it is grave, and the function for its text.
_CHECKS: tuple[tuple[str, bool, Callable[[KnownSamples], str | None]], ...] = (
    ("KsmwatchSumUnknown", True, _sum_unknown),
    ("KsmwatchPolling", True, _polling),
    ("KsmwatchProbeMissing", True, _probes_missing),
    ("KsmMappingsLeftAfterUnmerge", True, _left),
    ("KsmUnmergeUnfinished", True, _unfinished),
    ("KsmUnmergeWouldNotFit", True, _would_not_fit),
    ("KsmCostsMoreThanItSaves", True, _costs),
    ("KsmwatchMapNearlyFull", True, _nearly_full),
    ("KsmwatchConfigRefused", True, _refused),
    ("KsmwatchDrift", False, _drift),
    ("KsmwatchEventsLost", False, _lost),
    ("KsmwatchHistoryUnwritten", False, _forgetful),
    ("KsmMaxPageSharingReached", False, _copies),
    ("KsmPagesKept", False, _kept),
)
