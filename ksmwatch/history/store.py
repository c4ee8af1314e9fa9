"""The file of the history, for its one writer: adds moments, merges and forgets old ones.

It is a SQLite database with a write-ahead log. Each moment is one transaction, and is synced: the
loss of power costs at most the last moment. There is no other writer.
"""

from __future__ import annotations

# Not the package sqlite3: that loads datetime, which takes 250 KiB of memory with Python 3.11.
import _sqlite3 as sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ksmwatch.history.moment import HostMoment, HostNumbers, Moment, OwnerNumbers
from ksmwatch.history.retention import (
    EXPIRED_AT_ONCE,
    Merge,
    Retention,
    Span,
    due_merges,
    ripe,
)

FILE_NAME = "history.db"
# Stored in the file. Another number is another format.
FORMAT = 1
# Of a new file. SQLite makes 20 pages of its cache at once, before the size of the cache is set.
_PAGE_BYTES = 1024
# The log is written back when it has this many pages.
_LOG_PAGES = 512
_LOG_BYTES = 1 << 20
# The log grows while a reader holds the same moment for long. Beyond this size nothing is recorded.
_MAX_LOG_BYTES = 4 << 20
_CACHE_KIB = 32
# As many as each moment needs.
_STATEMENTS = 8
# For a file that another process of the daemon's user may have changed.
CAUTION = ("PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON")
# The part of the limit that is for the database; the rest is for the log.
_DATABASE_SHARE = 0.95
# The part of all moments that makes room when there is none.
_ROOM_SHARE = 50
_REMEMBERED_TEXTS = 1000


def _columns(row: type[HostNumbers | OwnerNumbers]) -> str:
    return ", ".join(row._fields)


_SCHEMA = f"""
CREATE TABLE facts (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE owner (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE);
CREATE TABLE moment (
  id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, since REAL NOT NULL,
  began REAL NOT NULL, facts INTEGER NOT NULL, {_columns(HostNumbers)});
CREATE TABLE holding (
  moment INTEGER, owner INTEGER, {_columns(OwnerNumbers)},
  PRIMARY KEY (moment, owner)) WITHOUT ROWID;
CREATE TABLE merged (before INTEGER NOT NULL);
INSERT INTO merged VALUES (0);
PRAGMA user_version = {FORMAT};
"""  # noqa: S608 - the names are ours


def _insert(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608


_ADD_MOMENT = _insert("moment", 5 + len(HostNumbers._fields))
_ADD_HOLDING = _insert("holding", 2 + len(OwnerNumbers._fields))
_HOST_MOMENT = ", ".join(HostMoment._fields)


# What every call may raise.
Error = sqlite3.Error


class DamagedError(sqlite3.DatabaseError):
    """The file is damaged, or is not in the format of this version."""


class BusyError(sqlite3.OperationalError):
    """A reader has been in the way for too long."""


class Store:
    """The open file. Only the thread that opened it may use it. Every call raises sqlite3.Error."""

    def __init__(self, path: Path, max_bytes: int, *, check: bool = True) -> None:
        """Open it. `check`: look for damage if the last writer was killed."""
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._room = int(max_bytes * _DATABASE_SHARE)
        # Ids of texts that are in the file.
        self._ids: dict[tuple[str, str], int] = {}
        # A writer that was not killed leaves no log.
        torn = check and self._log.exists()
        self._db = sqlite3.connect(
            path, isolation_level=None, timeout=1.0, cached_statements=_STATEMENTS
        )
        try:
            self._prepare(torn=torn)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, *, torn: bool) -> None:
        self._db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        for pragma in CAUTION:
            self._db.execute(pragma)
        self._db.execute("PRAGMA journal_mode = WAL")
        # Sync every transaction.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        self._db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        if torn and self._one("PRAGMA quick_check(1)") != "ok":
            raise DamagedError("the file is damaged")
        version = self._one("PRAGMA user_version")
        if not version and not self._one("SELECT count(*) FROM sqlite_schema"):
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif version != FORMAT:
            raise DamagedError(f"the file has another format: {version}")
        self._page_size = self._number("PRAGMA page_size")
        self._inode = self._path.stat().st_ino

    def _one(self, sql: str, values: Sequence[object] = ()) -> object:
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else row[0]

    @property
    def in_place(self) -> bool:
        """Whether the file is still where others look for it."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    @property
    def last_time(self) -> float | None:
        """Of the moment that was recorded last."""
        return self._first_time("id DESC")

    @property
    def oldest_time(self) -> float | None:
        """Of the moment that was recorded first."""
        return self._first_time("id")

    def _first_time(self, order: str) -> float | None:
        found = self._one(f"SELECT time FROM moment ORDER BY {order} LIMIT 1")  # noqa: S608
        return found if isinstance(found, float) else None

    def host_between(self, begin: float, end: float) -> list[HostMoment]:
        """The host at the moments from `begin` to before `end`, in the order of recording."""
        sql = f"SELECT {_HOST_MOMENT} FROM moment WHERE time >= ? AND time < ? ORDER BY id"  # noqa: S608
        return [HostMoment(*row) for row in self._db.execute(sql, (begin, end))]

    @property
    def used_bytes(self) -> int:
        """What the database needs, without pages that are free."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._page_size

    def _number(self, sql: str) -> int:
        found = self._one(sql)
        assert isinstance(found, int)
        return found

    def add(self, moment: Moment) -> None:
        """Record a moment, in one transaction. Makes room first if there is none."""
        if self._log_bytes() > _MAX_LOG_BYTES:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if self._log_bytes() > _MAX_LOG_BYTES:
            raise BusyError("a reader keeps the log from being written back")
        while self.used_bytes > self._room and self._forget_oldest():
            pass
        with self._transaction():
            row = (moment.time, moment.since, moment.began, self._id("facts", moment.facts))
            number = self._db.execute(_ADD_MOMENT, (None, *row, *moment.host)).lastrowid
            self._db.executemany(
                _ADD_HOLDING,
                [(number, self._id("owner", facts), *held) for facts, held in moment.owners],
            )

    def _log_bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # The file no longer has what was added, so no id is known.
            self._ids.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _id(self, table: str, text: str) -> int:
        """The id of a text, which is added if it is new."""
        known = self._ids.get((table, text))
        if known is None:
            if len(self._ids) > _REMEMBERED_TEXTS:
                self._ids.clear()
            self._db.execute(f"INSERT OR IGNORE INTO {table} (json) VALUES (?)", (text,))  # noqa: S608
            found = self._one(f"SELECT id FROM {table} WHERE json = ?", (text,))  # noqa: S608
            assert isinstance(found, int)
            known = self._ids[table, text] = found
        return known

    # -- Old moments -------------------------------------------------------------------------

    def tidy(self, now: float, keep: Retention) -> None:
        """Merge and forget what is old enough, but only a part of it at a time."""
        boundary = self._number("SELECT before FROM merged")
        fine = self._oldest(boundary, keep.merged_at_once)
        merges = due_merges(fine, now, keep)
        coarse = self._oldest(0, EXPIRED_AT_ONCE)
        # Moments that are not merged stay for a day longer than they need to, at most.
        expired = [s.id for s in coarse[: ripe(coarse, now, keep.coarse)] if s.id < boundary]
        if not merges and not expired:
            return
        with self._transaction():
            self._merge(merges)
            self._delete(expired)

    def _oldest(self, begin: int, count: int) -> list[Span]:
        rows = self._db.execute(
            "SELECT id, since, time FROM moment WHERE id >= ? ORDER BY id LIMIT ?", (begin, count)
        )
        return [Span(*row) for row in rows]

    def _merge(self, merges: Sequence[Merge]) -> None:
        self._delete(number for merge in merges for number in merge.gone)
        self._db.executemany(
            "UPDATE moment SET since = ? WHERE id = ?", [(m.since, m.id) for m in merges if m.gone]
        )
        if merges:
            self._db.execute("UPDATE merged SET before = ?", (merges[-1].id + 1,))

    def _delete(self, moments: Iterable[int]) -> None:
        numbers = [(number,) for number in moments]
        self._db.executemany("DELETE FROM holding WHERE moment = ?", numbers)
        self._db.executemany("DELETE FROM moment WHERE id = ?", numbers)

    def _forget_oldest(self) -> bool:
        """Make room; False if nothing is left to forget."""
        count = self._number("SELECT count(*) FROM moment")
        oldest = self._oldest(0, max(1, count // _ROOM_SHARE))
        with self._transaction():
            self._delete(span.id for span in oldest)
            self._sweep_texts()
        return bool(oldest)

    def sweep(self) -> None:
        """Forget owners and facts that no moment has. It reads the whole file: once a day."""
        with self._transaction():
            self._sweep_texts()

    def _sweep_texts(self) -> None:
        self._db.execute("DELETE FROM owner WHERE id NOT IN (SELECT owner FROM holding)")
        self._db.execute("DELETE FROM facts WHERE id NOT IN (SELECT facts FROM moment)")
        self._ids.clear()

    def close(self) -> None:
        """Leave one file, which all its readers can open, unless the log must stay for a reader."""
        with closing(self._db):
            try:
                self._db.execute("PRAGMA journal_mode = DELETE")
            except Error:
                # Another process is reading.
                return
