"""Processes for an estimate: what is in their memory is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.workload import Tenant, Workload

# Pages with one content, of which some become another one again and again.
WRITER = """
import mmap, sys, time
pages, content = int(sys.argv[1]), sys.argv[2]
area = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_NOHUGEPAGE)
area.madvise(mmap.MADV_MERGEABLE)
turn = 0
while True:
    turn += content == "changing"
    for page in range(pages):
        at = page * mmap.PAGESIZE
        area[at : at + mmap.PAGESIZE] = bytes([turn % 256]) * mmap.PAGESIZE
    if not turn or turn == 1:
        print("written", flush=True)
    if not turn:
        sys.stdin.read()
        break
"""

# Memory of a kind, offered, with so many pages that have so many contents. What it prints then is
# where it begins. `orphan`: the main thread ends.
KINDS = """
import ctypes, mmap, os, sys, threading, time
kind, pages, contents = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
size, huge = pages * mmap.PAGESIZE, 2 << 20
fd = os.memfd_create("estimate") if kind == "memfd" else -1
if fd >= 0:
    os.ftruncate(fd, size)
area = mmap.mmap(fd, size + huge if fd < 0 else size, flags=mmap.MAP_PRIVATE)
begin = ctypes.addressof(ctypes.c_char.from_buffer(area))
first = -begin % huge if fd < 0 else 0
area.madvise(mmap.MADV_HUGEPAGE if kind == "huge" else mmap.MADV_NOHUGEPAGE)
for page in range(pages):
    at = first + page * mmap.PAGESIZE
    area[at : at + mmap.PAGESIZE] = (b"%d." % (page % contents) * mmap.PAGESIZE)[: mmap.PAGESIZE]
area.madvise(mmap.MADV_MERGEABLE)
libc = ctypes.CDLL(None)
if kind == "unreadable":
    assert libc.mprotect(ctypes.c_void_p(begin + first), ctypes.c_size_t(size), 0) == 0
if kind == "orphan":
    threading.Thread(target=time.sleep, args=(1000,)).start()
print(begin + first, flush=True)
if kind == "orphan":
    libc.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
sys.stdin.read()
"""


def tenant(load: Workload, name: str, pages: int, *, seed: int, contents: int) -> Tenant:
    """One that offers pages with so many contents."""
    made = load.spawn(name)
    made.map("heap", pages)
    made.madvise("heap", 0, pages, "nohugepage")
    made.fill("heap", 0, pages, seed=seed, modulo=contents)
    made.madvise("heap", 0, pages, "mergeable")
    return made


@contextmanager
def writer(pages: int, content: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with pages of zeros, or with pages that are equal and change."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(pages), content],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        yield child
        child.kill()


@contextmanager
def memory(kind: str, pages: int, contents: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process with memory of this kind."""
    with subprocess.Popen(
        [sys.executable, "-c", KINDS, kind, str(pages), str(contents)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip().isdigit()
        yield child
        child.kill()
