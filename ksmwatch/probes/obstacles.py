"""Why live accounting is impossible on a host as a whole, most basic first. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ksmwatch.errors import Exit, KsmwatchError, NoKsmError, NoLiveError, PrivilegeError
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.struct_layout import missing


class Obstacle(NamedTuple):
    """Why live accounting is impossible: one sentence, and its exit status.

    `passing`: it may be possible later.
    """

    sentence: str
    status: Exit
    passing: bool = False

    def error(self) -> KsmwatchError:
        """The exception to raise if polling is not accepted."""
        kinds = {kind.status: kind for kind in (NoKsmError, PrivilegeError, NoLiveError)}
        return kinds[self.status](self.sentence)


def host_obstacle(facts: Facts) -> Obstacle | None:
    """The obstacle to live accounting as a whole, most basic first."""
    if not facts.ksm:
        return Obstacle(
            f"This kernel ({facts.release}) has no KSM: /sys/kernel/mm/ksm does not exist, "
            "so there is nothing to watch.",
            Exit.NO_KSM,
        )
    if "CAP_SYS_ADMIN" not in facts.capabilities and not (
        {"CAP_BPF", "CAP_PERFMON"} <= facts.capabilities
    ):
        who = "root without the capabilities" if facts.uid == 0 else f"uid {facts.uid}"
        return Obstacle(
            f"Live accounting needs root, or CAP_BPF and CAP_PERFMON; ksmwatch runs as {who}.",
            Exit.PRIVILEGE,
        )
    if facts.lockdown == "confidentiality":
        return Obstacle(
            "Kernel lockdown is in confidentiality mode, so BPF programs may not read "
            "kernel memory.",
            Exit.NO_LIVE,
        )
    return _tool_obstacle(facts)


# Where the programs know the registers, the stack and the order of memory.
MACHINES = frozenset({"x86_64", "aarch64"})


def _tool_obstacle(facts: Facts) -> Obstacle | None:
    if facts.machine not in MACHINES:
        return Obstacle(
            f"Live accounting works on x86-64 and arm64 only; this machine is {facts.machine}.",
            Exit.NO_LIVE,
        )
    if facts.bpf_error is not None:
        return Obstacle(f"BPF programs cannot be loaded: {facts.bpf_error}.", Exit.NO_LIVE)
    if not any(facts.bpf_programs.values()):
        return Obstacle(
            "The kernel refuses BPF programs, although ksmwatch has the capabilities for them "
            "(a security module, seccomp, or a kernel without CONFIG_BPF_SYSCALL).",
            Exit.NO_LIVE,
        )
    if facts.kallsyms_error is not None:
        return Obstacle(
            f"/proc/kallsyms cannot be read ({facts.kallsyms_error}), so it is unknown which "
            "functions this kernel has.",
            Exit.NO_LIVE,
        )
    return _layout_obstacle(facts)


def _layout_obstacle(facts: Facts) -> Obstacle | None:
    if not facts.offsets and facts.headers is None:
        return Obstacle(
            f"This kernel has no BTF ({facts.btf_error}), and its headers are not installed, "
            "so the layout of its structures is unknown.",
            Exit.NO_LIVE,
        )
    if facts.offsets and (gone := missing(facts.offsets)):
        return Obstacle(
            f"This kernel's BTF has no {', '.join(gone)}, which the BPF programs must read.",
            Exit.NO_LIVE,
        )
    return None
