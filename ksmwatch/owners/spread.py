"""On which nodes of memory mappings lie, of a process, an owner or the host. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

# Mappings by number of the node.
Nodes = tuple[int, ...]


class Spread(NamedTuple):
    """On which nodes of memory mappings lie, as far as that is known. All others are unknown.

    `remote`: those on other nodes than their process's own; `placed`: those of which that is
    known. `nodes`: by number, without zeros at the end.
    """

    remote: int = 0
    placed: int = 0
    nodes: Nodes = ()

    @classmethod
    def of(cls, remote: int, placed: int, *nodes: int) -> Spread:
        """From `amounts`, which can be added up."""
        if not nodes:
            return cls(remote, placed) if remote or placed else NOWHERE
        last = next((at for at in range(len(nodes), 0, -1) if nodes[at - 1]), 0)
        return cls(remote, placed, nodes[:last])

    @property
    def amounts(self) -> tuple[int, ...]:
        """In a row."""
        return self.remote, self.placed, *self.nodes

    def remote_of(self, mappings: int) -> int | None:
        """Mappings of pages on other nodes than their process's own; None if unknown for any.

        `mappings`: all, whether placed or not.
        """
        return self.remote if self.placed == mappings else None


NOWHERE = Spread()


def together(spreads: Iterable[Spread]) -> Spread:
    """Their sum."""
    # On a host with one node all are nowhere.
    amounts = [each.amounts for each in spreads if each is not NOWHERE]
    return Spread.of(*map(sum, zip_longest(*amounts, fillvalue=0))) if amounts else NOWHERE


def spread_of(nodes: Nodes | None, home: int | None) -> Spread:
    """Of one process, whose own node is `home`; None: not known."""
    if nodes is None:
        return NOWHERE
    if home is None:
        return Spread.of(0, 0, *nodes)
    return Spread.of(sum(nodes) - sum(nodes[home : home + 1]), sum(nodes), *nodes)
