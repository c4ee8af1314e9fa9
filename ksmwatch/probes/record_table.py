"""All records of a BPF hash map by mm. What has not changed is the same object as before."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from ksmwatch.differences import Edition

_T = TypeVar("_T")
_U64 = struct.Struct("<Q")
# Records that are compared in one piece; where they differ, in smaller pieces.
_PIECES = (64, 8, 1)
# If more than one in so many records has changed, one more dump costs less than a look-up of each.
_FEW = 16


def _changed(
    before: bytes, after: bytes, size: int, span: range, pieces: Sequence[int] = _PIECES
) -> Iterator[int]:
    """Which of the records of this size differ between two places, by number.

    It is no function in a function: one that calls itself is garbage of the kind that keeps what it
    refers to, all records, until a collector comes round.
    """
    piece, *smaller = pieces
    for at in range(span.start, span.stop, piece * size):
        stop = min(at + piece * size, span.stop)
        if before[at:stop] != after[at:stop]:
            if smaller:
                yield from _changed(before, after, size, range(at, stop), smaller)
            else:
                yield at // size


class Dumps(Protocol):
    """A map that gives everything at once."""

    value_size: int

    def dump(self) -> tuple[bytes, bytes]:
        """All keys, and their values. The order stays while no key comes or goes."""


class RecordTable(Generic[_T]):
    """All records of a hash map by mm. An unchanged record is the same object as before.

    So is the dictionary, if no record has changed. `make` turns a key and the bytes of a changed
    record into the object. Its third argument is a later copy of the record, if many have changed,
    so that `make` need not ask for one.
    """

    def __init__(self, table: Dumps, make: Callable[[bytes, bytes, bytes | None], _T]) -> None:
        self._map = table
        self._make = make
        self._keys = self._values = b""
        # As they were last read.
        self.records: Edition[int, _T] = Edition()

    def read(self) -> Mapping[int, _T]:
        """The current records."""
        keys, values = self._map.dump()
        if keys == self._keys:
            if values != self._values:
                self.records = self._with_changes(values)
        else:
            self.records = self._looked_up(keys, values)
        self._keys, self._values = keys, values
        return self.records

    def _with_changes(self, values: bytes) -> Edition[int, _T]:
        """The records if no key has come or gone."""
        size, records = self._map.value_size, {}
        changed = list(_changed(self._values, values, size, range(len(values))))
        later = self._later() if len(changed) * _FEW > len(self.records) else None
        for number in changed:
            key = self._keys[number * _U64.size : (number + 1) * _U64.size]
            part = slice(number * size, (number + 1) * size)
            again = None if later is None else later[part]
            records[_U64.unpack(key)[0]] = self._make(key, values[part], again)
        return self.records.revised(records)

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
            same = before.get(key) == value
            record = self.records[key[0]] if same else self._make(_U64.pack(*key), value[0], None)
            records[key[0]] = record
        return Edition(records)

    def __len__(self) -> int:
        """Their number at the last reading."""
        return len(self.records)
