"""The owner that a user names: by KIND:ID, which is unambiguous, by id or by name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from ksmwatch.errors import ConfigError


class HasOwnerName(Protocol):
    """What an owner is found by."""

    @property
    def kind(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...


class OwnerName(NamedTuple):
    kind: str
    id: str
    name: str


_T = TypeVar("_T", bound=HasOwnerName)


def named_owner(owners: Iterable[_T], text: str, nobody: str) -> _T:
    """The only one. Raises ConfigError with the sentence `nobody`, or with the several ones."""
    known = list(owners)
    found = [each for each in known if _key(each) == text]
    found = found or [each for each in known if text in (each.id, each.name)]
    if not found:
        raise ConfigError(nobody)
    if len(found) > 1:
        keys = ", ".join(map(_key, found))
        raise ConfigError(f"Several owners are called {text!r}; use one of {keys}.")
    return found[0]


def _key(owner: HasOwnerName) -> str:
    return f"{owner.kind}:{owner.id}"
