"""No sequence of events leads to a count that is called exact and is wrong.

Hypothesis invents sequences on a kernel that knows the truth: KSM at work, every kind of loss that
announces itself, hooks that others take off, stop or refuse, processes that cannot be read, a
daemon that is killed at any moment. After each pass of the backend all that it claims is compared.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.backend import Budget
from ksmwatch.counting.live_backend import Live, _Pass
from ksmwatch.counting.next_step import EFFECTS, Step
from ksmwatch.probes.map_records import Control, Conversion, Migrations, Movement
from tests.fake_kernel import FakeReader
from tests.ruled_kernel import HAPPENS, Town, events

EXAMPLES = 40
COUNTING = ("rmap_add", "rmap_remove", "merge", "protect", "enter", "fork", "move", "migrate")
OTHERS = ("mm_goes", "mm_opened", "swapin")


class KilledError(BaseException):
    """kill -9 of the daemon."""


class Watched(Live):
    """Compares what each step leads to with what docs/design.md says of it."""

    def _act(self, step: Step, why: str, at: _Pass) -> _Pass:
        reader = self._accounting._reader._reader
        assert isinstance(reader, FakeReader)
        quiet, before = not reader.kernel.after_reads, self._state(at).phase
        at = super()._act(step, why, at)
        effect, after = EFFECTS[step], self._state(at).phase
        if quiet:
            assert after in effect.leads_to or (effect.stays and after is before), (step, after)
        return at


class Truth(RuleBasedStateMachine):
    """Sequences of events and passes."""

    # So that a run that has compared nothing does not pass.
    right = 0

    @initialize(
        run=st.sampled_from([1, 1, 1, 1, 0, 2]), pages=st.lists(st.integers(0, 3), max_size=4)
    )
    def begin(self, run: int, pages: list[int]) -> None:
        """Some processes with this many pages."""
        self.directory = tempfile.TemporaryDirectory()
        self.town = Town(Path(self.directory.name))
        for number in pages:
            self.town.born(0)
            self.town.pages[self.town.users[max(self.town.users)]] = number
        self.town.sys.write("run", run)
        self.town.share()
        self.looked = True
        self.live = self.daemon()
        self.live.start()

    def teardown(self) -> None:
        """Nothing is left."""
        self.directory.cleanup()

    def daemon(self) -> Live:
        """One that audits."""
        return self.town.live(policy=Policy(0.05), kind=Watched)

    # ---- the world ----

    @rule(happening=st.lists(events, min_size=1, max_size=8))
    def happens(self, happening: list[tuple[str, int]]) -> None:
        """In this order."""
        for name, which in happening:
            HAPPENS[name](self.town, which)
        self.town.share()

    @rule(run=st.sampled_from([0, 1, 2]))
    def ksm_is_told(self, run: int) -> None:
        """By its `run`."""
        self.town.sys.write("run", run)
        if run == 2:
            # It unmerges what it knows, before the write returns.
            for mm, pages in list(self.town.pages.items()):
                if pages > self.town.moving[mm] and mm not in self.town.converting:
                    self.town.move(mm, pages - self.town.moving[mm], Movement.COPIED)
            self.town.swapped.clear()
        self.town.share()

    @rule(event=st.sampled_from(COUNTING + OTHERS))
    def a_probe_is_taken_off(self, event: str) -> None:
        """By another tool."""
        self.town.take_off(event)

    @precondition(lambda self: self.looked)
    @rule(value=st.integers(0, 1))
    def probes_are_stopped_or_go_on(self, value: int) -> None:
        """The daemon looks every second, so it sees every stop of this length."""
        self.town.switch(value)
        self.looked = False

    @rule(event=st.sampled_from([*COUNTING, *OTHERS, None]))
    def attaching_is_refused_or_not(self, event: str | None) -> None:
        """From now on."""
        self.town.refused = set() if event is None else {event}

    @rule(seconds=st.sampled_from([0.5, 1, 5, 40, 100]))
    def time_passes(self, seconds: float) -> None:
        """Nothing else happens. No call of migrate_pages() lasts as long as the longest."""
        if seconds > 30:
            self.town.end_migrations(0)
        self.town.clock.now += seconds

    # ---- the daemon ----

    def during(self, inside: list[tuple[str, int] | None]) -> None:
        """So many reads from now on are disturbed; None: the daemon is killed at that one."""

        def happen(event: tuple[str, int] | None) -> None:
            if event is None:
                raise KilledError
            self.town.clock.now += 0.1
            self.happens([event])

        def nothing() -> None:
            pass

        early, late = self.town.during_reads, self.town.after_reads
        early.clear()
        late.clear()
        for event in inside:
            # The PTEs are counted after it, or before.
            at = partial(happen, event)
            early.append(nothing if event and event[1] % 2 else at)
            late.append(at if event and event[1] % 2 else nothing)

    @rule(
        inside=st.lists(events | st.none(), max_size=6),
        seconds=st.sampled_from([-1, 3600]),
        patient=st.booleans(),
    )
    def pass_of_the_daemon(
        self, inside: list[tuple[str, int] | None], seconds: float, *, patient: bool
    ) -> None:
        """With or without budget."""
        self.during(inside)
        budget = Budget(seconds, self.town.clock)
        try:
            (self.live.tick if patient else self.live.refresh)(budget)
        except KilledError:
            self.is_killed_and_followed([], [])
            return
        self.during([])
        self.looked = True
        self.compare()

    @rule(inside=st.lists(events, max_size=4), before=st.lists(events, max_size=4))
    def is_killed_and_followed(
        self, inside: list[tuple[str, int]], before: list[tuple[str, int]]
    ) -> None:
        """What outlives it are maps, programs and attachments."""
        if before:
            self.happens(before)
        self.town.refused = set()
        if self.looked:
            # A stop that the one before has seen is over before the next one looks.
            self.town.switch(1)
        self.during([*inside])
        self.live = self.daemon()
        if not self.live.adopt():
            self.live.discard()
            self.town.accounts.clear()
            self.town.baselines.clear()
            self.town.totals.clear()
            self.town.missed.clear()
            self.town.migrations, self.town.calls = Migrations(0, 0), 0
            self.town.conversion = Conversion()
            self.town.control = Control(0, 0, 1, 0, 0, 0)
            self.live = self.daemon()
            self.live.start()
        self.during([])
        # It has not looked yet: every daemon makes a snapshot before it says anything.
        self.live.refresh(Budget(3600, self.town.clock))
        self.looked = True
        self.compare()

    # ---- the truth ----

    def compare(self) -> None:
        """Every claim with the truth."""
        town = self.town
        doubt = self.live.doubt
        claims: dict[int, tuple[int, bool]] = {
            each.mm: (each.mappings, each.exact) for each in self.live.counts()
        }
        for mm in set(town.users.values()) - town.converting:
            truth = town.pages[mm] - town.moving[mm]
            # Without an account nothing is mapped, if the host's sum is known.
            mappings, exact = claims.get(mm, (0, doubt is None))
            assert not exact or mappings == truth, (mm, mappings, truth, doubt)
            type(self).right += exact and truth > 0


@pytest.mark.timeout(0)
def test_what_is_called_exact_is_right() -> None:
    Truth.right = 0
    run_state_machine_as_test(
        Truth,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Truth.right > EXAMPLES
