"""Programs of another tool on one kernel function, until no further one can be attached."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from ksmwatch.kernel import libbpf
from ksmwatch.probes.sources import bpf_directory
from tests.children import Ending
from tests.kernel.daemon import Daemon
from tests.kernel.damage import pins_of, take_off

_MORE_THAN_THERE_CAN_BE = 100


class Crowd(Ending):
    """Fills a function's trampoline: BPF_MAX_TRAMP_LINKS of kernel/bpf/trampoline.c."""

    def __init__(self, symbol: str) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "headers")
        import bcc

        self._bcc = bcc
        self._name = f"kfunc__{symbol}".encode()
        text = f"int kfunc__{symbol}(unsigned long long *context) {{ return 0; }}"
        self._module: Any = bcc.BPF(text=text)
        self._descriptors: list[int] = []

    def end(self) -> None:
        self.leave()
        self._module.cleanup()

    def press(self) -> None:
        """One program more. Raises OSError when there is no room."""
        # bcc loads a program once; the same program cannot be attached twice.
        self._module.funcs.pop(self._name, None)
        program = self._module.load_func(self._name, self._bcc.BPF.TRACING).fd
        self._descriptors.append(program)
        self._descriptors.append(libbpf.raw_tracepoint_open(program))

    def fill(self) -> None:
        """As many programs as there is room for."""
        with suppress(OSError):
            for _ in range(_MORE_THAN_THERE_CAN_BE):
                self.press()
            raise AssertionError("there is always room")

    def takes_the_place_of(self, program: str, daemon: Daemon) -> bool:
        """Detach a program of the daemon; whether we are there before it is attached again."""
        take_off(daemon, program)
        # The kernel makes room a moment later.
        while not pins_of(program):
            with suppress(OSError):
                self.press()
                return True
        return False

    def leave(self) -> None:
        """Take all of them off."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        # bcc would close the last program again.
        self._module.funcs.clear()
