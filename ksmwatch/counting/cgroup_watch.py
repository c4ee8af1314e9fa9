"""Who was moved to another cgroup, for as long as the probe that tells it is attached."""

from __future__ import annotations

from collections.abc import Callable

from ksmwatch.probes.cgroup_moves import SeenMoves


class CgroupWatch:
    """Joins the moves that a program has noted with the state of its probe."""

    def __init__(self, watch: Callable[[], int | None], take: Callable[[], SeenMoves]) -> None:
        """`watch`: the number of the present watch, None if the probe is off; `take`: the moves."""
        self._now = watch
        self._take = take
        # At the last look.
        self._watch: int | None = None

    def moved(self) -> SeenMoves | None:
        """Who was moved since the last call; None if that is not seen.

        After a time in which it was not seen, and at the first call, these may not be all.
        """
        before, self._watch = self._watch, self._now()
        if self._watch is None:
            return None
        moves = self._take()
        return moves if self._watch == before else moves._replace(whole=False)
