"""The probes of the plan: attached, detached, refused, lost, or stopped.

Two groups are attached separately: the sentry, which can see KSM stir, and the hooks that count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ksmwatch.backoff import Backoff
from ksmwatch.counting.backend_state import ProbeState
from ksmwatch.counting.host import Host
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.probe_switches import ProbeSwitches
from ksmwatch.probes.attachments import AttachError, Attachments
from ksmwatch.probes.plan import Plan, Probe

# In nanoseconds.
_NEVER = 1 << 63
# The hook on migrate_pages().
_CALLS = "migrate"
# That on a process's move to another cgroup.
_CGROUP = "cgroup"
# Events whose loss makes a count wrong. A missed mm_goes shows as a stale account, a missed
# mm_opened as an unattributed read.
_COUNTING = frozenset(
    {
        "rmap_add",
        "rmap_remove",
        "migrate",
        "moves_away",
        "merge",
        "protect",
        "enter",
        "fork",
        "tree_grows",
        "tree_shrinks",
        "move",
    }
)


class HookState(NamedTuple):
    """What is known about the hooks.

    `on`: the counting hooks are attached. `refused`: why they could not be attached. `retry_at`:
    when to try again. `stopped`: why attached probes did not run at the last look. `lost`: a probe
    that was not attached although it should have been. `stops`: how many looks found them stopped,
    or running again. `resumes`: how many found them running again.
    """

    on: bool = False
    refused: str | None = None
    retry_at: float = 0.0
    stopped: str | None = None
    stops: int = 0
    resumes: int = 0
    lost: str | None = None


class Hooks:
    """Attaches and detaches the probes of a plan, and sees what others do to them."""

    def __init__(self, plan: Plan, attachments: Attachments, host: Host) -> None:
        self.plan = plan
        self._attachments = attachments
        self.losses: Counter[str] = Counter()
        self._host = host
        self._sentry = [probe for probe in plan.probes if probe.asleep]
        self._counting = [probe for probe in plan.probes if not probe.asleep]
        kprobes = Mechanism.KPROBE in {probe.mechanism for probe in plan.probes}
        self._switches = ProbeSwitches(host.proc, host.sys, kprobes=kprobes)
        # An attempt attaches and detaches a dozen programs, so a request must not wait for each.
        self._backoff = Backoff()
        self._state = HookState()
        self._calls_since, self._calls_missed = 0, 0
        # How often the sentry was attached.
        self._watches = 0
        # Of each probe that counts depend on, at the last look.
        self._skipped: dict[str, int] = {}
        # Whether each probe was attached, and its skipped runs, when they were last shown.
        self._shown: list[tuple[bool, int]] = []
        self._probes: tuple[ProbeState, ...] = ()

    @property
    def state(self) -> HookState:
        """The result of the last look."""
        return self._state

    def _becomes(self, **changes: Any) -> None:
        self._state = self._state._replace(**changes)

    @property
    def see_swapins(self) -> bool:
        """Whether the sentry would see a KSM page come back from the swap cache."""
        return self._sentry_has("swapin")

    def _sentry_has(self, event: str) -> bool:
        return any(probe.event == event for probe in self._sentry)

    # ---- on and off ----

    def put_sentry_on(self) -> None:
        """Attach the sentry. Raises AttachError."""
        self._attachments.attach(self._sentry)
        self._watch()

    def put_on(self) -> None:
        """Attach the counting hooks. Raises AttachError."""
        self._attachments.attach(self._counting)
        self._becomes(on=True)

    def take_off(self) -> None:
        """Detach the counting hooks."""
        self._attachments.detach(self._counting)
        self._becomes(on=False)

    def take_all_off(self) -> None:
        """Detach everything. A lost probe no longer matters."""
        self._attachments.detach(self.plan.probes)
        self._becomes(on=False, lost=None)

    def put_all_on(self) -> None:
        """Attach everything. Raises AttachError."""
        self._attachments.attach(self.plan.probes)
        self._watch()
        self._becomes(on=True)

    def attempt(self, attach: Callable[[], None]) -> bool:
        """Attach. The kernel may refuse what it accepted before; then it is tried again later."""
        try:
            attach()
        except AttachError as error:
            self.losses["attach_failed"] += 1
            why = f"{error.probe.symbol} can no longer be attached: {error.strerror}"
            self._becomes(refused=why, retry_at=self._host.clock() + self._backoff.next())
            return False
        self._backoff = Backoff()
        self._becomes(refused=None, retry_at=0.0)
        return True

    def _watch(self) -> None:
        """The sentry sees everything from now on."""
        self._watches += 1
        self._see_calls()

    # ---- calls of migrate_pages() ----

    def calls_since(self) -> int:
        """From when on every call is seen, by the clock of the programs."""
        if self._calls_missed != self._missed_calls():
            self._see_calls()
        return self._calls_since

    def _see_calls(self) -> None:
        """From now on; never if there is no hook on them."""
        self._calls_since = self._host.nanoseconds() if self._sentry_has(_CALLS) else _NEVER
        self._calls_missed = self._missed_calls()

    def _missed_calls(self) -> int:
        return sum(self._missed_by({_CALLS}).values())

    # ---- moves to other cgroups ----

    def cgroup_watch(self) -> int | None:
        """The number of the watch in which moves are seen; None if they are not.

        What moved between two watches was not seen.
        """
        state = self._state
        watched = self._sentry_has(_CGROUP) and state.lost is None and state.refused is None
        return self._watches if watched else None

    # ---- what a daemon before us has left ----

    def sentry_holds(self) -> bool:
        """Whether the sentry is attached."""
        return self._attachments.holds(self._sentry)

    def adopt(self, calls_since: int) -> bool:
        """Continue with hooks that are all attached; False if they are not."""
        self._calls_since = calls_since
        self._becomes(on=self._attachments.holds(self.plan.probes))
        return self._state.on

    # ---- what others do ----

    def look(self) -> None:
        """Check that probes run, and that each that should be attached is."""
        self.look_at_switches()
        self.look_for_lost()

    def look_at_switches(self) -> None:
        """Check that probes run.

        While probes do not run, and once more afterwards, any process may be wrong.
        """
        stopped, state = self._switches.stopped(), self._state
        if stopped is None and state.stopped is None:
            return
        if state.stopped is None:
            self.losses["probes_stopped"] += 1
        resumes = state.resumes + (stopped is None)
        self._becomes(stopped=stopped, stops=state.stops + 1, resumes=resumes)

    @property
    def _wanted(self) -> Sequence[Probe]:
        """The probes that should be attached."""
        return self.plan.probes if self._state.on else self._sentry

    def look_for_lost(self) -> None:
        """Check that each probe that should be attached is."""
        if self._state.lost is not None:
            # Its misses still count, even if it is attached again.
            return
        lost = self._attachments.first_lost(self._wanted)
        if lost is not None:
            self.losses["probes_lost"] += 1
            self._becomes(lost=f"the probe on {lost.symbol} was taken off")

    # ---- skipped runs ----

    def missed(self) -> int:
        """Runs that the kernel skipped, of probes that counts depend on."""
        self._skipped = self._missed_by(_COUNTING)
        return sum(self._skipped.values())

    def _missed_by(self, events: Collection[str]) -> dict[str, int]:
        probes = (probe for probe in self.plan.probes if probe.event in events)
        return {probe.event: self._missed(probe) for probe in probes}

    def _missed(self, probe: Probe) -> int:
        return sum(self._attachments.missed(program) for program in probe.programs)

    def probes(self) -> tuple[ProbeState, ...]:
        """The state of every probe of the plan; the same object if none has changed.

        Whether it was attached at the last look, if none was lost. Skipped runs of probes that
        counts depend on are those of the last look as well.
        """
        held = {probe.event for probe in self._wanted} if self._state.lost is None else set()
        skipped = self._skipped
        shown = [
            (
                probe.event in held or self._attachments.holds([probe]),
                skipped[probe.event] if probe.event in skipped else self._missed(probe),
            )
            for probe in self.plan.probes
        ]
        if shown != self._shown:
            self._shown = shown
            self._probes = tuple(
                ProbeState(probe.event, probe.mechanism, probe.symbol, *state)
                for probe, state in zip(self.plan.probes, shown, strict=True)
            )
        return self._probes

    @property
    def kept(self) -> bool:
        """Whether every attachment outlives the daemon, if anything is kept."""
        return not self._attachments.unkept

    def discard(self) -> None:
        """Detach everything and release the programs."""
        self._attachments.detach(self._counting)
        self._attachments.detach(self._sentry)
        self._attachments.close()
        self._becomes(on=False)
