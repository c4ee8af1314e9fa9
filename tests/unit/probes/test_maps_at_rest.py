"""When all accounts are read again, and when not, on maps that are dictionaries."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from ksmwatch.probes import maps
from ksmwatch.probes.map_records import TOTALS_ROOM, Baseline, Movement, Total
from ksmwatch.probes.maps import Maps
from tests.fakes import Clock
from tests.map_memory import MM, PARTS, FakeMap, account, memory


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of all maps that are made."""
    found = Clock()
    monkeypatch.setattr(maps, "time", SimpleNamespace(monotonic=found))
    return found


def change(number: int) -> None:
    """An event of an account, which is not told yet."""
    key = struct.pack("<Q", MM)
    value = FakeMap.contents[1][key]
    FakeMap.contents[1][key] = value[:8] + struct.pack("<Q", number) + value[16:]


def add(array: str, place: int) -> None:
    """A program adds to a word of an array."""
    (word,) = struct.unpack_from("<Q", memory[array], 8 * place)
    struct.pack_into("<Q", memory[array], 8 * place, word + 1)


@pytest.fixture
def resting(clock: Clock, shared: Maps) -> Maps:
    """One account, of which nothing was told for a while."""
    shared.open_account(MM, account())
    for _ in range(2):
        shared.accounts()
        clock.now += 2
    return shared


def merged(maps: Maps) -> int:
    return maps.accounts()[MM].moves[Movement.MERGED]


@pytest.mark.parametrize(
    ("array", "place"),
    [
        ("totals", Movement.MERGED),
        ("totals", (PARTS - 1) * TOTALS_ROOM + Total.AGES_LOST),
        ("forgettings", 0),
        ("forgettings", 1),
    ],
)
def test_accounts_are_read_when_the_programs_tell(resting: Maps, array: str, place: int) -> None:
    change(77)
    assert merged(resting) == 1
    add(array, place)
    assert merged(resting) == 77


def test_what_was_noted_in_between_is_read_once(resting: Maps, clock: Clock) -> None:
    add("totals", 0)
    resting.look()
    clock.now += 2
    resting.accounts()
    change(77)
    assert merged(resting) == 1


def test_a_change_that_was_not_told_is_seen_within_a_minute(resting: Maps, clock: Clock) -> None:
    change(77)
    clock.now += 50
    assert merged(resting) == 1
    clock.now += 10
    assert merged(resting) == 77


def test_what_the_daemon_changes_itself_is_seen_at_once(resting: Maps) -> None:
    resting.open_account(MM + 1, account())
    assert resting.accounts().keys() == {MM, MM + 1}
    resting.close_account(MM + 1)
    assert resting.accounts().keys() == {MM}


def test_accounts_are_read_as_long_as_one_has_no_process(resting: Maps, clock: Clock) -> None:
    resting.open_account(MM + 1, account()._replace(tgid=0))
    for _ in range(3):
        resting.accounts()
        clock.now += 2
    # An opening of a file gives it one.
    key = struct.pack("<Q", MM + 1)
    FakeMap.contents[1][key] = FakeMap.contents[1][struct.pack("<Q", MM)]
    assert resting.accounts()[MM + 1].tgid == 42
    clock.now += 2
    change(77)
    assert merged(resting) == 1
    # One that goes is not waited for.
    resting.open_account(MM + 2, account()._replace(tgid=0))
    resting.accounts()
    resting.close_account(MM + 2)
    for _ in range(3):
        resting.accounts()
        clock.now += 2
    change(78)
    assert merged(resting) == 77


def test_the_memory_is_asked_again_when_there_are_more_accounts(
    shared: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shared.memory_bytes()
    monkeypatch.setattr(maps, "fdinfo", lambda _, __: "5000")
    assert shared.memory_bytes() == before
    shared.open_account(MM, account())
    shared.accounts()
    assert shared.memory_bytes() == 10000
    monkeypatch.setattr(maps, "fdinfo", lambda _, __: "6000")
    shared.put_baseline(MM, Baseline(5, 1, 0))
    assert shared.memory_bytes() == 12000
