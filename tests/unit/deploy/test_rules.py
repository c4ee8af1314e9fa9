"""The rules for Prometheus: what promtool says, and that rules, metrics and runbook agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.snapshot.losses import LOSSES
from tests import textfile
from tests.promtool import STANDARD, metrics_of, promtool

ROOT = Path(__file__).resolve().parents[3]
DEPLOYED = ROOT / "deploy/prometheus"
RULES = DEPLOYED / "ksmwatch.rules.yml"
RUNBOOK = ROOT / "docs/runbook"
TESTS = ROOT / "tests/rules"
HEADINGS = ["What it means", "How to see it", "What to do", "When it resolves"]

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALL = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDED = {rule["record"] for rule in ALL if "record" in rule}
# Made by a timer, not by the daemon.
BY_TIMER = textfile.METRICS
KNOWN = {name for spec in CATALOGUE for name in spec.series} | STANDARD | RECORDED | BY_TIMER


# ---- promtool ----


def test_the_rules_parse() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)


def test_the_example_is_a_configuration() -> None:
    promtool("check", "config", DEPLOYED / "prometheus.yml")
    example = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    assert example["rule_files"] == [RULES.name]
    assert [job["job_name"] for job in example["scrape_configs"]] == ["ksmwatch"]


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.test.yml")), ids=lambda path: path.stem)
def test_the_rules_do_what_they_are_for(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("kind", LOSSES)
def test_each_loss_makes_one_alert_fire(tmp_path: Path, kind: str) -> None:
    labels = f'{{kind="{kind}",job="ksmwatch",instance="a"}}'
    start = 'process_start_time_seconds{job="ksmwatch",instance="a"}'
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"ksmwatch_losses_total{labels}", "values": "0+1x120"},
                    {"series": start, "values": "-9000x120"},
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count(ALERTS{alertstate="firing"})',
                        "eval_time": "100m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "loss.test.yml"
    path.write_text(yaml.safe_dump(document))
    promtool("test", "rules", path)


# ---- the tests are whole ----


def questions(name: str) -> list[dict[str, Any]]:
    """Every question that a file of promtool tests asks."""
    document = yaml.safe_load((TESTS / name).read_text())
    found = [ask for test in document["tests"] for ask in test["promql_expr_test"]]
    assert found
    return found


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_test_that_fires(alert: str) -> None:
    severity = ALERTS[alert]["labels"]["severity"]
    expected = [
        sample["labels"]
        for question in questions("alerts.test.yml")
        for sample in question["exp_samples"]
    ]
    wanted = (f'alertname="{alert}"', f'severity="{severity}"')
    assert [labels for labels in expected if all(part in labels for part in wanted)]


def test_the_healthy_host_has_every_metric_of_the_rules() -> None:
    document = yaml.safe_load((TESTS / "healthy.test.yml").read_text())
    given = {each["series"].partition("{")[0] for each in document["tests"][0]["input_series"]}
    wanted = set().union(*(metrics_of(rule["expr"]) for rule in ALL)) - RECORDED
    assert wanted - given == set()


def test_the_healthy_host_is_asked_about_every_alert() -> None:
    for question in questions("healthy.test.yml"):
        assert 'count_over_time(ALERTS{alertstate="firing"}[4h])' in question["expr"]
        assert question["exp_samples"] == []


# ---- rules, catalogue and runbook agree ----


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_name_metrics_that_there_are(rule: dict[str, Any]) -> None:
    found = metrics_of(rule["expr"])
    assert found
    assert found - KNOWN == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_what_an_operator_needs(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"warning", "info"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith((".", "{{ end }}"))
    assert rule["annotations"]["runbook"] == f"docs/runbook/{alert}.md"


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {path.stem for path in RUNBOOK.iterdir()} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_pages_fit_on_a_screen_and_answer_the_same_questions(alert: str) -> None:
    text = (RUNBOOK / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize("alert", ALERTS)
def test_pages_name_metrics_that_there_are(alert: str) -> None:
    text = (RUNBOOK / f"{alert}.md").read_text()
    found = set(re.findall(r"(?:\w+:)?\bksmwatch_[a-z0-9_:]+", text))
    assert found - KNOWN == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_links_of_pages_lead_somewhere(alert: str) -> None:
    text = (RUNBOOK / f"{alert}.md").read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOK / target).is_file()


@pytest.mark.parametrize("kind", LOSSES)
def test_each_loss_is_explained(kind: str) -> None:
    assert any(
        f"`{kind}`" in path.read_text() or f'"{kind}"' in path.read_text()
        for path in RUNBOOK.iterdir()
    )
