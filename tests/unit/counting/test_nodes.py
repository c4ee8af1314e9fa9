"""Mappings by node of memory: nodes that are called known are right, whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmwatch.counting.ledger import count, settle, settle_nodes
from ksmwatch.counting.live_backend import Live
from ksmwatch.kernel.node_reader import ByNode, NodeReader
from ksmwatch.kernel.page_tables import WhenOpened, unobserved
from ksmwatch.probes.map_records import Account, Baseline, Migrations, Movement, Total
from tests.fake_kernel import PLENTY, Kernel, shown

MM = 0xFFFF888000000000
NODES = 2
NOTHING = (0,) * len(Movement)


def account(**changes: Any) -> Account:
    values = {"id": 11, "moves": NOTHING, "doubts": 0, "start_boottime": 0, "tgid": 42}
    return Account(**{**values, "nodes": (0, 0), **changes})


def nodes_of(of: Account, baseline: Baseline | None) -> tuple[int, ...] | None:
    return count(MM, of, baseline).nodes


# ---- one account ----


def test_an_account_that_has_seen_everything_knows_its_nodes() -> None:
    assert nodes_of(account(moves=(5, 0, 0, 0, 2, 0, 0), nodes=(1, 2)), None) == (1, 2)


@pytest.mark.parametrize(
    ("nodes", "doubts"),
    [
        # Put in doubt.
        ((1, 2), 1),
        # A movement whose node is not there yet, or is none that is counted.
        ((1, 1), 0),
        ((4, -1), 0),
    ],
)
def test_nodes_are_unknown(nodes: tuple[int, int], doubts: int) -> None:
    assert nodes_of(account(moves=(3, 0, 0, 0, 0, 0, 0), nodes=nodes, doubts=doubts), None) is None


def test_a_host_with_one_node_has_none() -> None:
    alone = account(moves=(3, 0, 0, 0, 0, 0, 0), nodes=())
    assert nodes_of(alone, None) is None
    assert settle(alone, 9) == Baseline(11, 6, 0)


def test_a_read_of_the_sum_keeps_nodes_only_if_they_add_up_to_it() -> None:
    moved = account(moves=(3, 0, 0, 0, 0, 0, 0), nodes=(1, 2))
    assert nodes_of(moved, settle(moved, 3)) == (1, 2)
    corrected = settle(moved, 4)
    assert nodes_of(moved, corrected) is None
    # And they stay unknown, even if the sum is right again by chance.
    later = moved._replace(moves=(3, 0, 0, 0, 1, 0, 0), nodes=(0, 2))
    assert nodes_of(later, settle(later, 2, corrected)) is None


def test_without_mappings_no_page_has_to_be_looked_at() -> None:
    doubtful = account(doubts=1, moves=(3, 0, 0, 0, 0, 0, 0), nodes=(1, 2))
    baseline = settle(doubtful, 0)
    assert nodes_of(doubtful, baseline) == (0, 0)
    assert nodes_of(doubtful._replace(moves=(4, 0, 0, 0, 0, 0, 0), nodes=(1, 3)), baseline) == (
        0,
        1,
    )


# On which node. What comes or goes unseen puts the account in doubt.
STEPS = st.lists(
    st.sampled_from(
        ["come", "go", "come unseen", "go unseen", "move", "read", "look", "lose"]
    ).flatmap(lambda what: st.tuples(st.just(what), st.integers(0, 1))),
    max_size=40,
)


@given(STEPS)
def test_known_nodes_are_right(steps: list[tuple[str, int]]) -> None:
    truth, seen, baseline = [0, 0], account(), None
    for what, node in steps:
        if what.startswith(("come", "go", "move")) and (what.startswith("come") or truth[node]):
            changes = {"come": {node: 1}, "go": {node: -1}, "move": {node: -1, 1 - node: 1}}
            for at, amount in changes[what.split()[0]].items():
                truth[at] += amount
                if what.endswith("unseen"):
                    seen = seen._replace(doubts=seen.doubts + 1)
                    continue
                why = Movement.OTHER if amount > 0 else Movement.UNMAPPED
                moves, nodes = list(seen.moves), list(seen.nodes)
                moves[why] += 1
                nodes[at] += amount
                seen = seen._replace(moves=tuple(moves), nodes=tuple(nodes))
        elif what == "read":
            baseline = settle(seen, sum(truth), baseline)
        elif what == "look" and count(MM, seen, baseline).exact:
            baseline = settle_nodes(seen, baseline, (truth[0], truth[1]))
        elif what == "lose":
            baseline = settle_nodes(seen, baseline, None)
            assert nodes_of(seen, baseline) is None
        known = count(MM, seen, baseline)
        if known.nodes is not None:
            assert known.nodes == tuple(truth)
            assert known.mappings == sum(truth)
    # And they can be found out.
    baseline = settle_nodes(seen, settle(seen, sum(truth), baseline), (truth[0], truth[1]))
    assert nodes_of(seen, baseline) == tuple(truth)


# ---- reads ----


class FakeNodes(NodeReader):
    """Says on which nodes the pages of the fake kernel lie. `wrong`: so many more on node 0."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.wrong = 0
        self.reads = 0

    @contextmanager
    def open(self, directory: Path, opened: WhenOpened = unobserved) -> Iterator[Any]:
        """Open what another reader opens."""
        pid = int(directory.name)
        with self._kernel.reader.open(directory, opened) as found:
            yield SimpleNamespace(read=lambda: self._read(pid, found))

    def _read(self, pid: int, found: Any) -> ByNode | None:
        self.reads += 1
        found.read()
        nodes = self._kernel.on_node[self._kernel.users[pid]]
        return {0: nodes[0] + self.wrong, 1: nodes[1]}


@pytest.fixture
def nodes(kernel: Kernel) -> FakeNodes:
    kernel.nodes = (0, 1)
    kernel.node_reader = FakeNodes(kernel)
    return kernel.node_reader


def begin(kernel: Kernel) -> Live:
    """A backend that has taken its baseline of one process with 10 pages, all on node 0."""
    kernel.spawn(10, 10)
    live = kernel.live()
    live.start()
    return live


def shown_nodes(live: Live) -> dict[int, tuple[int, ...] | None]:
    return {each.pid: each.nodes for each in live.counts()}


def tick(kernel: Kernel, live: Live, seconds: float = 1.0) -> None:
    kernel.clock.now += seconds
    live.tick(PLENTY)


def test_what_was_there_before_is_looked_for_and_then_followed(
    kernel: Kernel, nodes: FakeNodes
) -> None:
    live = begin(kernel)
    assert shown_nodes(live)[10] is None
    tick(kernel, live)
    assert shown_nodes(live)[10] == (10, 0)
    assert shown(live)[10] == (10, True)
    kernel.move(kernel.users[10], 3, node=1)
    kernel.move(kernel.users[10], 2, Movement.UNMAPPED)
    assert shown_nodes(live)[10] == (8, 3)
    reads = nodes.reads
    tick(kernel, live)
    assert nodes.reads == reads


def test_a_doubt_is_settled_for_the_sum_first(kernel: Kernel, nodes: FakeNodes) -> None:
    live = begin(kernel)
    tick(kernel, live)
    kernel.doubt(kernel.users[10])
    assert shown_nodes(live)[10] is None
    # A snapshot does not wait for nodes.
    reads = nodes.reads
    live.refresh(PLENTY)
    assert (shown(live)[10], shown_nodes(live)[10]) == ((10, True), None)
    assert nodes.reads == reads
    tick(kernel, live)
    assert shown_nodes(live)[10] == (10, 0)


def test_nodes_that_do_not_add_up_are_not_taken(kernel: Kernel, nodes: FakeNodes) -> None:
    nodes.wrong = 1
    live = begin(kernel)
    tick(kernel, live)
    assert (shown(live)[10], shown_nodes(live)[10]) == ((10, True), None)
    nodes.wrong = 0
    tick(kernel, live, 10)
    assert shown_nodes(live)[10] == (10, 0)


def test_a_read_during_which_something_moves_is_not_taken(kernel: Kernel, nodes: FakeNodes) -> None:
    live = begin(kernel)
    mm = kernel.users[10]

    def swap() -> None:
        # So the sum stays.
        kernel.move(mm, 1, node=1)
        kernel.move(mm, 1, Movement.UNMAPPED)

    kernel.after_reads = [swap]
    tick(kernel, live)
    assert shown_nodes(live)[10] == (9, 1)
    assert nodes.reads >= 2


def test_a_page_on_its_way_is_waited_for(kernel: Kernel, nodes: FakeNodes) -> None:
    live = begin(kernel)
    kernel.migrations = Migrations(begun=3, ended=2)
    tick(kernel, live)
    assert shown_nodes(live)[10] is None
    kernel.migrations = Migrations(begun=3, ended=3)
    tick(kernel, live, 10)
    assert shown_nodes(live)[10] == (10, 0)


def test_after_lost_events_all_are_looked_at_again(kernel: Kernel, nodes: FakeNodes) -> None:
    live = begin(kernel)
    tick(kernel, live)
    kernel.totals[Total.EVENTS_LOST] += 1
    # One page went and another came, so the sum is right.
    mm = kernel.users[10]
    kernel.on_node[mm] = Counter({0: 9, 1: 1})
    live.refresh(PLENTY)
    assert (shown(live)[10], shown_nodes(live)[10]) == ((10, True), None)
    tick(kernel, live)
    assert shown_nodes(live)[10] == (9, 1)


def test_what_cannot_be_looked_at_stays_unknown(kernel: Kernel) -> None:
    kernel.nodes = (0, 1)
    live = begin(kernel)
    for _ in range(3):
        tick(kernel, live)
    assert shown_nodes(live)[10] is None
    new = kernel.spawn(30)
    kernel.move(new, 4, node=1)
    assert shown_nodes(live)[30] == (0, 4)
