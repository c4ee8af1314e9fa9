"""What outlives the daemon (kill -9, crash, restart): maps, programs and attachments.

Each object is kept by name (``map-accounts``, ``prog-on_fork``, ``link-on_fork``), as a
descriptor that keeps the kernel's object alive. Either systemd keeps the descriptors, or pins
below a BPF file system do (``pins``).
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from ksmwatch.systemd import Manager

# The prefix of descriptor names.
_KINDS = ("map-", "prog-", "link-")


def links_first(name: str) -> bool:
    """Sort attachments first, so that no program runs without its maps' owner."""
    return not name.startswith("link-")


class Keep(Protocol):
    """A place for descriptors. `works` is False if nothing is kept.

    `hands_over`: after an orderly end, kept objects go to the next daemon, or end with the service.
    """

    works: bool
    hands_over: bool

    def load(self) -> dict[str, int]:
        """Descriptors by name, as an earlier daemon left them. The caller owns them."""

    def open(self, name: str) -> int | None:
        """A new descriptor of one object that an earlier daemon left; call it before `load`."""

    def store(self, name: str, fd: int) -> None:
        """Keep a descriptor. Raises OSError."""

    def drop(self, *names: str) -> None:
        """Drop descriptors, those that are there. Raises OSError.

        When it returns, nothing but the caller's own descriptors keeps these objects.
        """

    def clear(self) -> None:
        """Drop all."""


class Nowhere:
    """Keeps nothing: everything is detached when the daemon ends, however it ends."""

    works = False
    hands_over = False

    def load(self) -> dict[str, int]:
        return {}

    def open(self, name: str) -> int | None:
        return None

    def store(self, name: str, fd: int) -> None:
        """Not kept."""

    def drop(self, *names: str) -> None:
        """Not kept."""

    def clear(self) -> None:
        """Nothing is there."""


class FdStore:
    """systemd's descriptor store: closed when the service stops, passed on when it starts again."""

    works = True
    hands_over = True

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._passed = manager.take_passed(*_KINDS)
        self._names = {name for name, _ in self._passed}

    def load(self) -> dict[str, int]:
        """What systemd has passed; nothing if two have the same name and cannot be told apart."""
        if len(self._names) < len(self._passed):
            self.clear()
        found, self._passed = dict(self._passed), []
        return found

    def open(self, name: str) -> int | None:
        """One that systemd has passed."""
        found = [fd for passed, fd in self._passed if passed == name]
        return os.dup(found[0]) if len(found) == 1 else None

    def store(self, name: str, fd: int) -> None:
        """Store a descriptor, in place of an earlier one with this name."""
        self.drop(name)
        if len(self._names) >= self._manager.store_limit:
            raise OSError(errno.ENOSPC, "the descriptor store is full")
        self._manager.store(name, fd)
        self._names.add(name)

    def drop(self, *names: str) -> None:
        """Make systemd close descriptors."""
        stored = [name for name in names if name in self._names]
        if stored:
            self._manager.forget(*stored)
            self._names.difference_update(stored)

    def clear(self) -> None:
        """Make systemd close all, and close passed descriptors that were not loaded."""
        for _, fd in self._passed:
            os.close(fd)
        self._passed = []
        if self._names:
            self._manager.forget(*sorted(self._names, key=links_first))
            self._names = set()
