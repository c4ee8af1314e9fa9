"""The text of /proc/PID/smaps and smaps_rollup: areas, amounts and flags. Pure.

Only this module knows the format. For most areas only a line or two is needed, so a line is
searched for on request.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

# Of VmFlags: ksmd may merge here (MADV_MERGEABLE, PR_SET_MEMORY_MERGE).
MERGEABLE = "mg"

_HEAD = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ *(.*)$", re.MULTILINE)
_FLAGS = re.compile(rb"^VmFlags: (.*)$", re.MULTILINE)
_ANY_MERGEABLE = re.compile(rf"^VmFlags:.* {MERGEABLE}\b".encode(), re.MULTILINE)


@functools.cache
def _line(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"^%b: +(\d+) kB$" % name.encode(), re.MULTILINE)


def kilobytes(text: bytes, name: str) -> int | None:
    """The amount in a line of an area or a rollup; None if there is no such line."""
    found = _line(name).search(text)
    return int(found[1]) if found else None


class SmapsArea(NamedTuple):
    """One area: its addresses, what it maps, and its lines."""

    start: int
    end: int
    name: str
    text: bytes

    def kilobytes(self, name: str) -> int:
        """The amount in a line; 0 if there is no such line, as the kernel does not count it."""
        return kilobytes(self.text, name) or 0

    @property
    def flags(self) -> frozenset[str]:
        found = _FLAGS.search(self.text)
        return frozenset(found[1].decode().split()) if found else frozenset()


def smaps_areas(text: bytes) -> Iterator[SmapsArea]:
    """All areas, in the order of their addresses."""
    head = None
    for following in _HEAD.finditer(text):
        if head is not None:
            yield _area(head, text[head.end() : following.start()])
        head = following
    if head is not None:
        yield _area(head, text[head.end() :])


def _area(head: re.Match[bytes], text: bytes) -> SmapsArea:
    return SmapsArea(int(head[1], 16), int(head[2], 16), head[3].decode(errors="replace"), text)


def any_mergeable(text: bytes) -> bool:
    """Whether any area is mergeable; a process can have tens of thousands of areas."""
    return _ANY_MERGEABLE.search(text) is not None
