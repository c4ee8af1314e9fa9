"""The tables of states and steps in docs/design.md, from the rules of the live backend."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from ksmwatch.counting.next_step import (
    EFFECTS,
    MEANS,
    RULES,
    Phase,
    Rule,
    State,
    Step,
    next_step,
)
from ksmwatch.counting.run_state import SCANNING, STOPPED, UNMERGED

BEGIN = "<!-- made by `make docs` from ksmwatch/counting/next_step.py -->"
END = "<!-- end of what is made -->"


def states() -> Iterator[State]:
    """One state for each combination of facts that can make a difference."""
    yes_or_no = (False, True)
    for hooked, refused, due, stopped, lost, outdated, unread in product(yes_or_no, repeat=7):
        if hooked and refused:
            # What is refused is off.
            continue
        for run, (mapped, stirred, unsettled, heals, patient, audits) in product(
            (STOPPED, SCANNING, UNMERGED), product(yes_or_no, repeat=6)
        ):
            yield State(
                now=1.0,
                hooked=hooked,
                refused="a probe is refused" if refused else None,
                retry_at=2.0 if refused and not due else 0.0,
                stopped="probes are stopped" if stopped else None,
                lost="a probe is lost" if lost else None,
                resumes=int(outdated),
                renew_at=0.0 if due else 2.0,
                signs=int(unread),
                sweep_at=0.0 if due else 2.0,
                unsettled=unsettled,
                run=run,
                pages_shared=int(mapped),
                stirred=stirred,
                zero=None if mapped or hooked else True,
                heals=heals,
                patient=patient,
                audits=audits,
            )


def _steps_by_phase() -> dict[Phase, set[Step]]:
    found: dict[Phase, set[Step]] = {phase: set() for phase in Phase}
    for state in states():
        found[state.phase].add(next_step(state).step)
    return found


def _phases() -> Iterator[str]:
    yield "| state | when (the first that applies) | counts | first step of a pass |"
    yield "|---|---|---|---|"
    steps = _steps_by_phase()
    exact = {
        Phase.ASLEEP: "all are 0",
        Phase.COUNTING: "exact, but for those in doubt",
    }
    for phase in Phase:
        names = ", ".join(str(step) for step in Step if step in steps[phase])
        yield f"| {phase.value} | {MEANS[phase]} | {exact.get(phase, 'estimated')} | {names} |"


def _leads_to(rule: Rule) -> str:
    effect = EFFECTS[rule.step]
    names = [phase.value for phase in effect.leads_to]
    return ", ".join([*(["the same"] if effect.stays else []), *names])


def _rules() -> Iterator[str]:
    yield "| hooks | when (the first that applies) | step | what it does | leads to |"
    yield "|---|---|---|---|---|"
    for rule in RULES:
        hooks = "on" if rule.hooked else "off"
        does = EFFECTS[rule.step].does
        yield f"| {hooks} | {rule.when} | {rule.step} | {does} | {_leads_to(rule)} |"


def tables() -> str:
    """Both, as Markdown."""
    return "\n".join([*_phases(), "", *_rules()])


def put_into(document: str) -> str:
    """The document with the tables in the place that is marked for them."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"
