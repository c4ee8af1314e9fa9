"""Which accounts have changed since the last look, without reading them all.

A program (bpf/looks.c) compares each account that is known here with what it saw at its last run.
It compares all that is read of an account: its id, its owner, nodes, and the sum of all numbers
that only grow. It only looks at accounts that are known. Others are found by reading all.

Why a reading has every event before it:

- An event of a known account. The program runs after the event, so it finds the account changed,
  unless its last run saw the event. Whoever is told of an account reads it after that run. So what
  it reads is never older than what the next run compares with.
- An event that opened an account. The program of the hook inserts it, and then adds to a counter
  (`opened`). If that is not what it was *before* all accounts were last read, all are read again.
- An event that closed an account. The program does not find it, and names it. A new one at its
  address has been counted as opened.

The counter is read after the run. An exec closes one account and opens another. If it happens
during a run, the run may see the first, and then the counter tells of the second.

On arm64 the counter can be seen late. So it may be missed by a reading that begins in that moment,
but not by the next one, which `standstill` does not leave out: see there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ctypes import create_string_buffer

from ksmwatch.differences import Differences
from ksmwatch.kernel import libbpf
from ksmwatch.log import logger
from ksmwatch.probes.loader import LoadedMap
from ksmwatch.probes.mapped_memory import Mapped

# As in bpf/records.h.
LOOKS = 1024
# With more changes than these all are read, because look-ups of single accounts add up. The next
# time that is done without a look: where many change, they do so again.
_FEW, _ONE_IN = 100, 10
# After this long all are read in any case: an error would end then.
_AGAIN_SECONDS = 60.0


class AccountWatch:
    """Finds accounts that have changed. Only one thread may use it.

    `run`: a program's run with so many places, which returns how many accounts have changed.
    `opened`: the counter of accounts that programs have opened.
    """

    def __init__(
        self,
        loaded: LoadedMap,
        run: Callable[[int], int],
        opened: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._mapped = Mapped(loaded, LOOKS)
        self._run = run
        self._opened = opened
        self._clock = clock
        (self._changed,) = (field.offset for field in loaded.fields if field.name == "changed")
        self._size = loaded.value_size
        # The records of all places, also of those beyond the memory's; and their accounts.
        self._records = bytearray()
        self._mms: list[int] = []
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        # The counter and the time before all accounts were last read; None if they must be. And
        # what this becomes when the reading under way has ended.
        self._all_read: tuple[int, float] | None = None
        self._then: tuple[int, float] | None = None
        self._many = self._broken = False

    def changed(self) -> Sequence[int] | None:
        """The accounts that have changed or gone; None if all accounts must be read."""
        if self._broken:
            return None
        # If the reading fails, nobody has seen what has changed.
        self._then, self._all_read = self._all_read, None
        found = None if self._many else self._find(self._most)
        opened, now = self._opened(), self._clock()
        if (
            found is not None
            and self._then is not None
            and self._then[0] == opened
            and now < self._then[1] + _AGAIN_SECONDS
        ):
            return found
        self._then = opened, now
        return None

    @property
    def _most(self) -> int:
        return _FEW + len(self._places) // _ONE_IN

    def see_reading(self, differ: Differences[int]) -> None:
        """Accounts have been read as `changed` said; how they differ from before."""
        self._many = len(differ.changed) > self._most
        for mm in differ.gone:
            self._put(place := self._places.pop(mm), 0)
            self._free.append(place)
        for mm in differ.new:
            place = self._free.pop() if self._free else self._new_place()
            self._places[mm] = place
            self._put(place, mm)
        self._all_read = self._then

    def end(self) -> None:
        """The daemon opens an account itself."""
        self._all_read = None

    def close(self) -> None:
        """Let go of the memory."""
        self._mapped.close()

    def _new_place(self) -> int:
        self._mms.append(0)
        self._records += bytes(self._size)
        return len(self._mms) - 1

    def _put(self, place: int, mm: int) -> None:
        """What is there now has not been looked at: nothing is equal to it."""
        self._mms[place] = mm
        start = place * self._size
        self._records[start : start + self._size] = struct.pack("<Q", mm).ljust(self._size, b"\0")

    def _find(self, most: int) -> list[int] | None:
        """Which differ from what was seen of them before; from now on, from what they are.

        None if they are more than `most`.
        """
        found: list[int] = []
        number = 0
        for first in range(0, len(self._mms), LOOKS):
            count = min(LOOKS, len(self._mms) - first)
            part = slice(first * self._size, (first + count) * self._size)
            self._mapped.data = self._records[part]
            try:
                differing = self._run(count)
            except OSError as error:
                self._give_up(error)
                return None
            self._records[part] = data = self._mapped.data[: count * self._size]
            number += differing
            for at in range(differing if number <= most else 0):
                (place,) = struct.unpack_from("<I", data, at * self._size + self._changed)
                found.append(self._mms[first + place])
        return found if number <= most else None

    def _give_up(self, error: OSError) -> None:
        logger.warning(
            "all accounts are read for each snapshot: the program that looks which have changed"
            " cannot be run",
            extra={"why": error.strerror or str(error)},
        )
        self._broken = True


def runner(program: int) -> Callable[[int], int]:
    """Runs bpf/looks.c."""
    request = create_string_buffer(8)

    def run(places: int) -> int:
        struct.pack_into("<Q", request, 0, places)
        return libbpf.prog_run(program, request)

    return run
