"""The published state: sums, confidence, and the document."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ksmwatch.counting.backend_state import MapState, Mode
from ksmwatch.counting.residue import Residue
from ksmwatch.kernel.areas import Area
from ksmwatch.snapshot.document import to_document, to_json
from ksmwatch.snapshot.model import Snapshot
from ksmwatch.snapshot.process import Confidence
from ksmwatch.units import PAGE_SIZE
from tests.made_up import nothing, numbers, poll, process, snapshot

UNSURE = process(pid=43, mappings=7, confidence=Confidence.ESTIMATED, residue=Residue.KEPT)


def two() -> Snapshot:
    return snapshot(processes=(process(), UNSURE))


def test_the_host_is_the_sum_of_its_processes() -> None:
    host = to_document(two())["host"]
    assert host["mappings"] == 107
    assert host["bytes"] == 107 * PAGE_SIZE
    assert host["kernel_mappings"] == 115
    assert host["kernel_lag"] == -8
    assert host["estimated_processes"] == 1
    assert host["residue"] == {
        "merged": 100,
        "kept": 7,
        "unmerging": 0,
        "unverified": 0,
        "left": 0,
    }


@pytest.mark.parametrize(
    ("made", "confidence", "reason"),
    [
        (snapshot(), "exact", None),
        (two(), "estimated", "1 process is estimated"),
        (snapshot(doubt="3 events"), "unknown", "3 events"),
        (dataclasses.replace(two(), doubt="3 events"), "unknown", "3 events"),
        (poll(), "estimated", "polled"),
        (nothing(), "exact", None),
    ],
)
def test_confidence_of_the_host_and_why(
    made: Snapshot, confidence: str, reason: str | None
) -> None:
    host = to_document(made)["host"]
    assert (host["confidence"], host["reason"]) == (confidence, reason)


@pytest.mark.parametrize("gone", ["pages_shared", "pages_sharing"])
def test_the_kernels_number_is_null_without_both_parts(gone: str) -> None:
    ksm = {k: v for k, v in (numbers().ksm or {}).items() if k != gone}
    host = to_document(snapshot(numbers=numbers(ksm=ksm)))["host"]
    assert (host["kernel_mappings"], host["kernel_lag"]) == (None, None)


def test_a_process_in_the_document() -> None:
    assert to_document(snapshot())["processes"] == [
        {
            "pid": 42,
            "start_time": 9000,
            "ppid": 1,
            "comm": "tenant",
            "name": "tenant-with-a-long-name",
            "owner": {
                "kind": "unit",
                "name": "tenant.service",
                "id": "tenant.service",
                "manager": "systemd",
                "claimed": False,
                "uuid": None,
                "pod": None,
                "qos": None,
                "container": None,
                "unit": None,
                "slice": None,
                "uid": None,
            },
            "mappings": 100,
            "bytes": 409600,
            "confidence": "exact",
            "movements": {
                "merged": 80,
                "converted": 10,
                "other": 5,
                "forked": 25,
                "copied": 12,
                "unmapped": 7,
                "exited": 1,
            },
            "kernel_merging_pages": 110,
            "kernel_lag": -10,
            "zero_pages": 8,
            "kernel_age_seconds": 1.5,
            "last_read_seconds": 2.5,
            "nodes": {"0": 60, "1": 40},
            "home_node": 0,
            "remote_mappings": 40,
            "residue": "merged",
            "stray_mappings": 3,
            "stray_areas": [
                {
                    "start": "0x7f0000000000",
                    "end": "0x7f0000010000",
                    "mappings": 3,
                    "mergeable": False,
                    "name": "[heap]",
                }
            ],
        }
    ]


@pytest.mark.parametrize("made", [two(), poll(), nothing(), snapshot(processes=())])
def test_the_json_is_that_of_the_document(made: Snapshot) -> None:
    assert json.loads(to_json(made)) == to_document(made)


def test_of_a_process_that_has_not_changed_only_ages_are_new() -> None:
    same = process(comm='"\\\u00e4')
    never = process(pid=43, read_at=None)
    for clock in (5000.0, 5010.0, 4990.0):
        made = snapshot(processes=(same, never), clock=clock)
        first, second = json.loads(to_json(made))["processes"]
        assert first["comm"] == same.comm
        assert first["kernel_age_seconds"] == max(0.0, clock - 4998.5)
        assert first["last_read_seconds"] == max(0.0, clock - 4997.5)
        assert second["last_read_seconds"] is None


def test_the_age_of_the_kernels_numbers_is_that_of_the_oldest() -> None:
    assert snapshot().kernel_age == 1.5
    made = snapshot(processes=(process(), process(pid=43, kernel_at=4900.0)))
    assert to_document(made)["host"]["kernel_age_seconds"] == 100.0
    assert snapshot(processes=()).kernel_age is None


def test_what_is_not_known_of_a_process_is_null() -> None:
    unknown = process(kernel_merging_pages=None, read_at=None, stray=None, movements=())
    document = to_document(snapshot(processes=(unknown,)))["processes"][0]
    assert document["kernel_merging_pages"] is document["kernel_lag"] is None
    assert document["last_read_seconds"] is document["stray_mappings"] is None
    assert document["stray_areas"] == []
    assert document["movements"] == {}


def test_stray_areas_are_listed_up_to_a_limit_and_all_counted() -> None:
    areas = tuple(Area(n << 12, n + 1 << 12, 2, mergeable=False, name="") for n in range(40))
    document = to_document(snapshot(processes=(process(stray=areas),)))["processes"][0]
    assert document["stray_mappings"] == 80
    assert len(document["stray_areas"]) == 32


def test_absent_parts_are_null_and_the_document_is_json() -> None:
    document = to_document(poll())
    assert document["map"] is None
    assert document["audit"] is None
    assert document["totals"] == {}
    assert document["probes"] == []
    assert json.loads(json.dumps(document)) == document


def test_the_document_of_a_live_host() -> None:
    document = to_document(snapshot())
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == "ksmwatch.snapshot/1"
    assert document["mode"] == Mode.BPF.value
    assert document["map"] == {
        "accounts": 1,
        "limit": 65536,
        "memory_bytes": 8388608,
        "kept": True,
        "adopted": False,
        "programs": "compiled",
    }
    assert document["audit"] == {
        "reads": 12,
        "rounds": 3,
        "surplus": 4,
        "missing": 1,
        "corrected_surplus": 6,
        "corrected_missing": 2,
        "last": -1,
    }
    assert document["probes"] == [
        {
            "event": "merge",
            "mechanism": "fentry",
            "symbol": "try_to_merge_one_page",
            "attached": True,
            "missed": 7,
        }
    ]
    assert document["sources"]["ksm"]["general_profit"] == -4096


def test_a_kernel_without_ksm_in_the_document() -> None:
    document = to_document(nothing())
    assert document["mode"] == "none"
    assert document["sources"]["ksm"] is None
    assert document["host"]["mappings"] == 0
    assert document["host"]["run"] is None
    assert document["host"]["kernel_mappings"] is None


def test_a_host_with_one_node_of_memory_says_nothing_of_nodes() -> None:
    state = MapState(accounts=1, limit=65536, memory=0, kept=True, adopted=False)
    found = to_document(snapshot(map_state=state, processes=(process(nodes=None, home=None),)))
    for each in (found["host"], found["owners"][0]):
        assert each["nodes"] is each["mappings_on_unknown_nodes"] is each["remote_mappings"] is None
    assert found["processes"][0]["nodes"] is None
