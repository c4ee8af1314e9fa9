"""The BPF sources, and what of them the daemon knows by name."""

from __future__ import annotations

from pathlib import Path

# Maps that the programs and the daemon share.
MAPS = (
    "accounts",
    "ages",
    "alarms",
    "baselines",
    "call_sites",
    "cgroup_moves",
    "totals",
    "controls",
    "converting",
    "conversions",
    "drafts",
    "forgettings",
    "frames",
    "holds",
    "looks",
    "manifests",
    "migrations",
    "node_places",
    "openings",
    "readings",
)
SOURCES = (
    "accounts.c",
    "access.c",
    "ages.c",
    "family.c",
    "looks.c",
    "migration.c",
    "rmap.c",
    "conversion.c",
    "processes.c",
)
HEADERS = ("callers.h", "layout.h", "order.h", "probes.h", "records.h")


def bpf_directory() -> Path:
    """The directory of the BPF sources: in the package if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "bpf"
    return installed if installed.is_dir() else package.parent / "bpf"
