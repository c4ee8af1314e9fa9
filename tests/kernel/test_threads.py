"""Processes whose main thread has ended, while another one lives and keeps the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kernel.compare import mappings, settled_snapshot
from tests.kernel.daemon import Daemon
from tests.ksmctl import Ksm
from tests.waiting import wait_until

PAGES, WRITTEN = 307, 13
# Its second thread prints a word, waits for a line, writes to some pages, prints another word, and
# waits for the end.
PROGRAM = f"""
import ctypes, mmap, os, sys, threading
area = mmap.mmap(-1, {PAGES} * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
area[:] = b"x" * len(area)
area.madvise(mmap.MADV_MERGEABLE)
def live():
    print("ready", flush=True)
    sys.stdin.readline()
    for page in range({WRITTEN}):
        area[page * mmap.PAGESIZE] = page
    print("written", flush=True)
    sys.stdin.readline()
    os._exit(0)
threading.Thread(target=live).start()
ctypes.CDLL(None).syscall({{"x86_64": 60, "aarch64": 93}}[os.uname().machine], 0)
"""


@contextmanager
def orphan() -> Iterator[subprocess.Popen[str]]:
    """Such a process, with equal pages that it has offered."""
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: ") Z " in stat.read_text(), "its main thread does not end")
        yield process
        process.kill()


def truth(pid: int) -> int:
    """KSM lines of smaps, as the thread that lives sees them."""
    (thread,) = (name for name in os.listdir(f"/proc/{pid}/task") if name != str(pid))
    lines = Path(f"/proc/{pid}/task/{thread}/smaps").read_text().splitlines()
    kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("KSM:"))
    return kilobytes * 1024 // os.sysconf("SC_PAGE_SIZE")


def assert_counted(daemon: Daemon, pid: int, pages: int) -> None:
    assert truth(pid) == pages
    document = settled_snapshot(daemon)
    assert document["host"]["confidence"] == "exact", document["host"]["reason"]
    assert mappings(document) == {pid: pages}


def test_what_such_a_process_has_merged_before_the_start_is_counted(ksm: Ksm) -> None:
    with orphan() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ksm.merge_all()
        with Daemon("--audit.cpu-percent=20", http=False) as daemon:
            assert_counted(daemon, process.pid, PAGES)
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "written\n"
            assert_counted(daemon, process.pid, PAGES - WRITTEN)
            process.kill()
            process.wait()
            document = settled_snapshot(daemon)
            assert (mappings(document), document["totals"]["miscounted_mms"]) == ({}, 0)
