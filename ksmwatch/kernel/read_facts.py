"""Reads the facts about this host: those that can change; the others are `kernel_image`'s.

All files are read below an injectable root, so that a recorded host can be read like a live one.
What is not a file (BTF, BPF's answers, bcc) is recorded in
``facts.json`` by ``ksmwatch record``.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.facts import CAPABILITIES, Facts
from ksmwatch.kernel.kernel_image import Image, read_image
from ksmwatch.kernel.memory_nodes import read_memory_nodes
from ksmwatch.kernel.smaps import kilobytes


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


def _read_lockdown(root: Path) -> str:
    """The active mode: the word in brackets of /sys/kernel/security/lockdown."""
    text = _text(root / "sys/kernel/security/lockdown")
    if text is None or "[" not in text:
        return "none"
    return text.split("[", 1)[1].split("]", 1)[0]


def _accepted(casts: Mapping[str, int]) -> Mapping[str, int]:
    """What a cast needs, if the kernel loads a program with one."""
    return casts if casts and libbpf.cast_supported(casts["function"], casts["page"]) else {}


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


def read_facts(root: Path = Path("/"), image: Image | None = None) -> Facts:
    """Examine the running host. `image`: its kernel's, if that is known already."""
    image = image or read_image(root)
    release = os.uname().release
    programs, bpf_error = _read_bpf()
    bcc, bcc_error = _read_bcc()
    rollup = _text(root / "proc/self/smaps_rollup") or ""
    return Facts(
        **image._replace(casts=_accepted(image.casts))._asdict(),
        release=release,
        machine=os.uname().machine,
        uid=os.geteuid(),
        capabilities=read_capabilities(root),
        lockdown=_read_lockdown(root),
        ksm=(root / "sys/kernel/mm/ksm/run").exists(),
        headers=_read_headers(root, release),
        kprobes=(root / "sys/bus/event_source/devices/kprobe/type").exists(),
        kprobes_disarmed=(_text(root / "sys/kernel/debug/kprobes/enabled") or "").strip() == "0",
        bpf_programs=programs,
        bpf_error=bpf_error,
        bcc=bcc,
        bcc_error=bcc_error,
        foreign_reads=_readable(root / "proc/1/smaps_rollup"),
        smaps_ksm=kilobytes(rollup.encode(), "KSM") is not None,
        ksm_stat=(root / "proc/self/ksm_stat").exists(),
        memory_nodes=read_memory_nodes(root / "sys"),
    )
