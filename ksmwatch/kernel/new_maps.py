"""Creates BPF maps, by libbpf. All functions raise ``OSError`` with the kernel's errno."""

from __future__ import annotations

import ctypes as ct

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.bpf_maps import Map

HASH, ARRAY = 1, 2


class _Options(ct.Structure):
    """struct bpf_map_create_opts, as far as we use it."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("btf_fd", ct.c_uint32),
        ("btf_key_type_id", ct.c_uint32),
        ("btf_value_type_id", ct.c_uint32),
        ("btf_vmlinux_value_type_id", ct.c_uint32),
        ("inner_map_fd", ct.c_uint32),
        ("map_flags", ct.c_uint32),
    ]


def create(
    name: str, kind: int, key_size: int, value_size: int, entries: int, flags: int = 0
) -> int:
    """A new map's descriptor. `kind`: enum bpf_map_type."""
    options = _Options(sz=ct.sizeof(_Options), map_flags=flags)
    fd = libbpf.library().bpf_map_create(
        kind, name.encode(), key_size, value_size, entries, ct.byref(options)
    )
    return libbpf.checked(fd, f"create map {name}")


def array(name: str, value_size: int) -> Map:
    """An array map with one value."""
    return Map(create(name, ARRAY, 4, value_size, 1), 4, value_size)
