"""The shipped rules with their times shortened, and nothing else changed.

On the reference machine a minute becomes two seconds: in every `for:`, in every range, and in the
few comparisons with a number of seconds, which are listed here. Rates stay rates per second. What
depends on how long something lasts is so tested in a thirtieth of the time. A slower machine
scrapes less often, so there a minute becomes so many seconds more.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from tests.slowness import slowness

_MINUTE_SECONDS = 2
_UNITS = {"m": 60, "h": 3600}
# Comparisons with seconds, by rule.
_SECONDS = {
    "KsmUnmergeUnfinished": "> 900",
    "KsmwatchStale": "> 300",
    "KsmwatchEventsLost": "> 960",
}


def whole_slowness() -> int:
    """How many times slower this machine is, as a factor for times in rules."""
    return math.ceil(slowness())


def shortened(seconds: int, slower: int) -> int:
    """What these seconds of a rule become."""
    return seconds * _MINUTE_SECONDS * slower // 60


def _duration(text: str, slower: int) -> str:
    """`15m` is `30s` after it."""
    return f"{shortened(int(text[:-1]) * _UNITS[text[-1]], slower)}s"


def _expression(name: str, text: str, slower: int) -> str:
    text = re.sub(r"\[(\d+[mh])\]", lambda found: f"[{_duration(found[1], slower)}]", text)
    wanted = _SECONDS.get(name)
    if wanted is None:
        return text
    assert text.count(wanted) == 1, f"{name} has no comparison {wanted} any more"
    return text.replace(wanted, f"> {shortened(int(wanted[2:]), slower)}")


def shorten(text: str, slower: int = 1) -> str:
    """A file of rules, all times a thirtieth of what they were, and `slower` times as much."""
    document: dict[str, Any] = yaml.safe_load(text)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _expression(rule.get("alert", ""), rule["expr"], slower)
            if "for" in rule:
                rule["for"] = _duration(rule["for"], slower)
    return yaml.safe_dump(document)
