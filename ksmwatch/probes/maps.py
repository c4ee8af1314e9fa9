"""Typed access to the BPF maps."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import add
from typing import Any, Generic, Protocol, TypeVar

from ksmwatch.kernel import bpf_maps
from ksmwatch.probes.age_maps import AgeMaps
from ksmwatch.probes.all_accounts import AllAccounts
from ksmwatch.probes.baselines import Baselines
from ksmwatch.probes.cgroup_moves import CgroupMoves
from ksmwatch.probes.loader import NO_ROOM, Loaded, LoadedMap, ProgramRefusedError
from ksmwatch.probes.looks import AccountWatch, runner
from ksmwatch.probes.map_records import (
    WEAR,
    Account,
    Baseline,
    CallSite,
    Control,
    Conversion,
    Field,
    Forgetting,
    Migrations,
    Movement,
    NodePlace,
    Opened,
    Reading,
    Record,
    Total,
)
from ksmwatch.probes.mapped_memory import Mapped, fdinfo
from ksmwatch.probes.plan import LOOKER
from ksmwatch.probes.quiet_map import QuietMap
from ksmwatch.probes.record_table import RecordTable
from ksmwatch.probes.totals import Totals

_T = TypeVar("_T")
_U64 = struct.Struct("<Q")
# How often to look at an account that keeps changing.
_COPIES = 4
# What is read of one; the last is not always there.
_READ = ("id", "moves", "doubts", "start_boottime", "tgid", "wear", "nodes")


def _text(comm: bytes) -> str:
    return comm.split(b"\0", 1)[0].decode(errors="replace")


_account: Callable[[tuple[Any, ...]], Account] = partial(tuple.__new__, Account)


def _with_wear(fields: Iterable[Field]) -> list[Field]:
    """The fields of an account, those of its wear as one."""
    by_name = {field.name: field for field in fields}
    wear = [by_name.pop(name) for name in WEAR]
    first, size = wear[0].offset, 0
    for field in wear:
        assert field.offset == first + size, field
        size += struct.calcsize("<" + field.format)
    return [*by_name.values(), Field("wear", first, f"{size}s")]


class _Accounts(Record):
    """Packs accounts, and unpacks them in loops in C: all can have changed."""

    def __init__(self, size: int, fields: Sequence[Field]) -> None:
        super().__init__(size, _with_wear(fields))
        # Mappings are not always counted by node.
        read = [name for name in _READ if name in self.names]
        self._members = self.members(read)
        self._unread = tuple(map(Account._field_defaults.get, Account._fields[len(read) :]))

    def all_in(self, data: bytes) -> Iterator[Account]:
        """The accounts in records one after the other."""
        return map(_account, map(add, self._members(data), repeat(self._unread)))

    def of(self, data: bytes) -> Account:
        """The account in a record."""
        (account,) = self.all_in(data)
        return account


def _opened(**members: Any) -> Opened:
    del members["unused"]
    return Opened(comm=_text(members.pop("comm")), **members)


def _grown(before: bytes, after: bytes, end: int) -> list[int]:
    """Which words of eight bytes differ."""
    return [at for at in range(0, end, 8) if before[at : at + 8] != after[at : at + 8]]


class _Closes(Protocol):
    def close(self) -> None: ...


class _One(Generic[_T]):
    """The only record of an array map, as a named tuple. It is read without a system call.

    Each word is loaded as a whole, in the order of the members.
    """

    def __init__(self, loaded: LoadedMap, make: Callable[..., _T]) -> None:
        self._mapped = Mapped(loaded)
        self._record = Record(loaded.value_size, loaded.fields)
        self._make = make

    def read(self) -> _T:
        return self._make(**self._record.unpack(self._mapped.words))

    def write(self, members: Mapping[str, int]) -> None:
        """Write the whole record."""
        data = memoryview(self._record.pack(members)).cast("Q")
        for place, word in enumerate(data):
            self._mapped.words[place] = word

    @property
    def data(self) -> bytes:
        """All of it, as it is now."""
        return self._mapped.data

    def close(self) -> None:
        self._mapped.close()


class Maps:
    """The maps shared by the programs and the daemon."""

    def __init__(self, loaded: Loaded) -> None:
        """Raises ProgramRefusedError, and then closes the maps, if one cannot be listed."""
        maps = loaded.maps
        self.origin = loaded.origin
        # Also of `converting`, which only the programs use.
        self._descriptors = [each.fd for each in maps.values()]
        self._control = _One(maps["controls"], Control)
        self._migrations = _One(maps["migrations"], Migrations)
        self._conversion = _One(maps["conversions"], Conversion)
        self._reading = _One(maps["readings"], Reading)
        self._call_site = _One(maps["call_sites"], CallSite)
        self._opening = _One(maps["openings"], _opened)
        self._forgetting = _One(maps["forgettings"], Forgetting)
        # None if the programs do not count by node.
        self._node_place = None
        if "node_places" in maps:
            self._node_place = _One(maps["node_places"], NodePlace)
        self._alarms = Mapped(maps["alarms"])
        moves = Mapped(maps["cgroup_moves"])
        self.cgroup_moves = CgroupMoves(moves.words)
        self._totals = Totals(maps["totals"], int(fdinfo(maps["totals"].fd, "max_entries")))
        self._open: list[_Closes] = [
            *(self._control, self._migrations, self._conversion, self._reading, self._call_site),
            *(self._opening, self._forgetting, self._alarms, self._totals, moves),
        ]
        if self._node_place is not None:
            self._open.append(self._node_place)
        try:
            self._accounts = self._hash(loaded, "accounts")
            baselines = self._hash(loaded, "baselines")
        except (OSError, ProgramRefusedError):
            self.close()
            raise
        self._account = _Accounts(maps["accounts"].value_size, maps["accounts"].fields)
        # The part of an account by which it is counted.
        self._counted = next(f.offset for f in maps["accounts"].fields if f.name == "doubts") + 8
        self._baselines = Baselines(baselines, maps["baselines"])
        # None if the programs do not keep ages.
        self.ages = self._age_maps(loaded) if "ages" in maps else None
        table = RecordTable(self._accounts, self._account.all_in, self._steady)
        watch = self._account_watch(loaded) if LOOKER.name in loaded.programs else None
        self._all_accounts = AllAccounts(table, self._told, watch, time.monotonic)
        # The memory of the maps with so many accounts and baselines.
        self._memory = ((-1, -1), 0)
        self.limit = int(fdinfo(self._accounts.fd, "max_entries"))

    def _hash(self, loaded: Loaded, name: str) -> bpf_maps.Map | QuietMap:
        """A map that is used by programs if there are any, otherwise by system calls."""
        each = loaded.maps[name]
        table = bpf_maps.Map(each.fd, each.key_size, each.value_size)
        access = loaded.programs.get(f"access_{name}")
        if access is None:
            return table
        lister = f"list_{name}"
        try:
            quiet = QuietMap(table, access, loaded.programs[lister], self._forgetting.read)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise ProgramRefusedError(lister, error.strerror or str(error)) from error
        self._open.append(quiet)
        return quiet

    def _account_watch(self, loaded: Loaded) -> AccountWatch:
        run = runner(loaded.programs[LOOKER.name])
        watch = AccountWatch(loaded.maps["looks"], run, self._opened, time.monotonic)
        self._open.append(watch)
        return watch

    def _age_maps(self, loaded: Loaded) -> AgeMaps:
        ages = loaded.maps["ages"]
        memory = Mapped(ages, int(fdinfo(ages.fd, "max_entries")))
        self._open.append(memory)
        frames, holds = (
            bpf_maps.Map(each.fd, each.key_size, each.value_size)
            for each in (loaded.maps["frames"], loaded.maps["holds"])
        )
        return AgeMaps(frames, holds, memory, quiet="access_accounts" in loaded.programs)

    def account(self, mm: int) -> Account | None:
        data = self._accounts.get(_U64.pack(mm))
        return None if data is None else self._account.of(data)

    def accounts(self) -> Mapping[int, Account]:
        """All accounts by mm. What has not changed is the same object as before, also the whole."""
        accounts = self._all_accounts.read()
        self._baselines.forget_others(accounts)
        return accounts

    def look(self) -> None:
        """Call it about every second: then `accounts` knows how long nothing has changed."""
        self._all_accounts.look()

    def _opened(self) -> int:
        return self._forgetting.read().opened

    def _told(self) -> bytes:
        return self._totals.data + self._forgetting.data

    @property
    def filled(self) -> int:
        """The number of accounts at the last call of `accounts`."""
        return len(self._all_accounts)

    def _steady(self, key: bytes, data: bytes, again: bytes | None = None) -> Account:
        """An account whose numbers belong together.

        The kernel copies a record word by word while programs add to it, so a copy may have a
        departure but lack an earlier arrival. No word ever falls, so if two copies agree, all words
        were so between the two. If a record does not stand still, at most one more word may have
        grown. Otherwise it is in doubt. `again`: a later copy, if there is one already.
        """
        for _ in range(_COPIES):
            if again is None:
                again = self._accounts.get(key)
            if again is None or again == data or len(_grown(data, again, self._counted)) <= 1:
                return self._account.of(data)
            data, again = again, None
        torn = self._account.of(data)
        return torn._replace(doubts=torn.doubts + 1)

    def open_account(self, mm: int, account: Account) -> bool:
        """Open an account that no event has opened yet; False if one has just done so."""
        record = self._account.pack(account._asdict())
        self._all_accounts.see_opening()
        try:
            self._accounts.put(_U64.pack(mm), record, bpf_maps.NOEXIST)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        return True

    def close_account(self, mm: int) -> None:
        """Forget an mm."""
        self._all_accounts.see_closing()
        self._accounts.delete(_U64.pack(mm))
        self._baselines.delete(mm)

    def baseline(self, mm: int) -> Baseline | None:
        """The last exact read of this mm."""
        return self._baselines.of(mm)

    def baselines(self) -> Mapping[int, Baseline]:
        """All baselines by mm; the same object as before if none was written or deleted."""
        return self._baselines.all()

    def put_baseline(self, mm: int, baseline: Baseline) -> None:
        """Record an exact read."""
        self._baselines.put(mm, baseline)

    def totals(self) -> dict[str, int]:
        """Host-wide totals by name; the same object as before if none has changed."""
        return self._totals.all()

    def total(self, which: Movement | Total) -> int:
        """One host-wide total."""
        return self._totals.of(which)

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
        return int(self._alarms.words[0])

    def put_call_site(self, site: CallSite) -> None:
        """Begin or end learning the call site of copies, or forget it."""
        self._call_site.write(site._asdict())

    def call_site(self) -> CallSite:
        """The call site that was found."""
        return self._call_site.read()

    @property
    def counts_nodes(self) -> bool:
        """Whether the programs have room for counts by node of memory."""
        return self._node_place is not None

    def node_place(self) -> NodePlace:
        """Where the flags of a page have its node, and what the learner has seen."""
        return NodePlace(0, 0) if self._node_place is None else self._node_place.read()

    def put_node_shift(self, shift: int) -> None:
        """From now on count by node."""
        assert self._node_place is not None
        self._node_place.write({"shift": shift})

    def forget_opened(self, thread: int) -> None:
        """Call before opening a /proc file, so that an old answer is not mistaken for a new one."""
        self._opening.write({"thread": thread})

    def opened(self, thread: int) -> Opened | None:
        """The mm of the /proc file that this thread opened last; None if no probe saw it."""
        found = self._opening.read()
        return found if found.seen and found.thread == thread else None

    def memory_bytes(self) -> int:
        """Kernel memory of the account maps, if the kernel tells (fdinfo's memlock)."""
        entries = len(self._all_accounts), len(self._baselines)
        if self._memory[0] != entries:
            tables = self._accounts, self._baselines
            self._memory = entries, sum(int(fdinfo(table.fd, "memlock")) for table in tables)
        return self._memory[1]

    def close(self) -> None:
        """Close the descriptors; the kernel frees the maps with the last program."""
        for each in self._open:
            each.close()
        for fd in self._descriptors:
            os.close(fd)
