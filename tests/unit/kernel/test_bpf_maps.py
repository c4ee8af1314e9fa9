"""All records of a map, by batches of a kernel that this file plays."""

from __future__ import annotations

import ctypes as ct
import errno
import struct
from typing import Any

import pytest

from ksmwatch.kernel import bpf_maps

U64 = struct.Struct("=Q")


class Kernel:
    """A hash map with a record in each bucket."""

    def __init__(self, records: int) -> None:
        self.records = records
        self.batches: list[int] = []

    def bpf_map_lookup_batch(
        self, fd: int, start: Any, cursor: Any, keys: Any, values: Any, count: Any, options: None
    ) -> int:
        """As many as there is room for. ENOENT with the last of them."""
        self.batches.append(count._obj.value)
        first = 0 if start is None else U64.unpack(start.raw)[0]
        end = min(first + count._obj.value, self.records)
        for place, number in enumerate(range(first, end)):
            ct.memmove(ct.addressof(keys) + 8 * place, U64.pack(number), 8)
            ct.memmove(ct.addressof(values) + 8 * place, U64.pack(number * number), 8)
        cursor.raw = U64.pack(end)
        count._obj.value = end - first
        ct.set_errno(errno.ENOENT)
        return -1 if end == self.records else 0


@pytest.mark.parametrize(
    ("records", "batches"),
    [
        (0, [128, 128]),
        (128, [128, 128]),
        # A host with more gets larger buffers from then on.
        (129, [128, 128, 1024]),
        (3000, [128] * 24 + [1024] * 3),
    ],
)
def test_all_records_in_few_batches(
    records: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(records)
    monkeypatch.setattr(bpf_maps, "library", lambda: kernel)
    table = bpf_maps.Map(3, 8, 8)
    everything = (
        b"".join(map(U64.pack, range(records))),
        b"".join(U64.pack(number * number) for number in range(records)),
    )
    assert [table.dump(), table.dump()] == [everything, everything]
    assert kernel.batches == batches
