"""Images of kernels are unpacked for QEMU, and for the list of callers."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness import vmlinux


def test_an_unusual_image_is_left_alone() -> None:
    assert vmlinux.extract(b"\0" * 4096) is None


def test_an_image_of_a_cloud_kernel_is_unpacked() -> None:
    """LZ4, in the format of blocks with their lengths: a token, and a few literals."""
    kernel = b"\x7fELF.Xen\0"
    block = bytes([len(kernel) << 4]) + kernel
    packed = b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block
    packed += struct.pack("<I", len(kernel))
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 0, len(packed))
    assert vmlinux.extract(bytes(image) + packed) == kernel
    # It says how long it is.
    assert vmlinux.extract(bytes(image) + packed[:-4] + b"\x07\0\0\0") is None
