"""Which functions must call the hooked ones, and what their machine code shows.

A compiler may inline a function into a caller in the same file (with link-time optimisation, in
any file). kallsyms, BTF and an accepted probe do not show this, and then that caller's actions
raise no event. This was seen in Debian's 7.2-rt and 7.3-rt, where GCC inlined
folio_remove_rmap_ptes() into try_to_migrate_one().
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

from ksmwatch.kernel.events import EVENTS


class Role(NamedTuple):
    """Something that a kernel does by calling the function where an event is seen.

    `callers`: functions whose code has the call, on some kernel: callers may be inlined into
    theirs. One that calls is enough. `instead`: the event that stands in for it.
    """

    event: str
    meaning: str
    callers: tuple[str, ...]
    instead: str | None = None


ROLES: tuple[Role, ...] = (
    Role("rmap_add", "a merge by replacement", ("replace_page", "try_to_merge_one_page")),
    Role("rmap_add", "the end of a migration", ("remove_migration_pte",)),
    Role("rmap_add", "a swap-in", ("do_swap_page",)),
    Role("rmap_remove", "a copy on write", ("wp_page_copy", "do_wp_page")),
    Role(
        "rmap_remove",
        "an unmapping",
        # The first that is not inlined: up to 6.18, or in 7.2 and later.
        ("zap_present_ptes", "zap_pte_range", "unmap_page_range", "__zap_vma_range"),
    ),
    Role("rmap_remove", "a reclaim", ("try_to_unmap_one",)),
    Role("rmap_remove", "the start of a migration", ("try_to_migrate_one",), "moves_away"),
    Role("protect", "the locking of a page", ("write_protect_page", "try_to_merge_one_page")),
    Role("merge", "a conversion", ("try_to_merge_with_ksm_page", "try_to_merge_two_pages")),
)
_SYMBOLS = {event.name: event.symbols for event in EVENTS}

# call and jmp with a distance of 32 bits, and the conditional jumps: one may be a tail call.
_X86 = re.compile(rb"[\xe8\xe9]|\x0f[\x80-\x8f]")
# The kernel's call depth tracking (retbleed=stuff) makes calls go to code in the padding before
# a function.
_X86_PADDING = 16
_ARM_BRANCH, _ARM_BRANCH_MASK = 0x14000000, 0x7C000000


def pairs() -> tuple[tuple[str, str], ...]:
    """Every possible (caller, called function)."""
    return tuple(
        (caller, symbol)
        for role in ROLES
        for symbol in _SYMBOLS[role.event]
        for caller in role.callers
        if caller != symbol
    )


def has_call(code: bytes, base: int, target: int, machine: str) -> bool | None:
    """Whether the code at address `base` calls a function; None for an unknown machine.

    Nothing is disassembled: four bytes hold exactly this distance by chance once in 2^32.
    """
    if machine == "x86_64":
        return any(
            0 <= target - (base + at + distance) <= _X86_PADDING
            for at, distance in _x86_distances(code)
        )
    if machine == "aarch64":
        return any(
            word & _ARM_BRANCH_MASK == _ARM_BRANCH and base + 4 * at + _arm_distance(word) == target
            for at, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) & ~3]))
        )
    return None


def _x86_distances(code: bytes) -> list[tuple[int, int]]:
    """(offset of the next instruction, distance) of possible calls."""
    ends = [match.end() for match in _X86.finditer(code) if match.end() + 4 <= len(code)]
    return [(end + 4, struct.unpack_from("<i", code, end)[0]) for end in ends]


def _arm_distance(word: int) -> int:
    distance = (word & 0x3FFFFFF) << 2
    return distance - (1 << 28) if distance >= 1 << 27 else distance


def unseen(calls: Mapping[str, bool], event: str, symbol: str) -> list[Role]:
    """Roles proven to work without a call of the function where the event is hooked.

    `calls`: by caller and called function, joined by a space. Roles about which nothing is known
    are not included.
    """
    found = []
    for role in ROLES:
        known = [calls.get(f"{caller} {symbol}") for caller in role.callers]
        if role.event == event and True not in known and False in known:
            found.append(role)
    return found


def unproven(calls: Mapping[str, bool], event: str, symbol: str) -> list[Role]:
    """Roles not known to call the function."""
    return [
        role
        for role in ROLES
        if role.event == event and not any(f"{caller} {symbol}" in calls for caller in role.callers)
    ]
