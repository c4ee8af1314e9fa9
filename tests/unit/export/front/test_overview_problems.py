"""What the page says is wrong, and its sizes and durations."""

from __future__ import annotations

import pytest
import yaml

from ksmwatch.export.front import runbook
from ksmwatch.export.front.known_samples import KnownSamples
from ksmwatch.export.front.symptoms import _CHECKS, symptoms
from ksmwatch.export.front.wording import duration, size
from ksmwatch.export.samples import Series, samples
from tests.guests import ROOT
from tests.made_up import snapshot
from tests.page.hosts import changed

# ---- what is wrong ----


RULES = ROOT / "deploy/prometheus/ksmwatch.rules.yml"


def alerts() -> dict[str, str]:
    """Names of the alerts, and their severity."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: rule["labels"]["severity"] for rule in rules}


# What one look cannot tell, and those of whom nobody can look at the page.
OF_PROMETHEUS = {
    *("KsmdCpuPerByteHigh", "KsmCowBreakStorm", "KsmMergingStalled", "KsmSharedAcrossTenants"),
    *("KsmwatchDown", "KsmwatchStale", "KsmwatchAttachFailed", "KsmwatchRepairsOften"),
    *("KsmwatchEstimatedTooLong", "KsmMergesDoNotLast"),
}


def test_every_alert_is_looked_at_or_named_as_one_that_takes_history() -> None:
    assert {name for name, _, _ in _CHECKS} | OF_PROMETHEUS == set(alerts())
    pages = runbook.read(runbook.runbook_directory())
    assert set(pages) == set(alerts())


@pytest.mark.parametrize(
    ("changes", "alert"),
    [
        ({"fallback": 1, "live_awaited": 1}, "KsmwatchPolling"),
        ({"config_last_reload_successful": 0}, "KsmwatchConfigRefused"),
        ({"accounts": 90, "accounts_limit": 100}, "KsmwatchMapNearlyFull"),
        (
            {"kernel_memory_available_bytes": 1, "kernel_swap_free_bytes": 0},
            "KsmUnmergeWouldNotFit",
        ),
        (
            {"saved_at_most_bytes": 0, "bookkeeping_bytes": 17 << 20},
            "KsmCostsMoreThanItSaves",
        ),
        ({"kernel_stable_node_dups": 5000}, "KsmMaxPageSharingReached"),
    ],
)
def test_what_one_look_tells(changes: dict[str, float], alert: str) -> None:
    before = {f.alert for f in symptoms(changed())}
    assert alert not in before
    found = symptoms(changed(**changes))
    assert {f.alert for f in found} - before == {alert}
    assert next(f.grave for f in found if f.alert == alert) is (alerts()[alert] == "warning")
    assert [f.grave for f in found] == sorted((f.grave for f in found), reverse=True)


@pytest.mark.parametrize(
    ("family", "series", "alert"),
    [
        ("residue_mappings", {("left",): 3.0}, "KsmMappingsLeftAfterUnmerge"),
        ("residue_mappings", {("kept",): 3.0}, "KsmPagesKept"),
        ("confidence", {("unknown",): 1.0}, "KsmwatchSumUnknown"),
        ("probe_attached", {("merge", "fentry", "f"): 0.0}, "KsmwatchProbeMissing"),
        ("losses", {("events",): 2.0}, "KsmwatchEventsLost"),
    ],
)
def test_what_one_look_at_a_family_tells(
    family: str, series: dict[tuple[str, ...], float], alert: str
) -> None:
    found = dict(samples(snapshot(), Series()))
    found[f"ksmwatch_{family}"] = list(series.items())
    assert alert in {f.alert for f in symptoms(KnownSamples(list(found.items())))}
    assert alert not in {f.alert for f in symptoms(changed())}


@pytest.mark.parametrize(("missing", "told"), [((0.0, 0.0), False), ((3.0, 1200.0), True)])
def test_moments_that_are_missing_in_the_history(
    missing: tuple[float, float], *, told: bool
) -> None:
    found = dict(samples(snapshot(), Series()))
    rows = zip(("busy", "full"), missing, strict=True)
    found["ksmwatch_history_unwritten"] = [((reason,), n) for reason, n in rows]
    notes = {f.alert: f.text for f in symptoms(KnownSamples(list(found.items())))}
    text = "Since the daemon started, moments could not be written into the history: {}."
    expected = text.format("busy 3, full 1,200") if told else None
    assert notes.get("KsmwatchHistoryUnwritten") == expected


def test_unmerging_has_its_time() -> None:
    found = dict(samples(snapshot(), Series()))
    found["ksmwatch_residue_mappings"] = [(("unmerging",), 5.0)]
    for age, told in ((900.0, False), (901.0, True)):
        found["ksmwatch_kernel_run_age_seconds"] = [((), age)]
        names = {f.alert for f in symptoms(KnownSamples(list(found.items())))}
        assert ("KsmUnmergeUnfinished" in names) is told


def test_hooks_that_sleep_are_not_missing() -> None:
    found = dict(samples(snapshot(), Series()))
    found["ksmwatch_probe_attached"] = [(("merge", "fentry", "f"), 0.0)]
    found["ksmwatch_asleep"] = [((), 1.0)]
    assert not {f.alert for f in symptoms(KnownSamples(list(found.items())))} & {
        "KsmwatchProbeMissing"
    }


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (99.94 * 1024, "99.9 KiB"),
        (150 * 1024**2, "150 MiB"),
        (-2048, "-2.0 KiB"),
        (1024**6, "1,024 PiB"),
    ],
)
def test_sizes(amount: float, text: str) -> None:
    assert size(amount) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0 seconds"),
        (1, "1 second"),
        (119, "1 minute"),
        (7200, "2 hours"),
        (90000, "1 day"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
