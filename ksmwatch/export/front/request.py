"""What a client asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A request. `headers`: by name in small letters; several of one name are joined by commas."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    client: str

    def header(self, name: str) -> str:
        """The value of a header, empty without it."""
        return self.headers.get(name, "")
