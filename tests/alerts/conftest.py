"""One monitoring station for all tests, and KSM in a known state for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.shorten import shorten, whole_slowness
from tests.alerts.station import Station
from tests.ksmctl import Ksm

RULES = Path(__file__).resolve().parents[2] / "deploy/prometheus/ksmwatch.rules.yml"


@pytest.fixture(scope="session")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """With the shipped rules, in which a minute lasts two seconds, or more on a slow machine."""
    directory = tmp_path_factory.mktemp("station")
    slower = whole_slowness()
    with Station(directory, shorten(RULES.read_text(), slower), 3 * slower) as station:
        yield station


@pytest.fixture
def ksm() -> Iterator[Ksm]:
    """KSM: quick, stopped, nothing merged; so it is left as well."""
    with Ksm() as control:
        yield control
