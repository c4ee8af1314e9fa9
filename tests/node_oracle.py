"""The truth about nodes of memory: on which of them the pages lie that KSM PTEs of a process map.

Shares no code with ksmwatch: pagemap says which frames, /proc/kcore shows the struct page of each,
and sysfs says which node's memory a frame is. Only for test guests on x86-64, whose kernels have
the array of struct page where it is without KASLR.
"""

from __future__ import annotations

import functools
import os
import struct
from collections import Counter
from pathlib import Path

from tests import oracle

# Documentation/arch/x86/x86_64/mm.rst
_VMEMMAP = 0xFFFFEA0000000000
_PAGE_STRUCT, _MAPPING, _HEAD = 64, 24, 8
_ENTRIES = 1 << 16
_NODES = Path("/sys/devices/system/node")
_BLOCK = Path("/sys/devices/system/memory/block_size_bytes")


def by_node(pid: int) -> dict[int, int] | None:
    """KSM PTEs by node; None if there are not as many as smaps shows, as a page is on its way."""
    found: Counter[int] = Counter()
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for area in oracle.areas(pid):
            if area.pages:
                ours = Counter(map(_node, _ksm_frames(pagemap.fileno(), area)))
                if sum(ours.values()) != area.pages:
                    return None
                found.update(ours)
    return dict(found)


def _ksm_frames(pagemap: int, area: oracle.Area) -> list[int]:
    frames: list[int] = []
    for start in range(area.start, area.end, _ENTRIES * oracle.PAGE):
        pages = (min(area.end, start + _ENTRIES * oracle.PAGE) - start) // oracle.PAGE
        raw = os.pread(pagemap, pages * 8, start // oracle.PAGE * 8)
        frames += oracle.private_frames(raw)
    return [frame for frame in frames if _is_ksm(frame)]


def _is_ksm(frame: int) -> bool:
    page = os.pread(_kcore(), _PAGE_STRUCT, _place() + frame * _PAGE_STRUCT)
    (head,) = struct.unpack_from("=Q", page, _HEAD)
    (mapping,) = struct.unpack_from("=Q", page, _MAPPING)
    return not head & 1 and mapping & 3 == 3


@functools.cache
def _kcore() -> int:
    return os.open("/proc/kcore", os.O_RDONLY)


@functools.cache
def _place() -> int:
    """Where in kcore the array begins: by the program header of its first part."""
    (table,) = struct.unpack("=Q", os.pread(_kcore(), 8, 32))
    size, number = struct.unpack("=HH", os.pread(_kcore(), 4, 54))
    for at in range(number):
        header = os.pread(_kcore(), size, table + at * size)
        offset, address = struct.unpack_from("=QQ", header, 8)
        if address & ~0xFFFFFFFFFF == _VMEMMAP:
            return int(offset - (address - _VMEMMAP))
    raise AssertionError("kcore has no array of struct page where it should be")


@functools.cache
def _blocks() -> dict[int, int]:
    return {
        int(block.name.removeprefix("memory")): int(block.parent.name.removeprefix("node"))
        for block in _NODES.glob("node*/memory[0-9]*")
    }


def _node(frame: int) -> int:
    return _blocks()[frame * oracle.PAGE // int(_BLOCK.read_text(), 16)]
