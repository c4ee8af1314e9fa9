"""Nodes of memory, and on which of them a page frame lies, by files of sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmwatch.kernel.memory_nodes import NodeOfFrame, parse_list, read_memory_nodes
from ksmwatch.units import PAGE_SIZE

BLOCK = 1 << 27
FRAMES = BLOCK // PAGE_SIZE


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """Two nodes with memory, and one without. Block 2 has pages of both."""
    nodes = tmp_path / "devices/system/node"
    for node, blocks in {0: (0, 1, 2), 1: (), 3: (2, 7)}.items():
        for block in blocks:
            (nodes / f"node{node}/memory{block}").mkdir(parents=True)
    (nodes / "has_memory").write_text("0,3\n")
    (tmp_path / "devices/system/memory").mkdir()
    (tmp_path / "devices/system/memory/block_size_bytes").write_text(f"{BLOCK:x}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("\n", ()), ("0\n", (0,)), ("0-1\n", (0, 1)), ("0,2-4,9\n", (0, 2, 3, 4, 9))],
)
def test_lists(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_list(text) == numbers


def test_nodes_with_memory(sys: Path, tmp_path: Path) -> None:
    assert read_memory_nodes(sys) == (0, 3)
    assert read_memory_nodes(tmp_path / "nowhere") == ()


def test_a_frame_is_on_the_node_of_its_block(sys: Path) -> None:
    node_of = NodeOfFrame(sys)
    assert [node_of(frame) for frame in (0, 2 * FRAMES - 1, 7 * FRAMES)] == [0, 0, 3]


def test_a_block_of_two_nodes_does_not_tell(sys: Path) -> None:
    assert NodeOfFrame(sys)(2 * FRAMES) is None


def test_memory_that_is_added_is_found(sys: Path) -> None:
    node_of = NodeOfFrame(sys)
    assert node_of(8 * FRAMES) is None
    (sys / "devices/system/node/node3/memory8").mkdir()
    assert node_of(8 * FRAMES) == 3


def test_a_host_without_memory_blocks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NodeOfFrame(tmp_path)
