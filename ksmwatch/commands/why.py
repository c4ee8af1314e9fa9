"""``ksmwatch why``: reads what `why` judges, and prints the judgement."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ksmwatch.commands import text_tables
from ksmwatch.diagnose import causes, page_changes
from ksmwatch.diagnose.causes import Cause, Code, Host, Memory, Process
from ksmwatch.errors import Exit, NoKsmError, PrivilegeError, SourceError
from ksmwatch.kernel import procfs

_HEAD = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")

_WIDTH = 80
# To tell whether pages change: so many pages are read twice, of so many processes at most.
_SAMPLE_PAGES = 512
_SAMPLE_PROCESSES = 16
_SAMPLE_SECONDS = 2.0


def parse_memory(smaps: str, status: str) -> Memory:
    """A process's memory, from /proc/PID/smaps and /proc/PID/status."""
    sums: Counter[str] = Counter()
    area: dict[str, int] = {}
    locked = 0
    for line in smaps.splitlines():
        name, _, rest = line.partition(":")
        if _HEAD.match(line):
            area = {}
        elif name == "VmFlags":
            flags = frozenset(rest.split())
            sums.update(_sort(area, flags))
            locked += area.get("Size", 0) if causes.LOCKED_FLAG in flags else 0
        elif rest.endswith("kB"):
            area[name] = int(rest.split()[0])
    # RDMA and iommufd count in VmPin; VFIO in VmLck, where locked areas count too.
    pinned = _kilobytes(status, "VmPin") + max(0, _kilobytes(status, "VmLck") - locked)
    return Memory(**sums, pinned=pinned)


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _sort(area: dict[str, int], flags: frozenset[str]) -> dict[str, int]:
    anonymous = area.get("Anonymous", 0)
    if flags & causes.HUGE_FLAGS:
        return {"hugetlb": area.get("Private_Hugetlb", 0) + area.get("Shared_Hugetlb", 0)}
    if causes.MERGEABLE_FLAG in flags:
        return {"offered": anonymous, "merged": area.get("KSM", 0)}
    if flags & causes.SHARED_FLAGS:
        return {"shared": area.get("Rss", 0)}
    if flags & causes.SPECIAL_FLAGS:
        return {"special": area.get("Rss", 0)}
    return {"unasked": anonymous}


def read_process(proc: Path, pid: int) -> Process:
    """Read one process. Raises SourceError when there is none, PrivilegeError when denied."""
    directory = proc / str(pid)
    try:
        memory = parse_memory(
            (directory / "smaps").read_text(errors="replace"),
            (directory / "status").read_text(errors="replace"),
        )
        stat = procfs.read_ksm_stat(directory)
        name = (directory / "comm").read_text(errors="replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        raise SourceError(f"There is no process {pid}.") from None
    except PermissionError:
        raise PrivilegeError(f"Process {pid} belongs to another user: root may read it.") from None
    if not memory.merged and stat.merging_pages:
        # Before 6.6 smaps does not tell; the kernel's own number is what there is.
        memory = replace(memory, merged=stat.merging_pages * causes.PAGE_KB)
    return Process(pid, name, memory, stat.rmap_items)


def offered(smaps: str) -> list[page_changes.Range]:
    """Areas that are mergeable and have anonymous pages."""
    found = []
    area, anonymous = (0, 0), False
    for line in smaps.splitlines():
        name, _, rest = line.partition(":")
        if head := _HEAD.match(line):
            start, _, end = head[0].strip().partition("-")
            area, anonymous = (int(start, 16), int(end, 16)), False
        elif name == "Anonymous":
            anonymous = rest.split()[0] != "0"
        elif name == "VmFlags" and anonymous and causes.MERGEABLE_FLAG in rest.split():
            found.append(area)
    return found


def _sample(proc: Path, pids: Iterable[int]) -> causes.Sample | None:
    """Whether pages of these processes change, of those that we may read."""
    processes = []
    for pid in pids:
        directory = proc / str(pid)
        try:
            ranges = offered((directory / "smaps").read_text(errors="replace"))
        except OSError:
            continue
        processes.append((directory, ranges))
    return page_changes.take(processes, _SAMPLE_PAGES // max(1, len(processes)), _SAMPLE_SECONDS)


def _largest(proc: Path) -> list[int]:
    """Processes of which ksmd knows most pages."""
    known = {}
    for pid in procfs.pids(proc):
        try:
            items = procfs.read_ksm_stat(proc / str(pid)).rmap_items
        except (OSError, ValueError):
            continue
        known[pid] = items or 0
    return [pid for pid in sorted(known, key=lambda p: -known[p])[:_SAMPLE_PROCESSES] if known[pid]]


def read_host(proc: Path, sys: Path) -> Host:
    """Read the host. Raises NoKsmError on a kernel without KSM."""
    ksm, _ = procfs.read_ksm(sys)
    if ksm is None:
        raise NoKsmError("This kernel has no KSM (CONFIG_KSM).")
    users: int | None = 0
    for pid in procfs.pids(proc):
        try:
            user = procfs.read_ksm_stat(proc / str(pid)).user
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (OSError, ValueError):
            users = None
            break
        users = (users or 0) + user
    return Host(ksm, users)


def run(
    pid: int | None, *, as_json: bool, proc: Path = Path("/proc"), sys: Path = Path("/sys")
) -> Exit:
    """Print why little merges, on the host or of one process."""
    host = read_host(proc, sys)
    process = None if pid is None else read_process(proc, pid)
    causes = _judge(process, host)
    if any(cause.code is Code.UNEQUAL for cause in causes):
        sample = _sample(proc, _largest(proc) if pid is None else [pid])
        causes = _judge(process, replace(host, sample=sample))
    if as_json:
        print(json.dumps(_document(process, causes), indent=1))
    else:
        print(_text(process, causes))
    return Exit.OK


def _judge(process: Process | None, host: Host) -> list[Cause]:
    return causes.of_host(host) if process is None else causes.of_process(process, host)


def _document(process: Process | None, causes: list[Cause]) -> dict[str, Any]:
    return {
        "schema": "ksmwatch.why/1",
        "process": process and {"pid": process.pid, "name": process.name},
        "causes": [
            {
                "code": cause.code.value,
                "what": cause.what,
                "evidence": dict(cause.evidence),
                "next": cause.advice,
            }
            for cause in causes
        ],
    }


def _text(process: Process | None, causes: list[Cause]) -> str:
    subject = f"process {process.pid} ({process.name})" if process else "this host"
    lines = [f"KSM and {subject}:"]
    for number, cause in enumerate(causes, 1):
        evidence = ", ".join(f"{name} {value}" for name, value in cause.evidence.items())
        lines += ["", f"{number}. {cause.what}", f"   seen: {evidence}", f"   next: {cause.advice}"]
    if not causes:
        lines += ["", "It has no memory that KSM could merge."]
    return "\n".join(_wrap(text_tables.clean(line)) for line in lines)


def _wrap(line: str) -> str:
    """Below itself, where it is too long for a screen."""
    indent = " " * (9 if line.startswith(" ") else 3)
    return textwrap.fill(line, _WIDTH, subsequent_indent=indent, break_long_words=False)
