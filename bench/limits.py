"""The least that can be attached to a kernel function: a program that does nothing.

No accounting by fentry or by kprobe can cost less than this. Loaded from two instructions
by libbpf, so that no compiler has a say in it.
"""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from ksmwatch import libbpf
from ksmwatch.events import Mechanism

# r0 = 0; exit (include/uapi/linux/bpf.h, struct bpf_insn)
_NOTHING = bytes.fromhex("b7000000000000009500000000000000")
_BPF_TRACE_FENTRY = 24


class _LoadOptions(ct.Structure):
    """struct bpf_prog_load_opts of libbpf, its beginning."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_int),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
    ]


def _load(mechanism: Mechanism, symbol: str) -> int:
    library = libbpf.library()
    options = _LoadOptions(sz=ct.sizeof(_LoadOptions))
    kind = libbpf.PROG_TYPE_KPROBE
    if mechanism is Mechanism.FENTRY:
        kind = libbpf.PROG_TYPE_TRACING
        options.expected_attach_type = _BPF_TRACE_FENTRY
        options.attach_btf_id = library.libbpf_find_vmlinux_btf_id(
            symbol.encode(), _BPF_TRACE_FENTRY
        )
    fd = library.bpf_prog_load(
        kind, b"nothing", b"GPL", _NOTHING, ct.c_size_t(len(_NOTHING) // 8), ct.byref(options)
    )
    if fd < 0:
        raise OSError(-fd, f"an empty {mechanism} program on {symbol}: {os.strerror(-fd)}")
    return int(fd)


class Empty:
    """Empty programs on some functions, inside the context."""

    def __init__(self, mechanism: Mechanism, symbols: Iterable[str]) -> None:
        self._mechanism = mechanism
        self._symbols = tuple(symbols)
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        for symbol in self._symbols:
            program = _load(self._mechanism, symbol)
            self._descriptors += [program, self._attach(program, symbol)]
        return self

    def _attach(self, program: int, symbol: str) -> int:
        if self._mechanism is Mechanism.FENTRY:
            return libbpf.raw_tracepoint_open(program)
        return libbpf.attach_kprobe(program, symbol, at_return=False, sys=Path("/sys"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in reversed(self._descriptors):
            os.close(fd)
