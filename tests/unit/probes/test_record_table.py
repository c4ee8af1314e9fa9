"""All records of a map, read again and again while they change."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.probes.record_table import RecordTable

SIZE = 24
ACTS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete", "read", "read only"]), st.integers(0, 300)),
    max_size=80,
)


class Dictionary:
    """A map of records."""

    value_size = SIZE

    def __init__(self, records: int = 0) -> None:
        self.data = {struct.pack("<Q", mm): self.value(mm) for mm in range(records)}
        # What happens after a dump.
        self.then: Callable[[], None] = lambda: None

    @staticmethod
    def value(number: int) -> bytes:
        return struct.pack("<3Q", 1, 2, number)

    def put(self, mm: int, number: int) -> None:
        """Change a record in its place, or add one."""
        self.data[struct.pack("<Q", mm)] = self.value(number)

    def get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def dump(self) -> tuple[bytes, bytes]:
        found = b"".join(self.data), b"".join(self.data.values())
        self.then()
        return found


def unpack(data: bytes) -> list[int]:
    """A record as an object of its own."""
    return list(struct.unpack("<3Q", data))


def unpack_all(data: bytes) -> list[list[int]]:
    """Records one after the other."""
    return [list(each) for each in struct.iter_unpack("<3Q", data)]


@given(st.sampled_from([0, 1, 63, 64, 65, 200]), ACTS)
def test_what_is_read_is_what_is_in_the_map(records: int, acts: list[tuple[str, int]]) -> None:
    there = Dictionary(records)
    table = RecordTable(there, unpack_all)
    shown, before = table.read(), dict(table.read())
    for number, (act, mm) in enumerate([*acts, ("read", 0)]):
        if act == "put":
            there.put(mm, 1000 + number // 2)
        elif act == "delete":
            there.data.pop(struct.pack("<Q", mm), None)
        else:
            truth = {struct.unpack("<Q", k)[0]: unpack(v) for k, v in there.data.items()}
            if act == "read":
                now = table.read()
                assert list(now) == list(truth)
            else:
                # Those that came since are not known.
                now = table.read_only(list(shown))
                truth = {mm: record for mm, record in truth.items() if mm in shown}
            assert now == truth
            assert len(table) == len(truth)
            assert all(now[mm] is before[mm] for mm in now if before.get(mm) == now[mm])
            assert (now is shown) == (now == before and list(now) == list(before))
            shown, before = now, dict(now)


def test_what_was_given_away_does_not_change() -> None:
    there = Dictionary(3)
    table = RecordTable(there, unpack_all)
    before = table.read()
    there.put(1, 99)
    assert table.read()[1] == [1, 2, 99]
    assert before[1] == [1, 2, 1]


def test_only_a_record_that_differs_is_read_steadily() -> None:
    there = Dictionary(100)
    asked: list[int] = []

    def steady(key: bytes, data: bytes, later: bytes | None) -> list[int]:
        assert later is None
        asked.append(struct.unpack("<Q", key)[0])
        return unpack(data)

    table = RecordTable(there, unpack_all, steady)
    table.read()
    assert asked == list(range(100))
    asked.clear()
    there.put(70, 7)
    table.read()
    assert asked == [70]
    asked.clear()
    # Another comes, and the order changes.
    there.data = {struct.pack("<Q", 500): there.value(5), **there.data}
    table.read()
    assert asked == [500]


@pytest.mark.parametrize("keys_stay", [True, False])
def test_when_many_have_changed_all_are_read_once_more(*, keys_stay: bool) -> None:
    there = Dictionary(200)
    copies: list[tuple[list[int], list[int] | None]] = []

    def steady(key: bytes, data: bytes, later: bytes | None) -> list[int]:
        copies.append((unpack(data), None if later is None else unpack(later)))
        return unpack(data)

    table = RecordTable(there, unpack_all, steady)
    table.read()
    copies.clear()
    for mm in range(100, 200):
        there.put(mm, 1000 + mm)
    there.then = lambda: there.put(150 if keys_stay else 500, 9)
    table.read()
    # Of those that are the same in both copies, nothing is asked.
    assert copies == (
        [([1, 2, 1150], [1, 2, 9])]
        if keys_stay
        else [([1, 2, 1000 + mm], None) for mm in range(100, 200)]
    )
    assert table.records == {mm: [1, 2, mm if mm < 100 else 1000 + mm] for mm in range(200)}


def test_no_reading_leaves_garbage_that_keeps_all_records() -> None:
    """The daemon's collector comes round seldom, and a dump can have megabytes."""
    there = Dictionary(300)
    table = RecordTable(there, unpack_all)
    table.read()
    gc.collect()
    for number in range(5):
        there.put(17, 1000 + number)
        table.read()
    assert gc.collect() == 0
