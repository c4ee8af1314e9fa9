"""Runs a command that may not call bpf(2), as in a container: `seccomp.py COMMAND...`.

With --no-attachments first it may load programs and attach none, as under some security modules.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import struct
import sys

_NR_BPF, _NR_PERF_EVENT_OPEN = (280, 241) if os.uname().machine == "aarch64" else (321, 298)
# enum bpf_cmd: BPF_RAW_TRACEPOINT_OPEN, BPF_LINK_CREATE
_ATTACH = (17, 28)
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


class _Program(ct.Structure):
    _fields_ = (("length", ct.c_ushort), ("filter", ct.c_void_p))


_REFUSE, _GRANT = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
_NUMBER, _FIRST_ARGUMENT = (_LOAD, 0, 0, 0), (_LOAD, 0, 0, 16)
# Classic BPF; a jump counts from the next instruction.
_NO_BPF = (_NUMBER, (_EQUAL, 0, 1, _NR_BPF), _REFUSE, _GRANT)
_NO_ATTACHMENTS = (
    _NUMBER,
    (_EQUAL, 4, 0, _NR_PERF_EVENT_OPEN),
    (_EQUAL, 0, 4, _NR_BPF),
    _FIRST_ARGUMENT,
    (_EQUAL, 1, 0, _ATTACH[0]),
    (_EQUAL, 0, 1, _ATTACH[1]),
    _REFUSE,
    _GRANT,
)


def refuse(instructions: tuple[tuple[int, int, int, int], ...]) -> None:
    """Refuse these calls with EPERM, in this process and its children, for good."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
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
    command = sys.argv[1:]
    if command[0] == "--no-attachments":
        refuse(_NO_ATTACHMENTS)
        command = command[1:]
    else:
        refuse(_NO_BPF)
    os.execvp(command[0], command)
