"""Times as people write them: `03:10`, `-2h`, `2026-11-28 03:10`. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from ksmwatch.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART = r"(\d+(?:\.\d+)?)([smhdw])"
_LENGTH = re.compile(f"({_PART})+", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
FORMS = "03:10, -2h, 'yesterday 03:10', '2026-11-28 03:10' or now"


def length_of(text: str) -> float:
    """Seconds of `10s`, `5m` or `1h30m`. Raises ValueError."""
    if not _LENGTH.fullmatch(text):
        raise ValueError(text)
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))


def time_of(text: str, flag: str, now: float) -> float:
    """Seconds since the epoch. A time of day is the last one that has been. Raises ConfigError."""
    try:
        found = _time_of(text.strip(), now)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"{flag}: {text!r} is not a time; write {FORMS}.") from error
    if found > now:
        raise ConfigError(f"{flag}: {text!r} is in the future.")
    return found


def _time_of(text: str, now: float) -> float:
    if text == "now":
        return now
    if text.startswith("-"):
        return now - length_of(text[1:])
    if text.startswith("@"):
        return float(int(text[1:]))
    day, _, clock = text.rpartition(" ")
    if day in ("", "today", "yesterday") and (found := _CLOCK.fullmatch(clock)):
        return _time_of_day(day, [int(part or 0) for part in found.groups()], now)
    return datetime.fromisoformat(text).timestamp()


def _time_of_day(day: str, clock: list[int], now: float) -> float:
    hour, minute, second = clock
    # Without a zone: a day with a change of the clock has two.
    today = datetime.fromtimestamp(now, tz=UTC).astimezone().replace(tzinfo=None)
    wanted = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
    if day == "yesterday" or (not day and wanted.timestamp() > now):
        wanted -= timedelta(days=1)
    return wanted.timestamp()


def shown(time: float, now: float) -> str:
    """The local time, with the date unless it is today's."""
    return _formatted(time, "%H:%M:%S" if _day(time) == _day(now) else "%Y-%m-%d %H:%M:%S")


def shown_to_the_minute(time: float, now: float) -> str:
    """The same without seconds."""
    return _formatted(time, "%H:%M" if _day(time) == _day(now) else "%Y-%m-%d %H:%M")


def whole(time: float) -> str:
    """The local time with its date."""
    return _formatted(time, "%Y-%m-%d %H:%M:%S")


def _day(time: float) -> str:
    return _formatted(time, "%Y-%m-%d")


def _formatted(time: float, form: str) -> str:
    return datetime.fromtimestamp(time, tz=UTC).astimezone().strftime(form)
