"""What the tests of alerts do to the shipped rules, and that they provoke every alert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.alerts.shorten import shorten

ROOT = Path(__file__).resolve().parents[3]
RULES = (ROOT / "deploy/prometheus/ksmwatch.rules.yml").read_text()
SHORT = {
    rule.get("alert") or rule["record"]: rule
    for group in yaml.safe_load(shorten(RULES))["groups"]
    for rule in group["rules"]
}


def test_a_minute_is_two_seconds() -> None:
    assert SHORT["KsmMergingStalled"]["for"] == "30s"
    assert SHORT["KsmPagesKept"]["for"] == "120s"
    assert "_total[30s]" in SHORT["KsmMergingStalled"]["expr"]
    assert SHORT["instance:ksmwatch_ksmd_cpu:rate1h"]["expr"].endswith("[120s])")
    assert SHORT["KsmUnmergeUnfinished"]["expr"].startswith(
        "(ksmwatch_kernel_run_age_seconds > 30)"
    )


def test_no_time_is_left_as_it_was() -> None:
    for rule in SHORT.values():
        assert not re.search(r"\[\d+[mhd]", rule["expr"])
        assert not re.fullmatch(r"\d+[mhd]", rule.get("for", ""))


def test_nothing_else_has_changed() -> None:
    given = {
        rule.get("alert") or rule["record"]: rule
        for group in yaml.safe_load(RULES)["groups"]
        for rule in group["rules"]
    }
    assert list(given) == list(SHORT)
    for name, rule in given.items():
        timeless = {key: value for key, value in rule.items() if key not in {"expr", "for"}}
        assert timeless.items() <= SHORT[name].items()
        assert rule.keys() == SHORT[name].keys()


def test_a_rule_that_has_lost_its_comparison_is_noticed() -> None:
    changed = RULES.replace("run_age_seconds > 900", "run_age_seconds > 901")
    with pytest.raises(AssertionError, match="KsmUnmergeUnfinished"):
        shorten(changed)


def test_every_alert_is_provoked() -> None:
    text = (ROOT / "tests/alerts/test_alerts.py").read_text()
    alerts = {name for name, rule in SHORT.items() if "alert" in rule}
    assert set(re.findall(r'"(Ksm\w+)"', text)) == alerts
