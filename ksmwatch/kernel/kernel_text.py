"""The running kernel's own code, read by BPF.

The kernel hides code addresses from processes without CAP_SYSLOG, and /proc/kcore needs
CAP_SYS_RAWIO. A BPF iterator over kallsyms (since 6.0) sees addresses, and programs may read kernel
memory; both need only the capabilities that accounting needs anyway.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from ksmwatch.kernel import bpf_maps, callers, libbpf, new_maps
from ksmwatch.kernel.btf import Btf

# Ids of helpers.
_MAP_LOOKUP, _PROBE_READ_KERNEL, _PROBE_READ_KERNEL_STR, _SEQ_WRITE = 1, 113, 115, 127
_NO_ITERATOR = "the kernel has no iterator over its symbols (since 6.0)"
# What the iterator writes for a symbol: address, beginning of the name, beginning of its module's.
_RECORD = struct.Struct("<Q32s8s")
_NAME_BYTES = 32
# Longer than any function of interest.
_CODE_BYTES = 1 << 15


class Symbol(NamedTuple):
    """One that was asked for, or the first at another address after it."""

    address: int
    name: str
    module: str


def _map_load(register: int, kind: int, fd: int) -> tuple[tuple[int, int, int, int], ...]:
    return (libbpf.LOAD_64, kind | register, 0, fd), (0, 0, 0, 0)


def _iterator(btf: Btf, names: int, last: int) -> bytes:
    """The program that runs for each symbol of the kernel, by address.

    `names`: a map that has the names as keys; `last`: of a map for the address of the last one that
    was found, until the next address, where that function ends.
    """
    places = (
        btf.offset("bpf_iter__ksym", "ksym"),
        btf.offset("bpf_iter__ksym", "meta"),
        btf.offset("bpf_iter_meta", "seq"),
        btf.offset("kallsym_iter", "value"),
        btf.offset("kallsym_iter", "name"),
        btf.offset("kallsym_iter", "module_name"),
    )
    if None in places:
        raise OSError(0, _NO_ITERATOR)
    ksym, meta, seq, value, name, module = (place or 0 for place in places)
    return libbpf.assemble(
        (0x79, 0x17, ksym, 0),  # r7 = ctx->ksym
        (0x79, 0x18, meta, 0),  # r8 = ctx->meta
        (0x15, 0x07, 38, 0),  # after the last one there is none
        (0x79, 0x88, seq, 0),  # r8 = r8->seq
        *_map_load(9, libbpf.PSEUDO_MAP_VALUE, last),  # r9 = the last one's address
        (0x7A, 0x0A, -40, 0),  # 32 zeros on the stack, and the name over them
        (0x7A, 0x0A, -32, 0),
        (0x7A, 0x0A, -24, 0),
        (0x7A, 0x0A, -16, 0),
        (0xBF, 0xA1, 0, 0),
        (0x07, 0x01, 0, -40),
        (0xB7, 0x02, 0, _NAME_BYTES),
        (0xBF, 0x73, 0, 0),
        (0x07, 0x03, 0, name),
        (0x85, 0x00, 0, _PROBE_READ_KERNEL_STR),
        *_map_load(1, libbpf.PSEUDO_MAP, names),  # r0 = bpf_map_lookup_elem(names, the name)
        (0xBF, 0xA2, 0, 0),
        (0x07, 0x02, 0, -40),
        (0x85, 0x00, 0, _MAP_LOOKUP),
        (0x79, 0x76, value, 0),  # r6 = r7->value
        (0x79, 0x91, 0, 0),  # r1 = the last one's address
        (0x55, 0x00, 4, 0),  # if it is one of them: write it
        (0x15, 0x01, 16, 0),  # if there is no last one, or this is another name of it: nothing
        (0x1D, 0x61, 15, 0),
        (0x7A, 0x09, 0, 0),  # it ends here
        (0x05, 0x00, 1, 0),
        (0x7B, 0x69, 0, 0),  # it begins here
        (0x7B, 0x6A, -48, 0),
        (0xBF, 0xA1, 0, 0),  # bpf_probe_read_kernel(beside, 8, r7->module_name)
        (0x07, 0x01, 0, -8),
        (0xB7, 0x02, 0, 8),
        (0xBF, 0x73, 0, 0),
        (0x07, 0x03, 0, module),
        (0x85, 0x00, 0, _PROBE_READ_KERNEL),
        (0xBF, 0x81, 0, 0),  # bpf_seq_write(seq, all of it)
        (0xBF, 0xA2, 0, 0),
        (0x07, 0x02, 0, -48),
        (0xB7, 0x03, 0, _RECORD.size),
        (0x85, 0x00, 0, _SEQ_WRITE),
        (0xB7, 0x00, 0, 0),
        (0x95, 0x00, 0, 0),
    )


def read_symbols(btf: Btf, wanted: Collection[str]) -> list[Symbol]:
    """All symbols with these names, and where functions end, by address. Raises OSError."""
    function = btf.function("bpf_iter_ksym")
    if function is None:
        raise OSError(0, _NO_ITERATOR)
    # A longer one would be cut off, and never be found.
    assert max(map(len, wanted)) < _NAME_BYTES
    with ExitStack() as opened:

        def kept(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        fd = kept(new_maps.create("names", new_maps.HASH, _NAME_BYTES, 4, len(wanted)))
        names = bpf_maps.Map(fd, _NAME_BYTES, 4)
        last = kept(new_maps.array("last", 8).fd)
        for name in wanted:
            names.put(name.encode().ljust(_NAME_BYTES, b"\0"), bytes(4))
        program = kept(
            libbpf.prog_load(
                "find_symbols",
                libbpf.PROG_TYPE_TRACING,
                _iterator(btf, names.fd, last),
                attach_type=libbpf.TRACE_ITER,
                function=function,
            )
        )
        return records(libbpf.read_iterator(kept(libbpf.attach_iterator(program))))


def records(data: bytes) -> list[Symbol]:
    """What the iterator has written."""
    return [
        Symbol(address, *(text.split(b"\0")[0].decode(errors="replace") for text in texts))
        for address, *texts in _RECORD.iter_unpack(data)
    ]


def extents(symbols: Sequence[Symbol], names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Begin and end of the functions whose name is unique."""
    found = {}
    for name in names:
        places = [at for at, symbol in enumerate(symbols) if symbol.name == name]
        if len(places) == 1:
            begin = symbols[places[0]].address
            following = (symbol.address for symbol in symbols[places[0] :])
            end = next((address for address in following if address != begin), 0)
            if begin < end <= begin + _CODE_BYTES:
                found[name] = begin, end
    return found


class _Memory:
    """Reads kernel memory by running a program for each read."""

    def __init__(self) -> None:
        self._map = new_maps.array("kernel_code", 8 + _CODE_BYTES)
        program = libbpf.assemble(
            *_map_load(1, libbpf.PSEUDO_MAP_VALUE, self._map.fd),  # r1 = the map's value
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


def callers_and_called() -> frozenset[str]:
    """Names of all functions whose callers, or whose calls, matter."""
    return frozenset(name for pair in callers.pairs() for name in pair)


def read_calls(symbols: Sequence[Symbol], machine: str) -> dict[str, bool]:
    """Whether each existing caller calls each existing function. Raises OSError."""
    return _found(extents(symbols, callers_and_called()), machine)
