"""All accounts, read only as far as they can have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ksmwatch.differences import Differences, differences
from ksmwatch.probes.looks import AccountWatch
from ksmwatch.probes.map_records import Account
from ksmwatch.probes.record_table import RecordTable
from ksmwatch.probes.standstill import Standstill


class AllAccounts:
    """Reads them. Only one thread may use it.

    `told`: all that grows after a change of an account. `watch`: None if the kernel refused its
    program.
    """

    def __init__(
        self,
        table: RecordTable[Account],
        told: Callable[[], bytes],
        watch: AccountWatch | None,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._standstill = Standstill(told, clock)
        self._watch = watch
        # Accounts of no process. When the daemon opens a file, a program can name one untold.
        self._nameless: set[int] = set()

    def read(self) -> Mapping[int, Account]:
        """All by mm. What has not changed is the same object as before, also the whole."""
        before = self._table.records
        if self._standstill.lasts() and not self._nameless:
            return before
        changed = None if self._watch is None else self._watch.changed()
        accounts = self._table.read() if changed is None else self._table.read_only(changed)
        self._standstill.see_reading()
        differ = differences(before, accounts)
        if self._watch is not None:
            self._watch.see_reading(differ)
        self._see_nameless(differ, accounts)
        return accounts

    def _see_nameless(self, differ: Differences[int], accounts: Mapping[int, Account]) -> None:
        self._nameless -= differ.gone
        for mm in differ.changed:
            if accounts[mm].tgid:
                self._nameless.discard(mm)
            else:
                self._nameless.add(mm)

    def look(self) -> None:
        """Call it about every second: then `read` knows how long nothing has changed."""
        self._standstill.look()

    def see_closing(self) -> None:
        """The daemon closes an account itself, which no program tells."""
        self._standstill.end()

    def see_opening(self) -> None:
        """The daemon opens an account itself."""
        self._standstill.end()
        if self._watch is not None:
            self._watch.end()

    def __len__(self) -> int:
        """Their number at the last reading."""
        return len(self._table)
