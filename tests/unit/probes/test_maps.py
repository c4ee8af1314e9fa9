"""Records in BPF maps, on maps that are dictionaries."""

from __future__ import annotations

import errno
import os
import struct
from types import SimpleNamespace

import pytest

from ksmwatch.probes import age_maps, maps
from ksmwatch.probes.loader import LoadedMap, ProgramRefusedError
from ksmwatch.probes.map_records import (
    AGE_CLASSES,
    TOTALS_ROOM,
    Baseline,
    Control,
    Conversion,
    Movement,
    Opened,
    Total,
    wear_of,
)
from ksmwatch.probes.maps import Maps
from tests.loaded_maps import LOADED
from tests.map_memory import MM, PARTS, FakeMap, account, again, memory, present


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EPERM, ProgramRefusedError), (errno.EMFILE, OSError)],
    ids=["refused", "no-room"],
)
def test_maps_of_which_one_cannot_be_listed_are_closed(
    shared: Maps, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    del shared
    closed: list[int] = []

    class Listed:
        def __init__(self, table: object, access: int, lister: int, forgetting: object) -> None:
            if lister == 71:
                raise OSError(number, os.strerror(number))
            self.lister = lister

        def close(self) -> None:
            closed.append(self.lister)

    monkeypatch.setattr(maps, "QuietMap", Listed)
    fresh = {
        name: each._replace(fd=os.dup(each.fd) if each.key_size == 4 else os.memfd_create(name))
        for name, each in present.items()
    }
    programs = {"access_accounts": 60, "list_accounts": 70}
    programs |= {"access_baselines": 61, "list_baselines": 71}
    with pytest.raises(raised, match=os.strerror(number)):
        Maps(LOADED._replace(maps=fresh, programs=programs))
    assert closed == [70]
    for each in fresh.values():
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(each.fd)


def test_an_account_is_read_as_it_was_opened(shared: Maps) -> None:
    assert shared.account(MM) is None
    assert shared.open_account(MM, account())
    assert shared.account(MM) == account()
    assert shared.accounts() == {MM: account()}


def test_the_name_and_the_wear_of_an_account_are_where_the_programs_expect_them(
    shared: Maps,
) -> None:
    assert shared.open_account(MM, account()._replace(comm=b"tenant", unseen_until=99))
    (key,) = FakeMap.contents[1]
    record = bytearray(FakeMap.contents[1][key])
    assert struct.unpack_from("<16sQ", record, 88) == (b"tenant".ljust(16, b"\0"), 99)
    wear = tuple(range(1, 21))
    struct.pack_into("<20I", record, 112, *wear)
    FakeMap.contents[1][key] = bytes(record)
    found = shared.account(MM)
    assert found is not None
    assert found == account()._replace(wear=found.wear)
    assert wear_of(found.wear) == wear


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
    memory["openings"][:] = struct.pack("<4QII16s", 7, 1, MM, 12, 7, 0, raw)
    assert shared.opened(7) == Opened(MM, 12, 7, comm, thread=7)


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
    # A later copy of all accounts was made already.
    assert shared._steady(key, torn, torn) == first


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


def test_a_successor_reads_the_baselines_that_it_finds(shared: Maps) -> None:
    shared.open_account(MM, account())
    shared.put_baseline(MM, Baseline(5, 1, 0))
    successor = again()
    assert successor.baselines() == {MM: Baseline(5, 1, 0)}
    successor.put_baseline(MM, Baseline(5, 2, 0))
    assert successor.baselines() == {MM: Baseline(5, 2, 0)}


def test_a_baseline_goes_with_its_account(shared: Maps) -> None:
    for mm in (MM, MM + 1):
        shared.open_account(mm, account())
        shared.put_baseline(mm, Baseline(5, 1, 0))
    both = shared.baselines()
    assert shared.baselines() is both
    # A program closes one.
    for fd in (1, 2):
        del FakeMap.contents[fd][struct.pack("<Q", MM)]
    shared.accounts()
    assert shared.baselines() == {MM + 1: Baseline(5, 1, 0)}
    shared.close_account(MM + 1)
    assert shared.baselines() == {}
    assert len(both) == 2


def test_totals_are_summed_over_the_cpus(shared: Maps) -> None:
    for part in range(PARTS):
        place = 8 * (part * TOTALS_ROOM + Movement.FORKED)
        memory["totals"][place : place + 8] = struct.pack("<Q", 2**part)
    place = 8 * (2 * TOTALS_ROOM + Total.SWAPIN_KSM)
    memory["totals"][place : place + 8] = struct.pack("<Q", 2**63)
    assert shared.total(Movement.FORKED) == 7
    totals = shared.totals()
    assert totals["swapin_ksm"] == 2**63
    assert totals["merged"] == 0
    assert list(totals) == [which.name.lower() for which in (*Movement, *Total)]
    assert shared.totals() is totals
    memory["totals"][place : place + 8] = struct.pack("<Q", 5)
    assert shared.totals()["swapin_ksm"] == 5
    assert totals["swapin_ksm"] == 2**63


def test_the_programs_are_told_in_the_words_of_the_record(shared: Maps) -> None:
    told = Control(33, 44, *range(1, 9))
    shared.control(told)
    assert memory["controls"][:] == struct.pack("<II8Q", 33, 44, *range(1, 9))
    assert shared.read_control() == told


def test_a_conversion_can_be_ended(shared: Maps) -> None:
    under_way = Conversion(3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    memory["conversions"][:] = struct.pack("<10Q", *under_way)
    assert shared.conversion() == under_way
    shared.end_conversion()
    assert shared.conversion() == Conversion(serial=3)


def test_a_read_sees_whether_its_mm_moves(shared: Maps) -> None:
    shared.begin_reading(MM)
    assert memory["readings"][:] == struct.pack("<QQ", MM, 0)
    assert not shared.moved()
    memory["readings"][:] = struct.pack("<QQ", MM, 2)
    assert shared.moved()


def test_alarms(shared: Maps) -> None:
    memory["alarms"][:] = struct.pack("<Q", 2**40)
    assert shared.alarms() == 2**40


def test_ages_are_only_there_if_the_programs_keep_them(
    shared: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared.ages is None
    monkeypatch.setattr(age_maps, "fdinfo", lambda _, __: "64")
    fd = os.memfd_create("ages")
    os.truncate(fd, PARTS * TOTALS_ROOM * 8)
    more = {
        "frames": LoadedMap(21, 8, 24, ()),
        "holds": LoadedMap(22, 16, 24, ()),
        "ages": LoadedMap(fd, 4, 8, ()),
    }
    found = Maps(LOADED._replace(maps=present | more))
    assert found.ages is not None
    assert found.ages.ages()["copied"] == ((0,) * AGE_CLASSES, 0.0)
    os.close(fd)


def test_an_age_that_grows_does_not_make_an_account_unsteady(
    shared: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.open_account(MM, account())
    (key,) = FakeMap.contents[1]
    before = FakeMap.contents[1][key]
    later = account()._replace(wear=struct.pack("<20I", 9, 3, *(5,) * AGE_CLASSES))
    shared.close_account(MM)
    shared.open_account(MM, later)
    after = FakeMap.contents[1][key]
    monkeypatch.setattr(shared._accounts, "get", lambda key: after)
    assert shared._steady(key, before) == account()


def test_an_old_opening_is_not_taken_for_a_new_one(shared: Maps) -> None:
    shared.forget_opened(7)
    assert shared.opened(7) is None
    memory["openings"][:] = struct.pack("<4QII16s", 7, 1, MM, 12, 7, 0, b"tenant")
    assert shared.opened(7) == Opened(MM, 12, 7, "tenant", thread=7)
    assert shared.opened(8) is None
    shared.forget_opened(7)
    assert shared.opened(7) is None


def test_a_kernel_threads_file_was_seen_though_it_has_no_mm(shared: Maps) -> None:
    memory["openings"][:] = struct.pack("<4QII16s", 7, 1, 0, 0, 0, 0, b"")
    assert shared.opened(7) == Opened(0, 0, 0, "", thread=7)


def test_size_and_memory_are_the_kernels_word(shared: Maps) -> None:
    assert shared.limit == 64
    assert shared.memory_bytes() == 8192 + 4096


def test_closing_closes_every_map(shared: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(maps, "os", SimpleNamespace(close=closed.append))
    shared.close()
    assert len(set(closed)) == len(LOADED.maps)
    with pytest.raises(ValueError, match="released"):
        shared.alarms()
