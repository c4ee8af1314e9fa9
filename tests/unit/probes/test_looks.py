"""When all accounts are read, and when only those that a program has found changed."""

from __future__ import annotations

import errno
import os
import re
import struct
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ksmwatch.probes import looks, maps
from ksmwatch.probes.looks import AccountWatch
from ksmwatch.probes.map_records import Account, Movement
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.sources import bpf_directory
from tests.fakes import Clock
from tests.map_memory import MM, FakeMap, account, again, find_changed, memory

_MERGED, _DOUBTS, _START, _TGID, _NOTED, _LAST_AGE = 8, 64, 72, 80, 112, 188
_MANY = 300


def key(mm: int) -> bytes:
    return struct.pack("<Q", mm)


def event(mm: int, offset: int = _MERGED, amount: int = 1, kind: str = "<Q") -> None:
    """A program adds to a member of an account, and then to a total."""
    value = bytearray(FakeMap.contents[1][key(mm)])
    (before,) = struct.unpack_from(kind, value, offset)
    struct.pack_into(kind, value, offset, before + amount)
    FakeMap.contents[1][key(mm)] = bytes(value)
    tell("totals", 0)


def tell(array: str, place: int) -> None:
    (word,) = struct.unpack_from("<Q", memory[array], 8 * place)
    struct.pack_into("<Q", memory[array], 8 * place, word + 1)


def opens(mm: int, number: int = 9) -> None:
    """A program opens an account."""
    FakeMap.contents[1][key(mm)] = struct.pack("<10QI", number, *(0,) * 8, 3, 4).ljust(192, b"\0")
    tell("forgettings", 2)
    tell("totals", 0)


def closes(mm: int) -> None:
    tell("forgettings", 0)
    del FakeMap.contents[1][key(mm)]
    tell("forgettings", 1)


def truth() -> dict[int, Account]:
    """What a daemon reads that has only just started."""
    return dict(again().accounts())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(maps, "time", SimpleNamespace(monotonic=found))
    return found


@pytest.fixture
def busy(clock: Clock, shared: Maps) -> Maps:
    """Many accounts, all of them looked at."""
    del clock
    for number in range(_MANY):
        shared.open_account(MM + number, account())
    for _ in range(3):
        shared.accounts()
        tell("totals", 0)
    return shared


pytestmark = pytest.mark.parametrize("shared", ["looks"], indirect=True)


def watch_of(of: Maps) -> AccountWatch:
    found = of._all_accounts._watch
    assert found is not None
    return found


def dumps(of: Maps) -> int:
    """How many a reading takes."""
    before = FakeMap.dumps
    of.accounts()
    return FakeMap.dumps - before


def test_if_nothing_has_changed_all_is_as_it_was(busy: Maps) -> None:
    before = busy.accounts()
    assert dumps(busy) == 0
    assert busy.accounts() is before


@pytest.mark.parametrize(
    ("offset", "kind"),
    [
        *((_MERGED + 8 * which, "<Q") for which in Movement),
        (_DOUBTS, "<Q"),
        (_START, "<Q"),
        (_TGID, "<I"),
        (_NOTED, "<I"),
        (_LAST_AGE, "<I"),
    ],
)
def test_few_that_have_changed_are_read_alone(busy: Maps, offset: int, kind: str) -> None:
    before = busy.accounts()
    for mm in (MM + 3, MM + 299):
        event(mm, offset, kind=kind)
    assert dumps(busy) == 0
    after = busy.accounts()
    assert after == truth()
    assert {mm for mm in after if after[mm] is not before[mm]} == {MM + 3, MM + 299}


def test_if_many_have_changed_all_are_read(busy: Maps) -> None:
    for number in range(131):
        event(MM + number)
    assert dumps(busy) == 2
    # Once more at once, without a look.
    event(MM)
    assert dumps(busy) == 1
    assert busy.accounts() == truth()
    for number in range(130):
        event(MM + number)
    assert dumps(busy) == 0
    assert busy.accounts() == truth()


def test_an_account_that_a_program_opens_is_found(busy: Maps) -> None:
    opens(MM + 5000)
    assert dumps(busy) == 1
    assert busy.accounts() == truth()
    # It has not been looked at. Then it is looked at like all others.
    event(MM + 5000)
    assert dumps(busy) == 0
    assert busy.accounts() == truth()


def test_an_account_that_opens_while_all_are_read_is_found(
    busy: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = FakeMap.dump

    def meanwhile(self: FakeMap) -> tuple[bytes, bytes]:
        found = dump(self)
        if self.fd == 1:
            opens(MM + 5000)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(FakeMap, "dump", meanwhile)
        opens(MM + 4000)
        busy.accounts()
    assert busy.accounts() == truth()


def test_what_an_exec_does_during_a_run_is_found_whole(
    busy: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program of an exec opens an account after the run has found that another has gone."""

    def exec_meanwhile(places: int) -> int:
        closes(MM)
        found = find_changed(places)
        opens(MM + 5000)
        return found

    monkeypatch.setattr(watch_of(busy), "_run", exec_meanwhile)
    assert busy.accounts() == truth()


def test_accounts_that_go_and_come_again(busy: Maps) -> None:
    closes(MM)
    closes(MM + 7)
    assert dumps(busy) == 0
    assert busy.accounts() == truth()
    # Their places are free for others.
    opens(MM + 7, 10)
    opens(MM + 6000)
    assert dumps(busy) == 1
    assert busy.accounts() == truth()


def test_places_of_accounts_that_have_gone_are_used_again(busy: Maps) -> None:
    for number in range(50):
        closes(MM + number)
        opens(MM + 5000 + number)
        busy.accounts()
    assert len(watch_of(busy)._mms) == _MANY


def test_one_that_comes_again_as_it_was_at_the_same_place_is_there(busy: Maps) -> None:
    last = MM + _MANY - 1
    value = FakeMap.contents[1][key(last)]
    closes(last)
    assert last not in busy.accounts()
    FakeMap.contents[1][key(last)] = value
    tell("forgettings", 2)
    assert busy.accounts()[last] == account()


def test_what_the_daemon_opens_itself_is_found(busy: Maps) -> None:
    busy.open_account(MM + 5000, account())
    assert busy.accounts() == truth()
    busy.close_account(MM)
    assert busy.accounts() == truth()
    assert MM not in busy.accounts()


def test_all_are_read_once_a_minute(busy: Maps, clock: Clock) -> None:
    # As a program would that adds without being seen.
    clock.now += 59
    tell("totals", 0)
    assert dumps(busy) == 0
    clock.now += 1
    assert dumps(busy) == 1
    assert dumps(busy) == 0


def test_a_reading_that_fails_forgets_nothing(busy: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    event(MM)
    error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def fails(self: FakeMap, _: bytes) -> bytes:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(FakeMap, "get", fails)
        with pytest.raises(OSError, match="memory"):
            busy.accounts()
    # The program has seen the event, but the daemon has not.
    assert busy.accounts() == truth()


def test_if_the_program_cannot_be_run_all_are_read(
    busy: Maps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: int) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(watch_of(busy), "_run", fails)
    for _ in range(3):
        event(MM)
        assert dumps(busy) == 1
        assert busy.accounts() == truth()
    assert capsys.readouterr().err.count("the program that looks which have changed") == 1


def test_more_accounts_than_a_run_looks_at(busy: Maps) -> None:
    for number in range(_MANY, 2 * looks.LOOKS + 5):
        opens(MM + number)
    for _ in range(3):
        busy.accounts()
        tell("totals", 0)
    for mm in (MM, MM + looks.LOOKS, MM + 2 * looks.LOOKS + 4):
        event(mm)
    assert dumps(busy) == 0
    assert busy.accounts() == truth()
    closes(MM + looks.LOOKS + 1)
    assert dumps(busy) == 0
    assert busy.accounts() == truth()


def test_a_run_looks_at_as_many_as_the_map_has(busy: Maps) -> None:
    del busy
    source = (bpf_directory() / "records.h").read_text()
    assert re.findall(r"#define LOOKS (\d+)", source) == [str(looks.LOOKS)]


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["event", "event", "name", "open", "close", "ours", "read", "read"]),
        st.integers(0, 150),
    ),
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(ACTS)
def test_looks_find_what_dumps_find(
    shared: Maps, monkeypatch: pytest.MonkeyPatch, acts: list[tuple[str, int]]
) -> None:
    # So that sometimes all are read.
    monkeypatch.setattr(looks, "_FEW", 2)
    monkeypatch.setattr(looks, "_ONE_IN", 100)
    FakeMap.contents[1].clear()
    FakeMap.contents[2].clear()
    for number in range(120):
        opens(MM + number)
    looking = again()
    for step, (act, number) in enumerate([*acts, ("read", 0)]):
        mm, there = MM + number, key(MM + number) in FakeMap.contents[1]
        if act == "event" and there:
            event(mm, _MERGED + 8 * (number % 8))
        elif act == "name" and there:
            event(mm, _TGID, kind="<I")
        elif act == "open" and not there:
            opens(mm, 10 + step)
        elif act == "close" and there:
            closes(mm)
        elif act == "ours":
            (looking.close_account if there else lambda _: None)(mm)
            looking.open_account(mm, account()._replace(id=100 + step))
        elif act == "read":
            assert looking.accounts() == truth()
