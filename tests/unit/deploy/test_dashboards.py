"""The dashboards: that they are as generated, whole, and that every query gives data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from grafana import build, estimate
from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.samples import Series
from tests import made_up, textfile
from tests.exposed import families
from tests.panels import BOARDS, PANELS, queries
from tests.promtool import STANDARD, metrics_of, promtool

EXPOSED = {name for spec in CATALOGUE for name in spec.series} | textfile.METRICS
FILES = build.generate()
OWNER = {"kind": "vm", "id": "1", "name": "web"}
# What Grafana puts in.
FILLED_IN = {
    "$__rate_interval": "5m",
    "$__range": "1h",
    "$job": "ksmwatch",
    "$instance": "a:10054",
    "$pid": "42",
    "$owner": made_up.UNIT.id,
    "$top": "10",
}


# ---- files ----


@pytest.mark.parametrize("name", FILES)
def test_written_files_are_as_generated(name: str) -> None:
    written = (build.DASHBOARDS / name).read_text(encoding="utf-8")
    assert written == FILES[name], "run `make dashboards`"


def test_every_file_is_generated() -> None:
    assert {path.name for path in build.DASHBOARDS.iterdir()} == set(FILES)


def test_the_generator_writes_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "DASHBOARDS", tmp_path / "made")
    build.main()
    assert {path.name: path.read_text() for path in (tmp_path / "made").iterdir()} == FILES


# ---- dashboards ----


@pytest.mark.parametrize("name", BOARDS)
def test_dashboards_say_what_they_are(name: str) -> None:
    board = BOARDS[name]
    assert name == f"{board['uid']}.json"
    assert board["title"].startswith("KSM: ")
    assert board["description"].endswith(".")
    assert board["tags"] == ["ksmwatch"]
    assert [link["tags"] for link in board["links"]] == [["ksmwatch"]]
    assert board["schemaVersion"] >= 39


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_places_and_numbers_of_their_own(name: str) -> None:
    panels = BOARDS[name]["panels"]
    ids = Counter(panel["id"] for panel in panels)
    assert max(ids.values()) == 1
    places = [panel["gridPos"] for panel in panels]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert max(place["x"] + place["w"] for place in places) == 24


def names_used(value: Any) -> Iterator[str]:
    """Every variable of ours in the texts of a document."""
    if isinstance(value, dict):
        for each in value.values():
            yield from names_used(each)
    elif isinstance(value, list):
        for each in value:
            yield from names_used(each)
    elif isinstance(value, str):
        yield from re.findall(r"\$\{?([a-z]+)\b", value)


@pytest.mark.parametrize("name", BOARDS)
def test_variables_that_are_used_are_there_and_the_other_way_round(name: str) -> None:
    board = BOARDS[name]
    variables = {each["name"] for each in board["templating"]["list"]}
    assert {*names_used(board["panels"]), *names_used(board["templating"])} == variables
    for each in board["templating"]["list"]:
        assert each["label"]
        if each["type"] == "query":
            assert metrics_of(each["query"]["query"]) <= {
                name for spec in CATALOGUE for name in spec.series
            }


# ---- panels ----


@pytest.mark.parametrize("where", PANELS)
def test_panels_say_what_they_show(where: str) -> None:
    panel = PANELS[where]
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    # Without a unit it is a state, and every state has a name.
    assert (defaults["unit"] == "none") == bool(defaults.get("mappings"))


@pytest.mark.parametrize("where", PANELS)
def test_panels_lead_on_to_dashboards_that_there_are(where: str) -> None:
    panel = PANELS[where]
    text = json.dumps(panel)
    assert panel["links"]
    targets = re.findall(r"/d/([\w-]+)", text)
    assert {f"{uid}.json" for uid in targets} <= set(BOARDS)


@pytest.mark.parametrize("where", PANELS)
def test_queries_name_metrics_that_there_are(where: str) -> None:
    panel = PANELS[where]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters))
    for target in panel["targets"]:
        found = metrics_of(target["expr"])
        assert found
        assert found - EXPOSED - STANDARD == set()
        assert target["legendFormat"]


def test_only_the_board_of_processes_needs_series_that_are_off_by_default() -> None:
    needed = {
        where.partition(".")[0]
        for where, panel in PANELS.items()
        for target in panel["targets"]
        if any(name.startswith("ksmwatch_process_") for name in metrics_of(target["expr"]))
    }
    assert needed == {"ksmwatch-processes"}
    assert "--metrics.processes" in BOARDS["ksmwatch-processes.json"]["description"]


TABLES = [where for where, panel in PANELS.items() if panel["type"] == "table"]


@pytest.mark.parametrize("where", TABLES)
def test_columns_are_answers_or_labels(where: str) -> None:
    panel = PANELS[where]
    (rename,) = (
        each["options"]["renameByName"]
        for each in panel["transformations"]
        if each["id"] == "organize"
    )
    known = {name: spec.labels for spec in CATALOGUE for name in spec.series}
    labels = {"instance"}
    for target in panel["targets"]:
        for metric in metrics_of(target["expr"]):
            labels.update(known[metric])
    answers = {f"Value #{target['refId']}" for target in panel["targets"]}
    assert set(rename) <= labels | answers
    titles = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
    assert titles == set(rename.values())


# ---- data ----


def scraped() -> Iterator[dict[str, str]]:
    """What a live host exposes, for an hour; counters grow."""
    where = 'job="ksmwatch",instance="a:10054"'
    for family in families(made_up.snapshot(), Series(processes=True)):
        for sample in family.samples:
            labels = "".join(f'{key}="{value}",' for key, value in sample.labels.items())
            step = "+1" if family.type == "counter" else "+0"
            yield {
                "series": f"{sample.name}{{{labels}{where}}}",
                "values": f"{float(sample.value)}{step}x60",
            }
    for name in STANDARD:
        yield {"series": f"{name}{{{where}}}", "values": "1+1x60"}


def collected(machine: str) -> Iterator[dict[str, str]]:
    """What node_exporter exposes of an estimate on a machine, for an hour."""
    document = {**textfile.ESTIMATE, "owners": [{**textfile.SAVED, **OWNER}]}
    for family in text_string_to_metric_families(textfile.text("estimate", document)):
        for sample in family.samples:
            labels = {**sample.labels, "job": "node", "instance": f"{machine}:9100"}
            words = ",".join(f'{key}="{value}"' for key, value in labels.items())
            yield {"series": f"{sample.name}{{{words}}}", "values": f"{sample.value}+0x60"}


def evaluated(
    tmp_path: Path, series: Iterable[dict[str, str]], expected: Mapping[str, list[dict[str, Any]]]
) -> None:
    """Whether each expression has these samples after an hour, by promtool."""
    tests = [
        {"expr": expression, "eval_time": "1h", "exp_samples": samples}
        for expression, samples in expected.items()
    ]
    case = {"interval": "1m", "input_series": list(series), "promql_expr_test": tests}
    path = tmp_path / "dashboards.test.yml"
    path.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}))
    promtool("test", "rules", path)


def test_every_query_gives_data_on_a_live_host(tmp_path: Path) -> None:
    one = [{"labels": "{}", "value": 1}]
    evaluated(
        tmp_path,
        chain(scraped(), collected("a")),
        {f"count({text}) > bool 0": one for text in queries(FILLED_IN).values()},
    )


def test_estimates_of_other_hosts_are_not_shown(tmp_path: Path) -> None:
    """Its panels have no data then, and say why."""
    of_estimate = {
        where for where, text in queries(FILLED_IN).items() if metrics_of(text) & textfile.METRICS
    }
    assert {where.partition(": ")[0] for where in of_estimate} == {
        "ksmwatch-host.json",
        "ksmwatch-owners.json",
    }
    for where in of_estimate:
        panel = PANELS[where.rpartition(" (")[0]]
        assert panel["fieldConfig"]["defaults"]["noValue"] == estimate.ABSENT
    texts = queries(FILLED_IN)
    evaluated(
        tmp_path,
        chain(scraped(), collected("ab"), collected("b")),
        {texts[where]: [] for where in of_estimate},
    )
