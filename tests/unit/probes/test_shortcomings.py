"""The warnings of a host on which live accounting is possible."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.probes.plan import choose
from ksmwatch.probes.shortcomings import warnings
from tests.fakes import capable, without


def test_a_host_that_can_do_everything_has_no_warnings() -> None:
    assert warnings(capable()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"foreign_reads": False}, "(/proc/1/smaps_rollup is denied)"),
        (
            {
                "foreign_reads": False,
                "capabilities": frozenset({"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}),
            },
            "(CAP_SYS_PTRACE is missing)",
        ),
        ({"capabilities": frozenset({"CAP_SYS_ADMIN"})}, "Without CAP_NET_ADMIN"),
        (
            {
                "offsets": {**capable().offsets, "rw_semaphore_rwbase": 0},
                "release": "6.1.0-50-rt-amd64",
            },
            "With PREEMPT_RT",
        ),
    ],
)
def test_what_will_be_missed_is_said(changes: dict[str, Any], words: str) -> None:
    (warning,) = (each for each in warnings(without(**changes)) if words in each)
    assert warning.endswith(".")


def test_where_the_age_of_mappings_is_unknown_it_is_said() -> None:
    (warning,) = warnings(without(symbols={**capable().symbols, "migrate_pages": 2}))
    assert warning == (
        "It is unknown how long mappings last: no probe is possible where pages are migrated "
        "(meanwhile smaps counts them as mapped)."
    )


def test_ages_are_those_of_the_plan_that_was_carried_out() -> None:
    """6.1 refuses fentry on migrate_pages() only when it is tried."""
    refused = without(refused={"migrate fentry migrate_pages": "Too many arguments"})
    (warning,) = warnings(capable(), choose(refused))
    assert "one of its hooks is a kprobe" in warning
    # Who does not want them need not be warned.
    assert warnings(capable(), choose(capable(), ages=False)) == []


@pytest.mark.parametrize(
    ("nodes", "tells", "words"),
    [
        ((0,), False, None),
        ((0, 1), None, None),
        ((0, 1), True, None),
        ((0, 1), False, "their flags do not tell"),
        ((0, 77), None, "the host has a node 77"),
    ],
)
def test_where_nodes_of_memory_are_not_told_apart_it_is_said(
    nodes: tuple[int, ...], *, tells: bool | None, words: str | None
) -> None:
    found = warnings(without(memory_nodes=nodes), tells_nodes=tells)
    if words is None:
        assert found == []
    else:
        assert found == [each for each in found if words in each] != []
