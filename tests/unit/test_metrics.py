"""The catalogue's conventions, and what a scrape has in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch import metrics
from ksmwatch.metrics import CATALOGUE, LOSSES, Spec
from ksmwatch.snapshot import Snapshot
from tests.made_up import nothing, numbers, poll, process, snapshot

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(made: Snapshot) -> Series:
    """What Prometheus reads: a value by name and sorted labels."""
    registry = CollectorRegistry()
    registry.register(metrics.SnapshotCollector(lambda: made))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, tuple(sorted(labels.items()))))


def names(series: Series) -> set[str]:
    return {name for name, _ in series}


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: Spec) -> None:
    assert re.fullmatch(r"ksmwatch(_[a-z0-9]+)+", spec.name)
    assert spec.kind in {"gauge", "counter"}
    assert not spec.name.endswith("_total")
    assert spec.exposed.endswith("_total") == (spec.kind == "counter")
    assert all(re.fullmatch(r"[a-z]+", label) for label in spec.labels)
    # Base units only, and the unit comes last.
    for word in ("bytes", "seconds"):
        assert word not in spec.name.split("_")[:-1]
    assert not {"ms", "kb", "mb", "percent", "milliseconds"} & set(spec.name.split("_"))
    assert spec.help.endswith(".")
    assert "\n" not in spec.help


def test_names_are_unique() -> None:
    assert len({spec.exposed for spec in CATALOGUE}) == len(CATALOGUE)


def test_a_live_host_has_every_metric_of_the_catalogue() -> None:
    series = scrape(snapshot())
    assert names(series) == {spec.exposed for spec in CATALOGUE}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("mappings", {}, 100),
        ("mapped_bytes", {}, 409600),
        ("kernel_mappings", {}, 115),
        ("kernel_lag_pages", {}, -15),
        ("mode", {"mode": "bpf"}, 1),
        ("mode", {"mode": "poll"}, 0),
        ("confidence", {"level": "exact"}, 1),
        ("confidence", {"level": "unknown"}, 0),
        ("processes", {"confidence": "exact"}, 1),
        ("processes", {"confidence": "estimated"}, 0),
        ("process_mappings", {"pid": "42", "comm": "tenant"}, 100),
        ("process_kernel_lag_pages", {"pid": "42", "comm": "tenant"}, -10),
        ("process_stray_mappings", {"pid": "42", "comm": "tenant"}, 3),
        (
            "process_arrivals_total",
            {"pid": "42", "comm": "tenant", "reason": "forked"},
            25,
        ),
        (
            "process_departures_total",
            {"pid": "42", "comm": "tenant", "reason": "exited"},
            1,
        ),
        ("arrivals_total", {"reason": "merged"}, 1000),
        ("departures_total", {"reason": "unmapped"}, 1004),
        ("merge_attempts_total", {"outcome": "failed"}, 1009),
        ("break_cow_total", {}, 1010),
        ("miscounted_pages_total", {}, 1017),
        ("break_cow_left_total", {}, 1018),
        ("drift_pages_total", {"sign": "surplus"}, 4),
        ("corrected_pages_total", {"sign": "surplus"}, 6),
        ("corrected_pages_total", {"sign": "missing"}, 2),
        ("last_drift_pages", {}, -1),
        ("residue_mappings", {"kind": "merged"}, 100),
        ("residue_mappings", {"kind": "left"}, 0),
        ("kernel_pages", {"file": "pages_shared"}, 20),
        ("map_memory_bytes", {}, 8388608),
    ],
)
def test_values(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(scrape(snapshot()), f"ksmwatch_{name}", **labels) == expected


def test_a_kernel_without_ksm_has_no_ksm_series() -> None:
    series = scrape(nothing())
    assert names(series) == {
        "ksmwatch_build_info",
        "ksmwatch_ksm_supported",
        "ksmwatch_mode",
        "ksmwatch_snapshot_timestamp_seconds",
        "ksmwatch_snapshot_duration_seconds",
        "ksmwatch_losses_total",
    }
    assert value(series, "ksmwatch_ksm_supported") == 0
    assert value(series, "ksmwatch_mode", mode="none") == 1


def test_facts_that_a_kernel_does_not_have_have_no_sample() -> None:
    old = numbers(ksm={"run": 1, "pages_shared": 20, "pages_sharing": 95}, vmstat={})
    unread = process(kernel_merging_pages=None, stray=None)
    found = names(scrape(snapshot(numbers=old, processes=(unread,))))
    gone = names(scrape(snapshot())) - found
    assert gone == {
        "ksmwatch_kernel_profit_bytes",
        "ksmwatch_kernel_full_scans_total",
        "ksmwatch_kernel_pages_scanned_total",
        "ksmwatch_kernel_cow_breaks_total",
        "ksmwatch_kernel_swapin_copies_total",
        "ksmwatch_process_kernel_merging_pages",
        "ksmwatch_process_kernel_lag_pages",
        "ksmwatch_process_stray_mappings",
    }


def test_polling_has_no_event_series() -> None:
    found = names(scrape(poll()))
    assert "ksmwatch_process_mappings" in found
    assert not {n for n in found if re.search("arrivals|departures|merge_a|probe|audit|map_", n)}


def test_every_kind_of_loss_is_there_from_the_start() -> None:
    for made in (snapshot(), poll(), nothing()):
        series = scrape(made)
        assert {kind: value(series, "ksmwatch_losses_total", kind=kind) for kind in LOSSES} == (
            dict.fromkeys(LOSSES, 0)
        )


HOSTILE = st.text(min_size=1, max_size=15).map(lambda text: text.encode(errors="replace").decode())


@settings(deadline=None, max_examples=200, derandomize=True)
@given(HOSTILE)
def test_hostile_names_survive_the_text_format(comm: str) -> None:
    series = scrape(snapshot(processes=(process(comm=comm),)))
    assert value(series, "ksmwatch_process_mappings", pid="42", comm=comm) == 100


@pytest.mark.parametrize("comm", ['a"} 1', "x\ny", "\\", "\\n", '"', "a,b=c", "\x1b[31m", "{}"])
def test_names_that_look_like_the_format_survive_it(comm: str) -> None:
    series = scrape(snapshot(processes=(process(comm=comm),)))
    assert value(series, "ksmwatch_process_mappings", pid="42", comm=comm) == 100
    assert len([name for name, _ in series if name == "ksmwatch_process_mappings"]) == 1


def test_the_document_has_a_row_for_every_metric() -> None:
    text = metrics.document()
    assert text.count("\n| `ksmwatch_") == len(CATALOGUE)
    assert all(f"`{kind}`" in text for kind in LOSSES)
