"""The maps of ages of mappings: see bpf/ages.c."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from ksmwatch.kernel import bpf_maps
from ksmwatch.probes.map_records import AGE_CLASSES, AGES_ROOM, DEPARTURES
from ksmwatch.probes.mapped_memory import Mapped, fdinfo

# As in sampled().
GOLDEN_RATIO = 0x9E3779B97F4A7C15
_PAGE = struct.Struct("<Q")
# Behind the ages: how many arrivals the programs hold, and, in the first part only, how many of
# these the daemon has dropped.
_HELD = len(DEPARTURES) * (AGE_CLASSES + 1)
_DROPPED = _HELD + 1


def is_sampled(page: int, one_in: int) -> bool:
    """Whether the programs look at a page, given by its address."""
    return ((page >> 6) * GOLDEN_RATIO & (1 << 64) - 1) >> 48 & (one_in - 1) == 0


class AgeMaps:
    """What the programs have noted of arrivals, and the ages that they have counted."""

    def __init__(
        self, frames: bpf_maps.Map, holds: bpf_maps.Map, ages: Mapped, *, quiet: bool
    ) -> None:
        self._frames, self._holds, self._ages = frames, holds, ages
        self._limit = int(fdinfo(holds.fd, "max_entries"))
        # As they were last summed, and their memory before that.
        self._last: Mapping[str, tuple[tuple[int, ...], float]] = {}
        self._read = b""
        # Map system calls would stop hooks while these are on: see bpf/access.c.
        self.quiet = quiet

    def ages(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """By reason: how many ages are in each class, and their sum in seconds.

        The same object as before if none has changed.
        """
        # Copied first: what changes meanwhile is seen the next time.
        if (data := self._ages.data) != self._read:
            self._read, self._last = data, self._summed()
        return self._last

    def _summed(self) -> Mapping[str, tuple[tuple[int, ...], float]]:
        words = self._ages.words
        found = {}
        for number, why in enumerate(DEPARTURES):
            first = number * (AGE_CLASSES + 1)
            sums = [sum(words[first + at :: AGES_ROOM]) for at in range(AGE_CLASSES + 1)]
            found[why.name.lower()] = tuple(sums[:-1]), sums[-1] / 1e9
        return found

    def used(self) -> float:
        """Which part of the larger map is used."""
        words = self._ages.words
        held = sum(words[_HELD::AGES_ROOM]) - words[_DROPPED]
        return held % (1 << 64) / self._limit

    def clear(self) -> None:
        """Forget all arrivals, while no hook is on."""
        self._drop(lambda _: True)
        self._ages.words[_DROPPED] = sum(self._ages.words[_HELD::AGES_ROOM]) % (1 << 64)

    def drop_unsampled(self, one_in: int) -> None:
        """Forget arrivals at pages that are no longer followed."""
        self._ages.words[_DROPPED] += self._drop(lambda page: not is_sampled(page, one_in))

    def _drop(self, unwanted: Callable[[int], bool]) -> int:
        """How many arrivals were dropped."""

        def dropped(table: bpf_maps.Map) -> int:
            # Both keys begin with the page.
            keys = (key for key in _keys(table) if unwanted(_PAGE.unpack_from(key)[0]))
            return sum(map(table.delete, keys))

        found = dropped(self._holds)
        dropped(self._frames)
        return found


def _keys(table: bpf_maps.Map) -> Iterator[bytes]:
    keys, _ = table.dump()
    size = table.key_size
    return (keys[at : at + size] for at in range(0, len(keys), size))
