"""All baselines, the exact reads of accounts.

Only the daemon writes baselines. A program deletes one together with its account, whose id no other
account has. So what the daemon has written need not be read again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from ksmwatch.differences import Edition
from ksmwatch.kernel import bpf_maps
from ksmwatch.probes.loader import LoadedMap
from ksmwatch.probes.map_records import Account, Baseline, Record
from ksmwatch.probes.quiet_map import QuietMap
from ksmwatch.probes.record_table import RecordTable

_U64 = struct.Struct("<Q")


class Baselines:
    """The map of baselines, and what this daemon and its predecessors have written there."""

    def __init__(self, table: bpf_maps.Map | QuietMap, loaded: LoadedMap) -> None:
        self.fd = table.fd
        self._table = table
        self._record = Record(loaded.value_size, loaded.fields)
        self._written: dict[int, Baseline] | None = None
        # As they were last shown, and which have been written or have gone since.
        self._shown: Edition[int, Baseline] = Edition()
        self._unshown: set[int] = set()

    def __len__(self) -> int:
        """How many are known."""
        return len(self._written or ())

    def of(self, mm: int) -> Baseline | None:
        """The last exact read of this mm."""
        data = self._table.get(_U64.pack(mm))
        return None if data is None else self._unpack(data)

    def all(self) -> Mapping[int, Baseline]:
        """All by mm; the same object as before if none was written or deleted."""
        written = self._all_written()
        changed = {mm: written[mm] for mm in self._unshown if mm in written}
        gone = (self._unshown - changed.keys()) & self._shown.keys()
        self._shown = self._shown.revised(changed, gone)
        self._unshown.clear()
        return self._shown

    def put(self, mm: int, baseline: Baseline) -> None:
        """Record an exact read."""
        members = baseline._asdict()
        if "nodes" not in self._record.names:
            del members["node_doubts"]
        self._table.put(_U64.pack(mm), self._record.pack(members))
        self._all_written()[mm] = baseline
        self._unshown.add(mm)

    def delete(self, mm: int) -> None:
        """Forget a read."""
        self._table.delete(_U64.pack(mm))
        self._forget(mm)

    def forget_others(self, accounts: Mapping[int, Account]) -> None:
        """Forget those that the programs have deleted with their accounts."""
        if self._written is not None and len(self._written) > len(accounts):
            for gone in self._written.keys() - accounts.keys():
                self._forget(gone)

    def _forget(self, mm: int) -> None:
        if self._written is not None and self._written.pop(mm, None) is not None:
            self._unshown.add(mm)

    def _all_written(self) -> dict[int, Baseline]:
        if self._written is None:
            table = RecordTable(self._table, self._unpack_all)
            self._written = dict(table.read())
            self._shown = Edition(self._written)
        return self._written

    def _unpack_all(self, data: bytes) -> Iterator[Baseline]:
        size = self._record.size
        return (self._unpack(data[at : at + size]) for at in range(0, len(data), size))

    def _unpack(self, data: bytes) -> Baseline:
        return Baseline(**self._record.unpack(data))
