"""Struct offsets and function prototypes from the running kernel's BTF.

Single types are looked up through libbpf: dumping all of BTF as text takes seconds.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ksmwatch.kernel import libbpf

_STRUCT, _UNION, _FUNC = 4, 5, 12
# Kinds that only modify the type at which they point.
_TRANSPARENT = {8: "typedef", 9: "volatile", 10: "const", 11: "restrict", 18: "type tag"}
_PTR = 2
_VMLINUX = "/sys/kernel/btf/vmlinux"


class Btf:
    """The BTF of vmlinux. Raises OSError if the kernel has none."""

    def __init__(self) -> None:
        self._lib = libbpf.library()
        self._found: dict[tuple[str, int], int | None] = {}
        self._btf = self._lib.btf__load_vmlinux_btf()
        if not self._btf and os.access(_VMLINUX, os.R_OK):
            # libbpf searches many places, and reports ESRCH for any failure, even for a lack of
            # memory or descriptors. Asked for one place, it reports the actual error.
            parse = self._lib.btf__parse
            parse.argtypes, parse.restype = [ct.c_char_p, ct.c_void_p], ct.c_void_p
            self._btf = parse(_VMLINUX.encode(), None)
        if not self._btf:
            number = ct.get_errno()
            nowhere = f"there is no {_VMLINUX}"
            raise OSError(number, nowhere if number == errno.ESRCH else os.strerror(number))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lib.btf__free(self._btf)

    def struct(self, name: str) -> int | None:
        """Id of ``struct <name>``; None if there is none."""
        return self._find(name, _STRUCT)

    def function(self, name: str) -> int | None:
        """Id of a kernel function; None if BTF lacks it."""
        return self._find(name, _FUNC)

    def _find(self, name: str, kind: int) -> int | None:
        """Remembered, because libbpf looks at one type after the other."""
        if (name, kind) not in self._found:
            found = int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind))
            self._found[name, kind] = None if found < 0 else found
        return self._found[name, kind]

    def offset(self, struct: str, member: str) -> int | None:
        """Byte offset of `member` in ``struct <struct>``, also inside anonymous members.

        None if there is no such struct or member, or if it is a bit field.
        """
        found = self.struct(struct)
        return None if found is None else self._offset_in(found, member)

    def parameters(self, function: str) -> list[str] | None:
        """Parameter types of a kernel function, as ``struct page *``; None if BTF lacks it."""
        found = self.function(function)
        if found is None:
            return None
        prototype = self._type(self._type(found)[2])
        count = prototype[1] & 0xFFFF
        return [self._spelling(prototype[3 + 2 * i + 1]) for i in range(count)]

    def _type(self, number: int) -> ct._Pointer[ct.c_uint32]:
        return self._lib.btf__type_by_id(self._btf, number)  # type: ignore[no-any-return]

    def _name(self, offset: int) -> str:
        name = self._lib.btf__name_by_offset(self._btf, offset)
        return name.decode() if name else ""

    def _members(self, number: int) -> Iterator[tuple[str, int, int, int]]:
        """(name, type, bit offset, bit-field width) of each member of a struct or union."""
        record = self._type(number)
        bitfields = record[1] >> 31
        for i in range(record[1] & 0xFFFF):
            name, kind, offset = record[3 + 3 * i], record[4 + 3 * i], record[5 + 3 * i]
            width = offset >> 24 if bitfields else 0
            yield self._name(name), kind, offset & 0xFFFFFF if bitfields else offset, width

    def _offset_in(self, number: int, member: str) -> int | None:
        for name, kind, bits, width in self._members(number):
            if name == member:
                return bits // 8 if not width and bits % 8 == 0 else None
            if not name and self._kind(kind) in (_STRUCT, _UNION):
                inner = self._offset_in(kind, member)
                if inner is not None:
                    return bits // 8 + inner
        return None

    def _kind(self, number: int) -> int:
        return int(self._type(number)[1]) >> 24 & 0x1F

    def _spelling(self, number: int) -> str:
        """How a type is written in C, as far as probes need it: pointers to structs."""
        stars = ""
        while number and self._kind(number) in (*_TRANSPARENT, _PTR):
            if self._kind(number) == _PTR:
                stars += "*"
            number = self._type(number)[2]
        if not number:
            name = "void"
        else:
            name = self._name(self._type(number)[0])
            name = f"struct {name}" if self._kind(number) == _STRUCT else name
        return f"{name} {stars}".rstrip()
