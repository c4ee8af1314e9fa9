"""Reads the history's file, from outside the daemon. It needs no more than to read the file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ksmwatch.errors import HistoryError, PrivilegeError
from ksmwatch.history.moment import OTHERS, HostNumbers, OwnerNumbers
from ksmwatch.history.past import Past, PastKey, PastMoment, PastOwner, owner_past
from ksmwatch.history.retention import Span
from ksmwatch.history.store import CAUTION, FILE_NAME, FORMAT

_WAIT_SECONDS = 10.0
_HOST = ", ".join(HostNumbers._fields)
_OWNER = ", ".join(OwnerNumbers._fields)
_IDS = "(SELECT value FROM json_each(?))"


class HistoryReader:
    """An open history. Raises HistoryError, and PrivilegeError if we may not read it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        with self._explained():
            # Who may not look into the directory learns it here.
            self.path.stat()
            self._db = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=ro",
                uri=True,
                timeout=_WAIT_SECONDS,
                isolation_level=None,
                # One thread at a time.
                check_same_thread=False,
            )
            for pragma in CAUTION:
                self._db.execute(pragma)
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found != FORMAT:
            raise HistoryError(f"{self.path} has another format than this version of ksmwatch.")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise HistoryError(
                f"There is no history in {self.path.parent}: the daemon keeps one if it runs with "
                "--history.directory."
            ) from error
        except PermissionError as error:
            raise PrivilegeError(
                f"{self.path} is only for root and the group that may use the daemon's socket."
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise HistoryError(f"{self.path} cannot be read: {error}.") from error

    def close(self) -> None:
        self._db.close()

    # -- Moments -----------------------------------------------------------------------------

    def _spans(self, clause: str, *values: object) -> list[Span]:
        with self._explained():
            sql = f"SELECT id, since, time FROM moment {clause}"  # noqa: S608
            return [Span(*row) for row in self._db.execute(sql, values)]

    def between(self, since: float, until: float) -> list[Span]:
        """Moments in this time, in the order of recording."""
        return self._spans("WHERE time BETWEEN ? AND ? ORDER BY id", since, until)

    def at(self, time: float) -> Span | None:
        """The moment of that time: the last one until then, else the first one after it."""
        before = self._spans("WHERE time <= ? ORDER BY id DESC LIMIT 1", time)
        found = before or self._spans("WHERE time > ? ORDER BY id LIMIT 1", time)
        return found[0] if found else None

    def next_to(self, number: int, by: int) -> Span | None:
        """The moment that many places later, or earlier; None if there is none."""
        order = "> ? ORDER BY id" if by > 0 else "< ? ORDER BY id DESC"
        found = self._spans(f"WHERE id {order} LIMIT 1 OFFSET ?", number, abs(by) - 1)
        return found[0] if found else None

    @property
    def last(self) -> Span | None:
        """The newest moment."""
        found = self._spans("ORDER BY id DESC LIMIT 1")
        return found[0] if found else None

    def owners(self) -> list[Mapping[str, Any]]:
        """The facts of every owner; of one whose facts have changed, the last ones."""
        with self._explained():
            known = self._owners().values()
        return list({(facts["kind"], facts["id"]): facts for facts in known}.values())

    # -- Numbers -----------------------------------------------------------------------------

    def past(self, spans: Sequence[Span], owner: PastKey | None = None) -> Past:
        """The host and its owners at these moments, or only one owner."""
        ids = json.dumps([span.id for span in spans])
        with self._explained():
            known = self._owners()
            held = self._held(ids, [n for n, facts in known.items() if _wanted(facts, owner)])
            whole = self._complete(ids, known)
            found = list(self._moments(ids, whole))
        # Spans may be wider than moments in the file.
        since = {span.id: span.since for span in spans}
        moments = tuple(replace(moment, since=since[moment.id]) for moment in found)
        return Past(moments, tuple(_by_owner(moments, known, held)))

    def _owners(self) -> dict[int, Mapping[str, Any]]:
        rows = self._db.execute("SELECT id, json FROM owner ORDER BY id")
        return {number: json.loads(text) for number, text in rows}

    def _held(self, ids: str, owners: Sequence[int]) -> list[tuple[int, int, OwnerNumbers]]:
        sql = (
            f"SELECT moment, owner, {_OWNER} FROM holding "  # noqa: S608
            f"WHERE moment IN {_IDS} AND owner IN {_IDS}"
        )
        rows = self._db.execute(sql, (ids, json.dumps(owners)))
        return [(moment, owner, OwnerNumbers(*numbers)) for moment, owner, *numbers in rows]

    def _complete(self, ids: str, known: Mapping[int, Mapping[str, Any]]) -> set[int]:
        """Moments at which some owners have no numbers of their own."""
        others = json.dumps([n for n, facts in known.items() if facts == OTHERS])
        sql = f"SELECT moment FROM holding WHERE moment IN {_IDS} AND owner IN {_IDS}"  # noqa: S608
        return {row[0] for row in self._db.execute(sql, (ids, others))}

    def _moments(self, ids: str, partial: set[int]) -> Iterator[PastMoment]:
        texts = dict(self._db.execute("SELECT id, json FROM facts").fetchall())
        known = {number: json.loads(text) for number, text in texts.items()}
        sql = (
            f"SELECT id, time, since, began, facts, {_HOST} FROM moment "  # noqa: S608
            f"WHERE id IN {_IDS} ORDER BY id"
        )
        for number, time, since, began, facts, *host in self._db.execute(sql, (ids,)):
            complete = number not in partial
            host_numbers = HostNumbers(*host)
            yield PastMoment(
                number, time, since, began, host_numbers, known[facts], complete=complete
            )


def _wanted(facts: Mapping[str, Any], owner: PastKey | None) -> bool:
    return owner is None or (facts["kind"], facts["id"]) == owner


def _by_owner(
    moments: Sequence[PastMoment],
    known: Mapping[int, Mapping[str, Any]],
    held: Sequence[tuple[int, int, OwnerNumbers]],
) -> Iterator[PastOwner]:
    """Each owner. Its facts may have changed: the last ones count."""
    places = {moment.id: place for place, moment in enumerate(moments)}
    numbers: dict[PastKey, list[OwnerNumbers | None]] = {}
    facts: dict[PastKey, tuple[int, Mapping[str, Any]]] = {}
    for moment, owner, found in held:
        if (place := places.get(moment)) is None:
            continue
        key = known[owner]["kind"], known[owner]["id"]
        numbers.setdefault(key, [None] * len(moments))[place] = found
        facts[key] = max(facts.get(key, (moment, known[owner])), (moment, known[owner]), key=_first)
    for key, values in numbers.items():
        yield owner_past(facts[key][1], values, moments)


def _first(pair: tuple[int, object]) -> int:
    return pair[0]
