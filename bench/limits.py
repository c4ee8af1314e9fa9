"""The least that can be attached to a kernel function: a program that does nothing.

No accounting by fentry or by kprobe can cost less than this. Loaded from two instructions
by libbpf, so that no compiler has a say in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.btf import Btf
from ksmwatch.kernel.events import Mechanism
from tests.children import Ending

# r0 = 0; exit (include/uapi/linux/bpf.h, struct bpf_insn)
_NOTHING = bytes.fromhex("b7000000000000009500000000000000")


def _load(mechanism: Mechanism, symbol: str) -> int:
    if mechanism is Mechanism.KPROBE:
        return libbpf.prog_load("nothing", libbpf.PROG_TYPE_KPROBE, _NOTHING)
    with Btf() as btf:
        return libbpf.prog_load(
            "nothing",
            libbpf.PROG_TYPE_TRACING,
            _NOTHING,
            attach_type=libbpf.TRACE_FENTRY,
            function=btf.function(symbol) or 0,
        )


class Empty(Ending):
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

    def end(self) -> None:
        for fd in reversed(self._descriptors):
            os.close(fd)
