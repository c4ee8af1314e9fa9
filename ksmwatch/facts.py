"""What this host is: kernel, KSM, BPF, privileges. Facts only, no decision.

Everything that is a file is read below an injectable root, so that a recorded host can be
read like a live one; what is not a file (BTF, BPF's answers, bcc) is recorded in
``facts.json`` by ``ksmwatch record``.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import platform
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ksmwatch import libbpf
from ksmwatch.btf import Btf
from ksmwatch.events import FORK_TRACEPOINT, symbols
from ksmwatch.layout import MEMBERS

_KALLSYMS_PIECE = 1 << 18
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


@dataclass(frozen=True)
class Facts:
    """One host. ``None`` and empty mean "not there", never "not looked at"."""

    release: str
    machine: str
    uid: int
    capabilities: frozenset[str]
    lockdown: str
    ksm: bool
    # Candidate symbols in kallsyms, with how often each name occurs.
    symbols: Mapping[str, int]
    kallsyms_error: str | None
    # Parameter types of candidate functions, from BTF.
    prototypes: Mapping[str, tuple[str, ...]]
    # Byte offsets of layout.MEMBERS, from BTF.
    offsets: Mapping[str, int]
    btf_error: str | None
    headers: str | None
    tracepoints: frozenset[str]
    kprobes: bool
    kprobes_disarmed: bool
    trampolines: bool
    # libbpf's name of a program type -> whether the kernel loads a trivial one for us.
    bpf_programs: Mapping[str, bool]
    bpf_error: str | None
    bcc: str | None
    bcc_error: str | None
    # Map values allocated safely from any context (bpf_mem_alloc, since 6.1).
    bpf_mem_alloc: bool
    # BTF ids of bpf_rdonly_cast() ("function") and of the struct that has a page's mapping
    # ("page"), where a kprobe program may so follow pointers (since 6.2). Otherwise empty.
    casts: Mapping[str, int]
    # Whether another process's page tables may be read: /proc/1/smaps_rollup.
    foreign_reads: bool
    smaps_ksm: bool
    ksm_stat: bool
    # (event, mechanism, symbol) joined by a space -> why the kernel refused it when tried.
    refused: Mapping[str, str] = field(default_factory=dict)

    def with_refusal(self, event: str, mechanism: str, symbol: str, why: str) -> Facts:
        """The same host, having refused one probe."""
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
        values["prototypes"] = {k: tuple(v) for k, v in values["prototypes"].items()}
        return cls(**values)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _readable(path: Path) -> bool:
    try:
        with path.open():
            return True
    except OSError:
        return False


def read_capabilities(root: Path = Path("/")) -> frozenset[str]:
    """Effective capabilities of this process that matter here (/proc/self/status)."""
    status = _text(root / "proc/self/status") or ""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)
    return frozenset()


def _read_symbols(root: Path, wanted: frozenset[str]) -> tuple[dict[str, int], str | None]:
    """How often each wanted name occurs in /proc/kallsyms as vmlinux's own symbol, or why not."""
    # A hundred thousand lines: by a pattern, as splitting each costs a tenth of a second. In a
    # module's line its name in brackets comes after the symbol.
    pattern = re.compile(rf"^\w+ \w ({'|'.join(map(re.escape, wanted))})\n".encode(), re.MULTILINE)
    counts: Counter[str] = Counter()
    rest = b""
    try:
        with (root / "proc/kallsyms").open("rb") as file:
            while piece := file.read(_KALLSYMS_PIECE):
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                counts.update(map(bytes.decode, pattern.findall(whole + newline)))
    except OSError as error:
        return {}, error.strerror or str(error)
    return counts, None


def _read_lockdown(root: Path) -> str:
    """The active mode: the word in brackets of /sys/kernel/security/lockdown."""
    text = _text(root / "sys/kernel/security/lockdown")
    if text is None or "[" not in text:
        return "none"
    return text.split("[", 1)[1].split("]", 1)[0]


class _FromBtf(NamedTuple):
    prototypes: dict[str, tuple[str, ...]]
    offsets: dict[str, int]
    casts: dict[str, int]
    error: str | None


def _read_btf() -> _FromBtf:
    try:
        with Btf() as btf:
            return _FromBtf(_read_prototypes(btf), member_offsets(btf), _read_casts(btf), None)
    except OSError as error:
        return _FromBtf({}, {}, {}, error.strerror or str(error))


def _read_prototypes(btf: Btf) -> dict[str, tuple[str, ...]]:
    found = {name: btf.parameters(name) for name in symbols()}
    return {name: tuple(types) for name, types in found.items() if types is not None}


def member_offsets(btf: Btf) -> dict[str, int]:
    """Byte offsets of layout.MEMBERS, of those that this kernel has."""
    offsets = {}
    for member in MEMBERS:
        found = (btf.offset(*place) for place in member.places)
        offset = next((o for o in found if o is not None), None)
        if offset is not None:
            offsets[member.name] = offset
    return offsets


def _read_casts(btf: Btf) -> dict[str, int]:
    function = btf.function("bpf_rdonly_cast")
    kinds = (btf.struct(name) for name in ("folio", "page"))
    kind = next((each for each in kinds if each is not None), None)
    if function is None or kind is None or not libbpf.cast_supported(function, kind):
        return {}
    return {"function": function, "page": kind}


def _read_headers(root: Path, release: str) -> str | None:
    build = root / "lib/modules" / release / "build"
    return str(build) if (build / "include/linux/kconfig.h").exists() else None


def _read_bpf() -> tuple[dict[str, bool], str | None]:
    """Whether the kernel takes programs of the types that we use."""
    types = {
        "kprobe": libbpf.PROG_TYPE_KPROBE,
        "raw_tracepoint": libbpf.PROG_TYPE_RAW_TRACEPOINT,
        "tracing": libbpf.PROG_TYPE_TRACING,
    }
    try:
        return {name: libbpf.prog_type_supported(number) for name, number in types.items()}, None
    except OSError as error:
        return {}, f"libbpf cannot be loaded ({error})"


def _read_bcc() -> tuple[str | None, str | None]:
    """Bcc's version without importing it: an import would bring LLVM into this process."""
    spec = importlib.util.find_spec("bcc")
    # A leftover directory without an __init__.py would be found as a namespace.
    if spec is None or spec.origin is None:
        return None, "the Python module bcc is not installed"
    # importlib.metadata would do for twenty milliseconds and three megabytes.
    found = re.search(
        r"__version__ = '(.*)'", _text(Path(spec.origin).with_name("version.py")) or ""
    )
    return found[1] if found else "unknown", None


def read_facts(root: Path = Path("/")) -> Facts:
    """Look at the running host. Costs some 50 ms, most of it /proc/kallsyms."""
    release = platform.release()
    extra = ("bpf_trampoline_link_prog", "bpf_mem_alloc_init", f"__traceiter_{FORK_TRACEPOINT}")
    found, kallsyms_error = _read_symbols(root, frozenset((*symbols(), *extra)))
    btf = _read_btf()
    programs, bpf_error = _read_bpf()
    bcc, bcc_error = _read_bcc()
    tracepoint = f"__traceiter_{FORK_TRACEPOINT}" in found
    return Facts(
        release=release,
        machine=platform.machine(),
        uid=os.geteuid(),
        capabilities=read_capabilities(root),
        lockdown=_read_lockdown(root),
        ksm=(root / "sys/kernel/mm/ksm/run").exists(),
        symbols={name: found[name] for name in symbols() if name in found},
        kallsyms_error=kallsyms_error,
        prototypes=btf.prototypes,
        offsets=btf.offsets,
        btf_error=btf.error,
        headers=_read_headers(root, release),
        tracepoints=frozenset([FORK_TRACEPOINT] if tracepoint else []),
        kprobes=(root / "sys/bus/event_source/devices/kprobe/type").exists(),
        kprobes_disarmed=(_text(root / "sys/kernel/debug/kprobes/enabled") or "").strip() == "0",
        trampolines="bpf_trampoline_link_prog" in found,
        bpf_programs=programs,
        bpf_error=bpf_error,
        bcc=bcc,
        bcc_error=bcc_error,
        bpf_mem_alloc="bpf_mem_alloc_init" in found,
        casts=btf.casts,
        foreign_reads=_readable(root / "proc/1/smaps_rollup"),
        smaps_ksm="\nKSM:" in (_text(root / "proc/self/smaps_rollup") or ""),
        ksm_stat=(root / "proc/self/ksm_stat").exists(),
    )
