"""Passwords: what is remembered, what costs the same, and which requests must come later."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import bcrypt
import pytest

from ksmwatch.export.front.auth import Admission, Auth

_really = bcrypt.checkpw


def header(user: str, password: bytes) -> str:
    return "Basic " + base64.b64encode(user.encode() + b":" + password).decode()


class Checks:
    """bcrypt that records how often it was called with what."""

    def __init__(self) -> None:
        self.against: list[bytes] = []

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        """Whether they fit."""
        self.against.append(hashed)
        return _really(password, hashed)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    monkeypatch.setattr(bcrypt, "checkpw", made.checkpw)
    return made


A, B = (bcrypt.hashpw(word, bcrypt.gensalt(4)).decode() for word in (b"aaa", b"b" * 72))


@pytest.fixture
def tested(checks: Checks) -> Auth:
    made = Auth()
    made.use({"a": A, "b": B})
    return made


def ask(tested: Auth, *headers: str) -> list[Admission]:
    return [tested.verdict(each) for each in headers]


def test_without_users_everybody_may_come() -> None:
    assert ask(Auth(), "", "Basic x") == [Admission.YES] * 2


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "Basic",
        "Basic *",
        "Bearer YTphYWE=",
        "Basic YQ==",
        "Basic /zph",
        "Basic \u00e4",
        header("a", b""),
    ],
)
def test_what_is_no_credential(tested: Auth, bad: str) -> None:
    assert ask(tested, bad) == [Admission.NO]


def test_a_good_one_is_checked_once_and_a_bad_one_each_time(tested: Auth, checks: Checks) -> None:
    good, bad = header("a", b"aaa"), header("a", b"aab")
    for _ in range(3):
        assert ask(tested, good) == [Admission.YES]
        assert ask(tested, bad) == [Admission.NO]
    assert len(checks.against) == 1 + 3
    # Other users, although the same: nothing is remembered.
    tested.use({"a": A})
    assert ask(tested, good) == [Admission.YES]
    assert len(checks.against) == 5


def test_an_unknown_user_costs_as_much_and_gets_in_with_no_password(
    tested: Auth, checks: Checks
) -> None:
    assert ask(tested, header("nobody", b"aaa")) == [Admission.NO]
    assert checks.against == [A.encode()]


def test_a_password_is_as_long_as_bcrypt_sees(tested: Auth) -> None:
    assert ask(tested, header("b", b"b" * 72), header("b", b"b" * 500)) == [Admission.YES] * 2
    assert ask(tested, header("b", b"b" * 71), header("b", b"b\0")) == [Admission.NO] * 2


def test_a_flood_is_put_off_but_who_was_let_in_still_comes_in(
    tested: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = header("a", b"aaa")
    assert ask(tested, good) == [Admission.YES]
    gate, checked = threading.Event(), []

    def slow(password: bytes, hashed: bytes) -> bool:
        gate.wait()
        checked.append(password)
        return False

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    with ThreadPoolExecutor(100) as pool:
        flood = [pool.submit(ask, tested, header("a", b"%d" % number)) for number in range(100)]
        # As many as may wait do, and are not answered before the gate opens.
        late = list(islice(as_completed(flood), 84))
        gate_was_shut = not checked
        verdict = ask(tested, good)
        gate.set()
    assert gate_was_shut
    assert [each.result() for each in late] == [[Admission.LATER]] * 84
    assert verdict == [Admission.YES]
    assert [each.result() for each in flood].count([Admission.NO]) == 16
    assert len(checked) == 16


class Change(Checks):
    """The users change while a password is being checked."""

    def __init__(self, tested: Auth) -> None:
        super().__init__()
        self.tested = tested

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        self.tested.use({"b": B})
        return super().checkpw(password, hashed)


def test_who_is_checked_while_the_users_change_does_not_come_in(
    tested: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bcrypt, "checkpw", Change(tested).checkpw)
    assert ask(tested, header("a", b"aaa")) == [Admission.NO]
    assert ask(tested, header("a", b"aaa")) == [Admission.NO]
