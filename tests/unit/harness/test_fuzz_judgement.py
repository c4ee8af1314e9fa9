"""What the fuzz says of a snapshot: every difference, and no forgiveness for measured errors."""

from __future__ import annotations

from typing import Any

import pytest

from tests import node_oracle
from tests.fuzz.fuzz import HARMLESS, complaints, misplaced
from tests.fuzz.generator import Pause

PAUSE = Pause(unmerged=False, operations=100, spaces={10: 1})


def document(**changes: Any) -> dict[str, Any]:
    """A snapshot of one process with seven pages, in which nothing is wrong."""
    made: dict[str, Any] = {
        "processes": [{"pid": 10, "mappings": 7}],
        "host": {
            "confidence": "exact",
            "reason": None,
            "events": {"copied": 3, "cow_attempts": 4, "unattributed": 0},
        },
        "totals": {"miscounted_mms": 0},
        "audit": {"surplus": 0, "missing": 0},
        "map": {"adopted": False},
        "losses": {"conversions_unseen": 0, "events_lost": 0},
        "probes": [{"event": "rmap_add", "missed": 0}],
    }
    return made | changes


MISSED = [{"event": "rmap_add", "missed": 1}]


def test_the_truth_is_no_complaint() -> None:
    assert complaints(document(), {10: 7}, PAUSE, ()) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"processes": [{"pid": 10, "mappings": 6}]}, "mm 1: 6 counted, 7 are true"),
        ({"totals": {"miscounted_mms": 1}}, "miscounted"),
        ({"totals": {"miscounted_mms": 1}, "probes": MISSED}, "miscounted"),
        ({"audit": {"surplus": 1, "missing": 0}}, "audit"),
        ({"losses": {"events_lost": 1}, "probes": MISSED}, "loss: events_lost 1"),
        ({"losses": {"conversions_unseen": 1}}, "loss: conversions_unseen 1"),
        # It follows from runs of another program.
        ({"losses": {"conversions_unseen": 1}, "probes": MISSED}, "loss: conversions_unseen 1"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], word: str) -> None:
    (said,) = complaints(document(**changes), {10: 7}, PAUSE, ())
    assert word in said


def test_a_walk_that_gave_up_is_no_wrong_count_and_nothing_else_is_forgiven_for_it() -> None:
    losses = {"families_changed": 2, "events_lost": 1}
    found = complaints(document(losses=losses), {10: 6}, PAUSE, HARMLESS)
    assert found[1:] == ["loss: events_lost 1"]
    assert "7 counted, 6 are true" in found[0]


def test_what_follows_from_runs_that_the_kernel_skipped_is_no_surprise() -> None:
    missed = [{"event": "merge", "missed": 1}]
    found = document(losses={"conversions_unseen": 1}, probes=missed)
    assert complaints(found, {10: 7}, PAUSE, ()) == []


@pytest.mark.parametrize(
    ("host", "known", "true", "words"),
    [
        (None, None, {0: 7}, []),
        ({"0": 0, "1": 0}, None, {0: 7}, []),
        ({"0": 3, "1": 4}, {"0": 3, "1": 4}, {0: 3, 1: 4}, []),
        ({"0": 3, "1": 4}, {"0": 3, "1": 4}, {0: 4, 1: 3}, ["process 10: on nodes"]),
        ({"0": 3, "1": 4}, {"0": 3, "1": 4}, None, ["process 10: on nodes"]),
        ({"0": 4, "1": 3}, {"0": 3, "1": 4}, {0: 3, 1: 4}, ["the host: on nodes"]),
        ({"0": 0, "1": 0}, {"0": 3, "1": 4}, {0: 3, 1: 4}, ["the host: on nodes"]),
        ({"0": 1, "1": 0}, None, {0: 7}, ["the host: on nodes"]),
    ],
)
def test_nodes_that_are_called_known_must_be_right(
    monkeypatch: pytest.MonkeyPatch,
    host: dict[str, int] | None,
    known: dict[str, int] | None,
    true: dict[int, int] | None,
    words: list[str],
) -> None:
    monkeypatch.setattr(node_oracle, "by_node", {10: true}.__getitem__)
    told = document(host={"nodes": host}, processes=[{"pid": 10, "mappings": 7, "nodes": known}])
    found = misplaced(told)
    assert [text[: len(word)] for text, word in zip(found, words, strict=True)] == words
