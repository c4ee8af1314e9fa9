"""The next step, from a state."""

from __future__ import annotations

from typing import Any

import pytest

from ksmwatch.counting.next_step import DRIFTED, RESUMED, Phase, State, Step, next_step
from ksmwatch.counting.run_state import SCANNING, STOPPED, UNMERGED
from tools.state_table import states

ON = State(now=100.0, hooked=True, run=SCANNING, pages_shared=5)
OFF = ON._replace(hooked=False, run=STOPPED, pages_shared=0)
IDLE = ON._replace(run=STOPPED, pages_shared=0)


@pytest.mark.parametrize(
    ("changes", "step", "why"),
    [
        ({}, Step.NOTHING, "there is no KSM page and ksmd is stopped"),
        ({"run": SCANNING}, Step.WAKE, "ksmd scans"),
        ({"run": None}, Step.NOTHING, "there is no KSM page and ksmd is stopped"),
        ({"stirred": True}, Step.WAKE, "a KSM page may have been mapped meanwhile"),
        ({"lost": "gone"}, Step.BEGIN_ANEW, "gone"),
        ({"resumes": 1}, Step.BEGIN_ANEW, RESUMED),
        ({"refused": "no", "retry_at": 101.0, "lost": "gone"}, Step.NOTHING, "no"),
        ({"refused": "no", "retry_at": 100.0, "lost": "gone"}, Step.BEGIN_ANEW, "gone"),
        # Whatever it was put on for: what cannot be attached is tried again.
        ({"refused": "no", "retry_at": 100.0}, Step.WAKE, "no"),
    ],
)
def test_with_the_hooks_off(changes: dict[str, Any], step: Step, why: str) -> None:
    decision = next_step(OFF._replace(**changes))
    assert (decision.step, decision.why) == (step, why)


@pytest.mark.parametrize(
    ("changes", "step", "why"),
    [
        ({}, Step.NOTHING, "nothing is due"),
        ({"lost": "gone"}, Step.RENEW, "gone"),
        ({"lost": "gone", "renew_at": 101.0}, Step.NOTHING, "nothing is due"),
        ({"lost": "gone", "stopped": "off"}, Step.NOTHING, "nothing is due"),
        ({"lost": "gone", "heals": False}, Step.NOTHING, "nothing is due"),
        ({"drift": 7}, Step.RENEW, DRIFTED),
        ({"drift": 7, "drift_renewed": 7}, Step.NOTHING, "nothing is due"),
        ({"resumes": 2, "resumes_renewed": 1, "drift": 1}, Step.RENEW, RESUMED),
        ({"drift": 7, "taken": frozenset({Step.RENEW})}, Step.NOTHING, "nothing is due"),
        (
            {"signs": 3, "signs_swept": 1},
            Step.SWEEP,
            "events concern processes that have not been read yet (2)",
        ),
        ({"signs": 3, "sweep_at": 101.0}, Step.NOTHING, "nothing is due"),
        ({"signs": 3, "heals": False}, Step.NOTHING, "nothing is due"),
        ({"unsettled": True}, Step.SETTLE, "some processes are in doubt"),
        ({"roomless": 1}, Step.SETTLE, "some processes are in doubt"),
        ({"disturbed": 1}, Step.SETTLE, "some processes are in doubt"),
        # That it is refused once more would only be counted once more.
        ({"denied": 1}, Step.NOTHING, "nothing is due"),
        ({"run": UNMERGED, "pages_shared": 0}, Step.SETTLE, "some processes are in doubt"),
        ({"audits": True}, Step.AUDIT, "CPU time of the allowance is left"),
        ({"audits": True, "heals": False}, Step.NOTHING, "nothing is due"),
    ],
)
def test_with_the_hooks_on(changes: dict[str, Any], step: Step, why: str) -> None:
    decision = next_step(ON._replace(**changes))
    assert (decision.step, decision.why) == (step, why)


def test_who_waits_does_not_wait_for_the_pace_of_sweeps() -> None:
    paced = ON._replace(signs=3, sweep_at=101.0)
    assert next_step(paced._replace(patient=False)).step is Step.SWEEP


def test_even_who_waits_gets_no_sweep_after_sweep() -> None:
    paced = ON._replace(signs=3, sweep_at=109.0, awaited_at=101.0, patient=False)
    assert next_step(paced).step is Step.NOTHING
    assert next_step(paced._replace(now=101.0)).step is Step.SWEEP


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, Step.LOOK),
        ({"zero": True}, Step.SLEEP),
        ({"zero": False, "taken": frozenset({Step.LOOK})}, Step.NOTHING),
        ({"run": SCANNING}, Step.NOTHING),
        ({"run": None}, Step.NOTHING),
        ({"pages_shared": 1}, Step.NOTHING),
        ({"pages_shared": None}, Step.NOTHING),
        ({"sees_swapins": False}, Step.NOTHING),
        ({"denied": 1}, Step.NOTHING),
        ({"stopped": "off"}, Step.NOTHING),
        ({"taken": frozenset({Step.WAKE})}, Step.NOTHING),
    ],
)
def test_going_to_sleep(changes: dict[str, Any], step: Step) -> None:
    assert next_step(IDLE._replace(**changes)).step is step


@pytest.mark.parametrize(
    ("changes", "phase", "doubt"),
    [
        ({}, Phase.COUNTING, None),
        ({"signs": 1}, Phase.UNREAD, "events concern processes that have not been read yet (1)"),
        ({"hooked": False}, Phase.ASLEEP, None),
        ({"drift": 1, "signs": 1}, Phase.OUTDATED, DRIFTED),
        ({"lost": "gone", "drift": 1}, Phase.LOST, "gone"),
        ({"stopped": "off", "lost": "gone"}, Phase.STOPPED, "off"),
        ({"refused": "no", "stopped": "off", "hooked": False}, Phase.REFUSED, "no"),
        ({"roomless": 2}, Phase.COUNTING, "the account map is full: 2 processes have no account"),
        ({"denied": 1}, Phase.COUNTING, "1 process cannot be read"),
        ({"disturbed": 1}, Phase.COUNTING, "1 process has not been read undisturbed yet"),
    ],
)
def test_what_is_known(changes: dict[str, Any], phase: Phase, doubt: str | None) -> None:
    state = ON._replace(**changes)
    assert (state.phase, state.doubt) == (phase, doubt)


def test_drift_explains_no_wrong_count() -> None:
    assert ON._replace(drift=1).loss is None
    assert ON._replace(drift=1, signs=1).loss is not None


def test_every_pass_ends() -> None:
    """No step is taken twice, whatever the steps before have led to."""
    for state in states():
        taken: frozenset[Step] = frozenset()
        while (step := next_step(state._replace(taken=taken)).step) is not Step.NOTHING:
            assert step not in taken
            taken |= {step}


def test_nobody_sleeps_unless_everything_is_known_to_be_zero() -> None:
    asleep = [state for state in states() if next_step(state).step is Step.SLEEP]
    # The states of the table have not looked yet.
    assert asleep == []
    looked = [state._replace(zero=True) for state in states() if state.hooked]
    slept = [state for state in looked if next_step(state).step is Step.SLEEP]
    assert slept
    for state in slept:
        assert (state.doubt, state.pages_shared) == (None, 0)
        assert state.run in (STOPPED, UNMERGED)
