"""Names as harmless text of a terminal: one line, and as wide as a column. Pure."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """A name as one harmless line: control, format and line-breaking characters become `?`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("?" if _harmful(unicodedata.category(c)) else c for c in text)


def _harmful(category: str) -> bool:
    return category[0] == "C" or category in ("Zl", "Zp")


def fit(text: str, width: int, *, right: bool = False) -> str:
    """A name as exactly this many columns of a terminal: harmless, padded, cut with `…`.

    Besides what `clean` replaces, other kinds of spaces become `?`, and combining characters,
    about whose width terminals do not agree.
    """
    if not (text.isascii() and text.isprintable()):
        whole = unicodedata.normalize("NFC", text)
        text = "".join(c if c.isprintable() and _columns(c) else "?" for c in whole)
    room = width - (len(text) if text.isascii() else sum(map(_columns, text)))
    if room < 0:
        text, room = _cut(text, width)
    return " " * room + text if right else text + " " * room


def _columns(char: str) -> int:
    """0 for a character that joins the one before it."""
    if unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(text: str, width: int) -> tuple[str, int]:
    """The beginning of a text with `…`, and the room left."""
    room, kept = max(width, 0) - 1, []
    if room < 0:
        return "", 0
    for char in text:
        if room < _columns(char):
            break
        kept.append(char)
        room -= _columns(char)
    return "".join(kept) + "…", room
