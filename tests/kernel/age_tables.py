"""The maps from which ages are made, by the daemon's pins, compared with the page tables."""

from __future__ import annotations

import os
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ksmwatch.kernel import bpf_maps, libbpf
from tests import oracle
from tests.kernel.damage import TGID

# struct account: what comes behind the owner.
UNSEEN_UNTIL = TGID + 8 + 16
_STRUCT_PAGE = 64
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1


class Frame(NamedTuple):
    """struct frame."""

    held: int
    converted_at: int
    unclear: int


class Owner(NamedTuple):
    """What matters of an account."""

    pid: int
    unseen_until: int


class Tables(NamedTuple):
    """All of it at one moment. Births by page and mm; accounts by mm."""

    frames: dict[int, Frame]
    holds: dict[tuple[int, int], int]
    owners: dict[int, Owner]


def _rows(pins: Path, name: str, key_size: int) -> Iterator[tuple[bytes, bytes]]:
    fd = libbpf.obj_get(str(pins / f"map-{name}"))
    size = bpf_maps.value_size(fd)
    keys, values = bpf_maps.Map(fd, key_size, size).dump()
    os.close(fd)
    for at in range(len(keys) // key_size):
        yield keys[at * key_size : (at + 1) * key_size], values[at * size : (at + 1) * size]


def read(pins: Path) -> Tables:
    """The maps now."""
    frames = {
        struct.unpack("<Q", key)[0]: Frame(*struct.unpack("<3Q", value))
        for key, value in _rows(pins, "frames", 8)
    }
    holds = {
        struct.unpack("<2Q", key): struct.unpack_from("<Q", value)[0]
        for key, value in _rows(pins, "holds", 16)
    }
    owners = {
        struct.unpack("<Q", key)[0]: Owner(
            struct.unpack_from("<I", value, TGID)[0],
            struct.unpack_from("<Q", value, UNSEEN_UNTIL)[0],
        )
        for key, value in _rows(pins, "accounts", 8)
    }
    return Tables(frames, {(page, mm): n for (page, mm), n in holds.items()}, owners)


def first_page(tables: Tables, pid: int, frames: list[int]) -> int:
    """Where the kernel has its struct pages: those of this process are known by their frames."""
    pages = sorted(page for page, mm in tables.holds if tables.owners[mm].pid == pid)
    frames = sorted(set(frames))
    assert len(pages) == len(frames), f"{len(pages)} pages noted, {len(frames)} frames mapped"
    (first,) = {page - frame * _STRUCT_PAGE for page, frame in zip(pages, frames, strict=True)}
    return first


def mapped(pid: int) -> Counter[int]:
    """How many PTEs of a process map each frame, in areas with anonymous pages."""
    found = Counter[int]()
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for area in oracle.areas(pid):
            if area.anonymous:
                size = (area.end - area.start) // oracle.PAGE * 8
                raw = os.pread(pagemap.fileno(), size, area.start // oracle.PAGE * 8)
                found.update(e & _FRAME for (e,) in struct.iter_unpack("=Q", raw) if e & _PRESENT)
    return found


def faults(tables: Tables, first: int) -> Iterator[str]:
    """What is wrong in the tables, compared with the page tables."""
    held = Counter[int]()
    by_mm: dict[int, Counter[int]] = defaultdict(Counter)
    for (page, mm), number in tables.holds.items():
        held[page] += number
        by_mm[mm][page] = number
    for page, frame in tables.frames.items():
        if frame.held != held[page]:
            yield f"page {page:x}: {frame.held} births, but {held[page]} by mm"
    for mm, owner in tables.owners.items():
        yield from _faults_of(mm, owner, tables.frames, by_mm.pop(mm, Counter()), first)
    if by_mm:
        yield f"births in mms that have gone: {by_mm}"


def _faults_of(
    mm: int, owner: Owner, frames: dict[int, Frame], noted: Counter[int], first: int
) -> Iterator[str]:
    try:
        ptes = {first + f * _STRUCT_PAGE: n for f, n in mapped(owner.pid).items()}
    except (FileNotFoundError, ProcessLookupError):
        return
    for page in {*noted, *(ptes.keys() & frames.keys())}:
        have, frame = ptes.get(page, 0), frames.get(page)
        whole = frame and not frame.unclear and frame.converted_at > owner.unseen_until
        if noted[page] > have or (whole and noted[page] != have):
            place = f"mm {mm:x} of {owner.pid}, page {page:x}, {frame}"
            yield f"{place}: {noted[page]} noted, {have} PTEs"
