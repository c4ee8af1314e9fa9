"""Lines of text in pieces, each with a tone, which becomes a colour on some terminals. Pure."""

from __future__ import annotations

from enum import StrEnum


class Tone(StrEnum):
    """What a piece of text is, for those who have colours."""

    PLAIN = "plain"
    LABEL = "label"
    TITLE = "title"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


Line = list[tuple[Tone, str]]


def plain(line: Line) -> str:
    """Text without tones."""
    return "".join(text for _, text in line)
