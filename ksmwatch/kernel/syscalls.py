"""System calls that Python lacks, by ctypes; and what only the C library can do.

No library for these is in both Debian and PyPI. All functions raise ``OSError`` with the kernel's
errno.
"""

from __future__ import annotations

import ctypes as ct
import os
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # For fronts, which otherwise load no pathlib: 0.4 MB.
    from pathlib import Path

# include/uapi/linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522
# include/uapi/linux/prctl.h
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
# include/uapi/linux/perf_event.h
_PERF_FLAG_FD_CLOEXEC = 8
# Numbers of system calls on x86-64 and on arm64: arch/x86/entry/syscalls/syscall_64.tbl,
# include/uapi/asm-generic/unistd.h.
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_KCMP = {"x86_64": 312, "aarch64": 272}
_MBIND = {"x86_64": 237, "aarch64": 235}
_GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236}
# include/uapi/linux/mempolicy.h
_MPOL_BIND, _MPOL_F_NODE, _MPOL_F_ADDR = 2, 1, 2
# include/uapi/linux/inotify.h
IN_MODIFY, IN_DELETE, IN_Q_OVERFLOW = 0x2, 0x200, 0x4000
# include/uapi/linux/kcmp.h
_KCMP_VM = 1
# malloc.h
_M_ARENA_MAX = -8

# An instruction of classic BPF, and a list of them: struct sock_filter,
# include/uapi/linux/filter.h.
Instruction = tuple[int, int, int, int]
# Effective, permitted and inheritable, each a bit mask.
Capabilities = tuple[int, int, int]

_libc = ct.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ct.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: int) -> None:
    """The call of this name, with up to four arguments."""
    padded = [ct.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *padded), f"prctl {option}")


class _CapabilityData(ct.Structure):
    """struct __user_cap_data_struct: 32 capabilities of each set."""

    _fields_ = (
        ("effective", ct.c_uint32),
        ("permitted", ct.c_uint32),
        ("inheritable", ct.c_uint32),
    )


def capabilities() -> Capabilities:
    """The capabilities of this thread, by capget(2)."""
    data = (_CapabilityData * 2)()
    header = (ct.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capget(header, data), "capget")
    low, high = data
    return (
        high.effective << 32 | low.effective,
        high.permitted << 32 | low.permitted,
        high.inheritable << 32 | low.inheritable,
    )


def set_capabilities(sets: Capabilities) -> None:
    """Set the capabilities of this thread, by capset(2)."""
    halves = [_CapabilityData(*(each >> shift & 0xFFFFFFFF for each in sets)) for shift in (0, 32)]
    header = (ct.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, (_CapabilityData * 2)(*halves)), "capset")


class ClassicProgram:
    """struct sock_fprog: a program of classic BPF, valid as long as this object exists."""

    def __init__(self, instructions: Iterable[Instruction]) -> None:
        code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
        self._code = ct.create_string_buffer(code, len(code))
        self.record = struct.pack("HP", len(code) // 8, ct.addressof(self._code))


def refuse_calls(instructions: Iterable[Instruction]) -> None:
    """Install a seccomp filter in this process and its children, for good."""
    program = ClassicProgram(instructions)
    record = ct.create_string_buffer(program.record)
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ct.addressof(record))


class _PerfEventAttr(ct.Structure):
    """struct perf_event_attr, as far as a kprobe needs it (PERF_ATTR_SIZE_VER5)."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("size", ct.c_uint32),
        ("config", ct.c_uint64),
        ("sample_period", ct.c_uint64),
        ("sample_type", ct.c_uint64),
        ("read_format", ct.c_uint64),
        ("flags", ct.c_uint64),
        ("wakeup_events", ct.c_uint32),
        ("bp_type", ct.c_uint32),
        ("kprobe_func", ct.c_uint64),
        ("probe_offset", ct.c_uint64),
        ("rest", ct.c_uint8 * 40),
    )


def open_kprobe(symbol: str, *, at_return: bool, sys: Path) -> int:
    """A kprobe as an event of the kprobe PMU (since 4.17), by perf_event_open(2).

    Unlike an entry in tracefs, it ends with its last descriptor.
    """
    pmu = sys / "bus/event_source/devices/kprobe"
    name = ct.create_string_buffer(symbol.encode())
    attr = _PerfEventAttr(
        type=int((pmu / "type").read_text()),
        size=ct.sizeof(_PerfEventAttr),
        # format/retprobe says "config:0" on every kernel that has the PMU.
        config=1 if at_return else 0,
        kprobe_func=ct.addressof(name),
    )
    number = _PERF_EVENT_OPEN[os.uname().machine]
    fd = _libc.syscall(number, ct.byref(attr), -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)
    return _checked(fd, f"kprobe {symbol}")


def same_memory(pid: int, other: int) -> bool:
    """Whether two processes share an address space (CLONE_VM), by kcmp(2).

    False if the kernel does not tell (CONFIG_KCMP).
    """
    number = _KCMP.get(os.uname().machine)
    return number is not None and _libc.syscall(number, pid, other, _KCMP_VM, 0, 0) == 0


def bind_memory(address: int, size: int, node: int) -> None:
    """Take the pages of a mapping of ours from one node of memory only, by mbind(2)."""
    mask = (ct.c_ulong * 16)()
    mask[node // 64] = 1 << node % 64
    number = _MBIND[os.uname().machine]
    arguments = map(ct.c_ulong, (address, size, _MPOL_BIND))
    _checked(_libc.syscall(number, *arguments, mask, ct.c_ulong(1024), ct.c_ulong(0)), "mbind")


def node_of_memory(address: int) -> int:
    """The node that the page at an address of ours lies on, by get_mempolicy(2)."""
    node = ct.c_int()
    flags = ct.c_ulong(_MPOL_F_NODE | _MPOL_F_ADDR)
    number = _GET_MEMPOLICY[os.uname().machine]
    arguments = (ct.byref(node), None, ct.c_ulong(0), ct.c_ulong(address), flags)
    _checked(_libc.syscall(number, *arguments), "get_mempolicy")
    return node.value


def watch_writes(files: Iterable[Path]) -> int:
    """A descriptor that is readable once a process has written to one of the files, by inotify(7).

    A file of sysfs tells only of writes in the same instance of it: each network namespace has one.
    """
    fd = open_inotify()
    try:
        for file in files:
            add_watch(fd, str(file), IN_MODIFY)
    except OSError:
        os.close(fd)
        raise
    return fd


def open_inotify() -> int:
    """A descriptor of inotify(7), which does not block."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")


def add_watch(fd: int, path: str, mask: int) -> int:
    """Tell these events of a file, or of a directory and what is in it; returns their number."""
    return _checked(_libc.inotify_add_watch(fd, os.fsencode(path), ct.c_uint32(mask)), path)


def remove_watch(fd: int, watch: int) -> None:
    """Tell no more of it, if it is still watched."""
    _libc.inotify_rm_watch(fd, watch)


def give_memory_back() -> None:
    """Return memory that the C library keeps after a free. A start leaves a megabyte or two."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def share_one_heap() -> None:
    """Have all threads allocate from one heap. Mostly one allocates at a time: Python has a lock.

    By default the C library makes one for each of the first threads, eight for each CPU, and what
    these free stays there: sixteen compressed answers at once left 5 MB.
    """
    set_option = getattr(_libc, "mallopt", None)
    if set_option is not None:
        set_option(_M_ARENA_MAX, 1)
