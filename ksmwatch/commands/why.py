"""``ksmwatch why``: reads the evidence, and prints the causes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict

from ksmwatch.diagnose import causes, page_changes, read_evidence
from ksmwatch.diagnose.causes import Cause, Code
from ksmwatch.diagnose.evidence import HostEvidence, PageSample, ProcessEvidence
from ksmwatch.errors import Exit
from ksmwatch.kernel import procfs
from ksmwatch.terminal_text import clean

_WIDTH = 80
# To find out whether pages change: the number of pages to read twice, and of processes.
_SAMPLE_PAGES = 512
_SAMPLE_PROCESSES = 16
_SAMPLE_SECONDS = 2.0


def _sample(proc: Path, pids: Iterable[int]) -> PageSample | None:
    """Whether pages of these processes change, as far as we may read them."""
    processes = []
    for pid in pids:
        directory = proc / str(pid)
        try:
            ranges = read_evidence.offered((directory / "smaps").read_bytes())
        except OSError:
            continue
        processes.append((directory, ranges))
    return page_changes.take(processes, _SAMPLE_PAGES // max(1, len(processes)), _SAMPLE_SECONDS)


def _largest(proc: Path) -> list[int]:
    """The processes with the most pages that ksmd knows."""
    known = {}
    for pid in procfs.pids(proc):
        try:
            items = procfs.read_ksm_stat(proc / str(pid)).rmap_items
        except (OSError, ValueError):
            continue
        known[pid] = items or 0
    return [pid for pid in sorted(known, key=lambda p: -known[p])[:_SAMPLE_PROCESSES] if known[pid]]


def run(
    pid: int | None, *, as_json: bool, proc: Path = Path("/proc"), sys: Path = Path("/sys")
) -> Exit:
    """Print why little merges, on the host or in one process."""
    host = read_evidence.read_host(proc, sys)
    if pid is None:
        host = replace(host, offers=read_evidence.read_offers(proc))
    process = None if pid is None else read_evidence.read_process(proc, pid)
    found = _judge(process, host)
    if any(cause.code is Code.UNEQUAL for cause in found):
        sample = _sample(proc, _largest(proc) if pid is None else [pid])
        found = _judge(process, replace(host, sample=sample))
    if as_json:
        print(json.dumps(_document(process, found), indent=1))
    else:
        print(_text(process, found))
    return Exit.OK


def _judge(process: ProcessEvidence | None, host: HostEvidence) -> list[Cause]:
    return causes.of_host(host) if process is None else causes.of_process(process, host)


class _Subject(TypedDict):
    pid: int
    name: str


class _Cause(TypedDict):
    code: Code
    what: str
    evidence: dict[str, int | float]
    next: str


class WhyDocument(TypedDict):
    """The output of `--json`."""

    schema: Literal["ksmwatch.why/1"]
    process: _Subject | None
    causes: list[_Cause]


def _document(process: ProcessEvidence | None, causes: list[Cause]) -> WhyDocument:
    return {
        "schema": "ksmwatch.why/1",
        "process": None if process is None else {"pid": process.pid, "name": process.name},
        "causes": [
            {
                "code": cause.code,
                "what": cause.what,
                "evidence": dict(cause.evidence),
                "next": cause.advice,
            }
            for cause in causes
        ],
    }


def _text(process: ProcessEvidence | None, causes: list[Cause]) -> str:
    subject = f"process {process.pid} ({process.name})" if process else "this host"
    lines = [f"KSM and {subject}:"]
    for number, cause in enumerate(causes, 1):
        evidence = ", ".join(f"{name} {value}" for name, value in cause.evidence.items())
        lines += ["", f"{number}. {cause.what}", f"   seen: {evidence}", f"   next: {cause.advice}"]
    if not causes:
        lines += ["", "It has no memory that KSM could merge."]
    return "\n".join(_wrap(clean(line)) for line in lines)


def _wrap(line: str) -> str:
    """Wrap a line that is too long, with an indent."""
    indent = " " * (9 if line.startswith(" ") else 3)
    return textwrap.fill(line, _WIDTH, subsequent_indent=indent, break_long_words=False)
