"""Live accounting: the BPF programs count, and this keeps every count known or in doubt.

`next_step` decides what to do; this looks at the state, takes the step, and looks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from ksmwatch.config import Config
from ksmwatch.counting.accounting import Accounting
from ksmwatch.counting.ages import AgeState
from ksmwatch.counting.audit_schedule import DEFAULT_POLICY, Allowance, Policy
from ksmwatch.counting.backend import Budget, Counted
from ksmwatch.counting.backend_state import AuditState, MapState, Mode, ProbeState
from ksmwatch.counting.calm import Calm
from ksmwatch.counting.cgroup_watch import CgroupWatch
from ksmwatch.counting.exact_read import ExactReading, Readers
from ksmwatch.counting.findings import Sweep, Unread
from ksmwatch.counting.hooks import Hooks
from ksmwatch.counting.host import HERE, Host
from ksmwatch.counting.ledger import Count, uncounted
from ksmwatch.counting.next_step import State, Step, next_step
from ksmwatch.counting.run_state import STOPPED, UNMERGED, RunWatch
from ksmwatch.counting.steps import Steps
from ksmwatch.kernel import procfs
from ksmwatch.probes.attachments import AttachError, Attachments
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.persistence import Keep, Nowhere
from ksmwatch.probes.plan import Plan


class _Pass(NamedTuple):
    """What a pass may do, and what it has done. `zero`: the result of the step before."""

    budget: Budget
    patient: bool
    run: int | None
    taken: frozenset[Step] = frozenset()
    zero: bool | None = None
    # Before all counts were looked at.
    stirrings: int = 0


class Live:
    """The BPF backend. Only one thread may use it.

    While asleep, no KSM page exists, only the sentry is attached, and all counts are known to be 0.
    `progress` is called again and again while something takes long.
    """

    mode = Mode.BPF

    def __init__(
        self,
        plan: Plan,
        maps: Maps,
        attachments: Attachments,
        readers: Readers,
        *,
        keep: Keep | None = None,
        policy: Policy = DEFAULT_POLICY,
        progress: Callable[[], None] = lambda: None,
        host: Host = HERE,
    ) -> None:
        self.plan = plan
        self.run = RunWatch(host.clock)
        self._maps = maps
        self._keep = keep or Nowhere()
        self._host = host
        self._shared_file = procfs.pages_shared_file(host.sys)
        self._hooks = Hooks(plan, attachments, host)
        self.moved = CgroupWatch(self._hooks.cgroup_watch, maps.cgroup_moves.take).moved
        self._accounting = Accounting(
            maps, readers, self._explain, host, tells_missed=plan.tells_missed
        )
        self.evidence = self._accounting.evidence
        self._steps = Steps(self._hooks, maps, self._accounting, progress, host)
        self._adopted = self.rests = False
        self._calm = Calm(host.clock)
        self._said: tuple[bool, str | None] | None = None
        self._take(policy)

    @property
    def losses(self) -> Counter[str]:
        """All losses: those of the hooks, of accounting and of the steps."""
        return self._hooks.losses + self._accounting.losses + self._steps.losses

    # ---- beginning and end ----

    def start(self) -> None:
        """Attach everything and take the baseline. Raises AttachError."""
        self._steps.start()

    def adopt(self) -> bool:
        """Continue where an earlier daemon stopped; False if that is impossible."""
        with suppress(AttachError):
            self._adopted = self._steps.adopt()
        return self._adopted

    def stop(self) -> None:
        """Stop. Everything is detached, unless a keeper hands it to the next daemon."""
        if not self._keep.hands_over:
            self.discard()

    def discard(self) -> None:
        """Detach everything and free the maps."""
        self._hooks.discard()
        self._keep.clear()
        self._maps.close()

    def configure(self, settings: Config) -> None:
        """Apply a new policy of reading page tables."""
        self._take(Policy.of(settings))

    def _take(self, policy: Policy) -> None:
        self._heals = policy.heal
        self._steps.sample_ages(policy.one_in)
        self._allowance = Allowance(policy.share, self._host.clock, self._host.cpu)

    def _state(self, at: _Pass | None = None) -> State:
        """The current state, within a pass or outside of one."""
        hooks, accounting, done = self._hooks.state, self._accounting, self._steps.done
        run = self.run.state.run if at is None else at.run
        return State(
            now=self._host.clock(),
            hooked=hooks.on,
            refused=hooks.refused,
            retry_at=hooks.retry_at,
            stopped=hooks.stopped,
            lost=hooks.lost,
            resumes=hooks.resumes,
            resumes_renewed=done.resumes,
            drift=accounting.audited().drift,
            drift_renewed=done.drift,
            renew_at=done.renew_at,
            signs=self._steps.signs() + hooks.stops,
            signs_swept=done.signs + done.stops,
            sweep_at=done.sweep_at,
            awaited_at=done.awaited_at,
            roomless=accounting.missing(Unread.ROOMLESS),
            denied=accounting.missing(Unread.DENIED),
            disturbed=accounting.missing(Unread.DISTURBED),
            unsettled=accounting.unsettled(),
            run=run,
            pages_shared=None if at is None else self._pages_shared(run),
            sees_swapins=self._hooks.see_swapins,
            stirred=not hooks.on and self._steps.has_stirred(),
            zero=None if at is None else at.zero,
            heals=self._heals,
            patient=at is None or at.patient,
            audits=at is not None and at.patient and self._audits(),
            taken=frozenset() if at is None else at.taken,
        )

    def _pages_shared(self, run: int | None) -> int | None:
        """Read only if it matters for the next step: while ksmd is stopped."""
        return procfs.read_number(self._shared_file.read) if run in (STOPPED, UNMERGED) else None

    def _explain(self) -> str | None:
        """A loss that has not been looked for yet, and that explains a wrong count."""
        self._hooks.look()
        return self._state().loss

    @property
    def asleep(self) -> bool:
        """Whether the hooks are off because there is nothing to see, not because they must be."""
        return self._state().asleep

    @property
    def doubt(self) -> str | None:
        """Why the sum over the host is unknown; None if it is known."""
        return self._state().doubt

    def counts(self) -> list[Count]:
        """Every account's count, as of now. None is exact while any account may be wrong."""
        return self.counted().counts

    def counted(self) -> Counted:
        """The same, and what holds for all of them."""
        found = self._accounting.counts()
        # Asked afterwards: an alarm is raised before its cause makes counts wrong.
        state = self._state()
        unknown = state.unknown is not None or state.unread is not None
        conversion = self._maps.conversion()
        if unknown or conversion.in_place:
            found = [
                each._replace(exact=False) if unknown or uncounted(conversion, each.mm) else each
                for each in found
            ]
        return Counted(found, state.asleep, state.doubt)

    # ---- passes ----

    def tick(self, budget: Budget) -> bool:
        """Due work without requests: settle doubts, and audit within its CPU allowance."""
        self._allowance.accrue()
        run = self._steps.see_run(self.run)
        self._steps.tick_ages(run)
        happened = (run, *self._steps.happened())
        # While asleep all counts are 0, and none is audited.
        if self._calm.lasts(happened) and not (self._hooks.state.on and self._audits()):
            return False
        self._accounting.see_migrations()
        self._steps.see_conversion()
        self._hooks.look_for_lost()
        state = self._pass(_Pass(budget, patient=True, run=run))
        self._calm.see(happened if state.settled else None)
        self.rests = state.settled and state.asleep
        said, self._said = self._said, (self._hooks.state.on, state.doubt)
        return said != self._said

    def refresh(self, budget: Budget) -> None:
        """Settle doubts before a snapshot. Counts follow events by themselves."""
        self._hooks.look()
        self._pass(_Pass(budget, patient=False, run=self._steps.see_run(self.run)))
        self._calm.see(None)

    def _pass(self, at: _Pass) -> State:
        """Take one step after another until nothing is left to do."""
        while True:
            state = self._state(at)
            if state.unknown is not None:
                self._steps.tell_unknown()
            decision = next_step(state)
            if decision.step is Step.NOTHING:
                break
            at = at._replace(taken=at.taken | {decision.step}, zero=None)
            at = self._act(decision.step, decision.why, at)
        self._steps.tell()
        return state

    def _act(self, step: Step, why: str, at: _Pass) -> _Pass:
        match step:
            case Step.BEGIN_ANEW:
                self._hooks.attempt(self._steps.begin_anew)
            case Step.WAKE:
                self._hooks.attempt(self._steps.wake)
            case Step.RENEW:
                self._steps.renew(why)
            case Step.SWEEP:
                self._steps.sweep(Sweep(why))
            case Step.SETTLE:
                residue = at.run == UNMERGED and self._pages_shared(at.run) == 0
                self._accounting.settle(at.budget, self.run.state.since if residue else None)
            case Step.LOOK:
                stirrings = self._steps.stirrings()
                return at._replace(zero=self._accounting.all_zero(), stirrings=stirrings)
            case Step.SLEEP:
                self._steps.sleep(at.stirrings)
            case Step.AUDIT:
                self._accounting.audit(self._allowance)
        return at

    def _audits(self) -> bool:
        """Whether there is something to read, and CPU time for it."""
        return self._accounting.audits(self._allowance)

    def read(self, pid: int) -> ExactReading:
        """Read a process exactly, and settle its account if nothing moved meanwhile."""
        return self._accounting.read(pid)

    # ---- state for the snapshot ----

    def totals(self) -> dict[str, int]:
        """Totals of the host since the maps were created, by the names in `map_records`."""
        return self._maps.totals()

    def ages(self) -> AgeState | None:
        """How long mappings last; None if that is not known here."""
        return self._steps.age_state()

    def probes(self) -> tuple[ProbeState, ...]:
        """The state of every probe of the plan."""
        return self._hooks.probes()

    def audit_state(self) -> AuditState:
        """The work of the audit so far."""
        return self._accounting.audited()

    def map_state(self) -> MapState:
        """The use of the account map."""
        return MapState(
            accounts=self._maps.filled,
            limit=self._maps.limit,
            memory=self._maps.memory_bytes(),
            kept=self._keep.works and self._hooks.kept,
            adopted=self._adopted,
            programs=self._maps.origin.value,
            tells_copies=self._maps.call_site().copy != 0,
            nodes=self.plan.nodes if self._maps.node_place().shift else (),
            ageless=self.plan.ageless,
        )
