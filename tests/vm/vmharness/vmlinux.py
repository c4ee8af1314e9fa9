"""Unpack the kernel image once, on the host.

Under emulation the kernel's own decompressor takes most of a second and more; QEMU can start
the plain ELF image directly (PVH). It is the very same kernel. If anything is unusual, the packed
image is used as it is.
"""

from __future__ import annotations

import ctypes
import lzma
import struct

# Most that one block of the old format of LZ4 holds.
_LZ4_BLOCK = 8 << 20


def unpack_zstd(payload: bytes, size: int) -> bytes | None:
    """Unpack with the library that apt and dpkg themselves are linked to."""
    try:
        lib = ctypes.CDLL("libzstd.so.1")
    except OSError:
        return None
    lib.ZSTD_decompress.restype = ctypes.c_size_t
    lib.ZSTD_decompress.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    buffer = ctypes.create_string_buffer(size)
    got = int(lib.ZSTD_decompress(buffer, size, payload, len(payload)))
    return buffer.raw if got == size else None


def unpack_lz4(payload: bytes, size: int) -> bytes | None:
    """Unpack the old format of blocks with their lengths, which Debian's cloud kernels have."""
    try:
        lib = ctypes.CDLL("liblz4.so.1")
    except OSError:
        return None
    plain, at = b"", 4
    while at < len(payload):
        (length,) = struct.unpack_from("<I", payload, at)
        block = payload[at + 4 : at + 4 + length]
        buffer = ctypes.create_string_buffer(_LZ4_BLOCK)
        got = int(lib.LZ4_decompress_safe(block, buffer, len(block), _LZ4_BLOCK))
        if got < 0:
            return None
        plain, at = plain + buffer.raw[:got], at + 4 + length
    return plain if len(plain) == size else None


def payload_of(image: bytes) -> bytes | None:
    """The packed kernel inside a bzImage (boot protocol 2.08 and later)."""
    if image[0x202:0x206] != b"HdrS":
        return None
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + int(offset)
    payload = image[start : start + int(length)]
    return payload if length and len(payload) == length else None


def extract(image: bytes) -> bytes | None:
    """The ELF image inside a bzImage, or None if it can't be had or can't be started as it is."""
    payload = payload_of(image)
    if payload is None:
        return None
    plain: bytes | None = None
    if payload[:6] == b"\xfd7zXZ\0":
        plain = lzma.LZMADecompressor().decompress(payload)
    elif payload[:4] == b"\x28\xb5\x2f\xfd":
        (size,) = struct.unpack("<I", payload[-4:])
        plain = unpack_zstd(payload[:-4], size)
    elif payload[:4] == b"\x02\x21\x4c\x18":
        (size,) = struct.unpack("<I", payload[-4:])
        plain = unpack_lz4(payload[:-4], size)
    if plain is None or plain[:4] != b"\x7fELF" or b"Xen\0" not in plain:
        return None
    return plain
