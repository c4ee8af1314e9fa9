"""Typed access to the BPF maps."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from ksmwatch.kernel import libbpf
from ksmwatch.probes.loader import Loaded, LoadedMap
from ksmwatch.probes.map_records import (
    Account,
    Baseline,
    CallSite,
    Control,
    Conversion,
    Migrations,
    Movement,
    Opened,
    Reading,
    Record,
    Total,
)

_T = TypeVar("_T")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_ZERO = _U32.pack(0)
# How often to look at an account that keeps changing.
_COPIES = 4


def _map(loaded: LoadedMap) -> libbpf.Map:
    return libbpf.Map(loaded.fd, loaded.key_size, loaded.value_size)


def _text(comm: bytes) -> str:
    return comm.split(b"\0", 1)[0].decode(errors="replace")


def _grown(before: bytes, after: bytes) -> list[int]:
    """Which words of eight bytes differ."""
    return [at for at in range(0, len(after), 8) if before[at : at + 8] != after[at : at + 8]]


class _Table(Generic[_T]):
    """All records of a hash map by mm. An unchanged record is the same object as before.

    `steady` turns a changed record into one whose members were all true at one moment.
    """

    def __init__(
        self,
        table: libbpf.Map,
        unpack: Callable[[bytes], _T],
        steady: Callable[[bytes, bytes], _T] | None = None,
    ) -> None:
        self._map = table
        self._unpack = unpack
        self._steady = steady
        self._seen: dict[bytes, tuple[bytes, int, _T]] = {}

    def read(self) -> dict[int, _T]:
        """The current records."""
        before, seen = self._seen, {}
        for key, data in self._map.items():
            known = before.get(key)
            if known is None or known[0] != data:
                record = self._steady(key, data) if self._steady else self._unpack(data)
                known = data, _U64.unpack(key)[0], record
            seen[key] = known
        self._seen = seen
        return {mm: record for _, mm, record in seen.values()}

    def __len__(self) -> int:
        """Their number at the last reading."""
        return len(self._seen)


class _One(Generic[_T]):
    """The only record of an array map, as a named tuple."""

    def __init__(self, loaded: LoadedMap, make: Callable[..., _T]) -> None:
        self._map = _map(loaded)
        self._record = Record(loaded.value_size, loaded.fields)
        self._make = make

    def read(self) -> _T:
        data = self._map.get(_ZERO)
        assert data is not None
        return self._make(**self._record.unpack(data))

    def write(self, members: Mapping[str, int]) -> None:
        """Write the whole record."""
        self._map.put(_ZERO, self._record.pack(members))


class Maps:
    """The maps shared by the programs and the daemon."""

    def __init__(self, loaded: Loaded) -> None:
        maps = loaded.maps
        self.origin = loaded.origin
        # Also of `converting`, which only the programs use.
        self._descriptors = [each.fd for each in maps.values()]
        self._accounts = _map(maps["accounts"])
        self._account = Record(maps["accounts"].value_size, maps["accounts"].fields)
        self._baselines = _map(maps["baselines"])
        self._baseline = Record(maps["baselines"].value_size, maps["baselines"].fields)
        self._all_accounts = _Table(self._accounts, self._unpack, self._steady)
        self._all_baselines = _Table(self._baselines, self._unpack_baseline)
        self._control = _One(maps["controls"], Control)
        self._migrations = _One(maps["migrations"], Migrations)
        self._conversion = _One(maps["conversions"], Conversion)
        self._reading = _One(maps["readings"], Reading)
        self._call_site = _One(maps["call_sites"], CallSite)
        self._alarms = _map(maps["alarms"])
        self._opened = _map(maps["opened"])
        self._file = Record(maps["opened"].value_size, maps["opened"].fields)
        # A per-CPU value has one eight-byte slot for every possible CPU.
        cpus = int(libbpf.library().libbpf_num_possible_cpus())
        self._totals = libbpf.Map(maps["totals"].fd, 4, 8 * cpus)
        self._slots = struct.Struct(f"<{cpus}Q")
        self.limit = int(self._fdinfo("max_entries"))

    def account(self, mm: int) -> Account | None:
        data = self._accounts.get(_U64.pack(mm))
        return None if data is None else self._unpack(data)

    def accounts(self) -> dict[int, Account]:
        """All accounts by mm; unchanged accounts are the same objects as before."""
        return self._all_accounts.read()

    @property
    def filled(self) -> int:
        """The number of accounts at the last call of `accounts`."""
        return len(self._all_accounts)

    def _steady(self, key: bytes, data: bytes) -> Account:
        """An account whose numbers belong together.

        The kernel copies a record word by word while programs add to it, so a copy may have a
        departure but lack an earlier arrival. No word ever falls, so if two copies agree, all words
        were so between the two. If a record does not stand still, at most one more word may have
        grown. Otherwise it is in doubt.
        """
        for _ in range(_COPIES):
            again = self._accounts.get(key)
            if again is None or len(_grown(data, again)) <= 1:
                return self._unpack(data)
            data = again
        torn = self._unpack(data)
        return torn._replace(doubts=torn.doubts + 1)

    def _unpack(self, data: bytes) -> Account:
        members = self._account.unpack(data)
        del members["unused"]
        return Account(comm=_text(members.pop("comm")), **members)

    def _unpack_baseline(self, data: bytes) -> Baseline:
        return Baseline(**self._baseline.unpack(data))

    def open_account(self, mm: int, account: Account) -> bool:
        """Open an account that no event has opened yet; False if one has just done so."""
        members = account._asdict()
        members["comm"] = account.comm.encode(errors="replace")[:15]
        try:
            self._accounts.put(_U64.pack(mm), self._account.pack(members), libbpf.BPF_NOEXIST)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    def close_account(self, mm: int) -> None:
        """Forget an mm."""
        self._accounts.delete(_U64.pack(mm))
        self._baselines.delete(_U64.pack(mm))

    def baseline(self, mm: int) -> Baseline | None:
        """The last exact read of this mm."""
        data = self._baselines.get(_U64.pack(mm))
        return None if data is None else self._unpack_baseline(data)

    def baselines(self) -> dict[int, Baseline]:
        """All baselines by mm; unchanged ones are the same objects as before."""
        return self._all_baselines.read()

    def put_baseline(self, mm: int, baseline: Baseline) -> None:
        """Record an exact read."""
        self._baselines.put(_U64.pack(mm), self._baseline.pack(baseline._asdict()))

    def totals(self) -> dict[Movement | Total, int]:
        """Host-wide totals, summed over CPUs."""
        return {which: self.total(which) for which in (*Movement, *Total)}

    def total(self, which: Movement | Total) -> int:
        """One host-wide total."""
        data = self._totals.get(_U32.pack(which))
        return 0 if data is None else sum(self._slots.unpack(data))

    def control(self, control: Control) -> None:
        """Tell the programs who ksmd is, whose file openings count, and whether to doubt."""
        self._control.write(control._asdict())

    def read_control(self) -> Control:
        """What was written last, perhaps by an earlier daemon."""
        return self._control.read()

    def migrations(self) -> Migrations:
        """Calls of migrate_pages() that have taken a KSM page away, and those that are over."""
        return self._migrations.read()

    def conversion(self) -> Conversion:
        """Ksmd's merge under way."""
        return self._conversion.read()

    def end_conversion(self) -> None:
        """Clear the record, because its end was missed. If it was not, its end raises an alarm."""
        self._conversion.write({"serial": self.conversion().serial})

    def begin_reading(self, mm: int) -> None:
        """From now on record whether PTEs of this mm are moved."""
        self._reading.write(Reading(mm, moved=0)._asdict())

    def moved(self) -> bool:
        """Whether PTEs of the mm have been moved since `begin_reading`."""
        return self._reading.read().moved > 0

    def alarms(self) -> int:
        """How often something concerned unknown processes."""
        data = self._alarms.get(_ZERO)
        assert data is not None
        alarms: int = _U64.unpack(data)[0]
        return alarms

    def put_call_site(self, site: CallSite) -> None:
        """Begin or end learning the call site of copies, or forget it."""
        self._call_site.write(site._asdict())

    def call_site(self) -> CallSite:
        """The learnt call site."""
        return self._call_site.read()

    def forget_opened(self, thread: int) -> None:
        """Call before opening a /proc file, so that an old answer is not taken for new."""
        self._opened.delete(_U32.pack(thread))

    def opened(self, thread: int) -> Opened | None:
        """The mm of the /proc file that this thread opened last; None if no probe saw it."""
        data = self._opened.get(_U32.pack(thread))
        if data is None:
            return None
        members = self._file.unpack(data)
        del members["unused"]
        comm = _text(members.pop("comm"))
        return Opened(comm=comm, **members)

    def memory_bytes(self) -> int:
        """Kernel memory of the account maps, if the kernel tells (fdinfo's memlock)."""
        return int(self._fdinfo("memlock")) + int(self._fdinfo("memlock", self._baselines.fd))

    def _fdinfo(self, name: str, fd: int | None = None) -> str:
        """One line of /proc/self/fdinfo of a map, by default of the accounts."""
        number = self._accounts.fd if fd is None else fd
        lines = Path(f"/proc/self/fdinfo/{number}").read_text(encoding="ascii").splitlines()
        return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))

    def close(self) -> None:
        """Close the descriptors; the kernel frees the maps with the last program."""
        for fd in self._descriptors:
            os.close(fd)
