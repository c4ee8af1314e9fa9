"""libbpf, by ctypes: programs, attachments and BTF.

The daemon uses this instead of bcc because bcc brings LLVM, about 100 MB of it. libbpf is
there wherever bcc is: libbcc links against it.

All functions raise ``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes as ct
import fcntl
import functools
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ksmwatch.kernel.syscalls import open_kprobe

PROG_TYPE_KPROBE = 2
PROG_TYPE_RAW_TRACEPOINT = 17
PROG_TYPE_TRACING = 26
PROG_TYPE_SYSCALL = 31
# include/uapi/linux/bpf.h: programs of the type above must be loaded so.
F_SLEEPABLE = 1 << 4

# enum bpf_attach_type
TRACE_FENTRY = 24
TRACE_FEXIT = 25
TRACE_ITER = 28

# include/uapi/linux/perf_event.h
_PERF_EVENT_IOC_ENABLE = 0x2400
_PERF_EVENT_IOC_SET_BPF = 0x40042408
_BPF_PERF_EVENT = 41

# struct bpf_insn
INSTRUCTION = struct.Struct("<BBhi")
# Opcode of a 64-bit load, and what src_reg says the number is.
LOAD_64 = 0x18
PSEUDO_MAP = 1 << 4
PSEUDO_MAP_VALUE = 2 << 4

_LOG_BYTES = 1 << 24


@functools.cache
def library() -> ct.CDLL:
    """Load libbpf. Raises OSError when it is not installed."""
    lib = ct.CDLL("libbpf.so.1", use_errno=True)
    lib.btf__load_vmlinux_btf.restype = ct.c_void_p
    lib.btf__type_by_id.restype = ct.POINTER(ct.c_uint32)
    lib.btf__type_by_id.argtypes = [ct.c_void_p, ct.c_uint32]
    lib.btf__name_by_offset.restype = ct.c_char_p
    lib.btf__name_by_offset.argtypes = [ct.c_void_p, ct.c_uint32]
    lib.btf__find_by_name_kind.argtypes = [ct.c_void_p, ct.c_char_p, ct.c_uint32]
    lib.btf__free.argtypes = [ct.c_void_p]
    lib.bpf_map_update_elem.argtypes = [ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_uint64]
    lib.bpf_prog_load.argtypes = [
        *(ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_char_p, ct.c_size_t),
        ct.POINTER(_LoadOptions),
    ]
    # A library that prints to stderr would disturb the log; errors come as errno anyway.
    lib.libbpf_set_print(None)
    return lib


def checked(result: int, what: str) -> int:
    """The result of a call of libbpf. Raises OSError if it failed."""
    if result < 0:
        number = ct.get_errno() or -result
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def assemble(*words: tuple[int, ...]) -> bytes:
    """Instructions: opcode, registers, offset and immediate number of each."""
    return b"".join(INSTRUCTION.pack(*word) for word in words)


def prog_type_supported(prog_type: int) -> bool:
    """Whether the kernel loads a trivial program of this type for us."""
    return int(library().libbpf_probe_bpf_prog_type(prog_type, None)) == 1


def cast_supported(function: int, kind: int) -> bool:
    """Whether a kprobe program may follow a pointer that bpf_rdonly_cast() returns.

    `function` and `kind` are the BTF ids of that function and of a struct that begins with a
    number.
    """
    code = assemble(
        (0x79, 0x11, 0, 0),  # r1 = *(u64 *)(r1 + 0)
        (0xB7, 0x02, 0, kind),  # r2 = kind
        (0x85, 0x20, 0, function),  # call function, by BPF_PSEUDO_KFUNC_CALL
        (0x79, 0x01, 0, 0),  # r1 = *(u64 *)(r0 + 0)
        (0xB7, 0x00, 0, 0),  # r0 = 0
        (0x95, 0x00, 0, 0),  # exit
    )
    try:
        fd = prog_load("cast", PROG_TYPE_KPROBE, code)
    except OSError:
        return False
    os.close(fd)
    return True


class _LoadOptions(ct.Structure):
    """struct bpf_prog_load_opts, as far as we use it."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_int),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
        ("attach_btf_obj_fd", ct.c_uint32),
        ("fd_array", ct.c_void_p),
        ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_void_p),
    ]


# BTF of a function with no content except that it is static, as a helper that calls it back
# requires. Types 1: int, 2: a prototype that returns it, 3: the function.
_BTF_STRINGS = b"\0int\0f\0"
_BTF_TYPES = struct.pack(
    "<4I3I3I", *(1, 1 << 24, 4, 1 << 24 | 32), *(0, 13 << 24, 1), *(5, 12 << 24, 2)
)
_BTF_HEADER = struct.pack(
    "<HBB5I", 0xEB9F, 1, 0, 24, 0, len(_BTF_TYPES), len(_BTF_TYPES), len(_BTF_STRINGS)
)
_BTF_FUNCTION = 3


def _static_functions() -> int:
    """Load the BTF for `prog_load`."""
    data = _BTF_HEADER + _BTF_TYPES + _BTF_STRINGS
    return checked(library().bpf_btf_load(data, ct.c_size_t(len(data)), None), "BTF of a program")


def prog_load(
    name: str,
    prog_type: int,
    code: bytes,
    *,
    attach_type: int = 0,
    function: int = 0,
    functions: Sequence[int] = (),
    flags: int = 0,
) -> int:
    """Load a program. A tracing program is for one kernel function, named by its BTF id.

    `functions`: instructions at which the program's functions begin, itself first, if a helper
    calls one back. The error's text is the verifier's reason, if it gives one.
    """
    options = _LoadOptions(
        sz=ct.sizeof(_LoadOptions),
        expected_attach_type=attach_type,
        attach_btf_id=function,
        prog_flags=flags,
    )
    if not functions:
        return _prog_load(name, prog_type, code, options)
    # struct bpf_func_info
    records = b"".join(struct.pack("<II", place, _BTF_FUNCTION) for place in functions)
    options.func_info = ct.cast(ct.c_char_p(records), ct.c_void_p)
    options.func_info_cnt, options.func_info_rec_size = len(functions), 8
    options.prog_btf_fd = _static_functions()
    try:
        return _prog_load(name, prog_type, code, options)
    finally:
        os.close(options.prog_btf_fd)


def _prog_load(name: str, prog_type: int, code: bytes, options: _LoadOptions) -> int:
    arguments = (prog_type, name.encode(), b"GPL", code, len(code) // 8)
    fd = int(library().bpf_prog_load(*arguments, ct.byref(options)))
    if fd >= 0:
        return fd
    # Only now: writing the log takes the verifier much longer than its work.
    fd, why = _load_with_log(arguments, options)
    if fd >= 0:
        return fd
    raise OSError(-fd, why or os.strerror(-fd))


def _load_with_log(arguments: tuple[Any, ...], options: _LoadOptions) -> tuple[int, str]:
    """The descriptor, or an error's number below 0; and the verifier's reason.

    The log ends here. An exception that is kept would keep all that its frames refer to.
    """
    log = ct.create_string_buffer(_LOG_BYTES)
    more = _LoadOptions.from_buffer_copy(options)
    # Its address: ct.cast() makes a cycle, so the log would end with a garbage collection.
    more.log_level, more.log_size, more.log_buf = 1, _LOG_BYTES, ct.addressof(log)
    fd = library().bpf_prog_load(*arguments, ct.byref(more))
    return int(fd), verdict(log.value.decode(errors="replace"))


def verdict(log: str) -> str:
    """The line of a verifier's log that says what is wrong; its statistics follow that line."""
    lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
    return lines[-1] if lines else ""


class _RunOptions(ct.Structure):
    """struct bpf_test_run_opts, as far as we use it."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("data_in", ct.c_void_p),
        ("data_out", ct.c_void_p),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("ctx_in", ct.c_void_p),
        ("ctx_out", ct.c_void_p),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("rest", ct.c_uint32 * 7),
    ]


def prog_run(prog_fd: int, context: ct.Array[ct.c_char] | None = None) -> int:
    """Run a program once, here (raw tracepoints: since 5.10), and return its result.

    A SYSCALL program takes the context, and may write to it (since 5.14).
    """
    options = _RunOptions(sz=ct.sizeof(_RunOptions))
    if context is not None:
        options.ctx_in, options.ctx_size_in = ct.addressof(context), ct.sizeof(context)
    result = library().bpf_prog_test_run_opts(prog_fd, ct.byref(options))
    checked(result, "run a program")
    return ct.c_int32(options.retval).value


class _IteratorInfo(ct.Structure):
    """union bpf_iter_link_info: over which map."""

    _fields_ = [("map_fd", ct.c_uint32), ("rest", ct.c_uint32 * 7)]


class _LinkOptions(ct.Structure):
    """struct bpf_link_create_opts, as far as an iterator needs it."""

    _fields_ = [
        ("sz", ct.c_size_t),
        ("flags", ct.c_uint32),
        ("iter_info", ct.c_void_p),
        ("iter_info_len", ct.c_uint32),
        ("rest", ct.c_uint32 * 9),
    ]


def attach_iterator(prog_fd: int, map_fd: int | None = None) -> int:
    """Link an iterator's program; for one over a map, with that map."""
    options = None
    if map_fd is not None:
        info = _IteratorInfo(map_fd=map_fd)
        options = _LinkOptions(
            sz=ct.sizeof(_LinkOptions), iter_info=ct.addressof(info), iter_info_len=4
        )
    pointer = None if options is None else ct.byref(options)
    link = library().bpf_link_create(prog_fd, 0, TRACE_ITER, pointer)
    return checked(link, "attach an iterator")


def read_iterator(link_fd: int) -> bytes:
    """Everything that an iterator's program writes."""
    fd = checked(library().bpf_iter_create(link_fd), "open an iterator")
    with os.fdopen(fd, "rb", buffering=0) as file:
        return file.readall()


def raw_tracepoint_open(prog_fd: int, name: str | None = None) -> int:
    """Attach a raw tracepoint program to `name`, or a tracing program (fentry, fexit)."""
    encoded = name.encode() if name is not None else None
    return checked(library().bpf_raw_tracepoint_open(encoded, prog_fd), f"attach {name or ''}")


def attach_kprobe(prog_fd: int, symbol: str, *, at_return: bool, sys: Path) -> int:
    """Attach a kprobe program. Returns its link, or before 5.15 the perf event."""
    fd = open_kprobe(symbol, at_return=at_return, sys=sys)
    link = library().bpf_link_create(prog_fd, fd, _BPF_PERF_EVENT, None)
    if link >= 0:
        # The link keeps the event alive.
        fcntl.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0)
        os.close(fd)
        return int(link)
    try:
        # Before 5.15 (commit b89fbfbb854c) perf events have no links, and cannot be pinned.
        fcntl.ioctl(fd, _PERF_EVENT_IOC_SET_BPF, prog_fd)
        fcntl.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return int(fd)


def obj_pin(fd: int, path: str) -> None:
    """Give a map, program or link a name in a BPF file system."""
    checked(library().bpf_obj_pin(fd, path.encode()), f"pin {path}")


def obj_get(path: str) -> int:
    """Open what is pinned at a path."""
    return checked(library().bpf_obj_get(path.encode()), f"open {path}")


_Record = TypeVar("_Record", bound=ct.Structure)


class _Info(Generic[_Record]):
    """The kernel's record of an object, written to the same memory each time.

    A snapshot asks for some fifty, and to make the arguments takes three times as long as to ask.
    """

    def __init__(self, kind: type[_Record]) -> None:
        self._empty = bytes(ct.sizeof(kind))
        self._memory = bytearray(self._empty)
        self._record = kind.from_buffer(self._memory)
        self._size = ct.c_uint32()
        self._arguments = ct.byref(self._record), ct.byref(self._size)

    def of(self, fd: int) -> _Record:
        """It is valid until the next call."""
        # Numbers in it tell the kernel where to write more.
        self._memory[:] = self._empty
        self._size.value = len(self._empty)
        checked(library().bpf_obj_get_info_by_fd(fd, *self._arguments), "info")
        return self._record


class _LinkInfo(ct.Structure):
    """struct bpf_link_info: its common beginning, and what follows for a kprobe (since 6.6)."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("prog_id", ct.c_uint32),
        ("perf_event_type", ct.c_uint64),
        ("place", ct.c_uint64 * 3),
        ("missed", ct.c_uint64),
        ("rest", ct.c_uint8 * 64),
    ]


_link_info = _Info(_LinkInfo)


def link_program(link_fd: int) -> int:
    """Id of the program that a link has attached."""
    return int(_link_info.of(link_fd).prog_id)


def kprobe_missed(link_fd: int) -> int:
    """How often the kprobe of a link was hit and could not run its program (since 6.7)."""
    return int(_link_info.of(link_fd).missed)


class ProgInfo(ct.Structure):
    """struct bpf_prog_info up to recursion_misses (since 5.12)."""

    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("tag", ct.c_uint8 * 8),
        ("before_run_time", ct.c_uint8 * 176),
        ("run_time_ns", ct.c_uint64),
        ("run_cnt", ct.c_uint64),
        ("recursion_misses", ct.c_uint64),
    ]


_prog_info = _Info(ProgInfo)


def prog_info(prog_fd: int) -> ProgInfo:
    """The kernel's record of a loaded program. It is valid until the next call."""
    return _prog_info.of(prog_fd)
