"""Decides what the live backend does next, and what it knows, from an explicit state. Pure.

`next_step` tries the RULES in their order. The backend takes the step, looks at the state again,
and asks again, until nothing is left to do. Such a pass takes each step at most once.
docs/design.md has the table of states and the table of rules, generated from this module.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import NamedTuple

from ksmwatch.counting.run_state import SCANNING, STOPPED, UNMERGED

DRIFTED = "counts have drifted"
RESUMED = "probes did not run for a while"


class Phase(Enum):
    """What is known about the counts; the first that applies."""

    REFUSED = "refused"
    STOPPED = "stopped"
    LOST = "lost"
    OUTDATED = "outdated"
    ASLEEP = "asleep"
    UNREAD = "unread"
    COUNTING = "counting"


class Step(StrEnum):
    """What can be done."""

    BEGIN_ANEW = "begin anew"
    WAKE = "wake"
    RENEW = "renew"
    SWEEP = "sweep"
    SETTLE = "settle"
    LOOK = "look at every count"
    SLEEP = "sleep"
    AUDIT = "audit"
    NOTHING = "nothing"


MEANS = {
    Phase.REFUSED: "a probe can no longer be attached",
    Phase.STOPPED: "attached probes do not run",
    Phase.LOST: "a probe was taken off",
    Phase.OUTDATED: "probes did not run for a while, or a count has drifted unseen",
    Phase.ASLEEP: "no KSM page exists and ksmd is stopped; only the sentry is attached",
    Phase.UNREAD: "something happened after which any process may be wrong",
    Phase.COUNTING: "events are counted",
}


class State(NamedTuple):
    """All that the next step depends on.

    Hooks: `hooked`: the hot hooks are attached. `refused`: why they could not be attached; the next
    attempt is at `retry_at`. `stopped`: why attached probes do not run. `lost`: a probe that was
    taken off. `resumes`: how often probes ran again after a stop; the last attachment of all probes
    has made up for `resumes_renewed` of these. Likewise `drift` and `drift_renewed`, in
    pages.

    Signs: how often something happened after which any process may be wrong (`signs`), and how
    many of these a later sweep has followed (`signs_swept`). The next sweep may begin at
    `sweep_at`, or at `awaited_at` if a request waits for it.

    Processes: `roomless` found no room for an account, `denied` could not be read, `disturbed`
    were not read undisturbed when every process had to be. `unsettled`: an account may be in doubt.

    Sleep: `stirred`: a KSM page may have been mapped since the hooks were detached. `zero`:
    whether every count is known to be 0; None if this pass has not looked.
    """

    now: float
    hooked: bool
    refused: str | None = None
    retry_at: float = 0.0
    stopped: str | None = None
    lost: str | None = None
    resumes: int = 0
    resumes_renewed: int = 0
    drift: int = 0
    drift_renewed: int = 0
    renew_at: float = 0.0
    signs: int = 0
    signs_swept: int = 0
    sweep_at: float = 0.0
    awaited_at: float = 0.0
    roomless: int = 0
    denied: int = 0
    disturbed: int = 0
    unsettled: bool = False
    run: int | None = None
    pages_shared: int | None = None
    sees_swapins: bool = True
    stirred: bool = False
    zero: bool | None = None
    # What is allowed: any reads, patience (no request waits), reads of processes not in doubt.
    heals: bool = True
    patient: bool = True
    audits: bool = False
    # Steps that this pass has taken.
    taken: frozenset[Step] = frozenset()

    @property
    def outdated(self) -> str | None:
        """Why all probes have to be reattached although each is attached."""
        if self.resumes != self.resumes_renewed:
            # Kernel 6.1 does not put every trampoline on again.
            return RESUMED
        return DRIFTED if self.drift != self.drift_renewed else None

    @property
    def unknown(self) -> str | None:
        """Why no count is known, whatever was read."""
        return self.refused or self.stopped or self.lost or self.outdated

    @property
    def unread(self) -> str | None:
        """Why any count may be wrong until every process has been read."""
        unread = self.signs - self.signs_swept
        if not unread:
            return None
        return f"events concern processes that have not been read yet ({unread})"

    @property
    def loss(self) -> str | None:
        """A loss that may make counts wrong. Drift is not one: nothing was seen."""
        outdated = self.outdated if self.outdated != DRIFTED else None
        return self.refused or self.stopped or self.lost or outdated or self.unread

    @property
    def doubt(self) -> str | None:
        """Why the sum over the host is unknown; None if it is known."""
        return self.unknown or self._incomplete or self.unread

    @property
    def _incomplete(self) -> str | None:
        """The processes that the sum lacks."""
        if self.roomless:
            plural = "es have" if self.roomless > 1 else " has"
            return f"the account map is full: {self.roomless} process{plural} no account"
        if self.denied:
            return f"{self.denied} process{'es' * (self.denied > 1)} cannot be read"
        if self.disturbed:
            plural = "es have" if self.disturbed > 1 else " has"
            return f"{self.disturbed} process{plural} not been read undisturbed yet"
        return None

    @property
    def asleep(self) -> bool:
        """Whether the hooks are off because there is nothing to see, not because they must be."""
        return self.phase is Phase.ASLEEP

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do until something happens."""
        known = self.phase in (Phase.ASLEEP, Phase.COUNTING) and self.doubt is None
        return known and not self.unsettled

    @property
    def phase(self) -> Phase:
        """What is known about the counts."""
        reasons = {
            Phase.REFUSED: self.refused,
            Phase.STOPPED: self.stopped,
            Phase.LOST: self.lost,
            Phase.OUTDATED: self.outdated,
            Phase.ASLEEP: not self.hooked,
            Phase.UNREAD: self.unread,
        }
        return next((phase for phase, reason in reasons.items() if reason), Phase.COUNTING)


class Rule(NamedTuple):
    """A step and when it is due: with the hooks attached or not (`hooked`), and if `holds`.

    `when` says the same to a reader; `why` is the reason in one case.
    """

    step: Step
    hooked: bool
    when: str
    holds: Callable[[State], bool]
    why: Callable[[State], str]


class Effect(NamedTuple):
    """What a step does, and the states it leads to if nothing else happens meanwhile.

    `stays`: also the state in which it began.
    """

    does: str
    leads_to: tuple[Phase, ...] = ()
    stays: bool = False


EFFECTS = {
    Step.BEGIN_ANEW: Effect(
        "all probes off, accounts closed, all probes on, every process read",
        (Phase.COUNTING, Phase.REFUSED, Phase.STOPPED),
    ),
    Step.WAKE: Effect(
        "hooks on; every process read, unless no KSM page can have been mapped",
        (Phase.COUNTING, Phase.UNREAD, Phase.REFUSED, Phase.STOPPED),
    ),
    Step.RENEW: Effect(
        "all probes off and on, every process read; accounts closed, every process read again",
        (Phase.COUNTING, Phase.REFUSED),
    ),
    Step.SWEEP: Effect(
        "every process read; accounts not trusted until then",
        (Phase.COUNTING, Phase.STOPPED, Phase.LOST, Phase.OUTDATED),
    ),
    Step.SETTLE: Effect(
        "those in doubt, without an account or not read are read, within the budget",
        (Phase.OUTDATED,),
        stays=True,
    ),
    Step.LOOK: Effect("every count is compared with 0", stays=True),
    Step.SLEEP: Effect("hooks off, accounts closed", (Phase.ASLEEP,)),
    Step.AUDIT: Effect(
        "processes are read in turn, within the allowance", (Phase.OUTDATED,), stays=True
    ),
    Step.NOTHING: Effect("the pass is over", stays=True),
}


class Decision(NamedTuple):
    """The next step, and its reason."""

    step: Step
    why: str


def _renewal(state: State) -> str:
    return state.lost or state.outdated or ""


def _asleep_possible(state: State) -> bool:
    """What is cheap to check. A page only in the swap cache still counts as shared."""
    return (
        state.run in (STOPPED, UNMERGED)
        and state.sees_swapins
        and state.pages_shared == 0
        and state.doubt is None
        # After waking up, it stays awake for this pass.
        and not state.taken & {Step.WAKE, Step.BEGIN_ANEW}
    )


def _settles(state: State) -> bool:
    residue = state.run == UNMERGED and state.pages_shared == 0
    return state.heals and (state.unsettled or state.roomless + state.disturbed > 0 or residue)


RULES = (
    Rule(
        Step.NOTHING,
        hooked=False,
        when="an attachment was refused, and the next attempt is not due",
        holds=lambda s: s.now < s.retry_at,
        why=lambda s: s.refused or "",
    ),
    Rule(
        Step.BEGIN_ANEW,
        hooked=False,
        when="a probe was taken off, did not run, or counts have drifted",
        holds=lambda s: bool(s.lost or s.outdated),
        why=_renewal,
    ),
    Rule(
        Step.WAKE,
        hooked=False,
        when="an attachment was refused, and the next attempt is due",
        holds=lambda s: s.refused is not None,
        why=lambda s: s.refused or "",
    ),
    Rule(
        Step.WAKE,
        hooked=False,
        when="ksmd scans",
        holds=lambda s: s.run == SCANNING,
        why=lambda _: "ksmd scans",
    ),
    Rule(
        Step.WAKE,
        hooked=False,
        when="a KSM page may have been mapped meanwhile",
        holds=lambda s: s.stirred,
        why=lambda _: "a KSM page may have been mapped meanwhile",
    ),
    Rule(
        Step.NOTHING,
        hooked=False,
        when="otherwise",
        holds=lambda _: True,
        why=lambda _: "there is no KSM page and ksmd is stopped",
    ),
    Rule(
        Step.RENEW,
        hooked=True,
        when="a probe was taken off, did not run for a while, or counts have drifted; probes are "
        "not stopped now; the last renewal is long enough ago",
        holds=lambda s: (
            s.heals and bool(s.lost or s.outdated) and s.stopped is None and s.now >= s.renew_at
        ),
        why=_renewal,
    ),
    Rule(
        Step.SWEEP,
        hooked=True,
        when="any process may be wrong; the last sweep is long enough ago, or a request waits and "
        "recent sweeps took little",
        holds=lambda s: (
            s.heals
            and s.unread is not None
            and s.now >= (s.sweep_at if s.patient else s.awaited_at)
        ),
        why=lambda s: s.unread or "",
    ),
    Rule(
        Step.SETTLE,
        hooked=True,
        when="an account is in doubt, a process has no account or was not read, or KSM has "
        "unmerged everything and mappings are left",
        holds=_settles,
        why=lambda _: "some processes are in doubt",
    ),
    Rule(
        Step.LOOK,
        hooked=True,
        when="ksmd is stopped, no KSM page exists, and the host's sum is known",
        holds=lambda s: _asleep_possible(s) and s.zero is None,
        why=lambda _: "there may be nothing to count",
    ),
    Rule(
        Step.SLEEP,
        hooked=True,
        when="the same, and every count was just seen to be 0",
        holds=lambda s: _asleep_possible(s) and s.zero is True,
        why=lambda _: "there is no KSM page and ksmd is stopped",
    ),
    Rule(
        Step.AUDIT,
        hooked=True,
        when="no request waits, and CPU time of the allowance is left",
        holds=lambda s: s.heals and s.audits,
        why=lambda _: "CPU time of the allowance is left",
    ),
    Rule(
        Step.NOTHING,
        hooked=True,
        when="otherwise",
        holds=lambda _: True,
        why=lambda _: "nothing is due",
    ),
)


def next_step(state: State) -> Decision:
    """The first step that is due and has not been taken in this pass."""
    rule = next(
        rule
        for rule in RULES
        if rule.hooked == state.hooked and rule.step not in state.taken and rule.holds(state)
    )
    return Decision(rule.step, rule.why(state))
