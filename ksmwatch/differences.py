"""What differs between two states of a mapping whose unchanged values are the same objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import compress
from operator import is_not
from typing import Any, Generic, NamedTuple, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Differences(NamedTuple, Generic[_K]):
    """Keys that are new or whose value is another object; the new ones of these; keys that went."""

    changed: AbstractSet[_K]
    new: AbstractSet[_K]
    gone: AbstractSet[_K]


_NOTHING: Differences[Any] = Differences(frozenset(), frozenset(), frozenset())


def _changed(before: Mapping[_K, Any], now: Mapping[_K, Any]) -> AbstractSet[_K]:
    """Keys whose value is another object. Loops in C, because they can be over all processes."""
    differ = [*map(is_not, map(before.get, now), now.values())]
    # Often all of them are, and a set need not be made.
    return now.keys() if all(differ) else set(compress(now, differ))


def _new(changed: AbstractSet[_K], before: Mapping[_K, Any]) -> set[_K]:
    return {key for key in changed if key not in before}


class Edition(dict[_K, _V]):
    """A mapping that is not changed any more, and knows how it differs from the one before it.

    So who has seen that one need not compare the two.
    """

    __slots__ = ("_differences", "_mark", "_mark_before")

    def __init__(self, values: Mapping[_K, _V] | Iterable[tuple[_K, _V]] = ()) -> None:
        super().__init__(values)
        # Not the edition before it, which would never be freed then.
        self._mark, self._mark_before = object(), object()
        self._differences: Differences[_K] = _NOTHING

    def revised(
        self, changes: Mapping[_K, _V], gone: AbstractSet[_K] = frozenset()
    ) -> Edition[_K, _V]:
        """The next edition, with these values, and without what has gone: some keys of this one.

        It is this one if there are none. Keys keep their order; new ones come last. `changes` must
        stay as they are.
        """
        if not changes and not gone:
            return self
        now = Edition(self)
        for key in gone:
            del now[key]
        now.update(changes)
        changed = _changed(self, changes)
        new = _new(changed, self) if len(now) > len(self) - len(gone) else set[_K]()
        now._mark_before = self._mark
        now._differences = Differences(changed, new, gone)
        return now

    def since(self, before: Mapping[_K, Any]) -> Differences[_K] | None:
        """How it differs from another mapping; None if it was not made of that."""
        if isinstance(before, Edition) and self._mark_before is before._mark:  # noqa: SLF001
            return self._differences
        return None


def differences(before: Mapping[_K, Any], now: Mapping[_K, Any]) -> Differences[_K]:
    """How `now` differs from `before`."""
    if now is before:
        return _NOTHING
    if isinstance(now, Edition) and (known := now.since(before)) is not None:
        return known
    changed = _changed(before, now)
    new = _new(changed, before)
    # Sets of all keys would cost more than everything else.
    same_keys = len(before) == len(now) - len(new)
    return Differences(changed, new, set() if same_keys else before.keys() - now.keys())
