"""The filter of system calls, interpreted; that it is in force, a real front shows."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from ksmwatch.export.front import confine

X86, ARM, I386 = 0xC000003E, 0xC00000B7, 0x40000003
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def run(architecture: int, numbers: list[int], caller: int, number: int) -> int:
    """What the filter returns for a call."""
    code = list(confine._instructions(architecture, numbers))
    data = {0: number, 4: caller}
    at = value = 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        if operation == 0x20:
            value = data[operand]
        elif operation == 0x06:
            return operand
        else:
            holds = value == operand if operation == 0x15 else value >= operand
            at += yes if holds else no


@pytest.mark.parametrize(("place", "architecture"), confine._ARCHITECTURES.values())
def test_exactly_these_calls_are_refused(place: int, architecture: int) -> None:
    numbers = [both[place] for both in confine._REFUSED.values()]
    assert len(set(numbers)) == len(numbers)
    refused = [n for n in range(600) if run(architecture, numbers, architecture, n) != ALLOW]
    assert refused == sorted(numbers)
    assert run(architecture, numbers, architecture, numbers[0]) == REFUSE


@pytest.mark.parametrize(("caller", "number"), [(I386, 1), (ARM, 1), (X86, 0x40000001)])
def test_calls_by_other_numbers_are_refused_altogether(caller: int, number: int) -> None:
    assert run(X86, [321], caller, number) == REFUSE


PROBE = """
import ctypes, os, platform, socket
from ksmwatch.export.front import confine
confine.confine(None)
place, _ = confine._ARCHITECTURES[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    libc.syscall(confine._REFUSED[name][place], *arguments)
    return ctypes.get_errno()
print(call("bpf", 0, None, 0), call("ptrace", 16, os.getppid(), None, None))
call_out = lambda: socket.create_connection(("127.0.0.1", 1))
become = lambda: os.execv("/bin/true", ["true"])
for refused in (call_out, become):
    try:
        refused()
    except OSError as error:
        print(error.errno)
print(os.getpid() > 0)
"""


def test_a_confined_process_can_neither_load_look_call_nor_become_another() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], check=True, stdout=subprocess.PIPE)
    assert done.stdout.decode().split() == [*4 * [str(errno.EPERM)], "True"]
