"""C records packed and unpacked by derived fields; sums and sequences of an account."""

from __future__ import annotations

import ctypes as ct
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.probes.compiler import _fields
from ksmwatch.probes.map_records import (
    ARRIVALS,
    DEPARTURES,
    Account,
    Field,
    Movement,
    Record,
    Total,
)

U32, U64 = 2**32 - 1, 2**64 - 1


class CAccount(ct.Structure):
    """Struct account as bcc makes it of bpf/records.h, with a hole before `doubts`."""

    _fields_ = (
        ("id", ct.c_uint64),
        ("moves", ct.c_uint64 * 6),
        ("tgid", ct.c_uint32),
        ("doubts", ct.c_uint64),
        ("net", ct.c_int64),
        ("comm", ct.c_char * 16),
    )


RECORD = Record(ct.sizeof(CAccount), _fields(CAccount))

members = st.fixed_dictionaries(
    {
        "id": st.integers(0, U64),
        "moves": st.tuples(*[st.integers(0, U64)] * 6),
        "tgid": st.integers(0, U32),
        "doubts": st.integers(0, U64),
        "net": st.integers(-(2**63), 2**63 - 1),
        "comm": st.binary(min_size=16, max_size=16),
    }
)


@given(members)
def test_what_was_packed_is_unpacked(values: dict[str, Any]) -> None:
    assert RECORD.unpack(RECORD.pack(values)) == values


@given(members)
def test_the_layout_is_the_compilers(values: dict[str, Any]) -> None:
    record = CAccount.from_buffer_copy(RECORD.pack(values))
    assert tuple(record.moves) == values["moves"]
    assert (record.id, record.tgid) == (values["id"], values["tgid"])
    assert (record.doubts, record.net) == (values["doubts"], values["net"])
    # ctypes ends a character array at its first zero.
    assert record.comm == values["comm"].split(b"\0", 1)[0]


def test_what_is_not_given_is_zero() -> None:
    values = RECORD.unpack(RECORD.pack({"tgid": 7}))
    assert values.pop("tgid") == 7
    assert values.pop("comm") == bytes(16)
    assert values.pop("moves") == (0,) * 6
    assert set(values.values()) == {0}


def test_a_member_that_the_record_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match="mappings"):
        RECORD.pack({"mappings": 1})


def test_data_of_another_size_is_refused() -> None:
    with pytest.raises(struct.error):
        RECORD.unpack(bytes(RECORD.size - 1))


def test_fields_may_come_in_any_order() -> None:
    fields = [Field("b", 4, "I"), Field("a", 0, "I")]
    assert Record(8, fields).unpack(struct.pack("<II", 1, 2)) == {"a": 1, "b": 2}


@pytest.mark.parametrize("length", [2, 3])
def test_arrays_are_tuples(length: int) -> None:
    record = Record(8 * length, [Field("a", 0, f"{length}Q")])
    values = {"a": tuple(range(length))}
    assert record.unpack(record.pack(values)) == values


class Inner(ct.Structure):
    """A record inside another."""

    _fields_ = (("tgid", ct.c_uint32), ("unused", ct.c_uint32))


class Outer(ct.Structure):
    """As bcc makes it."""

    _fields_ = (("id", ct.c_uint64), ("owner", Inner))


def test_members_of_a_record_inside_are_the_outer_ones() -> None:
    assert _fields(Outer) == [
        Field("id", 0, "Q"),
        Field("tgid", 8, "I"),
        Field("unused", 12, "I"),
    ]


def test_a_plain_integer_has_no_fields() -> None:
    assert _fields(ct.c_uint64) == []


def account(**changes: Any) -> Account:
    values = {
        "id": 1,
        "moves": (0,) * 6,
        "doubts": 0,
        "start_boottime": 0,
        "tgid": 1,
    }
    return Account(**{**values, **changes})


def test_every_movement_comes_or_goes() -> None:
    assert sorted((*ARRIVALS, *DEPARTURES)) == list(Movement)


@pytest.mark.parametrize("which", Movement, ids=lambda m: m.name)
def test_net_adds_arrivals_and_takes_departures_off(which: Movement) -> None:
    moves = tuple(5 if m is which else 0 for m in Movement)
    assert account(moves=moves).net == (5 if which in ARRIVALS else -5)


@pytest.mark.parametrize(
    "changes",
    [
        *({"moves": tuple(int(m is which) for m in Movement)} for which in Movement),
        {"doubts": 1},
    ],
)
def test_every_event_moves_the_sequence(changes: dict[str, Any]) -> None:
    assert account(**changes).sequence != account().sequence


def test_an_arrival_and_a_departure_do_not_cancel_in_the_sequence() -> None:
    both = account(moves=(1, 0, 0, 0, 0, 1, 0))
    assert both.net == 0
    assert both.sequence != account().sequence


def test_totals_follow_the_movements_without_a_gap() -> None:
    assert [int(t) for t in (*Movement, *Total)] == list(range(len(Movement) + len(Total)))
