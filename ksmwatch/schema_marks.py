"""Marks in the types of published documents, for what a TypedDict cannot express.

mypy compares these types with the code that makes the documents; tools/schemas.py generates the
JSON Schemas from them.
"""

from __future__ import annotations

from typing import NamedTuple


class Keys(NamedTuple):
    """The keys of a mapping that code fills in a loop. `all`: none may be missing."""

    names: tuple[str, ...]
    all: bool


class Fields(NamedTuple):
    """The class whose fields these are, by name."""

    of: type
