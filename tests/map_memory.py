"""Maps of the programs, in the memory of a test."""

from __future__ import annotations

import errno
import mmap
import os

from ksmwatch.kernel import bpf_maps
from ksmwatch.probes.loader import LoadedMap
from ksmwatch.probes.map_records import Account
from ksmwatch.probes.maps import Maps
from tests.loaded_maps import LOADED

MM = 0xFFFF888012345000
PARTS = 3


class FakeMap:
    """A BPF map by its descriptor; keys and values have the sizes that they should."""

    contents: dict[int, dict[bytes, bytes]]
    failure: OSError | None = None

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self.fd, self.key_size, self.value_size = fd, key_size, value_size
        self.data = self.contents.setdefault(fd, {})

    def get(self, key: bytes) -> bytes | None:
        assert len(key) == self.key_size
        value = self.data.get(key)
        assert value is None or len(value) == self.value_size
        return value

    def put(self, key: bytes, value: bytes, flags: int = bpf_maps.ANY) -> None:
        """Write one value."""
        assert (len(key), len(value)) == (self.key_size, self.value_size)
        if self.failure is not None:
            raise self.failure
        if flags == bpf_maps.NOEXIST and key in self.data:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.data[key] = value

    def delete(self, key: bytes) -> bool:
        assert len(key) == self.key_size
        return self.data.pop(key, None) is not None

    def dump(self) -> tuple[bytes, bytes]:
        return b"".join(self.data), b"".join(self.data.values())


# What the programs see of the arrays, by name.
memory: dict[str, mmap.mmap] = {}
present: dict[str, LoadedMap] = {}


def again() -> Maps:
    """Another view of the same maps, as a successor has it."""
    return Maps(LOADED._replace(maps=dict(present)))


def account() -> Account:
    """One whose numbers all differ."""
    return Account(5, (1, 2, 3, 4, 5, 6, 7), 7, 123456789, 42)
