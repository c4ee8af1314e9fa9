"""Python's view of the records in ``bpf/records.h``.

Field offsets and sizes are not repeated here: the compiler derives them from the compiled C
definition and sends them along with the maps. Only the names in the two enumerations are stated
twice, and a test compares them with the C source.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from operator import itemgetter
from typing import Any, NamedTuple


class Movement(IntEnum):
    """enum movement: why a mapping came or went."""

    MERGED = 0
    CONVERTED = 1
    OTHER = 2
    FORKED = 3
    COPIED = 4
    UNMAPPED = 5
    EXITED = 6


# In `totals` each part of the CPUs has this room.
TOTALS_ROOM = 32

ARRIVALS = (Movement.MERGED, Movement.CONVERTED, Movement.OTHER, Movement.FORKED)
DEPARTURES = (Movement.COPIED, Movement.UNMAPPED, Movement.EXITED)


class Total(IntEnum):
    """enum total, after the movements."""

    MERGE_CONVERTED = 7
    MERGE_REPLACED = 8
    MERGE_ALREADY = 9
    MERGE_FAILED = 10
    BREAK_COW = 11
    SHARED_CONVERSIONS = 12
    FAMILIES_TRUNCATED = 13
    CONVERSIONS_UNSEEN = 14
    EVENTS_LOST = 15
    STALE_ACCOUNTS = 16
    MISCOUNTED_MMS = 17
    MISCOUNTED_PAGES = 18
    BREAK_COW_LEFT = 19
    SWAPIN_KSM = 20
    DOUBTS = 21
    UNATTRIBUTED = 22
    FAMILIES_CHANGED = 23
    AGES_NOTED = 24
    AGES_WASTED = 25
    AGES_UNSEEN = 26
    AGES_AMBIGUOUS = 27
    AGES_MOVED = 28
    AGES_LOST = 29


# Classes of ages: see bpf/records.h.
AGE_CLASSES = 18
# In `ages` each part of the CPUs has this room.
AGES_ROOM = 64


# Members of struct account that follow one another, and are one member here.
WEAR = ("noted", "wasted", "ages")
_WEAR = struct.Struct(f"<{2 + AGE_CLASSES}I")


class Account(NamedTuple):
    """struct account. `wear`: bytes, see `wear_of`.

    The last two are written when an account is opened. They are not read.
    """

    id: int
    moves: tuple[int, ...]
    doubts: int
    start_boottime: int
    tgid: int
    wear: bytes = bytes(_WEAR.size)
    # By node of memory; empty if the programs do not count by node.
    nodes: tuple[int, ...] = ()
    unseen_until: int = 0
    comm: bytes = bytes(16)

    @property
    def net(self) -> int:
        """Arrivals minus departures since the account was opened, in pages."""
        merged, converted, other, forked, copied, unmapped, exited = self.moves
        return merged + converted + other + forked - copied - unmapped - exited

    @property
    def sequence(self) -> tuple[int, int]:
        """Stays the same exactly while no event happens to the mm."""
        return sum(self.moves), self.doubts


@functools.lru_cache(maxsize=1024)
def wear_of(wear: bytes) -> tuple[int, ...]:
    """The members `noted`, `wasted` and `ages` of an account in a row. Most accounts have none."""
    return _WEAR.unpack(wear)


class Conversion(NamedTuple):
    """struct conversion: ksmd's merge under way, if `page` is not 0."""

    serial: int = 0
    page: int = 0
    mm: int = 0
    root: int = 0
    kpage: int = 0
    already: int = 0
    seen: int = 0
    shared: int = 0
    gone: int = 0
    last: int = 0

    @property
    def in_place(self) -> bool:
        """Whether a page is being converted in place."""
        return self.page != 0 and not self.kpage and not self.already


class Reading(NamedTuple):
    """struct reading: the mm being read exactly, and how often its PTEs have moved since."""

    mm: int
    moved: int


class Forgetting(NamedTuple):
    """struct forgetting: accounts that the programs have deleted, begun and ended, and opened."""

    begun: int
    ended: int
    opened: int = 0


class Opened(NamedTuple):
    """struct opened: the mm that a /proc file pins (0 for a kernel thread), and its owner.

    `tgid`: 0 if it has no owner. `thread`: who opens the file; `seen`: whether the probe saw that.
    """

    mm: int
    start_boottime: int
    tgid: int
    comm: str
    thread: int = 0
    seen: int = 1


class Migrations(NamedTuple):
    """struct migration."""

    begun: int
    ended: int
    underway: int = 0


class CallSite(NamedTuple):
    """struct call_site: code addresses, and how often the learner saw the call."""

    hooked: int
    copy: int
    function: int
    learner: int
    seen: int


class NodePlace(NamedTuple):
    """struct node_place: where the flags of a page have its node."""

    shift: int
    flags: int


class Control(NamedTuple):
    """struct control: what the daemon tells the programs, and its successor."""

    ksmd: int
    reader: int
    opening_doubt: int
    asleep: int
    sweep_signs: int
    alarms_swept: int
    age_mask: int = 0
    ages_since: int = 0
    scan_ns: int = 0
    calls_since: int = 0


class Baseline(NamedTuple):
    """struct baseline."""

    id: int
    mappings: int
    doubts: int
    node_doubts: int = 0
    nodes: tuple[int, ...] = ()


class Field(NamedTuple):
    """One member of a C record: byte offset and struct-module format."""

    name: str
    offset: int
    format: str


class Record:
    """Packs and unpacks one C record by the fields that the compiler derived."""

    def __init__(self, size: int, fields: Sequence[Field]) -> None:
        self.size = size
        self.names = frozenset(field.name for field in fields)
        self._format = "<"
        self._slices: dict[str, slice] = {}
        position = count = 0
        for field in sorted(fields, key=lambda f: f.offset):
            self._format += f"{field.offset - position}x{field.format}"
            width = len(
                struct.unpack("<" + field.format, bytes(struct.calcsize("<" + field.format)))
            )
            self._slices[field.name] = slice(count, count + width)
            position = field.offset + struct.calcsize("<" + field.format)
            count += width
        self._format += f"{size - position}x"
        self._struct = struct.Struct(self._format)
        self._count = count

    def unpack(self, data: bytes | memoryview[int]) -> dict[str, Any]:
        """Members by name; arrays as tuples."""
        values = self._struct.unpack(data)
        return {
            name: values[part] if part.stop - part.start > 1 else values[part.start]
            for name, part in self._slices.items()
        }

    def pack(self, members: Mapping[str, Any]) -> bytes:
        """The record with `members` set, and zero elsewhere. Empty arrays are not set."""
        values: list[Any] = list(self._struct.unpack(bytes(self.size)))
        for name, value in members.items():
            if value == ():
                continue
            part = self._slices[name]
            values[part] = list(value) if part.stop - part.start > 1 else [value]
        return self._struct.pack(*values)

    def members(self, names: Sequence[str]) -> Callable[[bytes], Iterator[tuple[Any, ...]]]:
        """What unpacks two or more members in this order, of records one after the other."""
        parts = [self._slices[name] for name in names]
        pick = itemgetter(*(p if p.stop - p.start > 1 else p.start for p in parts))
        unpack = self._struct.iter_unpack
        return lambda data: map(pick, unpack(data))
