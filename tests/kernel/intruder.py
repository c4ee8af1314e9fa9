"""Does what only a debugger can do: closes a descriptor of another process, holds one that dies.

For x86-64.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

_GETREGS, _SETREGS, _SINGLESTEP, _ATTACH, _DETACH, _SEIZE = 12, 13, 9, 16, 17, 0x4206
_TRACE_EXIT, _EVENT_EXIT = 0x40, 6
_SYS_CLOSE, _SYS_POLL = 3, 7
# `syscall` has two bytes, and a process that waits in the kernel is just behind one.
_SYSCALL_BYTES = 2
_NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
    *("ds", "es", "fs", "gs"),
)


class _Registers(ct.Structure):
    """struct user_regs_struct."""

    _fields_ = [(name, ct.c_uint64) for name in _NAMES]


def _ptrace(request: int, pid: int, data: int | None = None) -> None:
    libc = ct.CDLL(None, use_errno=True)
    libc.ptrace.restype = ct.c_long
    libc.ptrace.argtypes = (ct.c_long, ct.c_long, ct.c_void_p, ct.c_void_p)
    if libc.ptrace(request, pid, None, data) < 0:
        code = ct.get_errno()
        raise OSError(code, os.strerror(code))


def close_in(pid: int, fd: int) -> None:
    """Make the main thread of a process close one of its descriptors while it waits."""
    while not _close_if_it_waits(pid, fd):
        time.sleep(0.005)


def _close_if_it_waits(pid: int, fd: int) -> bool:
    _ptrace(_ATTACH, pid)
    os.waitpid(pid, 0)
    try:
        before, call = _Registers(), _Registers()
        _ptrace(_GETREGS, pid, ct.addressof(before))
        _ptrace(_GETREGS, pid, ct.addressof(call))
        # Others must not be interrupted, and can be told so by no error.
        if before.orig_rax != _SYS_POLL:
            return False
        call.rip = before.rip - _SYSCALL_BYTES
        call.rax, call.rdi, call.orig_rax = _SYS_CLOSE, fd, 2**64 - 1
        _ptrace(_SETREGS, pid, ct.addressof(call))
        _ptrace(_SINGLESTEP, pid)
        os.waitpid(pid, 0)
        _ptrace(_GETREGS, pid, ct.addressof(call))
        assert call.rax == 0, f"close() gave {ct.c_int64(call.rax).value}"
        # To the process, its wait was interrupted by a signal.
        before.rax, before.orig_rax = 2**64 - errno.EINTR, 2**64 - 1
        _ptrace(_SETREGS, pid, ct.addressof(before))
    finally:
        _ptrace(_DETACH, pid)
    return True


@contextmanager
def held_at_exit(pid: int) -> Iterator[None]:
    """A process that dies meanwhile keeps its memory until the end; see wait_for_death()."""
    _ptrace(_SEIZE, pid, _TRACE_EXIT)
    try:
        yield
    finally:
        _ptrace(_DETACH, pid)


def wait_for_death(pid: int) -> None:
    """Returns when a held process has ended except for its memory."""
    _, status = os.waitpid(pid, 0)
    assert status >> 16 == _EVENT_EXIT, f"status {status:#x}"
