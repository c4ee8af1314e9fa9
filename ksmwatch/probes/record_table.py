"""All records of a BPF hash map by mm. What has not changed is the same object as before."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, count
from operator import ne
from typing import Generic, Protocol, TypeVar

from ksmwatch.differences import Edition

_T = TypeVar("_T")
_U64 = struct.Struct("<Q")
# Records that are compared in one piece; where they differ, one by one, which takes twenty times as
# long for each.
_PIECE = 16
# If more than one in so many records has changed, one more dump costs less than a look-up of each.
_FEW = 16


def _changed(before: bytes, after: bytes, size: int) -> Iterator[int]:
    """Which of the records of this size differ between two places, by number."""
    slot = struct.Struct(f"{size}s")
    for at in range(0, len(after), _PIECE * size):
        old, new = before[at : at + _PIECE * size], after[at : at + _PIECE * size]
        if old != new:
            # In C, because all can have changed.
            differ = map(ne, slot.iter_unpack(old), slot.iter_unpack(new))
            yield from compress(count(at // size), differ)


class Dumps(Protocol):
    """A map that gives everything at once."""

    value_size: int

    def get(self, key: bytes) -> bytes | None:
        """One value, None if there is none."""

    def dump(self) -> tuple[bytes, bytes]:
        """All keys, and their values. The order stays while no key comes or goes."""


class RecordTable(Generic[_T]):
    """All records of a hash map by mm. An unchanged record is the same object as before.

    So is the dictionary, if no record has changed. `unpack` turns the bytes of records, one after
    the other, into the objects. `steady` does that for one that may have been copied while it
    changed. It gets the key, the bytes, and those of a later copy, if there is one. If the two
    copies are equal, it is not asked.
    """

    def __init__(
        self,
        table: Dumps,
        unpack: Callable[[bytes], Iterable[_T]],
        steady: Callable[[bytes, bytes, bytes | None], _T] | None = None,
    ) -> None:
        self._map = table
        self._unpack = unpack
        self._steady = steady or (lambda _, data, __: next(iter(unpack(data))))
        self._keys = self._values = b""
        # As they were last read.
        self.records: Edition[int, _T] = Edition()

    def read(self) -> Mapping[int, _T]:
        """The current records."""
        keys, values = self._map.dump()
        # One that went, was read alone, and is there again is a new one.
        if keys == self._keys and len(keys) == len(self.records) * _U64.size:
            if values != self._values:
                self.records = self._with_changes(values)
        else:
            self.records = self._looked_up(keys, values)
        self._keys, self._values = keys, values
        return self.records

    def read_only(self, mms: Iterable[int]) -> Mapping[int, _T]:
        """The records after only these can have changed, or gone."""
        changed: dict[int, _T] = {}
        gone = set()
        for mm in mms:
            key = _U64.pack(mm)
            if (data := self._map.get(key)) is None:
                gone.add(mm)
            elif (record := self._steady(key, data, None)) != self.records[mm]:
                changed[mm] = record
        self.records = self.records.revised(changed, gone)
        return self.records

    def _with_changes(self, values: bytes) -> Edition[int, _T]:
        """The records if no key has come or gone."""
        size, mms = self._map.value_size, memoryview(self._keys).cast("Q")
        changed = list(_changed(self._values, values, size))
        later = self._later() if len(changed) * _FEW > len(self.records) else None
        records: dict[int, _T] = {}
        if later is not None:
            moving = set(_changed(values, later, size))
            still = [number for number in changed if number not in moving]
            records |= self._unpacked(values, still, mms)
            changed = [number for number in changed if number in moving]
        for number in changed:
            part, key = slice(number * size, (number + 1) * size), _U64.pack(mms[number])
            again = None if later is None else later[part]
            records[mms[number]] = self._steady(key, values[part], again)
        # Some may have been read alone since the last dump.
        known = self.records
        return known.revised({mm: found for mm, found in records.items() if found != known[mm]})

    def _unpacked(
        self, values: bytes, numbers: Sequence[int], mms: Sequence[int]
    ) -> Iterator[tuple[int, _T]]:
        """The records of these numbers, by mm."""
        if len(numbers) == len(mms):
            return zip(mms, self._unpack(values), strict=True)
        size = self._map.value_size
        data = b"".join([values[number * size : (number + 1) * size] for number in numbers])
        return zip([mms[number] for number in numbers], self._unpack(data), strict=True)

    def _later(self) -> bytes | None:
        """All values once more; None if keys have come or gone."""
        keys, values = self._map.dump()
        return values if keys == self._keys else None

    def _looked_up(self, keys: bytes, values: bytes) -> Edition[int, _T]:
        """The records if keys have come or gone."""
        slot = struct.Struct(f"{self._map.value_size}s")
        before = dict(
            zip(_U64.iter_unpack(self._keys), slot.iter_unpack(self._values), strict=True)
        )
        records = {}
        for key, value in zip(_U64.iter_unpack(keys), slot.iter_unpack(values), strict=True):
            known = self.records.get(key[0])
            if known is None or before.get(key) != value:
                found = self._steady(_U64.pack(*key), value[0], None)
                known = found if known is None or found != known else known
            records[key[0]] = known
        # All that went may have been read alone before.
        same = records == self.records and list(records) == list(self.records)
        return self.records if same else Edition(records)

    def __len__(self) -> int:
        """Their number at the last reading."""
        return len(self.records)
