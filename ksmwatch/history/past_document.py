"""A snapshot document of the past, as far as the history has it: owners, but no processes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ksmwatch.history.moment import HostNumbers, OwnerNumbers
from ksmwatch.history.past import Past, PastMoment, absent, movements
from ksmwatch.snapshot.unmerge_forecast import Zeros, need

_PLACES = ("manager", "uuid", "pod", "qos", "container", "unit", "slice", "uid")


def past_document(past: Past, place: int) -> dict[str, Any]:
    """The document of one of these moments. What is unknown is None, as in a scrape."""
    moment = past.moments[place]
    host, facts = moment.host, moment.facts
    drift = facts["drift"]
    owners = [(o.facts, o.numbers[place]) for o in past.owners]
    return {
        "time": moment.time,
        "version": facts["version"],
        "kernel": facts["kernel"],
        "mode": facts["mode"],
        "mode_reason": facts["mode_reason"],
        "asleep": facts["asleep"],
        "page_size": facts["page_size"],
        "host": _host(moment),
        "owners": [_owner(o, n) for o, n in owners if n is not None and not absent(n)],
        "processes": [],
        "sources": {
            "ksm": _ksm(host, facts),
            "meminfo": {}
            if host.available_bytes is None
            else {"MemAvailable": host.available_bytes // 1024},
            "vmstat": {},
            "ksmd_cpu_seconds": host.ksmd_cpu,
            "failures": facts["failures"],
        },
        "totals": _totals(host, facts),
        "losses": facts["losses"],
        "probes": [{"event": event, "attached": False} for event in facts["detached"]],
        "audit": None if drift is None else {"surplus": drift[0], "missing": drift[1]},
        "map": None,
    }


def _host(moment: PastMoment) -> dict[str, Any]:
    host, page_size = moment.host, moment.facts["page_size"]
    kernel = None
    if host.pages_shared is not None and host.pages_sharing is not None:
        kernel = host.pages_shared + host.pages_sharing
    return {
        "mappings": host.mappings,
        "bytes": host.mappings * page_size,
        "saved_bytes": host.saved_bytes,
        "saved_at_most_bytes": host.saved_at_most_bytes,
        "unnamed_mappings": host.unnamed,
        "unmerge": _unmerge(host),
        "confidence": host.confidence,
        "reason": _reason(moment),
        "estimated_processes": host.estimated,
        "kernel_mappings": kernel,
        "kernel_lag": None if kernel is None else host.mappings - kernel,
        "run": host.run,
        "run_age_seconds": host.run_age,
        "residue": {"left": host.left},
    }


def _reason(moment: PastMoment) -> str | None:
    if moment.host.confidence == "exact":
        return None
    found = moment.facts["doubt"] or f"{moment.host.estimated} processes were estimated"
    return str(found)


def _unmerge(host: HostNumbers) -> dict[str, Any]:
    zeros = max(0, host.zero_pages or 0)
    found = need(host.mappings, Zeros(zeros, zeros), host.pages_shared, host.available_bytes)
    counted = host.confidence != "unknown"
    return {
        "at_least_bytes": found.at_least,
        "at_most_bytes": found.at_most,
        "available_bytes": found.available,
        "verdict": found.verdict.value if counted else "unknown",
    }


def _ksm(host: HostNumbers, facts: Mapping[str, Any]) -> dict[str, int] | None:
    found = {
        "run": host.run,
        "pages_shared": host.pages_shared,
        "pages_sharing": host.pages_sharing,
        "ksm_zero_pages": host.zero_pages,
        "general_profit": host.profit_bytes,
        "full_scans": host.full_scans,
        "pages_scanned": host.pages_scanned,
        "pages_to_scan": facts["pages_to_scan"],
        "sleep_millisecs": facts["sleep_millisecs"],
    }
    return {name: value for name, value in found.items() if value is not None} or None


def _totals(host: HostNumbers, facts: Mapping[str, Any]) -> dict[str, int]:
    found = dict(movements(host) or {})
    if facts["miscounted_pages"] is not None:
        found["miscounted_pages"] = facts["miscounted_pages"]
    return found


def _owner(facts: Mapping[str, Any], numbers: OwnerNumbers) -> dict[str, Any]:
    kernel = numbers.kernel
    return {
        "kind": facts["kind"],
        "name": facts["name"],
        "id": facts["id"],
        "claimed": facts.get("claimed", False),
        **{place: facts.get(place) for place in _PLACES},
        "processes": numbers.processes,
        "estimated_processes": numbers.estimated,
        "mappings": numbers.mappings,
        "saved_bytes": numbers.saved_bytes,
        "saved_at_most_bytes": numbers.saved_at_most_bytes,
        "movements": dict(movements(numbers) or {}),
        "kernel_merging_pages": kernel,
        "kernel_lag": None if kernel is None else numbers.mappings - kernel,
        "stray_mappings": numbers.stray,
        "zero_pages": numbers.zero_pages,
        "unmerge": None,
    }
