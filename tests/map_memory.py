"""Maps of the programs, in the memory of a test."""

from __future__ import annotations

import errno
import mmap
import os
import struct

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
    # How many were made.
    dumps = 0

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
        type(self).dumps += 1
        return b"".join(self.data), b"".join(self.data.values())


# What the programs see of the arrays, by name.
memory: dict[str, mmap.mmap] = {}
present: dict[str, LoadedMap] = {}
programs: dict[str, int] = {}


def again() -> Maps:
    """Another view of the same maps, as a successor has it."""
    return Maps(LOADED._replace(maps=dict(present), programs=dict(programs)))


def find_changed(places: int) -> int:
    """bpf/looks.c."""
    found = 0
    for place in range(places):
        mm, *seen = struct.unpack_from("<4QI", memory["looks"], 40 * place)
        if not mm:
            continue
        value = FakeMap.contents[1].get(struct.pack("<Q", mm))
        if value is not None:
            number, *grows, start, tgid = struct.unpack_from("<10QI", value)
            now = [number, sum(grows) + sum(struct.unpack_from("<10Q", value, 112)), start, tgid]
            struct.pack_into("<3QI", memory["looks"], 40 * place + 8, *now)
            if now == seen:
                continue
        struct.pack_into("<I", memory["looks"], 40 * found + 36, place)
        found += 1
    return found


def account() -> Account:
    """One whose numbers all differ."""
    return Account(5, (1, 2, 3, 4, 5, 6, 7), 7, 123456789, 42)
