"""Direct calls in machine code: pure functions of bytes and addresses."""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence

# call, jmp, and the conditional jumps with a distance of 32 bits; a jump may be a tail call.
_X86 = re.compile(rb"[\xe8\xe9]|\x0f[\x80-\x8f]")
_ARM_BRANCH = 0x14000000  # b; bl with the highest bit
_ARM_BRANCH_MASK = 0x7C000000


def x86_calls(code: bytes, base: int, targets: Collection[int]) -> Iterator[tuple[int, int]]:
    """(from, to) of what may be a call of a target.

    Nothing is disassembled: that four bytes by chance hold just the distance to a target does
    not happen in a kernel (2^25 places, some 10 of 2^32 values).
    """
    for match in _X86.finditer(code):
        after = match.end() + 4
        if after <= len(code):
            to = base + after + int(struct.unpack_from("<i", code, match.end())[0])
            if to in targets:
                yield base + match.start(), to


def arm_calls(code: bytes, base: int, targets: Collection[int]) -> Iterator[tuple[int, int]]:
    """The same for AArch64, whose instructions are words."""
    for at, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3])):
        if word & _ARM_BRANCH_MASK == _ARM_BRANCH:
            distance = (word & 0x3FFFFFF) << 2
            if distance >= 1 << 27:
                distance -= 1 << 28
            here = base + 4 * at
            if here + distance in targets:
                yield here, here + distance


def function_at(address: int, starts: Sequence[int]) -> int:
    """The function that contains an address, as an index into ascending addresses."""
    return bisect_right(starts, address) - 1


def plain(name: str) -> str:
    """A function's name without what a compiler appends to a part or a copy of it."""
    return name.split(".", 1)[0]
