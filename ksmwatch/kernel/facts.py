"""Facts about this host: kernel, KSM, BPF, privileges. No decisions. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# include/uapi/linux/capability.h
CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}


def version_of(release: str) -> tuple[int, int]:
    """Major and minor number of a kernel's release; (0, 0) if it has none."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@dataclass(frozen=True)
class Facts:
    """One host. ``None`` and empty mean "not there", never "not looked at"."""

    release: str
    machine: str
    uid: int
    capabilities: frozenset[str]
    lockdown: str
    ksm: bool
    # Candidate symbols in kallsyms, with the number of times each name occurs.
    symbols: Mapping[str, int]
    kallsyms_error: str | None
    # Parameter types of candidate functions, from BTF.
    prototypes: Mapping[str, tuple[str, ...]]
    # Byte offsets of struct_layout.MEMBERS, from BTF.
    offsets: Mapping[str, int]
    btf_error: str | None
    headers: str | None
    tracepoints: frozenset[str]
    kprobes: bool
    kprobes_disarmed: bool
    trampolines: bool
    # libbpf's name of a program type -> whether the kernel loads a trivial program of that type.
    bpf_programs: Mapping[str, bool]
    bpf_error: str | None
    bcc: str | None
    bcc_error: str | None
    # Map values are allocated safely from any context (bpf_mem_alloc, since 6.1).
    bpf_mem_alloc: bool
    # BTF ids of bpf_rdonly_cast() ("function") and of the struct with a page's mapping ("page"), if
    # a kprobe program may follow pointers this way (since 6.2). Otherwise empty.
    casts: Mapping[str, int]
    # Whether we may read another process's page tables: /proc/1/smaps_rollup.
    foreign_reads: bool
    smaps_ksm: bool
    ksm_stat: bool
    # BTF ids of candidate functions, by which tracing programs are loaded.
    functions: Mapping[str, int] = field(default_factory=dict)
    # "caller called" -> whether the caller's code has the call; see callers.py.
    calls: Mapping[str, bool] = field(default_factory=dict)
    calls_error: str | None = None
    # Nodes that have memory, by number.
    memory_nodes: tuple[int, ...] = ()
    # (event, mechanism, symbol) joined by a space -> why the kernel refused it when tried.
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor number of the release; (0, 0) if it has none."""
        return version_of(self.release)

    @property
    def realtime(self) -> bool:
        """PREEMPT_RT: page-table locks sleep, so what runs under one can be preempted."""
        return "rw_semaphore_rwbase" in self.offsets

    def with_refusal(self, event: str, mechanism: str, symbol: str, why: str) -> Facts:
        """The same host after it refused one probe."""
        refused = {**self.refused, f"{event} {mechanism} {symbol}": why}
        return dataclasses.replace(self, refused=refused)

    def to_json(self) -> dict[str, Any]:
        """A plain document with sorted collections."""
        document = dataclasses.asdict(self)
        for key in ("capabilities", "tracepoints"):
            document[key] = sorted(document[key])
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Facts:
        """The inverse of `to_json`."""
        values = dict(document)
        for key in ("capabilities", "tracepoints"):
            values[key] = frozenset(values[key])
        values["memory_nodes"] = tuple(values.get("memory_nodes", ()))
        values["prototypes"] = {k: tuple(v) for k, v in values["prototypes"].items()}
        return cls(**values)
