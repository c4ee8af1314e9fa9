"""Records in BPF maps, on maps that are dictionaries."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from ksmwatch.kernel import libbpf
from ksmwatch.probes import maps
from ksmwatch.probes.loader import Loaded, LoadedMap
from ksmwatch.probes.map_records import (
    Account,
    Baseline,
    Control,
    Conversion,
    Field,
    Movement,
    Opened,
    Total,
)
from ksmwatch.probes.maps import Maps

MM = 0xFFFF888012345000
CPUS = 3
ACCOUNT = LoadedMap(
    1,
    8,
    104,
    (
        Field("id", 0, "Q"),
        Field("moves", 8, "7Q"),
        Field("doubts", 64, "Q"),
        Field("start_boottime", 72, "Q"),
        Field("tgid", 80, "I"),
        Field("unused", 84, "I"),
        Field("comm", 88, "16s"),
    ),
)
LOADED = Loaded(
    {
        "accounts": ACCOUNT,
        "baselines": LoadedMap(
            2, 8, 24, (Field("id", 0, "Q"), Field("mappings", 8, "q"), Field("doubts", 16, "Q"))
        ),
        "totals": LoadedMap(3, 4, 8, ()),
        "controls": LoadedMap(
            4,
            4,
            40,
            (
                Field("ksmd", 0, "I"),
                Field("reader", 4, "I"),
                Field("opening_doubt", 8, "Q"),
                Field("asleep", 16, "Q"),
                Field("sweep_signs", 24, "Q"),
                Field("alarms_swept", 32, "Q"),
            ),
        ),
        "conversions": LoadedMap(
            5,
            4,
            72,
            tuple(Field(name, 8 * at, "Q") for at, name in enumerate(Conversion._fields)),
        ),
        "converting": LoadedMap(11, 4, 8, ()),
        "readings": LoadedMap(12, 4, 16, (Field("mm", 0, "Q"), Field("moved", 8, "Q"))),
        "opened": LoadedMap(
            6,
            4,
            40,
            (
                Field("mm", 0, "Q"),
                Field("start_boottime", 8, "Q"),
                Field("tgid", 16, "I"),
                Field("unused", 20, "I"),
                Field("comm", 24, "16s"),
            ),
        ),
        "migrations": LoadedMap(
            8,
            4,
            24,
            (Field("begun", 0, "Q"), Field("ended", 8, "Q"), Field("underway", 16, "Q")),
        ),
        "alarms": LoadedMap(9, 4, 8, ()),
        "call_sites": LoadedMap(
            10,
            4,
            24,
            (
                Field("hooked", 0, "Q"),
                Field("copy", 8, "Q"),
                Field("learner", 16, "I"),
                Field("seen", 20, "I"),
            ),
        ),
        "manifests": LoadedMap(7, 4, 16384, (Field("text", 0, "16384s"),)),
    },
    {},
)


class FakeMap:
    """A BPF map by its descriptor; keys and values have the sizes that they should."""

    contents: dict[int, dict[bytes, bytes]]
    failure: OSError | None = None

    def __init__(self, fd: int, key_size: int, value_size: int) -> None:
        self.fd, self.key_size, self.value_size = fd, key_size, value_size
        self.data = self.contents.setdefault(fd, {})

    def get(self, key: bytes) -> bytes | None:
        """One value."""
        assert len(key) == self.key_size
        value = self.data.get(key)
        assert value is None or len(value) == self.value_size
        return value

    def put(self, key: bytes, value: bytes, flags: int = libbpf.BPF_ANY) -> None:
        """Write one value."""
        assert (len(key), len(value)) == (self.key_size, self.value_size)
        if self.failure is not None:
            raise self.failure
        if flags == libbpf.BPF_NOEXIST and key in self.data:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        self.data[key] = value

    def delete(self, key: bytes) -> bool:
        """Delete one value."""
        assert len(key) == self.key_size
        return self.data.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All of them."""
        yield from self.data.items()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Maps:
    """The maps as the programs leave them before anything happened."""
    monkeypatch.setattr(FakeMap, "contents", {}, raising=False)
    monkeypatch.setattr(libbpf, "Map", FakeMap)
    library = SimpleNamespace(libbpf_num_possible_cpus=lambda: CPUS)
    monkeypatch.setattr(libbpf, "library", lambda: library)
    fdinfo = {("max_entries", None): "64", ("memlock", None): "8192", ("memlock", 2): "4096"}
    monkeypatch.setattr(Maps, "_fdinfo", lambda self, name, fd=None: fdinfo[name, fd])
    return Maps(LOADED)


def account(comm: str = "tenant") -> Account:
    return Account(5, (1, 2, 3, 4, 5, 6, 7), 7, 123456789, 42, comm)


def test_an_account_is_read_as_it_was_opened(shared: Maps) -> None:
    assert shared.account(MM) is None
    assert shared.open_account(MM, account())
    assert shared.account(MM) == account()
    assert shared.accounts() == {MM: account()}


def test_an_account_that_has_not_changed_is_the_same_object(shared: Maps) -> None:
    shared.open_account(MM, account())
    shared.open_account(MM + 1, account())
    before = shared.accounts()
    moved = account()._replace(moves=(2, 2, 3, 4, 5, 6, 7))
    shared.close_account(MM + 1)
    shared.open_account(MM + 1, moved)
    after = shared.accounts()
    assert after[MM] is before[MM]
    assert after[MM + 1] == moved
    assert shared.filled == 2
    # An account that goes and comes again unchanged is looked at again.
    shared.close_account(MM)
    assert shared.accounts() == {MM + 1: moved}
    assert shared.filled == 1


def test_an_account_that_an_event_has_just_opened_is_left_alone(shared: Maps) -> None:
    shared.open_account(MM, account())
    assert not shared.open_account(MM, account()._replace(id=6))
    assert shared.account(MM) == account()


@pytest.mark.parametrize("number", [errno.E2BIG, errno.EBUSY, errno.ENOMEM])
def test_other_failures_are_not_hidden(
    shared: Maps, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(FakeMap, "failure", OSError(number, os.strerror(number)))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
        shared.open_account(MM, account())
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("raw", "comm"),
    [
        (b"tenant\0garbage\0\0", "tenant"),
        (b"exactly-16-bytes", "exactly-16-bytes"),
        (b"\0" * 16, ""),
        (b"caf\xc3\xa9" + bytes(11), "café"),
        (b"caf\xc3" + bytes(12), "caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_names_end_at_the_first_zero_and_may_be_broken(shared: Maps, raw: bytes, comm: str) -> None:
    value = struct.pack("<Q7QQQII16s", 5, *range(1, 8), 7, 123456789, 42, 0, raw)
    FakeMap.contents[1][struct.pack("<Q", MM)] = value
    assert shared.account(MM) == account(comm)


def test_a_long_name_keeps_its_last_zero(shared: Maps) -> None:
    shared.open_account(MM, account("a-name-that-is-too-long"))
    found = shared.account(MM)
    assert found is not None
    assert found.comm == "a-name-that-is-"


def test_numbers_of_an_account_belong_together(shared: Maps) -> None:
    first = account()._replace(moves=(5, 0, 0, 0, 0, 0, 0))
    shared.open_account(MM, first)
    (key,) = FakeMap.contents[1]
    torn = FakeMap.contents[1][key]
    # One has come and gone again while the first copy was made.
    second = first._replace(moves=(6, 0, 0, 0, 0, 1, 0))
    shared.close_account(MM)
    shared.open_account(MM, second)
    assert shared._steady(key, torn) == second


def test_an_account_that_does_not_stand_still_is_in_doubt(
    shared: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [
        shared._account.pack(
            {**account()._asdict(), "comm": b"x", "moves": (n, 0, 0, 0, 0, n, 0), "doubts": 0}
        )
        for n in range(6)
    ]
    monkeypatch.setattr(shared._accounts, "get", lambda key: copies.pop(1))
    assert shared._steady(b"", copies[0]).doubts == 1
    # One word has grown alone.
    one, other = (
        shared._account.pack({**account()._asdict(), "comm": b"x", "moves": (n, 0, 0, 0, 0, 1, 0)})
        for n in (1, 2)
    )
    monkeypatch.setattr(shared._accounts, "get", lambda key: other)
    assert shared._steady(b"", one).moves[0] == 1


def test_baselines_are_signed(shared: Maps) -> None:
    shared.put_baseline(MM, Baseline(5, -3, 7))
    assert shared.baseline(MM) == Baseline(5, -3, 7)
    assert shared.baselines() == {MM: Baseline(5, -3, 7)}
    assert shared.baselines()[MM] is shared.baselines()[MM]
    assert shared.baseline(MM + 1) is None


def test_closing_an_account_takes_its_baseline_with_it(shared: Maps) -> None:
    shared.open_account(MM, account())
    shared.put_baseline(MM, Baseline(5, 1, 0))
    shared.close_account(MM)
    assert (shared.account(MM), shared.baseline(MM)) == (None, None)
    shared.close_account(MM)


def test_totals_are_summed_over_the_cpus(shared: Maps) -> None:
    FakeMap.contents[3] |= {
        struct.pack("<I", Movement.FORKED): struct.pack("<3Q", 1, 2, 4),
        struct.pack("<I", Total.SWAPIN_KSM): struct.pack("<3Q", 0, 0, 2**63),
    }
    assert shared.total(Movement.FORKED) == 7
    totals = shared.totals()
    assert totals[Total.SWAPIN_KSM] == 2**63
    assert totals[Movement.MERGED] == 0
    assert list(totals) == [*Movement, *Total]


def test_the_programs_are_told_in_the_words_of_the_record(shared: Maps) -> None:
    told = Control(ksmd=33, reader=44, opening_doubt=1, asleep=0, sweep_signs=5, alarms_swept=6)
    shared.control(told)
    assert FakeMap.contents[4] == {bytes(4): struct.pack("<IIQQQQ", 33, 44, 1, 0, 5, 6)}
    assert shared.read_control() == told


def test_a_conversion_can_be_ended(shared: Maps) -> None:
    under_way = Conversion(3, 4, 5, 6, 7, 8, 9, 10, 11)
    FakeMap.contents[5][bytes(4)] = struct.pack("<9Q", *under_way)
    assert shared.conversion() == under_way
    shared.end_conversion()
    assert shared.conversion() == Conversion(serial=3)


def test_a_read_sees_whether_its_mm_moves(shared: Maps) -> None:
    shared.begin_reading(MM)
    assert FakeMap.contents[12][bytes(4)] == struct.pack("<QQ", MM, 0)
    assert not shared.moved()
    FakeMap.contents[12][bytes(4)] = struct.pack("<QQ", MM, 2)
    assert shared.moved()


def test_alarms(shared: Maps) -> None:
    FakeMap.contents[9][bytes(4)] = struct.pack("<Q", 2**40)
    assert shared.alarms() == 2**40


def test_an_old_opening_is_not_taken_for_a_new_one(shared: Maps) -> None:
    assert shared.opened(7) is None
    file = struct.pack("<QQII16s", MM, 12, 7, 0, b"tenant")
    FakeMap.contents[6][struct.pack("<I", 7)] = file
    assert shared.opened(7) == Opened(MM, 12, 7, "tenant")
    assert shared.opened(8) is None
    shared.forget_opened(7)
    assert shared.opened(7) is None


def test_size_and_memory_are_the_kernels_word(shared: Maps) -> None:
    assert shared.limit == 64
    assert shared.memory_bytes() == 8192 + 4096


def test_closing_closes_every_map(shared: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(maps, "os", SimpleNamespace(close=closed.append))
    shared.close()
    assert sorted(closed) == sorted(m.fd for m in LOADED.maps.values())
