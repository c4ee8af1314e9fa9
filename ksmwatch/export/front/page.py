"""An answer to a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True)
class Page:
    """A body and its headers."""

    body: bytes
    headers: Mapping[str, str]
    status: HTTPStatus = HTTPStatus.OK


def sentence(words: str, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Page:
    """One sentence as plain text. Underscores in header names become dashes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = {"Content-Type": "text/plain; charset=utf-8"}
    return Page(f"{words}\n".encode(), kind | names, status)
