"""Texts that somebody else has written, made harmless for terminals, labels and JSON."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ksmwatch.digests import blake2s

# Of every text of an owner but `id`, in characters; a component of an id has this limit too.
MAX_TEXT = 128
# A mark that a text is not what was given: `~` and 16 hexadecimal digits.
_MARK = 17


def _is_harmful(char: str, unsafe: str) -> bool:
    """Control, format, surrogate and unassigned characters, and every space but the plain one."""
    return char in unsafe or (char != " " and unicodedata.category(char)[0] in "CZ")


def harmless(raw: str, unsafe: str = "") -> str:
    """`raw` as one line for any terminal, label or JSON; two texts never become one.

    A text that had to be changed ends in `~` and a hash of what it was. A text with a `~` of
    its own is marked too, so that nobody can spell the mark of somebody else.
    """
    head = raw[: MAX_TEXT + 1].strip(" ")
    text = "".join("?" if _is_harmful(c, unsafe) else c for c in head)
    if text == raw and text and "~" not in text and len(text) <= MAX_TEXT:
        return text
    digest = blake2s(raw.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{text[: MAX_TEXT - _MARK]}~{digest}"


def harmless_or_none(raw: str | None) -> str | None:
    """As `harmless`, of what there may be."""
    return None if raw is None else harmless(raw)


def joined(parts: Sequence[str]) -> str:
    """An id. The separator must not occur in a part."""
    return "/".join(harmless(part, "/") for part in parts)


def decoded(raw: bytes | str) -> str:
    """Undecodable bytes become surrogates: `harmless` then still tells texts apart."""
    return raw.decode(errors="surrogateescape") if isinstance(raw, bytes) else raw
