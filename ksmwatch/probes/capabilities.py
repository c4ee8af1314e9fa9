"""Gives up capabilities that counting no longer needs. docs/security.md explains each.

A process that has loaded its programs needs no capability to attach and detach them, or to read
its maps: since 5.19 (commit c8644cd0efe7) only loading needs CAP_BPF.
"""

from __future__ import annotations

from collections.abc import Iterable

from ksmwatch.kernel import syscalls
from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.facts import CAPABILITIES
from ksmwatch.probes.plan import Plan

# include/uapi/linux/capability.h
_OTHERS = {"CAP_SETGID": 6, "CAP_SETUID": 7}
CHANGE_USER = frozenset(_OTHERS)


def needed(plan: Plan | None, *, smaps_ksm: bool) -> frozenset[str]:
    """What is needed once the plan is attached. None: nothing is attached, all is polled."""
    names = {"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"}
    if plan is not None and any(p.mechanism is Mechanism.KPROBE for p in plan.probes):
        # A kprobe is opened again each time it is attached.
        names |= {"CAP_PERFMON", "CAP_SYS_ADMIN"}
    if not smaps_ksm or (plan is not None and plan.nodes):
        # For frame numbers in pagemap.
        names.add("CAP_SYS_ADMIN")
    return frozenset(names)


def give_up_all_but(names: Iterable[str]) -> None:
    """Lower the capabilities of this thread, and of threads that it starts, for good.

    Raises OSError.
    """
    wanted = sum(1 << (CAPABILITIES | _OTHERS)[name] for name in names)
    effective, permitted, inheritable = syscalls.capabilities()
    syscalls.set_capabilities((effective & wanted, permitted & wanted, inheritable & wanted))
