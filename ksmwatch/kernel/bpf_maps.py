"""BPF maps by their descriptors, by libbpf.

All functions raise ``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes as ct
import errno
import functools
import os

from ksmwatch.kernel.libbpf import checked, library

ANY = 0
NOEXIST = 1

# Records in a batch: at first, and once there were more.
_FEW, _MANY = 128, 1024


def _info(map_fd: int) -> ct.Array[ct.c_uint32]:
    """The `struct bpf_map_info`: type, id, key_size, value_size."""
    info = (ct.c_uint32 * 32)()
    size = ct.c_uint32(ct.sizeof(info))
    result = library().bpf_obj_get_info_by_fd(map_fd, ct.byref(info), ct.byref(size))
    checked(result, "map info")
    return info


def value_size(map_fd: int) -> int:
    """Bytes of one value."""
    return int(_info(map_fd)[3])


def identity(map_fd: int) -> int:
    """The number by which the kernel knows the map."""
    return int(_info(map_fd)[1])


def exists(number: int) -> bool:
    """Whether the kernel still has the map of this number. Looking keeps it for a moment."""
    fd = library().bpf_map_get_fd_by_id(number)
    if fd < 0:
        if ct.get_errno() == errno.ENOENT:
            return False
        checked(fd, "open a map by its number")
    os.close(fd)
    return True


class Map:
    """One BPF map by its descriptor. Keys and values are bytes."""

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self.fd = fd
        self.key_size = key_size
        self.value_size = value_size
        self._batch = _FEW

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

    def dump(self) -> tuple[bytes, bytes]:
        """All keys and all values of a hash map, in batches of whole buckets (since 5.6).

        While no key comes or goes, their order stays.
        """
        keys, values, cursor = self._buffers
        found: list[tuple[bytes, bytes]] = []
        start = None
        while True:
            count = ct.c_uint32(self._batch)
            result = library().bpf_map_lookup_batch(
                self.fd, start, cursor, keys, values, ct.byref(count), None
            )
            last = result < 0
            if last and ct.get_errno() != errno.ENOENT:
                checked(result, "map batch lookup")
            size = count.value
            found.append(
                (
                    ct.string_at(keys, size * self.key_size),
                    ct.string_at(values, size * self.value_size),
                )
            )
            if last:
                break
            start = cursor
        if len(found) > 1 and self._batch < _MANY:
            self._batch = _MANY
            del self._buffers
        return b"".join(k for k, _ in found), b"".join(v for _, v in found)

    @functools.cached_property
    def _buffers(self) -> tuple[ct.Array[ct.c_char], ...]:
        sizes = (self.key_size * self._batch, self.value_size * self._batch, max(self.key_size, 8))
        return tuple(map(ct.create_string_buffer, sizes))
