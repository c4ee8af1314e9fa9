"""Passwords: what is remembered, what costs the same, and which requests must come later."""

from __future__ import annotations

import asyncio
import base64

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
    async def all_at_once() -> list[Admission]:
        return await asyncio.gather(*(tested.verdict(each) for each in headers))

    return asyncio.run(all_at_once())


def test_without_users_everybody_may_come() -> None:
    assert ask(Auth(), "", "Basic x") == [Admission.YES] * 2


@pytest.mark.parametrize(
    "bad", ["", "Basic", "Basic *", "Bearer YTphYWE=", "Basic YQ==", "Basic /zph", header("a", b"")]
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


def test_a_flood_is_put_off_but_who_was_let_in_still_comes_in(tested: Auth, checks: Checks) -> None:
    good = header("a", b"aaa")
    assert ask(tested, good) == [Admission.YES]
    flood = [header("a", b"%d" % number) for number in range(100)]
    verdicts = ask(tested, *flood, good)
    assert verdicts.count(Admission.NO) == 16
    assert verdicts.count(Admission.LATER) == 84
    assert verdicts[-1] is Admission.YES
    assert len(checks.against) == 1 + 16
