"""What live accounting misses on a host, or does at higher cost. Pure."""

from __future__ import annotations

from ksmwatch.kernel import callers
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import UNWANTED_AGES, Plan, choose


def _unproven(facts: Facts, plan: Plan) -> list[str]:
    """Movements that the plan's probes may miss, because the callers' code could not be read."""
    return [
        role.meaning
        for probe in plan.probes
        for role in callers.unproven(facts.calls, probe.event, probe.symbol)
    ]


def warnings(
    facts: Facts,
    plan: Plan | None = None,
    *,
    tells_copies: bool | None = None,
    tells_nodes: bool | None = None,
) -> list[str]:
    """What live accounting misses on this host, in sentences.

    `plan`: what was carried out, since the kernel may have refused the first plan.
    `tells_copies`: whether COW breaks are told from unmapping; `tells_nodes`: whether it is known
    on which node of memory a page lies. None if it was not tried.
    """
    found = []
    plan = plan or choose(facts)
    if meanings := _unproven(facts, plan):
        why = facts.calls_error or "none of the known callers is here"
        found.append(
            f"ksmwatch could not prove that it can see {', '.join(meanings)} ({why}): the "
            "compiler may have inlined the hooked function into its caller."
        )
    # mm_access() needs CAP_SYS_PTRACE; on newer kernels CAP_PERFMON is enough too.
    if not facts.foreign_reads:
        held = "CAP_SYS_PTRACE" in facts.capabilities
        why = "/proc/1/smaps_rollup is denied" if held else "CAP_SYS_PTRACE is missing"
        found.append(
            f"Other processes cannot be read exactly ({why}), so what they had merged before the "
            "start is unknown."
        )
    if facts.realtime and plan.mechanisms == Mechanism.FENTRY:
        found.append(
            "With PREEMPT_RT, other tasks can preempt fentry programs. The kernel then skips "
            "events, and after each loss every process has to be read."
        )
    if plan.obstacle is None and plan.ageless not in (None, UNWANTED_AGES):
        found.append(f"It is unknown how long mappings last: {plan.ageless}.")
    if plan.obstacle is None and (
        plan.nodeless is not None or (plan.nodes and tells_nodes is False)
    ):
        why = plan.nodeless or "their flags do not tell"
        found.append(f"It is unknown on which nodes of memory KSM pages lie: {why}.")
    if "CAP_NET_ADMIN" not in facts.capabilities:
        found.append(
            "Without CAP_NET_ADMIN there is no process connector, so every snapshot reads "
            "the names of all processes."
        )
    if tells_copies is False:
        found.append(
            "COW breaks are counted as unmapped: on this host the two cannot be told apart."
        )
    return found
