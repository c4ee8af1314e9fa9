"""Basic authentication by bcrypt: slow by design, so one at a time, and not for each scrape."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Mapping
from enum import Enum

from ksmwatch.digests import blake2b
from ksmwatch.export.front.limits import MAX_WAITING_CHECKS

# bcrypt ignores further bytes; newer versions of the library raise an exception.
_MAX_PASSWORD_BYTES = 72
_MAX_REMEMBERED = 100


def prepare() -> None:
    """Load the library. Call it while its files can be read, if there may be users."""
    import bcrypt  # noqa: F401 - without passwords, its half a megabyte is not needed


class Admission(Enum):
    """The verdict on a request."""

    YES = "yes"
    NO = "no"
    # Too many passwords are being checked.
    LATER = "later"


class Auth:
    """Checks the header Authorization against users. Remembers good ones by a keyed hash.

    Any thread may ask.
    """

    def __init__(self) -> None:
        self._users: Mapping[str, str] = {}
        self._key = os.urandom(32)
        # Of what follows. Never held for long.
        self._lock = threading.Lock()
        self._good: dict[bytes, None] = {}
        self._waiting = 0
        # Held by whose password is being checked.
        self._turn = threading.Lock()

    def use(self, users: Mapping[str, str]) -> None:
        """Replace the users, and forget what was remembered."""
        with self._lock:
            self._users = users
            self._good.clear()

    def verdict(self, header: str) -> Admission:
        """The verdict on a request with this header, empty if it has none."""
        users = self._users
        if not users:
            return Admission.YES
        given = _credentials(header)
        if given is None:
            return Admission.NO
        user, password = given
        digest = blake2b(user.encode() + b"\0" + password, key=self._key).digest()
        with self._lock:
            if users is self._users and digest in self._good:
                return Admission.YES
            if self._waiting >= MAX_WAITING_CHECKS:
                return Admission.LATER
            self._waiting += 1
        # An unknown user costs as much as a known one.
        against = users.get(user, next(iter(users.values())))
        try:
            with self._turn:
                matches = _matches(password, against)
        finally:
            with self._lock:
                self._waiting -= 1
        if not matches or user not in users:
            return Admission.NO
        return self._remember(users, digest)

    def _remember(self, users: Mapping[str, str], digest: bytes) -> Admission:
        """Let in who is one of these users, unless there are others now."""
        with self._lock:
            if users is not self._users:
                return Admission.NO
            while len(self._good) >= _MAX_REMEMBERED:
                del self._good[next(iter(self._good))]
            self._good[digest] = None
        return Admission.YES


def _credentials(header: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except ValueError:
        # No base64, or no UTF-8.
        return None


def _matches(password: bytes, against: str) -> bool:
    import bcrypt

    began = time.monotonic()
    try:
        if bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], against.encode()):
            return True
    except ValueError:
        # The password contains a NUL.
        return False
    # Wrong passwords use at most half a core.
    time.sleep(time.monotonic() - began)
    return False
