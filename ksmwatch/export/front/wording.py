"""Amounts as the page for people writes them. Pure."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DURATIONS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def size(amount: float) -> str:
    """Bytes, in the unit in which the number is short."""
    sign, rest, unit = "-" if amount < 0 else "", abs(amount), 0
    while rest >= 1024 and unit < len(_UNITS) - 1:
        rest, unit = rest / 1024, unit + 1
    digits = 0 if unit == 0 or rest >= 100 else 1
    # A number is never apart from its unit.
    return f"{sign}{rest:,.{digits}f}\N{NO-BREAK SPACE}{_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A time in words: 40 seconds, 5 minutes, 3 hours, 2 days."""
    length, name = next((each for each in _DURATIONS if seconds >= each[0]), (1, "second"))
    number = int(seconds // length)
    return f"{number} {name}{'' if number == 1 else 's'}"
