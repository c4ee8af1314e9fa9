"""What live accounting will miss on a host, or do at more cost, although it is possible. Pure."""

from __future__ import annotations

from ksmwatch.kernel import calls
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.plan import choose


def unproven(facts: Facts) -> list[str]:
    """What is not known to be seen by the probes of the plan: nobody could read the code."""
    return [
        role.meaning
        for probe in choose(facts).probes
        for role in calls.unproven(facts.calls, probe.event, probe.symbol)
    ]


def warnings(facts: Facts) -> list[str]:
    """What live accounting will miss on this host although it is possible: sentences."""
    found = []
    if meanings := unproven(facts):
        why = facts.calls_error or "no caller that is known here"
        found.append(
            f"It is not proven that {', '.join(meanings)} can be seen ({why}): the compiler may "
            "have put a copy of the hooked function into its caller."
        )
    # mm_access() asks for CAP_SYS_PTRACE; on newer kernels CAP_PERFMON does as well.
    if not facts.foreign_reads:
        held = "CAP_SYS_PTRACE" in facts.capabilities
        why = "/proc/1/smaps_rollup is denied" if held else "CAP_SYS_PTRACE is missing"
        found.append(
            f"Other processes cannot be read exactly ({why}), so what they had merged before the "
            "start is unknown."
        )
    if "CAP_NET_ADMIN" not in facts.capabilities:
        found.append(
            "Without CAP_NET_ADMIN there is no process connector, so names are read anew for "
            "every snapshot."
        )
    return found
