"""A hash map that is read and written without map system calls.

While one is under way on a CPU, the kernel skips the kprobe programs of every task that runs
there. So where the hooks are kprobe programs, the daemon has programs of its own (bpf/access.c)
do what it wants of a map. It has the interface of `bpf_maps.Map`.
"""

from __future__ import annotations

import ctypes as ct
import os
import struct
from collections.abc import Callable
from errno import ENOENT

from ksmwatch.kernel import bpf_maps, libbpf
from ksmwatch.probes.map_records import Forgetting

_REQUEST = struct.Struct("<2Q")
# enum operation in bpf/access.c
_GET, _ADD, _PUT, _FORGET = range(4)
# A list during which accounts go is made so often, before it is made by system calls.
_ATTEMPTS = 8


def _failure(what: str, number: int) -> OSError:
    return OSError(number, f"map {what}: {os.strerror(number)}")


class QuietMap:
    """One map, by the programs that read and write it (`access`), and that list it (`lister`).

    `forgetting`: what the programs have deleted so far.
    """

    def __init__(
        self,
        table: bpf_maps.Map,
        access: int,
        lister: int,
        forgetting: Callable[[], Forgetting],
    ) -> None:
        self._table = table
        self.fd = table.fd
        self.value_size = table.value_size
        self._access = access
        self._link = libbpf.attach_iterator(lister, table.fd)
        self._forgetting = forgetting
        self._request = ct.create_string_buffer(_REQUEST.size + table.value_size)
        self._element = struct.Struct(f"{table.key_size}s{table.value_size}s")

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, None where there is none."""
        number = self._ask(_GET, key)
        if number not in (0, ENOENT):
            raise _failure("lookup", number)
        return None if number else self._request.raw[_REQUEST.size :]

    def put(self, key: bytes, value: bytes, flags: int = bpf_maps.ANY) -> None:
        """Write one value."""
        operation = _ADD if flags == bpf_maps.NOEXIST else _PUT
        number = self._ask(operation, key, value)
        if number:
            raise _failure("update", number)

    def delete(self, key: bytes) -> bool:
        """Delete one key; False when it was not there."""
        number = self._ask(_FORGET, key)
        if number not in (0, ENOENT):
            raise _failure("delete", number)
        return number == 0

    def _ask(self, operation: int, key: bytes, value: bytes = b"") -> int:
        """Run a program with a request; 0 or an errno."""
        (number,) = struct.unpack("<Q", key)
        _REQUEST.pack_into(self._request, 0, operation, number)
        ct.memmove(ct.addressof(self._request) + _REQUEST.size, value, len(value))
        return -libbpf.prog_run(self._access, self._request)

    def dump(self) -> tuple[bytes, bytes]:
        """All keys and all values.

        An iterator goes through a bucket without a lock. If an element is deleted and used again
        for another key meanwhile, it leads into another bucket, and the rest is missed.
        """
        for _ in range(_ATTEMPTS):
            before = self._forgetting()
            found = libbpf.read_iterator(self._link)
            if before.begun == before.ended == self._forgetting().begun:
                elements = list(self._element.iter_unpack(found))
                return b"".join(key for key, _ in elements), b"".join(v for _, v in elements)
        return self._table.dump()

    def close(self) -> None:
        """Close what this has opened: the iterator."""
        os.close(self._link)
