"""A plugin of pytest, for guests: the deadline of a test follows from the speed of the machine.

The host cannot know how fast a guest is. It reads the line that this prints, and ends a guest that
says nothing for longer (`tests.guests.watched`).
"""

from __future__ import annotations

import re

import pytest

from tests.slowness import patience, slowness

# The deadline of what would never end, on the reference machine.
_SECONDS = 1800
_LINE = "a test may take {:.0f} s here, {:.2f} times what it may on the reference machine"


def pytest_report_header() -> str:
    """The line that the host reads."""
    return _LINE.format(patience(_SECONDS), slowness())


def seconds_in(line: str) -> float | None:
    """How long a test may take, if the line says so."""
    found = re.fullmatch(r"a test may take (\d+) s here, .*", line)
    return float(found[1]) if found else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The same for pytest-timeout, where it is installed."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(patience(_SECONDS)))
