"""The running kernel's own code, read by BPF.

The kernel hides code addresses from processes without CAP_SYSLOG, and /proc/kcore needs
CAP_SYS_RAWIO. A BPF iterator over kallsyms (since 6.0) sees addresses, and programs may read kernel
memory; both need only the capabilities that accounting needs anyway.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Mapping

from ksmwatch.kernel import callers, libbpf, new_maps
from ksmwatch.kernel.btf import Btf

# Ids of helpers.
_PROBE_READ_KERNEL, _SEQ_WRITE = 113, 127
# What the iterator writes for each symbol: its address, and the beginning of its name.
_RECORD = struct.Struct("<Q32s")
# Longer than any function of interest.
_CODE_BYTES = 1 << 15


def _assemble(*words: tuple[int, int, int, int]) -> bytes:
    return b"".join(libbpf.INSTRUCTION.pack(*word) for word in words)


def _list_symbols(btf: Btf) -> bytes:
    """A record for each symbol of the kernel, by address."""
    function = btf.function("bpf_iter_ksym")
    places = (
        btf.offset("bpf_iter__ksym", "ksym"),
        btf.offset("bpf_iter__ksym", "meta"),
        btf.offset("bpf_iter_meta", "seq"),
        btf.offset("kallsym_iter", "value"),
        btf.offset("kallsym_iter", "name"),
    )
    if function is None or None in places:
        raise OSError(0, "the kernel has no iterator over its symbols (since 6.0)")
    ksym, meta, seq, value, name = (place or 0 for place in places)
    program = _assemble(
        (0x79, 0x17, ksym, 0),  # r7 = ctx->ksym
        (0x79, 0x18, meta, 0),  # r8 = ctx->meta
        (0x15, 0x07, 14, 0),  # after the last one there is none
        (0x79, 0x88, seq, 0),  # r8 = r8->seq
        (0x79, 0x71, value, 0),  # r1 = r7->value
        (0x7B, 0x1A, -40, 0),
        (0xBF, 0xA1, 0, 0),  # bpf_probe_read_kernel(name on the stack, 32, r7->name)
        (0x07, 0x01, 0, -32),
        (0xB7, 0x02, 0, 32),
        (0xBF, 0x73, 0, 0),
        (0x07, 0x03, 0, name),
        (0x85, 0x00, 0, _PROBE_READ_KERNEL),
        (0xBF, 0x81, 0, 0),  # bpf_seq_write(seq, both, 40)
        (0xBF, 0xA2, 0, 0),
        (0x07, 0x02, 0, -40),
        (0xB7, 0x03, 0, _RECORD.size),
        (0x85, 0x00, 0, _SEQ_WRITE),
        (0xB7, 0x00, 0, 0),
        (0x95, 0x00, 0, 0),
    )
    fd = libbpf.prog_load(
        "list_symbols",
        libbpf.PROG_TYPE_TRACING,
        program,
        attach_type=libbpf.TRACE_ITER,
        function=function,
    )
    try:
        link = libbpf.attach_iterator(fd)
    finally:
        os.close(fd)
    try:
        return libbpf.read_iterator(link)
    finally:
        os.close(link)


def extents(records: bytes, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Begin and end of the functions whose name is unique."""
    found = {}
    size = _RECORD.size
    for name in names:
        sought = name.encode() + b"\0"
        places = []
        at = records.find(sought)
        while at >= 0:
            if at % size == size - 32:
                places.append(at // size)
            at = records.find(sought, at + 1)
        if len(places) == 1:
            begin = _RECORD.unpack_from(records, places[0] * size)[0]
            following = (
                _RECORD.unpack_from(records, place * size)[0]
                for place in range(places[0] + 1, len(records) // size)
            )
            end = next((address for address in following if address != begin), 0)
            if begin < end <= begin + _CODE_BYTES:
                found[name] = begin, end
    return found


class _Memory:
    """Reads kernel memory by running a program for each read."""

    def __init__(self) -> None:
        self._map = new_maps.array("kernel_code", 8 + _CODE_BYTES)
        program = _assemble(
            (0x18, 0x21, 0, self._map.fd),  # r1 = the map's value
            (0x00, 0x00, 0, 0),
            (0x79, 0x13, 0, 0),  # r3 = the address in it
            (0x07, 0x01, 0, 8),
            (0xB7, 0x02, 0, _CODE_BYTES),
            (0x85, 0x00, 0, _PROBE_READ_KERNEL),
            (0x95, 0x00, 0, 0),
        )
        self._program = libbpf.prog_load("read_code", libbpf.PROG_TYPE_RAW_TRACEPOINT, program)

    def read(self, begin: int, end: int) -> bytes:
        """The current contents."""
        self._map.put(bytes(4), struct.pack("<Q", begin) + bytes(_CODE_BYTES))
        libbpf.prog_run(self._program)
        value = self._map.get(bytes(4))
        assert value is not None
        return value[8 : 8 + end - begin]

    def close(self) -> None:
        """Free map and program."""
        os.close(self._program)
        os.close(self._map.fd)


def _found(where: Mapping[str, tuple[int, int]], machine: str) -> dict[str, bool]:
    memory = _Memory()
    found = {}
    try:
        for caller, called in callers.pairs():
            if caller in where and called in where:
                begin, end = where[caller]
                code = memory.read(begin, end)
                # A helper fills unreadable memory with zeros.
                answer = callers.has_call(code, begin, where[called][0], machine)
                if answer is not None and any(code):
                    found[f"{caller} {called}"] = answer
    finally:
        memory.close()
    return found


def read_calls(machine: str) -> tuple[dict[str, bool], str | None]:
    """Whether each existing caller calls each existing function; or why that is unknown."""
    names = {name for pair in callers.pairs() for name in pair}
    try:
        with Btf() as btf:
            records = _list_symbols(btf)
        return _found(extents(records, names), machine), None
    except OSError as error:
        return {}, error.strerror or str(error)
    except MemoryError:
        # The list of symbols takes megabytes; the daemon may be short of them for a while.
        return {}, os.strerror(errno.ENOMEM)
