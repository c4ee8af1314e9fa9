"""When to read on which nodes of memory the mappings of a process lie.

The programs know the node of what comes and goes. Only what was mapped before the hooks were on,
or came without an event, has to be looked for. Until then its node is unknown.
"""

from __future__ import annotations

from collections.abc import Callable

from ksmwatch.counting.audit_schedule import Allowance
from ksmwatch.counting.findings import Key
from ksmwatch.counting.host import Host
from ksmwatch.counting.ledger import Count

# Of a core. To look at a million pages takes about a second.
_SHARE = 0.01
# A read that did not succeed is tried again after so many seconds, then after twice as many.
_SOON, _LATE = 10.0, 600.0


class NodeReads:
    """Reads process by process, within an allowance of CPU time. Only one thread may use it.

    `read`: reads a process, and says whether its nodes are known now.
    """

    def __init__(self, read: Callable[[int], bool], host: Host) -> None:
        self._read = read
        self._host = host
        self._allowance = Allowance(_SHARE, host.clock, host.cpu)
        self._counts: list[Count] = []
        self._unknown: list[Count] = []
        # When a read that did not succeed is tried again, and after how long it was put off.
        self._put_off: dict[Key, tuple[float, float]] = {}

    def see(self, counts: list[Count]) -> None:
        """Look for accounts whose nodes are unknown. Doubts about the sum are settled first.

        A list in which nothing has changed is the same object.
        """
        if counts is self._counts:
            return
        self._counts = counts
        self._unknown = [c for c in counts if c.nodes is None and c.exact and c.mappings and c.pid]
        if self._put_off:
            accounts = {(each.mm, each.account) for each in counts}
            for gone in self._put_off.keys() - accounts:
                del self._put_off[gone]

    def due(self) -> bool:
        """Whether a process is due, and there is CPU time for it."""
        if not self._unknown:
            return False
        self._allowance.accrue()
        return self._allowance.left() and any(map(self._is_due, self._unknown))

    def _is_due(self, count: Count) -> bool:
        at, _ = self._put_off.get((count.mm, count.account), (0.0, 0.0))
        return self._host.clock() >= at

    def read_next(self) -> None:
        """Read the next process that is due."""
        count = next(filter(self._is_due, self._unknown))
        self._unknown.remove(count)
        self._allowance.spend(lambda: self._attempt(count))

    def _attempt(self, count: Count) -> None:
        key = count.mm, count.account
        if self._read(count.pid):
            self._put_off.pop(key, None)
            return
        self._unknown.append(count)
        _, waited = self._put_off.get(key, (0.0, _SOON / 2))
        wait = min(2 * waited, _LATE)
        self._put_off[key] = self._host.clock() + wait, wait
