"""Turns another host's /metrics into a snapshot document; what metrics lack is unknown there."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.errors import ConfigError, NoDaemonError, SourceError
from ksmwatch.kernel.areas import AreaDocument
from ksmwatch.units import PAGE_SIZE

_SECONDS = 10.0
_MAX_BYTES = 1 << 26
_SCHEMES = ("http://", "https://")
_KERNEL = {
    "full_scans": "ksmwatch_kernel_full_scans_total",
    "pages_scanned": "ksmwatch_kernel_pages_scanned_total",
    "general_profit": "ksmwatch_kernel_profit_bytes",
    "run": "ksmwatch_kernel_run",
}
_TOTALS = ("break_cow", "break_cow_left", "shared_conversions", "miscounted_mms")


class Scrape:
    """The metrics at an address."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError if it is not an address."""
        if not url.startswith(_SCHEMES):
            raise ConfigError(f"--url: {url!r} must begin with http:// or https://.")
        self.label = url
        self._url = url

    def read(self) -> dict[str, Any]:
        """Scrape it. Raises NoDaemonError if nothing answers, SourceError for another answer."""
        try:
            with urllib.request.urlopen(self._url, timeout=_SECONDS) as answer:  # noqa: S310
                data = answer.read(_MAX_BYTES)
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            raise NoDaemonError(f"Nothing answers at {self._url}: {why}.") from error
        return parse(data.decode(errors="replace"), self._url)

    def areas(self, pid: int) -> list[AreaDocument]:
        """Metrics have no areas. Raises SourceError."""
        raise SourceError("The metrics do not list areas.")

    def close(self) -> None:
        """Nothing to close: every request has its own connection."""


Labels = Mapping[str, str]


class _Series:
    """The samples of a scrape by name."""

    def __init__(self, text: str) -> None:
        self._by_name: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._by_name[sample.name].append((sample.labels, sample.value))

    def all(self, name: str) -> list[tuple[Labels, float]]:
        return self._by_name.get(name, [])

    def one(self, name: str) -> float | None:
        found = self.all(name)
        return found[0][1] if found else None

    def count(self, name: str) -> int | None:
        value = self.one(name)
        return None if value is None else int(value)

    def by(self, name: str, label: str) -> dict[str, int]:
        return {labels[label]: int(value) for labels, value in self.all(name)}

    def state(self, name: str, label: str) -> str | None:
        return next((labels[label] for labels, value in self.all(name) if value), None)


def parse(text: str, url: str) -> dict[str, Any]:
    """The document that the metrics describe. Raises SourceError if they are not ksmwatch's."""
    try:
        series = _Series(text)
        info = series.all("ksmwatch_build_info")[0][0]
        mode = series.state("ksmwatch_mode", "mode") or "none"
        return _document(series, info, mode)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise SourceError(f"{url} does not serve ksmwatch's metrics.") from error


def _document(series: _Series, info: Labels, mode: str) -> dict[str, Any]:
    mappings = series.count("ksmwatch_mappings") or 0
    size = series.count("ksmwatch_mapped_bytes") or 0
    confidence = series.state("ksmwatch_confidence", "level") or "unknown"
    estimated = series.by("ksmwatch_processes", "confidence").get("estimated", 0)
    ksm = series.by("ksmwatch_kernel_pages", "file")
    ksm |= {file: int(v) for file, name in _KERNEL.items() if (v := series.one(name)) is not None}
    drift = series.by("ksmwatch_drift_pages_total", "sign")
    return {
        "time": series.one("ksmwatch_snapshot_timestamp_seconds") or 0.0,
        "version": info["version"],
        "kernel": info["kernel"],
        "mode": mode,
        "mode_reason": None,
        "asleep": bool(series.one("ksmwatch_asleep")),
        "page_size": series.count("ksmwatch_page_size_bytes") or PAGE_SIZE,
        "host": {
            "mappings": mappings,
            "bytes": size,
            "saved_bytes": series.count("ksmwatch_saved_bytes"),
            "saved_at_most_bytes": series.count("ksmwatch_saved_at_most_bytes"),
            "unnamed_mappings": series.count("ksmwatch_unnamed_mappings") or 0,
            "unmerge": _unmerge(series),
            "confidence": confidence,
            "reason": _reason(confidence, estimated),
            "estimated_processes": estimated,
            "kernel_mappings": series.count("ksmwatch_kernel_mappings"),
            "kernel_lag": series.count("ksmwatch_kernel_lag_pages"),
            "run": series.count("ksmwatch_kernel_run"),
            "run_age_seconds": series.one("ksmwatch_kernel_run_age_seconds"),
            "residue": {"left": 0, **series.by("ksmwatch_residue_mappings", "kind")},
        },
        "owners": _owners(series),
        "processes": _processes(series),
        "sources": {
            "ksm": ksm or None,
            "meminfo": {},
            "vmstat": {},
            "ksmd_cpu_seconds": series.one("ksmwatch_ksmd_cpu_seconds_total"),
            "failures": [],
        },
        "totals": _totals(series),
        "losses": series.by("ksmwatch_losses_total", "kind"),
        "probes": [
            {**labels, "attached": bool(value)}
            for labels, value in series.all("ksmwatch_probe_attached")
        ],
        "audit": {"surplus": 0, "missing": 0, **drift} if drift else None,
        "map": None,
    }


def _reason(confidence: str, estimated: int) -> str | None:
    if confidence == "exact":
        return None
    plural = "" if estimated == 1 else "es"
    return f"{estimated} process{plural}" if estimated else "the metrics do not say why"


def _totals(series: _Series) -> dict[str, int]:
    totals = {
        **series.by("ksmwatch_arrivals_total", "reason"),
        **series.by("ksmwatch_departures_total", "reason"),
    }
    for name in (*_TOTALS, "miscounted_pages"):
        value = series.count(f"ksmwatch_{name}_total")
        if value is not None:
            totals[name] = value
    return totals


def _unmerge(series: _Series) -> dict[str, Any]:
    """Without that host's memory there is no verdict."""
    bounds = series.by("ksmwatch_unmerge_needed_bytes", "bound")
    return {
        "at_least_bytes": bounds.get("least"),
        "at_most_bytes": bounds.get("most"),
        "available_bytes": None,
        "verdict": "unknown",
    }


_OwnerLabels = tuple[str, str, str]


def _owner_labels(labels: Labels) -> _OwnerLabels:
    return labels["kind"], labels["name"], labels["id"]


def _owners(series: _Series) -> list[dict[str, Any]]:
    def values(what: str, **wanted: str) -> dict[_OwnerLabels, float]:
        return {
            _owner_labels(labels): value
            for labels, value in series.all(f"ksmwatch_owner_{what}")
            if wanted.items() <= labels.items()
        }

    def of(what: str, **wanted: str) -> dict[_OwnerLabels, int]:
        return {key: int(value) for key, value in values(what, **wanted).items()}

    moves: dict[_OwnerLabels, dict[str, int]] = defaultdict(dict)
    for what in ("arrivals_total", "departures_total"):
        for labels, value in series.all(f"ksmwatch_owner_{what}"):
            moves[_owner_labels(labels)][labels["reason"]] = int(value)
    kernel, stray, zeros = of("kernel_merging_pages"), of("stray_mappings"), of("zero_pages")
    saved, at_most = of("saved_bytes"), of("saved_at_most_bytes")
    median, wasted = values("median_age_seconds"), values("wasted_ratio")
    remote = of("remote_mappings")
    nodes: dict[_OwnerLabels, dict[str, int]] = defaultdict(dict)
    for labels, value in series.all("ksmwatch_owner_node_mappings"):
        if labels["node"] != "unknown":
            nodes[_owner_labels(labels)][labels["node"]] = int(value)
    exact, estimated = (of("processes", confidence=c) for c in ("exact", "estimated"))
    return [
        {
            "kind": key[0],
            "name": key[1],
            "id": key[2],
            "processes": exact.get(key, 0) + estimated.get(key, 0),
            "estimated_processes": estimated.get(key, 0),
            "mappings": mappings,
            "saved_bytes": saved.get(key),
            "saved_at_most_bytes": at_most.get(key),
            "movements": moves.get(key, {}),
            "kernel_merging_pages": kernel.get(key),
            "kernel_lag": mappings - kernel[key] if key in kernel else None,
            "stray_mappings": stray.get(key),
            "zero_pages": zeros.get(key),
            "unmerge": None,
            "median_age_seconds": median.get(key),
            "wasted_share": wasted.get(key),
            "nodes": nodes.get(key),
            "remote_mappings": remote.get(key),
        }
        for key, mappings in of("mappings").items()
    ]


def _by_process(samples: Iterable[tuple[Labels, float]]) -> dict[tuple[str, str], int]:
    return {(labels["pid"], labels["comm"]): int(value) for labels, value in samples}


def _processes(series: _Series) -> list[dict[str, Any]]:
    def of(what: str) -> dict[tuple[str, str], int]:
        return _by_process(series.all(f"ksmwatch_process_{what}"))

    moves: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for what in ("arrivals_total", "departures_total"):
        for labels, value in series.all(f"ksmwatch_process_{what}"):
            moves[labels["pid"], labels["comm"]][labels["reason"]] = int(value)
    kernel, lag, stray = of("kernel_merging_pages"), of("kernel_lag_pages"), of("stray_mappings")
    exact = of("exact")
    return [
        {
            "pid": int(key[0]),
            # Unknown: a reused pid looks like the same process.
            "start_time": 0,
            "ppid": None,
            "comm": key[1],
            "name": key[1],
            "mappings": mappings,
            "confidence": "exact" if exact.get(key) else "estimated",
            "movements": moves.get(key, {}),
            "kernel_merging_pages": kernel.get(key),
            "kernel_lag": lag.get(key),
            "owner": None,
            "zero_pages": None,
            "last_read_seconds": None,
            "residue": "merged",
            "stray_mappings": stray.get(key),
            "stray_areas": [],
        }
        for key, mappings in of("mappings").items()
    ]
