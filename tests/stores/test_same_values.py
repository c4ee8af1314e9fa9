"""Every query of the fleet dashboard has the same answer in each store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.panels import fleet_queries
from tests.prometheus import prometheus
from tests.stores import metricsql
from tests.stores.answers import KEPT, samples, values
from tests.stores.programs import federating
from tests.stores.station import SECONDS, Station
from tests.waiting import wait_until

# As in a fleet that is scraped every 30 seconds.
QUERIES = fleet_queries(180)
SCRAPES = 20
_EVER = 3600


@dataclass(frozen=True)
class Asked:
    """Whom to ask, about which moment."""

    station: Station
    above: int
    at: float


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Hosts have moved, and rest now; all stores have all of it."""
    directory = tmp_path_factory.mktemp("stores")
    (directory / "above").mkdir()
    with (
        Station(directory) as station,
        prometheus(federating(station.sender.port, SECONDS), directory / "above") as above,
    ):
        station.wait_for_scrapes(SCRAPES)
        station.hosts.rest()
        station.wait_for_scrapes(2)
        yield Asked(station, above, station.wait_until_written())


@pytest.mark.parametrize("expression", QUERIES)
def test_a_receiving_prometheus_has_the_same_values(asked: Asked, expression: str) -> None:
    sender, store = asked.station.sender.port, asked.station.stores["prometheus"].port
    expected = values(sender, expression, asked.at)
    assert expected
    assert values(store, expression, asked.at) == expected


@pytest.mark.parametrize("expression", QUERIES)
def test_victoria_metrics_has_the_same_values_or_those_of_its_rate(
    asked: Asked, expression: str
) -> None:
    sender, store = asked.station.sender.port, asked.station.stores["victoria-metrics"].port
    if metricsql.is_otherwise(expression):
        expected = metricsql.value(expression, lambda s: samples(sender, s, _EVER, asked.at))
    else:
        expected = values(sender, expression, asked.at)
    assert expected
    assert values(store, expression, asked.at) == pytest.approx(expected, rel=KEPT, abs=0)


@pytest.mark.parametrize("expression", [q for q in QUERIES if not metricsql.is_otherwise(q)])
def test_federation_has_the_same_values(asked: Asked, expression: str) -> None:
    """Its rates are of fewer samples."""
    sender, above = asked.station.sender.port, asked.above
    wait_until(
        lambda: values(above, expression) == values(sender, expression),
        lambda: (values(above, expression), values(sender, expression)),
    )


def test_hosts_have_moved_in_every_way_that_a_panel_shows(asked: Asked) -> None:
    """Zero everywhere would be the same everywhere."""
    moved = ("ksmd_cpu_seconds", "drift_pages", "losses", "kernel_cow_breaks")
    for name in moved:
        expression = f"sum(increase(ksmwatch_{name}_total[1h]))"
        ((_, value),) = values(asked.station.sender.port, expression, asked.at).items()
        assert value > 0, name
