"""Performance Co-Pilot reads what Prometheus reads, with the shipped configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.commands.run import SNAPSHOT_BUDGET_SECONDS
from tests.guests import ROOT
from tests.stores.hosts import Hosts
from tests.stores.pcp import Collector

SHIPPED = (ROOT / "deploy/pcp/ksmwatch.url").read_text()
ADDRESS = "http://localhost:10054/metrics"
# docs/fleet.md tells to add this to the agent's line in pmcd.conf.
DOCUMENTED = ("-t", "4")
UNITS = {"bytes": "byte", "seconds": "sec"}


def source(hosts: Hosts) -> str:
    """The shipped file, with the address of a made-up host."""
    assert SHIPPED.startswith(ADDRESS + "\n")
    return SHIPPED.replace(ADDRESS, f"http://127.0.0.1:{hosts.port}/0")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """They stand still, so that two who ask are told the same."""
    with Hosts(processes=True) as made:
        made.rest()
        yield made


@pytest.fixture
def collector(hosts: Hosts, tmp_path: Path) -> Iterator[Collector]:
    """It has read the host."""
    with Collector(tmp_path, source(hosts)) as started:
        started.wait()
        yield started


def test_the_page_names_the_timeout() -> None:
    assert f"`{' '.join(DOCUMENTED)}`" in (ROOT / "docs/fleet.md").read_text()


def families(hosts: Hosts) -> list[Metric]:
    """What the host exposes, without that which the shipped file leaves out."""
    found = list(text_string_to_metric_families(hosts.answer(0).decode()))
    kept = [family for family in found if not family.name.startswith("ksmwatch_process_")]
    assert 0 < len(kept) < len(found)
    return kept


def by_labels(family: Metric) -> dict[str, dict[str, float]]:
    """The samples of a family, by name and by labels as PCP writes them."""
    found: dict[str, dict[str, float]] = {}
    for sample in family.samples:
        text = " ".join(f"{name}:{value}" for name, value in sorted(sample.labels.items()))
        found.setdefault(sample.name, {})[text] = sample.value
    return found


def test_pcp_has_every_sample_with_its_value(hosts: Hosts, collector: Collector) -> None:
    exposed: dict[str, dict[str, float]] = {}
    for family in families(hosts):
        exposed |= by_labels(family)
    assert collector.values() == exposed


def test_pcp_knows_counters_and_units(hosts: Hosts, collector: Collector) -> None:
    described = collector.described()
    for family in families(hosts):
        for name in by_labels(family):
            semantics = "counter" if family.type in {"counter", "histogram"} else "instant"
            units = next((UNITS[part] for part in name.split("_") if part in UNITS), "none")
            if name.endswith(("_bucket", "_count")):
                units = "count"
            assert (described[name].semantics, described[name].units) == (semantics, units), name


@pytest.mark.parametrize(("options", "whole"), [((), False), (DOCUMENTED, True)])
def test_a_daemon_that_settles_doubts_first_needs_the_documented_timeout(
    hosts: Hosts, tmp_path: Path, *, options: tuple[str, ...], whole: bool
) -> None:
    with Collector(tmp_path, source(hosts), *options) as collector:
        collector.wait()
        names = set(collector.described())
        hosts.delay_seconds = SNAPSHOT_BUDGET_SECONDS + 0.3
        found = {name for name, values in collector.values().items() if values}
        assert found == (names if whole else set())


def test_the_shipped_file_has_nothing_that_pcp_does_not_understand(
    hosts: Hosts, collector: Collector
) -> None:
    collector.values()
    assert "unrecognised" not in collector.log()
    assert "cannot" not in collector.log()
