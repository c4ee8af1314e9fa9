"""A short random program; `make soak` runs longer ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import fuzz


def test_a_random_program_is_counted_to_the_page() -> None:
    assert fuzz.shortly("--seed=101") == 0


@pytest.mark.once
def test_it_is_where_ksmd_merges_each_node_apart() -> None:
    assert Path("/sys/devices/system/node/node1").exists(), "it wants a guest with --nodes 2"
    assert fuzz.settings_of(107)["merge_across_nodes"] == 0
    assert fuzz.shortly("--seed=107") == 0
