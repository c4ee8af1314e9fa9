"""``ksmwatch audit``: KSM mappings of every process from its page tables, by area.

It needs no daemon; if one runs, its counts are printed beside what was read. It is slow on
purpose: it is the truth by which everything else is measured.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from ksmwatch.commands import text_tables
from ksmwatch.config import Config
from ksmwatch.errors import Exit, NoDaemonError, SourceError
from ksmwatch.kernel import procfs
from ksmwatch.kernel.areas import Area, AreaDocument, area_document, stray
from ksmwatch.kernel.page_tables import choose_reader, smaps_has_ksm
from ksmwatch.kernel.read_areas import read_areas
from ksmwatch.snapshot.socket_client import fetch

_PROC = Path("/proc")


@dataclass(frozen=True)
class Finding:
    """One process with KSM mappings. `counted` is the daemon's number, None without one."""

    pid: int
    comm: str
    areas: tuple[Area, ...]
    counted: int | None

    @property
    def mappings(self) -> int:
        """PTEs that map a KSM page."""
        return sum(area.mappings for area in self.areas)

    @property
    def stray(self) -> int:
        """The part in areas that are not mergeable."""
        return sum(area.mappings for area in stray(self.areas))


def run(pids: list[int], settings: Config, *, as_json: bool) -> Exit:
    """Read the processes and print the result. Raises SourceError if nothing can be read."""
    reader = choose_reader(_PROC, smaps_ksm=smaps_has_ksm(_PROC))
    counted = _counted(Path(settings.socket))
    findings, unread = [], []
    for pid in pids or procfs.pids(_PROC):
        directory = _PROC / str(pid)
        try:
            areas = tuple(read_areas(directory, reader))
            comm = (directory / "comm").read_text(errors="replace").rstrip("\n")
        except (FileNotFoundError, ProcessLookupError):
            if pids:
                raise SourceError(f"There is no process {pid} with user memory.") from None
            continue
        except OSError as error:
            unread.append((pid, error.strerror or str(error)))
            continue
        if areas or pids:
            findings.append(Finding(pid, comm, areas, counted.get(pid)))
    findings.sort(key=lambda f: (-f.stray, -f.mappings, f.pid))
    print(json.dumps(_document(findings, unread), indent=1) if as_json else _text(findings, unread))
    return Exit.OK


def _counted(path: Path) -> dict[int, int]:
    with contextlib.suppress(NoDaemonError):
        return {p["pid"]: p["mappings"] for p in fetch(path)["processes"]}
    return {}


class _Unread(TypedDict):
    pid: int
    why: str


class _Process(TypedDict):
    pid: int
    comm: str
    mappings: int
    counted: int | None
    stray_mappings: int
    areas: list[AreaDocument]


class AuditDocument(TypedDict):
    """The output of `--json`."""

    schema: Literal["ksmwatch.audit/1"]
    mappings: int
    stray_mappings: int
    unread: list[_Unread]
    processes: list[_Process]


def _document(findings: list[Finding], unread: list[tuple[int, str]]) -> AuditDocument:
    return {
        "schema": "ksmwatch.audit/1",
        "mappings": sum(f.mappings for f in findings),
        "stray_mappings": sum(f.stray for f in findings),
        "unread": [{"pid": pid, "why": why} for pid, why in unread],
        "processes": [
            {
                "pid": f.pid,
                "comm": f.comm,
                "mappings": f.mappings,
                "counted": f.counted,
                "stray_mappings": f.stray,
                "areas": [area_document(area) for area in f.areas],
            }
            for f in findings
        ],
    }


def _text(findings: list[Finding], unread: list[tuple[int, str]]) -> str:
    head = ("PID", "NAME", "MAPPINGS", "COUNTED", "STRAY")
    rows = [
        (f.pid, f.comm, f.mappings, "-" if f.counted is None else f.counted, f.stray)
        for f in findings
    ]
    parts = [text_tables.table(head, rows) if rows else "No process has KSM mappings."]
    strays = [(f, area) for f in findings for area in stray(f.areas)]
    if strays:
        parts.append("KSM mappings in areas that are not mergeable (see docs/leftovers.md):")
        where = [(f.pid, f.comm, f"{a.start:#x}-{a.end:#x}", a.mappings, a.name) for f, a in strays]
        parts.append(text_tables.table(("PID", "NAME", "ADDRESSES", "MAPPINGS", "AREA"), where))
    parts += [f"Process {pid} could not be read: {why}." for pid, why in unread]
    return "\n\n".join(parts)
