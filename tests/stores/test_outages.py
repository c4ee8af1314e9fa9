"""What is missing after `kill -9` of a store, of the Prometheus that writes to it, or of both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slowness import patience
from tests.stores.refill import refill
from tests.stores.station import Station

# docs/fleet.md: how much of what it has taken VictoriaMetrics has not written to its disk.
UNWRITTEN_SECONDS = patience(15)
# The Prometheus sends what it has scraped at least every second, and within another.
UNSENT_SECONDS = patience(3)
SCRAPES = 12


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    """It has worked for a while."""
    with Station(tmp_path) as made:
        made.wait_for_scrapes(SCRAPES)
        made.wait_until_written()
        yield made


def refilled(station: Station, begin: float, end: float) -> None:
    """Each store has everything after the documented remedy."""
    for store in station.stores:
        refill(station, store, begin - UNWRITTEN_SECONDS, end)
        station.wait_for_all_but(store, end, lambda missing: not missing)


def test_a_store_that_was_killed_gets_what_it_missed(station: Station) -> None:
    killed = time.time()
    for store in station.stores.values():
        store.kill()
    station.wait_for_scrapes(SCRAPES)
    for store in station.stores.values():
        store.start()
    at = time.time()
    station.wait_for_all_but("prometheus", at, lambda missing: not missing)
    station.wait_for_all_but(
        "victoria-metrics",
        at,
        lambda missing: all(killed - UNWRITTEN_SECONDS < when < killed for when in missing),
    )
    refilled(station, killed, killed)


def test_a_sender_that_was_killed_has_sent_all_but_the_last(station: Station) -> None:
    killed = time.time()
    station.sender.kill()
    station.sender.start()
    station.wait_for_scrapes(SCRAPES)
    at = time.time()
    for store in station.stores:
        station.wait_for_all_but(
            store,
            at,
            lambda missing: all(killed - UNSENT_SECONDS < when < killed for when in missing),
        )
    refilled(station, killed, killed)


def test_a_sender_that_was_killed_while_no_store_took_anything(station: Station) -> None:
    down = time.time()
    for store in station.stores.values():
        store.kill()
    station.wait_for_scrapes(SCRAPES)
    killed = time.time()
    station.sender.kill()
    for server in (*station.stores.values(), station.sender):
        server.start()
    started = time.time()
    station.wait_for_scrapes(SCRAPES)
    at = time.time()
    for name, unwritten in (
        ("prometheus", UNSENT_SECONDS),
        ("victoria-metrics", UNWRITTEN_SECONDS),
    ):
        station.wait_for_all_but(
            name,
            at,
            lambda missing, since=down - unwritten: (  # type: ignore[misc]
                all(since < when < started for when in missing)
            ),
        )
    refilled(station, down, killed)
