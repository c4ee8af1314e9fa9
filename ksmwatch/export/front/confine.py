"""Gives up every privilege for good, before a front accepts anything from outside."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress

from ksmwatch.kernel.syscalls import Instruction, prctl, refuse_calls, set_capabilities
from ksmwatch.log import logger

# include/uapi/linux/prctl.h
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

# include/uapi/linux/capability.h
_MAX_CAPABILITY = 63

# include/uapi/linux/seccomp.h, filter.h, bpf_common.h, audit.h
_SECCOMP_RET_ERRNO, _SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
_LOAD_WORD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
# struct seccomp_data
_NUMBER, _ARCHITECTURE = 0, 4
# Numbers from here on are x32's, where the same calls have other numbers.
_X32 = 0x40000000

# Calls that look into other processes, load programs, run another program or connect to others:
# their numbers on x86-64 and on arm64.
# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
_REFUSED = {
    "bpf": (321, 280),
    "connect": (42, 203),
    "execve": (59, 221),
    "execveat": (322, 281),
    "io_uring_setup": (425, 425),
    "mount": (165, 40),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "userfaultfd": (323, 282),
}
# The index into those, and AUDIT_ARCH_*.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def confine(user: tuple[int, int] | None) -> None:
    """Become this user, drop all capabilities, refuse calls that a front never needs.

    `user`: uid and gid; None to keep them, as a process without CAP_SETUID and CAP_SETGID must.
    Raises OSError.
    """
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_bounding_set()
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if user is not None:
        _change_user(*user)
    # This thread is the only one.
    set_capabilities((0, 0, 0))
    # This memory holds the certificate's key: no core dump, and no access by others of this user.
    prctl(_PR_SET_DUMPABLE, 0)
    with suppress(ValueError):
        # The call gives EPERM here if a filter of the service refuses it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _refuse_calls()


def _change_user(uid: int, gid: int) -> None:
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except PermissionError:
        logger.warning("the front cannot change its user: it lacks CAP_SETUID and CAP_SETGID")


def _drop_bounding_set() -> None:
    for capability in range(_MAX_CAPABILITY + 1):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            # EINVAL: this kernel has no more capabilities. EPERM: without CAP_SETPCAP; then
            # no_new_privs alone keeps execve() from gaining any.
            if error.errno in (errno.EINVAL, errno.EPERM):
                return
            raise


def _instructions(architecture: int, numbers: Iterable[int]) -> Iterable[Instruction]:
    """Classic BPF: EPERM for these calls and for all calls of another architecture."""
    refused = sorted(numbers)
    refuse = (_RETURN, 0, 0, _SECCOMP_RET_ERRNO | errno.EPERM)
    yield (_LOAD_WORD, 0, 0, _ARCHITECTURE)
    yield (_JUMP_EQUAL, 1, 0, architecture)
    yield refuse
    yield (_LOAD_WORD, 0, 0, _NUMBER)
    # Each jumps to the last instruction but one.
    yield (_JUMP_GREATER_EQUAL, len(refused) + 1, 0, _X32)
    for left, number in zip(range(len(refused), 0, -1), refused, strict=True):
        yield (_JUMP_EQUAL, left, 0, number)
    yield (_RETURN, 0, 0, _SECCOMP_RET_ALLOW)
    yield refuse


def _refuse_calls() -> None:
    """Install the filter, if the call numbers of this architecture are known."""
    if os.uname().machine not in _ARCHITECTURES:
        return
    place, architecture = _ARCHITECTURES[os.uname().machine]
    numbers = [both[place] for both in _REFUSED.values()]
    try:
        refuse_calls(_instructions(architecture, numbers))
    except OSError as error:
        # The kernel lacks CONFIG_SECCOMP_FILTER.
        if error.errno != errno.EINVAL:
            raise
