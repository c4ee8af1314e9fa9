"""The catalogue's conventions, and what a scrape has in it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.counting.backend_state import MapState
from ksmwatch.export.catalogue import CATALOGUE
from ksmwatch.export.metric_family import Spec
from ksmwatch.export.owner_samples import owner_series
from ksmwatch.export.samples import Series
from ksmwatch.snapshot.losses import LOSSES
from ksmwatch.snapshot.model import Snapshot
from tests.exposed import exposed
from tests.made_up import UNIT, nothing, numbers, poll, process, snapshot
from tools import metrics_page

Scraped = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(made: Snapshot, owners: int = 50, *, processes: bool = True) -> Scraped:
    """What Prometheus reads: a value by name and sorted labels."""
    text = exposed(made, Series(owners, processes))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


OWNER = {"kind": "unit", "name": "tenant.service", "id": "tenant.service"}


def value(series: Scraped, name: str, /, **labels: str) -> float | None:
    return series.get((name, tuple(sorted(labels.items()))))


def names(series: Scraped) -> set[str]:
    return {name for name, _ in series}


@pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.name)
def test_names_follow_the_conventions(spec: Spec) -> None:
    assert re.fullmatch(r"ksmwatch(_[a-z0-9]+)+", spec.name)
    assert spec.kind in {"gauge", "counter", "histogram"}
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
    assert names(series) == {name for spec in CATALOGUE for name in spec.series}


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
        ("saved_bytes", {}, 88 * 4096),
        ("saved_at_most_bytes", {}, 88 * 4096),
        ("bookkeeping_bytes", {}, 95 * 4096 + 4096),
        ("unnamed_mappings", {}, 0),
        ("unmerge_needed_bytes", {"bound": "least"}, 80 * 4096),
        ("unmerge_needed_bytes", {"bound": "most"}, 100 * 4096),
        ("owner_mappings", OWNER, 100),
        ("owner_mapped_bytes", OWNER, 409600),
        ("owner_saved_bytes", OWNER, 88 * 4096),
        ("owner_saved_at_most_bytes", OWNER, 88 * 4096),
        ("owner_processes", {**OWNER, "confidence": "exact"}, 1),
        ("owner_processes", {**OWNER, "confidence": "estimated"}, 0),
        ("owner_kernel_merging_pages", OWNER, 110),
        ("owner_stray_mappings", OWNER, 3),
        ("owner_zero_pages", OWNER, 8),
        ("owner_arrivals_total", {**OWNER, "reason": "forked"}, 26),
        ("owner_departures_total", {**OWNER, "reason": "exited"}, 9),
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
        ("departures_total", {"reason": "copied"}, 1004),
        ("merge_attempts_total", {"outcome": "failed"}, 1010),
        ("break_cow_total", {}, 1011),
        ("miscounted_pages_total", {}, 1018),
        ("break_cow_left_total", {}, 1019),
        ("drift_pages_total", {"sign": "surplus"}, 4),
        ("corrected_pages_total", {"sign": "surplus"}, 6),
        ("corrected_pages_total", {"sign": "missing"}, 2),
        ("last_drift_pages", {}, -1),
        ("residue_mappings", {"kind": "merged"}, 100),
        ("residue_mappings", {"kind": "left"}, 0),
        ("unanswered_cow_attempts", {}, 3),
        ("meminfo_ksm_bytes", {"line": "KsmSharing"}, 380 * 1024),
        ("kernel_pages", {"file": "pages_shared"}, 20),
        ("page_size_bytes", {}, 4096),
        ("config_last_reload_successful", {}, 1),
        ("config_last_reload_success_timestamp_seconds", {}, 1_699_999_000),
        ("kernel_stable_node_chains", {}, 2),
        ("kernel_stable_node_dups", {}, 7),
        ("kernel_memory_available_bytes", {}, 1024000 * 1024),
        ("ksmd_cpu_seconds_total", {}, 12.5),
        ("kernel_swap_free_bytes", {}, 300 * 1024),
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
        "ksmwatch_config_last_reload_successful",
        "ksmwatch_config_last_reload_success_timestamp_seconds",
        "ksmwatch_snapshot_timestamp_seconds",
        "ksmwatch_snapshot_duration_seconds",
        "ksmwatch_losses_total",
    }
    assert value(series, "ksmwatch_ksm_supported") == 0
    assert value(series, "ksmwatch_mode", mode="none") == 1


def test_facts_that_a_kernel_does_not_have_have_no_sample() -> None:
    old = numbers(
        ksm={"run": 1, "pages_shared": 20, "pages_sharing": 95},
        vmstat={},
        meminfo={},
        ksmd_cpu=None,
    )
    unread = process(kernel_merging_pages=None, stray=None, zero_pages=None)
    found = names(scrape(snapshot(numbers=old, processes=(unread,))))
    gone = names(scrape(snapshot())) - found
    assert gone == {
        "ksmwatch_meminfo_ksm_bytes",
        "ksmwatch_kernel_profit_bytes",
        "ksmwatch_bookkeeping_bytes",
        "ksmwatch_kernel_stable_node_chains",
        "ksmwatch_kernel_stable_node_dups",
        "ksmwatch_kernel_memory_available_bytes",
        "ksmwatch_kernel_swap_free_bytes",
        "ksmwatch_kernel_full_scans_total",
        "ksmwatch_kernel_pages_scanned_total",
        "ksmwatch_ksmd_cpu_seconds_total",
        "ksmwatch_kernel_cow_breaks_total",
        "ksmwatch_kernel_swapin_copies_total",
        "ksmwatch_process_kernel_merging_pages",
        "ksmwatch_process_kernel_lag_pages",
        "ksmwatch_process_stray_mappings",
        "ksmwatch_owner_kernel_merging_pages",
        "ksmwatch_owner_stray_mappings",
        "ksmwatch_owner_zero_pages",
    }


def test_polling_has_no_event_series() -> None:
    found = names(scrape(poll()))
    assert "ksmwatch_process_mappings" in found
    assert not {n for n in found if re.search("arrivals|departures|merge_a|probe|audit|map_", n)}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(snapshot(), 0, id="live"),
        pytest.param(poll(), 1, id="live accounting is impossible"),
        pytest.param(poll(mode_reason=None), 0, id="polling was asked for"),
        pytest.param(nothing(), None, id="no KSM"),
    ],
)
def test_polling_is_a_fallback_unless_asked_for(made: Snapshot, expected: float | None) -> None:
    assert value(scrape(made), "ksmwatch_fallback") == expected


def test_every_kind_of_loss_is_there_from_the_start() -> None:
    for made in (snapshot(), poll(), nothing()):
        series = scrape(made)
        assert {kind: value(series, "ksmwatch_losses_total", kind=kind) for kind in LOSSES} == (
            dict.fromkeys(LOSSES, 0)
        )


def of_owners(series: Scraped) -> Scraped:
    return {key: amount for key, amount in series.items() if key[0].startswith("ksmwatch_owner_")}


def crowd(number: int) -> Snapshot:
    """A host with this many owners; the first has the most mappings."""
    owners = [replace(UNIT, id=f"u{n}", name=f"u{n}") for n in range(number)]
    members = tuple(process(owner=o, mappings=10 * (number - n)) for n, o in enumerate(owners))
    return snapshot(processes=members, moved={o.key: (1, 2, 3, 4, 5, 6, 7) for o in owners})


@pytest.mark.parametrize(
    ("number", "top", "series"), [(0, 5, 0), (5, 5, 110), (6, 5, 122), (60, 5, 122), (60, 0, 0)]
)
def test_series_by_owner_are_bounded(number: int, top: int, series: int) -> None:
    assert len(of_owners(scrape(crowd(number), top))) == series <= owner_series(top, nodes=2)


def test_the_other_owners_are_one_row_without_counters() -> None:
    series = of_owners(scrape(crowd(4), 2))
    other = {"kind": "other", "name": "other", "id": "other"}
    assert value(series, "ksmwatch_owner_mappings", **other) == 30
    assert value(series, "ksmwatch_owner_processes", **other, confidence="exact") == 2
    assert value(series, "ksmwatch_owner_zero_pages", **other) == 16
    kinds = {(name, dict(labels)["kind"]) for name, labels in series}
    assert ("ksmwatch_owner_arrivals_total", "unit") in kinds
    assert not {name for name, kind in kinds if kind == "other" and name.endswith("_total")}


def test_what_unmerging_an_owner_would_need() -> None:
    series = scrape(snapshot(rooms={"/system.slice/tenant.service": 5 << 20}))
    name = "ksmwatch_owner_unmerge_needed_bytes"
    # 100 mappings and 8 zero pages; the kernel counts 20 distinct pages.
    assert value(series, name, **OWNER, bound="most") == 108 * 4096
    assert value(series, name, **OWNER, bound="least") == 88 * 4096
    assert value(series, "ksmwatch_owner_limit_left_bytes", **OWNER) == 5 << 20
    series = scrape(snapshot(rooms={}))
    assert value(series, "ksmwatch_owner_limit_left_bytes", **OWNER) is None


def test_series_go_with_their_owner() -> None:
    assert of_owners(scrape(snapshot()))
    assert of_owners(scrape(snapshot(processes=(), moved={}))) == {}


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 7, 1000]))
def test_owners_of_a_scrape_add_up_to_the_host(number: int, top: int, unnamed: int) -> None:
    series = scrape(replace(crowd(number), unnamed=unnamed), top)
    rows = [v for (name, _), v in series.items() if name == "ksmwatch_owner_mappings"]
    assert sum(rows) == value(series, "ksmwatch_mappings")


def test_series_by_process_are_there_when_asked_for() -> None:
    found = names(scrape(snapshot(), processes=False))
    assert names(scrape(snapshot())) - found == {
        spec.exposed for spec in CATALOGUE if spec.name.startswith("ksmwatch_process_")
    }


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
    own = Spec("process_x", "gauge", "Of a process.")
    text = metrics_page.document([own])
    assert text.count("\n| `ksmwatch_") == len(CATALOGUE)
    assert f"| `process_x` | gauge |  | {own.help} |" in text
    assert all(f"`{kind}`" in text for kind in LOSSES)


def test_a_host_with_one_node_of_memory_has_no_series_by_node() -> None:
    state = MapState(accounts=1, limit=65536, memory=0, kept=True, adopted=False)
    one = scrape(snapshot(map_state=state, processes=(process(nodes=None, home=None),)))
    names = {name for name, _ in one}
    assert "ksmwatch_mappings" in names
    assert [name for name in names if "node_mappings" in name or "remote" in name] == []


def test_mappings_on_unknown_nodes_are_shown_as_such() -> None:
    two = scrape(snapshot(processes=(process(), process(pid=43, nodes=None))))
    found = {n: value(two, "ksmwatch_node_mappings", node=n) for n in ("0", "1", "unknown")}
    assert found == {"0": 60, "1": 40, "unknown": 100}
    assert not [name for name, _ in two if "remote_mappings" in name]
