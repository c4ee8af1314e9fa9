"""BPF maps by their descriptors, by libbpf.

All functions raise ``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes as ct
import errno
import struct
from collections.abc import Iterator

from ksmwatch.kernel.libbpf import checked, library

ANY = 0
NOEXIST = 1

_BATCH = 1024


def value_size(map_fd: int) -> int:
    """Bytes of one value (struct bpf_map_info: type, id, key_size, value_size)."""
    info = (ct.c_uint32 * 32)()
    size = ct.c_uint32(ct.sizeof(info))
    result = library().bpf_obj_get_info_by_fd(map_fd, ct.byref(info), ct.byref(size))
    checked(result, "map info")
    return int(info[3])


class Map:
    """One BPF map by its descriptor. Keys and values are bytes."""

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self.fd = fd
        self.key_size = key_size
        self.value_size = value_size

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, None if there is none."""
        value = ct.create_string_buffer(self.value_size)
        if library().bpf_map_lookup_elem(self.fd, key, value) < 0:
            if ct.get_errno() == errno.ENOENT:
                return None
            checked(-1, "map lookup")
        return value.raw

    def put(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Write one value."""
        checked(library().bpf_map_update_elem(self.fd, key, value, flags), "map update")

    def delete(self, key: bytes) -> bool:
        """Delete a key; False if it was not there."""
        if library().bpf_map_delete_elem(self.fd, key) < 0:
            if ct.get_errno() == errno.ENOENT:
                return False
            checked(-1, "map delete")
        return True

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries of a hash map, in batches of whole buckets (since 5.6)."""
        keys = ct.create_string_buffer(self.key_size * _BATCH)
        values = ct.create_string_buffer(self.value_size * _BATCH)
        cursor = ct.create_string_buffer(max(self.key_size, 8))
        start = None
        while True:
            count = ct.c_uint32(_BATCH)
            result = library().bpf_map_lookup_batch(
                self.fd, start, cursor, keys, values, ct.byref(count), None
            )
            last = result < 0
            if last and ct.get_errno() != errno.ENOENT:
                checked(result, "map batch lookup")
            yield from zip(
                _slots(keys, count.value, self.key_size),
                _slots(values, count.value, self.value_size),
                strict=True,
            )
            if last:
                return
            start = cursor


def _slots(buffer: ct.Array[ct.c_char], count: int, size: int) -> Iterator[bytes]:
    data = ct.string_at(buffer, count * size)
    return (slot for (slot,) in struct.iter_unpack(f"{size}s", data))
