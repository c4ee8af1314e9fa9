"""``ksmwatch check``: what this host supports, the plan with the rejected probes, and losses."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from ksmwatch.commands import text_tables
from ksmwatch.config import Config
from ksmwatch.counting.choose_backend import obstacle_of, start_live
from ksmwatch.errors import Exit, NoDaemonError, NoLiveError, SourceError
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.facts import CAPABILITIES, Facts
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.probes.compile_flags import compile_flags
from ksmwatch.probes.configured_plan import plan_for
from ksmwatch.probes.obstacles import Obstacle
from ksmwatch.probes.plan import Plan
from ksmwatch.probes.programs import Programs
from ksmwatch.probes.shortcomings import warnings
from ksmwatch.schema_marks import Fields
from ksmwatch.snapshot.socket_client import fetch


class LiveState(StrEnum):
    """What is known about the probes of a plan."""

    UNTRIED = "not tried"
    WORKS = "works"
    # Each probe may work: what failed is something that all of them need.
    FAILED = "tried, not attached"


@dataclass(frozen=True)
class LiveVerdict:
    """The plan, its fate, and the obstacle if there is one."""

    plan: Plan
    state: LiveState
    obstacle: Obstacle | None
    # Their origin, once they were loaded.
    programs: str | None = None
    # What the programs can tell, once they were loaded; None before.
    tells_copies: bool | None = None
    tells_nodes: bool | None = None

    def warnings(self, facts: Facts) -> list[str]:
        """What live accounting misses on this host."""
        tells = {"tells_copies": self.tells_copies, "tells_nodes": self.tells_nodes}
        return warnings(facts, self.plan, **tells)


def _judge(facts: Facts, settings: Config) -> LiveVerdict:
    """By the facts and the kept programs alone."""
    plan = plan_for(facts, settings)
    obstacle = plan.obstacle
    if obstacle is None:
        flags = compile_flags(plan, facts, settings.accounts_max)
        obstacle = Programs(facts, settings.state_programs_path).obstacle(plan, flags)
    return LiveVerdict(plan, LiveState.UNTRIED, obstacle)


def _try(facts: Facts, settings: Config) -> LiveVerdict:
    """Attach. Returns the plan that the kernel accepted, or the last one tried with refusals."""
    verdict = _judge(facts, settings)
    if verdict.obstacle is not None:
        return verdict
    plans = [verdict.plan]
    try:
        live, plan = start_live(facts, settings, planned=plans.append)
    except (NoLiveError, SourceError, OSError) as error:
        return LiveVerdict(plans[-1], LiveState.FAILED, obstacle_of(error))
    state = live.map_state()
    live.stop()
    tells = state.tells_copies, bool(state.nodes)
    return LiveVerdict(plan, LiveState.WORKS, None, state.programs, *tells)


def run(settings: Config, *, as_json: bool, load: bool) -> Exit:
    """Print facts, plan and verdict; the exit status says whether live accounting is possible."""
    facts = read_facts()
    verdict = _try(facts, settings) if load else _judge(facts, settings)
    losses: dict[str, int] | None = None
    with contextlib.suppress(NoDaemonError):
        losses = fetch(Path(settings.socket))["losses"]
    if as_json:
        print(json.dumps(_document(facts, verdict, losses), indent=1))
    else:
        print(_text(facts, verdict, losses))
    return verdict.obstacle.status if verdict.obstacle else Exit.OK


class _Probe(TypedDict):
    event: str
    mechanism: Mechanism
    symbol: str


class _Planned(_Probe):
    state: LiveState


class _Rejected(_Probe):
    why: str
    tried: bool


class CheckDocument(TypedDict):
    """The output of `--json`."""

    schema: Literal["ksmwatch.check/1"]
    live: bool
    obstacle: str | None
    warnings: list[str]
    status: int
    facts: Annotated[dict[str, Any], Fields(Facts)]
    programs: str | None
    probes: list[_Planned]
    rejected: list[_Rejected]
    daemon_losses: dict[str, int] | None


def _document(facts: Facts, verdict: LiveVerdict, losses: dict[str, int] | None) -> CheckDocument:
    plan, obstacle = verdict.plan, verdict.obstacle
    return {
        "schema": "ksmwatch.check/1",
        "live": obstacle is None,
        "obstacle": obstacle.sentence if obstacle else None,
        "warnings": verdict.warnings(facts),
        "status": int(obstacle.status if obstacle else Exit.OK),
        "facts": facts.to_json(),
        "programs": verdict.programs,
        "probes": [
            {
                "event": p.event,
                "mechanism": p.mechanism,
                "symbol": p.symbol,
                "state": verdict.state,
            }
            for p in plan.probes
        ],
        "rejected": [
            {
                "event": r.event,
                "mechanism": r.mechanism,
                "symbol": r.symbol,
                "why": r.why,
                "tried": r.tried,
            }
            for r in plan.rejected
        ],
        "daemon_losses": losses,
    }


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _fact_rows(facts: Facts) -> list[tuple[str, str]]:
    layout = "kernel BTF" if facts.offsets else facts.headers or f"none ({facts.btf_error})"
    return [
        ("kernel", f"{facts.release} {facts.machine}"),
        ("KSM", _yes(facts.ksm)),
        ("uid", str(facts.uid)),
        ("struct layout", layout),
        ("bcc", facts.bcc or f"no ({facts.bcc_error})"),
        ("BPF program types", ", ".join(k for k, v in facts.bpf_programs.items() if v) or "none"),
        ("BPF trampolines", _yes(facts.trampolines)),
        ("kprobes", _yes(facts.kprobes)),
        ("lockdown", facts.lockdown),
        ("smaps has a KSM line", _yes(facts.smaps_ksm)),
        ("ksm_stat per process", _yes(facts.ksm_stat)),
    ]


def _nodes(facts: Facts, plan: Plan) -> str:
    if plan.nodeless is not None:
        return f"{len(facts.memory_nodes)}, not told apart: {plan.nodeless}"
    return f"{len(plan.nodes)}, told apart" if plan.nodes else "one"


def _text(facts: Facts, verdict: LiveVerdict, losses: dict[str, int] | None) -> str:
    plan, obstacle = verdict.plan, verdict.obstacle
    rows = _fact_rows(facts)
    if verdict.programs is not None:
        rows.append(("BPF programs", verdict.programs))
    if plan.probes:
        rows.append(("age of mappings", f"unknown: {plan.ageless}" if plan.ageless else "kept"))
        rows.append(("nodes of memory", _nodes(facts, plan)))
    parts = [text_tables.table(("FACT", "VALUE"), rows)]
    capabilities = [(name, _yes(name in facts.capabilities)) for name in CAPABILITIES]
    parts.append(text_tables.table(("CAPABILITY", "HELD"), capabilities))
    if plan.probes:
        probes = [(p.event, p.mechanism.value, p.symbol, verdict.state.value) for p in plan.probes]
        parts.append(text_tables.table(("EVENT", "PROBE", "FUNCTION", "STATE"), probes))
    if plan.rejected:
        refused = [(r.event, r.mechanism.value, r.symbol, r.why) for r in plan.rejected]
        parts.append(text_tables.table(("REJECTED FOR", "PROBE", "FUNCTION", "WHY"), refused))
    if losses is not None:
        lost = ", ".join(f"{kind} {n}" for kind, n in losses.items() if n)
        parts.append(f"The running daemon has lost: {lost or 'nothing'}.")
    parts += verdict.warnings(facts)
    parts.append(obstacle.sentence if obstacle else "Live accounting is possible.")
    return "\n\n".join(parts)
