"""The rules and examples for a fleet: what they make, and how many series that costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.owner_samples import owner_series
from ksmwatch.export.samples import Series
from ksmwatch.kernel.events import EVENTS
from ksmwatch.owners.owner import OwnerKind
from ksmwatch.snapshot.losses import LOSSES
from tests import made_up
from tests.exposed import families
from tests.panels import BOARDS
from tests.promtool import STANDARD, metrics_of, promtool

ROOT = Path(__file__).resolve().parents[3]
DEPLOYED = ROOT / "deploy/prometheus"
RULES = DEPLOYED / "fleet.rules.yml"
PAGE = (ROOT / "docs/fleet.md").read_text()

(GROUP,) = yaml.safe_load(RULES.read_text())["groups"]
RECORDED = {rule["record"]: rule["expr"] for rule in GROUP["rules"]}
HOSTS = {"a": ("east", "blue"), "b": ("east", "blue"), "c": ("east", "green")}


def test_the_rules_parse() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)


@pytest.mark.parametrize("name", ["federation.yml", "remote-write.yml"])
def test_the_examples_are_configurations(name: str) -> None:
    promtool("check", "config", DEPLOYED / name)


@pytest.mark.parametrize("record", RECORDED)
def test_rules_are_sums_of_metrics_that_there_are(record: str) -> None:
    expression = RECORDED[record]
    assert record.startswith("tenant:ksmwatch_")
    assert re.match(r"(sum|count) by \(job, cluster, tenant(, (level|mode|kind))?\)", expression)
    assert (
        metrics_of(expression) - {name for spec in CATALOGUE for name in spec.series} - STANDARD
        == set()
    )


# ---- what comes of three hosts ----


def scraped() -> Iterator[dict[str, str]]:
    """Three hosts, for an hour and a half; counters grow by a page or a second a minute."""
    for instance, (cluster, tenant) in HOSTS.items():
        where = f'job="ksmwatch",instance="{instance}",cluster="{cluster}",tenant="{tenant}"'
        for family in families(made_up.snapshot(), Series()):
            for sample in family.samples:
                labels = "".join(f'{key}="{value}",' for key, value in sample.labels.items())
                step = "+1" if family.type == "counter" else "+0"
                yield {
                    "series": f"{sample.name}{{{labels}{where}}}",
                    "values": f"{float(sample.value)}{step}x90",
                }
        yield {"series": f"up{{{where}}}", "values": "1x90"}


def ask(tmp_path: Path, *questions: tuple[str, list[dict[str, Any]]]) -> None:
    """Let promtool compare."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": list(scraped()),
                "promql_expr_test": [
                    {"expr": expr, "eval_time": "90m", "exp_samples": samples}
                    for expr, samples in questions
                ],
            }
        ],
    }
    path = tmp_path / "fleet.test.yml"
    path.write_text(yaml.safe_dump(document))
    promtool("test", "rules", path)


def test_sums_are_by_cluster_and_tenant(tmp_path: Path) -> None:
    saving = made_up.snapshot().saved
    assert saving
    saved = saving.least
    labels = 'tenant:ksmwatch_saved_bytes:sum{job="ksmwatch", cluster="east", tenant="%s"}'
    ask(
        tmp_path,
        (
            "tenant:ksmwatch_saved_bytes:sum",
            [
                {"labels": labels % "blue", "value": 2 * saved},
                {"labels": labels % "green", "value": saved},
            ],
        ),
        (
            'tenant:ksmwatch_hosts_up:sum{tenant="blue"}',
            [
                {
                    "labels": "tenant:ksmwatch_hosts_up:sum"
                    '{job="ksmwatch", cluster="east", tenant="blue"}',
                    "value": 2,
                }
            ],
        ),
        # Each rule has given something, for each tenant.
        (
            'count(count by (__name__) ({__name__=~"tenant:.*", tenant="green"}))',
            [{"labels": "{}", "value": len(RECORDED)}],
        ),
    )


# ---- how many series ----


def samples_of_a_host() -> int:
    """At most, without those by owner and by process: as if every event had its probe."""
    made = made_up.snapshot()
    found = families(made, Series(owners=0))
    each_probe = 2
    missing = len(EVENTS) + len(["fork"]) - len(made.probes)
    return sum(len(family.samples) for family in found) + each_probe * missing


def sums_of_a_tenant() -> int:
    """At most: one for each rule, but by level, mode, kind of owner or kind of loss."""
    several = {
        "tenant:ksmwatch_confidence:sum": 3,
        "tenant:ksmwatch_mode:sum": 3,
        # And `other`.
        "tenant:ksmwatch_owner_saved_bytes:sum": len(OwnerKind) + 1,
        "tenant:ksmwatch_losses:increase1h": len(LOSSES),
    }
    return sum(several.get(record, 1) for record in RECORDED)


def federated() -> set[str]:
    """The metrics by host that the example takes from below."""
    (job,) = yaml.safe_load((DEPLOYED / "federation.yml").read_text())["scrape_configs"]
    (names,) = re.findall(r'__name__=~"up\|ksmwatch_\(([^)]*)\)"', job["params"]["match[]"][0])
    return {"up", *(f"ksmwatch_{name}" for name in names.split("|"))}


def test_what_is_taken_from_below_is_what_the_fleet_dashboard_shows() -> None:
    board = BOARDS["ksmwatch-fleet.json"]
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    assert federated() == set().union(*(metrics_of(target["expr"]) for target in targets))


def test_what_is_written_from_afar_is_the_same() -> None:
    (remote,) = yaml.safe_load((DEPLOYED / "remote-write.yml").read_text())["remote_write"]
    (keep,) = remote["write_relabel_configs"]
    assert (keep["action"], keep["source_labels"]) == ("keep", ["__name__"])
    (names,) = re.findall(r"up\|ksmwatch_\(([^)]*)\)", keep["regex"])
    assert {"up", *(f"ksmwatch_{name}" for name in names.split("|"))} == federated()
    assert "tenant:ksmwatch_.*" in keep["regex"]


def series_above() -> int:
    """Of one host, for the fleet dashboard; `up` is made by Prometheus."""
    found = families(made_up.snapshot(), Series(owners=0))
    names = (sample.name for family in found for sample in family.samples)
    return 1 + sum(name in federated() for name in names)


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("of the host, at most", samples_of_a_host),
        (
            "of owners, with the default of 50, at most",
            lambda: owner_series(Series().owners),
        ),
        ("of a host, for the fleet dashboard, at most", series_above),
        ("of a cluster and tenant, at most", sums_of_a_tenant),
    ],
)
def test_the_page_states_bounds_that_hold_and_are_near(what: str, count: Callable[[], int]) -> None:
    (bound,) = re.findall(rf"^\| {what} \| (\d+) \|$", PAGE, re.MULTILINE)
    assert 0.8 * int(bound) <= count() <= int(bound)
