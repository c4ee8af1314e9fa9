"""What differs between two states of a mapping whose unchanged values are the same objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

_K = TypeVar("_K")


def came(before: Mapping[_K, Any], now: Mapping[_K, Any]) -> list[_K]:
    """Keys that are new, or whose value is another object."""
    if now is before:
        return []
    known = before.get
    return [key for key, value in now.items() if known(key) is not value]


def gone(before: Mapping[_K, Any], now: Mapping[_K, Any]) -> set[_K]:
    """Keys that there are no longer."""
    return set() if now is before else set(before.keys() - now.keys())
