"""Makes texts from outside harmless for terminals, labels and JSON."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ksmwatch.digests import blake2s

# The limit of an owner's texts except `id`, in characters, and of each component of an id.
MAX_TEXT = 128
# Marks a text that was changed: `~` and 16 hexadecimal digits.
_MARK = 17


def _is_harmful(char: str, unsafe: str) -> bool:
    """Control, format, surrogate and unassigned characters, and all spaces except the plain one."""
    return char in unsafe or (char != " " and unicodedata.category(char)[0] in "CZ")


def harmless(raw: str, unsafe: str = "") -> str:
    """`raw` as one line for any terminal, label or JSON. Two texts never become one.

    A text that had to be changed ends in `~` and a hash of the original. A text that contains a
    `~` is marked too, so that no text can forge the mark of another.
    """
    head = raw[: MAX_TEXT + 1].strip(" ")
    text = "".join("?" if _is_harmful(c, unsafe) else c for c in head)
    if text == raw and text and "~" not in text and len(text) <= MAX_TEXT:
        return text
    digest = blake2s(raw.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{text[: MAX_TEXT - _MARK]}~{digest}"


def harmless_or_none(raw: str | None) -> str | None:
    """Like `harmless`, for an optional text."""
    return None if raw is None else harmless(raw)


def joined(parts: Sequence[str]) -> str:
    """An id. The separator must not occur in a part."""
    return "/".join(harmless(part, "/") for part in parts)


def decoded(raw: bytes | str) -> str:
    """Decode; undecodable bytes become surrogates, by which `harmless` keeps texts distinct."""
    return raw.decode(errors="surrogateescape") if isinstance(raw, bytes) else raw
