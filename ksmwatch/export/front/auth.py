"""Basic authentication by bcrypt: slow by design, so on a thread, and not for each scrape."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
    """Checks the header Authorization against users. Remembers good ones by a keyed hash."""

    def __init__(self) -> None:
        self._users: Mapping[str, str] = {}
        self._key = os.urandom(32)
        self._good: dict[bytes, None] = {}
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")

    def use(self, users: Mapping[str, str]) -> None:
        """Replace the users, and forget what was remembered."""
        self._users = users
        self._good.clear()

    async def verdict(self, header: str) -> Admission:
        """The verdict on a request with this header, empty if it has none."""
        if not self._users:
            return Admission.YES
        given = _credentials(header)
        if given is None:
            return Admission.NO
        user, password = given
        digest = blake2b(user.encode() + b"\0" + password, key=self._key).digest()
        if digest in self._good:
            return Admission.YES
        if self._waiting >= MAX_WAITING_CHECKS:
            return Admission.LATER
        return await self._check(user, password, digest)

    async def _check(self, user: str, password: bytes, digest: bytes) -> Admission:
        users = self._users
        # An unknown user costs as much as a known one.
        against = users.get(user, next(iter(users.values())))
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            matches = await loop.run_in_executor(self._pool, _matches, password, against)
        finally:
            self._waiting -= 1
        if not matches or user not in users or users is not self._users:
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
    except (binascii.Error, UnicodeDecodeError):
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
