"""`make bench-two-guests`: an estimate of two QEMU guests, and what KSM then really saved.

On the machine itself, as root; its kernel needs KSM, and nothing else may offer memory. Both guests
boot the same kernel. They are stopped (SIGSTOP) from the estimate to the end, so that the two
numbers are of the same pages.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from bench.crowd import family
from bench.results import ROOT, Goal, Result, save, table
from tests import oracle
from tests.guests import Guest, lines, started
from tests.ksmctl import Ksm

NAME = "two-guests"
_KERNEL = "6.12"
_MIB = 512
# More mappings of one page than a guest can have.
_SETTINGS = {"max_page_sharing": 1 << 20, "use_zero_pages": 0, "smart_scan": 0}

_METHOD = """`make bench-two-guests`, {date}, on the machine itself (Linux {host}): two QEMU guests
with {mib} MiB that have booted the same kernel ({kernel}) and are stopped. First `ksmwatch
estimate` reads them, then ksmd merges them until nothing more merges. What that saved is counted in
page frames, which pagemap shows before and after. KSM's own counters lack the zero pages of
transparent huge pages, which the kernel frees when ksmd splits these
([finding](../findings/ksmd-frees-zeros-of-huge-pages.sh))."""


def section(result: Result) -> str:
    """Method and table."""
    low, high = result["would_save_low"], result["would_save_high"]
    rows = [
        ("estimate", f"{result['would_save']:,.0f}", f"{low:,.0f} to {high:,.0f}"),
        ("page frames that were then freed", f"{result['saved']:,.0f}", "-"),
        ("`pages_sharing` after that", f"{result['pages_sharing']:,.0f}", "-"),
    ]
    text = _METHOD.format(**result)
    head = ("pages saved", "number", "interval")
    return "\n\n".join(["## Two guests", text, table(head, rows)])


def goals(result: Result) -> list[Goal]:
    """The estimate is right."""
    error = abs(result["would_save"] - result["saved"]) / result["saved"]
    return [
        Goal(
            "estimate of two guests: within 1 % of what merging then frees",
            f"{error:.2%} off",
            met=error <= 0.01,
            why="see *Two guests*",
        )
    ]


def _qemu_below(pid: int) -> int:
    """The emulator that a process has started, itself or by another."""
    names = ((each, Path(f"/proc/{each}/comm").read_text()) for each in family(pid))
    return next((each for each, name in names if name.startswith("qemu-system")), 0)


def _boot(stack: ExitStack) -> int:
    """A guest that has booted; the process of its emulator."""
    guest = Guest(_KERNEL, memory=f"{_MIB}M", cpus=1)
    process = stack.enter_context(started(guest, "sh", "-c", "echo booted; exec sleep 100000"))
    assert next(lines(process)) == "booted"
    emulator = _qemu_below(process.pid)
    assert emulator
    return emulator


def _merging_pages(pid: int) -> int:
    return int(Path(f"/proc/{pid}/ksm_merging_pages").read_text())


def _frames(pids: Iterable[int]) -> set[int]:
    """The page frames of the memory that these processes have offered."""
    found: set[int] = set()
    for pid in pids:
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
            for area in oracle.areas(pid):
                if "mg" in area.flags:
                    pages = (area.end - area.start) // oracle.PAGE
                    raw = os.pread(pagemap.fileno(), pages * 8, area.start // oracle.PAGE * 8)
                    found.update(oracle.private_frames(raw))
    return found


def main() -> int:
    """Measure, and keep the result."""
    with ExitStack() as stack, Ksm(**_SETTINGS) as ksm:
        emulators = [_boot(stack), _boot(stack)]
        for pid in emulators:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        command = [str(ROOT / ".venv/bin/ksmwatch"), "estimate", "--json", *map(str, emulators)]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        before = len(_frames(emulators))
        ksm.merge_all(scans=10)
        sharing, shared = ksm.read("pages_sharing"), ksm.read("pages_shared")
        if sum(map(_merging_pages, emulators)) != sharing + shared:
            raise SystemExit("another process has offered memory, too")
        saved = before - len(_frames(emulators))
        keys = ("would_save", "would_save_low", "would_save_high")
        found = {key: answer["host"][key] for key in keys}
        about = {"host": platform.release(), "kernel": _KERNEL, "mib": _MIB}
        result = {**about, **found, "saved": saved, "pages_sharing": sharing}
        print(result)
        save(NAME, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
