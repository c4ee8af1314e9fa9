"""Nodes of memory (NUMA): which there are, and on which of them a page frame lies."""

from __future__ import annotations

from pathlib import Path

from ksmwatch.units import PAGE_SIZE


def parse_list(text: str) -> tuple[int, ...]:
    """The numbers in a list of the kernel, such as 0-1,3."""
    found: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    return tuple(found)


def read_memory_nodes(sys: Path) -> tuple[int, ...]:
    """Nodes that have memory; none if the kernel does not tell (CONFIG_NUMA)."""
    try:
        return parse_list((sys / "devices/system/node/has_memory").read_text())
    except OSError:
        return ()


class NodeOfFrame:
    """On which node a page frame lies, by the memory blocks of each node. Raises OSError.

    It needs no privilege, and shares nothing with what the BPF programs look at.
    """

    def __init__(self, sys: Path) -> None:
        self._sys = sys
        block = int((sys / "devices/system/memory/block_size_bytes").read_text(), 16)
        self._frames = block // PAGE_SIZE
        self._nodes = self._read()

    def _read(self) -> dict[int, int | None]:
        """The node of each block; None for a block with pages of several."""
        nodes: dict[int, int | None] = {}
        for node in read_memory_nodes(self._sys):
            for block in (self._sys / f"devices/system/node/node{node}").glob("memory[0-9]*"):
                number = int(block.name.removeprefix("memory"))
                nodes[number] = None if number in nodes else node
        return nodes

    def __call__(self, frame: int) -> int | None:
        """The node; None if it is not known."""
        block = frame // self._frames
        if block not in self._nodes:
            # Memory may have been added.
            self._nodes = self._read()
        return self._nodes.get(block)
