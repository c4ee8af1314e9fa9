"""Marks in the types of published documents, for what a TypedDict cannot express.

mypy compares these types with the code that makes the documents; tools/schemas.py generates the
JSON Schemas from them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """The keys of a mapping that code fills in a loop. `all`: none may be missing."""

    names: tuple[str, ...]
    all: bool


@dataclass(frozen=True)
class Fields:
    """The class whose `dataclasses.asdict` this is."""

    of: type
