"""What differs between two states of a mapping whose unchanged values are the same objects."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Generic, NamedTuple, TypeVar

_K = TypeVar("_K")


class Differences(NamedTuple, Generic[_K]):
    """Keys that are new or whose value is another object; the new ones of these; keys that went."""

    changed: AbstractSet[_K]
    new: AbstractSet[_K]
    gone: AbstractSet[_K]


def differences(before: Mapping[_K, Any], now: Mapping[_K, Any]) -> Differences[_K]:
    """How `now` differs from `before`."""
    if now is before:
        return Differences(set(), set(), set())
    known = before.get
    changed = {key for key, value in now.items() if known(key) is not value}
    new = {key for key in changed if key not in before}
    # Sets of all keys would cost more than everything else.
    same_keys = len(before) == len(now) - len(new)
    return Differences(changed, new, set() if same_keys else before.keys() - now.keys())
