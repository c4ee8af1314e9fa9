"""Runs a command that may not call bpf(2): `seccomp.py COMMAND...`; as a container would."""

from __future__ import annotations

import ctypes as ct
import errno
import os
import struct
import sys

_NR_BPF = 321  # x86-64
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ct.Structure):
    _fields_ = (("length", ct.c_ushort), ("filter", ct.c_void_p))


def refuse_bpf() -> None:
    """EPERM for bpf(2), in this process and its children, for ever."""
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_LOAD, 0, 0, 0),  # the number of the system call
            (_EQUAL, 0, 1, _NR_BPF),
            (_RETURN, 0, 0, _ERRNO | errno.EPERM),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    buffer = ct.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ct.addressof(buffer))
    libc = ct.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ct.c_int, ct.c_ulong, ct.c_void_p, ct.c_ulong, ct.c_ulong]
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, None, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ct.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ct.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse_bpf()
    os.execvp(sys.argv[1], sys.argv[1:])
