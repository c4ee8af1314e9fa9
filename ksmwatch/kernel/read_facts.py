"""Reads the facts about this host.

All files are read below an injectable root, so that a recorded host can be read like a live one.
What is not a file (BTF, BPF's answers, bcc) is recorded in
``facts.json`` by ``ksmwatch record``.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.btf import Btf
from ksmwatch.kernel.events import MAP_ITERATOR, TRACEPOINTS, symbols
from ksmwatch.kernel.facts import CAPABILITIES, Facts
from ksmwatch.kernel.kernel_text import callers_and_called, read_calls, read_symbols
from ksmwatch.kernel.memory_nodes import read_memory_nodes
from ksmwatch.kernel.smaps import kilobytes
from ksmwatch.kernel.struct_layout import MEMBERS

_KALLSYMS_PIECE = 1 << 18


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
    """The relevant effective capabilities of this process (/proc/self/status)."""
    status = _text(root / "proc/self/status") or ""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)
    return frozenset()


class _FromText(NamedTuple):
    """What the kernel's own symbols and code say. `symbols`: how often each wanted name occurs."""

    symbols: Mapping[str, int]
    error: str | None
    calls: dict[str, bool]
    calls_error: str | None


def _read_text(
    root: Path, btf: Btf | None, no_btf: str | None, wanted: frozenset[str]
) -> _FromText:
    """Use one walk of a BPF program over all symbols, if possible; otherwise /proc/kallsyms.

    The kernel makes a text of each symbol for that file, which takes several times as long.
    """
    why = no_btf or "it is not the running kernel's"
    if btf is not None and root == Path("/"):
        try:
            found = read_symbols(btf, wanted | callers_and_called())
            counts = Counter(each.name for each in found if not each.module and each.name in wanted)
            return _FromText(counts, None, read_calls(found, os.uname().machine), None)
        except OSError as error:
            why = error.strerror or str(error)
        except MemoryError:
            # The daemon may be short of memory for a while.
            why = os.strerror(errno.ENOMEM)
    return _FromText(*_read_symbols(root, wanted), {}, why)


def _read_symbols(root: Path, wanted: frozenset[str]) -> tuple[dict[str, int], str | None]:
    """How often each wanted name occurs in /proc/kallsyms as vmlinux's own symbol, or why not."""
    # A hundred thousand lines: a pattern is used, as splitting each costs a tenth of a second. In a
    # module's line, its name in brackets follows the symbol.
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
    functions: dict[str, int]
    error: str | None


def _read_btf(btf: Btf | None, error: str | None) -> _FromBtf:
    if btf is None:
        return _FromBtf({}, {}, {}, {}, error)
    return _FromBtf(
        _read_prototypes(btf), member_offsets(btf), _read_casts(btf), _read_functions(btf), None
    )


@contextmanager
def _kernel_btf() -> Iterator[tuple[Btf | None, str | None]]:
    """The kernel's BTF, or why there is none."""
    try:
        opened = Btf()
    except OSError as error:
        yield None, error.strerror or str(error)
        return
    with opened as btf:
        yield btf, None


def _read_prototypes(btf: Btf) -> dict[str, tuple[str, ...]]:
    found = {name: btf.parameters(name) for name in symbols()}
    return {name: tuple(types) for name, types in found.items() if types is not None}


def _read_functions(btf: Btf) -> dict[str, int]:
    found = {name: btf.function(name) for name in (*symbols(), MAP_ITERATOR)}
    return {name: number for name, number in found.items() if number is not None}


def member_offsets(btf: Btf) -> dict[str, int]:
    """Byte offsets of those struct_layout.MEMBERS that this kernel has."""
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
    """Whether the kernel accepts programs of the types that we use."""
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
    """The version of bcc without importing it: an import would bring LLVM into this process."""
    spec = importlib.util.find_spec("bcc")
    # A leftover directory without an __init__.py would be found as a namespace.
    if spec is None or spec.origin is None:
        return None, "the Python module bcc is not installed"
    # importlib.metadata would take twenty milliseconds and three megabytes.
    found = re.search(
        r"__version__ = '(.*)'", _text(Path(spec.origin).with_name("version.py")) or ""
    )
    return found[1] if found else "unknown", None


def _trampolines(symbols_found: Container[str], machine: str) -> bool:
    """Whether fentry programs can be attached.

    On arm64 that needs direct calls of ftrace, which came with 6.4 (commit 2aa6ac03516d). x86 does
    not need them.
    """
    direct = machine != "aarch64" or "register_ftrace_direct" in symbols_found
    return direct and "bpf_trampoline_link_prog" in symbols_found


def _caller_of(tracepoint: str) -> str:
    """The kernel's function that calls what is attached to a tracepoint."""
    return f"__traceiter_{tracepoint}"


def read_facts(root: Path = Path("/")) -> Facts:
    """Examine the running host."""
    release = os.uname().release
    extra = (
        *("bpf_trampoline_link_prog", "register_ftrace_direct", "bpf_mem_alloc_init"),
        *(_caller_of(tracepoint.symbol) for tracepoint in TRACEPOINTS),
    )
    with _kernel_btf() as (opened, btf_error):
        btf = _read_btf(opened, btf_error)
        text = _read_text(root, opened, btf_error, frozenset((*symbols(), *extra)))
    found = text.symbols
    programs, bpf_error = _read_bpf()
    bcc, bcc_error = _read_bcc()
    tracepoints = (each.symbol for each in TRACEPOINTS if _caller_of(each.symbol) in found)
    rollup = _text(root / "proc/self/smaps_rollup") or ""
    return Facts(
        release=release,
        machine=os.uname().machine,
        uid=os.geteuid(),
        capabilities=read_capabilities(root),
        lockdown=_read_lockdown(root),
        ksm=(root / "sys/kernel/mm/ksm/run").exists(),
        symbols={name: found[name] for name in symbols() if name in found},
        kallsyms_error=text.error,
        prototypes=btf.prototypes,
        offsets=btf.offsets,
        btf_error=btf.error,
        headers=_read_headers(root, release),
        tracepoints=frozenset(tracepoints),
        kprobes=(root / "sys/bus/event_source/devices/kprobe/type").exists(),
        kprobes_disarmed=(_text(root / "sys/kernel/debug/kprobes/enabled") or "").strip() == "0",
        trampolines=_trampolines(found, os.uname().machine),
        bpf_programs=programs,
        bpf_error=bpf_error,
        bcc=bcc,
        bcc_error=bcc_error,
        bpf_mem_alloc="bpf_mem_alloc_init" in found,
        casts=btf.casts,
        functions=btf.functions,
        foreign_reads=_readable(root / "proc/1/smaps_rollup"),
        smaps_ksm=kilobytes(rollup.encode(), "KSM") is not None,
        ksm_stat=(root / "proc/self/ksm_stat").exists(),
        calls=text.calls,
        calls_error=text.calls_error,
        memory_nodes=read_memory_nodes(root / "sys"),
    )
