"""Marks in the types of published documents, for what a TypedDict cannot say of them.

mypy compares these types with the code that makes the documents; tools/schemas.py makes the JSON
Schemas of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """Of a mapping that code fills in a loop: its keys. `all`: none may be missing."""

    names: tuple[str, ...]
    all: bool


@dataclass(frozen=True)
class Fields:
    """Of what `dataclasses.asdict` makes: the class that it makes it of."""

    of: type
