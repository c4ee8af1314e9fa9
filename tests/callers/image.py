"""A kernel's image: its symbols and its code. Symbols come from its own kallsyms."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.callers import code

_LOAD = 1
_EXECUTABLE = 1
_MACHINE_X86 = 62


@dataclass(frozen=True)
class Image:
    """Pieces of code by address, and text symbols in ascending order."""

    x86: bool
    pieces: tuple[tuple[int, bytes], ...]
    symbols: tuple[tuple[int, str], ...]

    def callers(self, names: Iterable[str]) -> dict[str, list[str]]:
        """For each existing function, the functions that call it or jump to it."""
        wanted = set(names)
        targets = {address: name for address, name in self.symbols if name in wanted}
        found: dict[str, set[str]] = {name: set() for name in targets.values()}
        starts = [address for address, _ in self.symbols]
        calls = code.x86_calls if self.x86 else code.arm_calls
        for base, piece in self.pieces:
            for here, to in calls(piece, base, targets):
                caller = code.plain(self.symbols[code.function_at(here, starts)][1])
                if caller != targets[to]:
                    found[targets[to]].add(caller)
        return {name: sorted(callers) for name, callers in sorted(found.items())}

    def functions(self) -> frozenset[str]:
        """All that are not inlined everywhere."""
        return frozenset(code.plain(name) for _, name in self.symbols)


def elf_pieces(data: bytes) -> tuple[bool, list[tuple[int, bytes]]]:
    """Whether it is for x86, and the executable segments of an ELF file."""
    (machine,) = struct.unpack_from("<H", data, 18)
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    pieces = []
    for number in range(count):
        kind, flags, offset, address, _, length = struct.unpack_from(
            "<IIQQQQ", data, table + number * size
        )
        if kind == _LOAD and flags & _EXECUTABLE:
            pieces.append((address, data[offset : offset + length]))
    return machine == _MACHINE_X86, pieces


def read(path: Path) -> Image:
    """Read an ELF file, or the raw Image of arm64."""
    # Slow to import, and only this needs it.
    from vmlinux_to_elf.core.kallsyms import KallsymsFinder, KallsymsSymbolType

    data = path.read_bytes()
    finder = KallsymsFinder(data)
    kinds = (KallsymsSymbolType.TEXT, KallsymsSymbolType.WEAK_SYMBOL_WITH_DEFAULT)
    symbols = sorted(
        (symbol.virtual_address, symbol.name)
        for symbol in finder.symbols
        if symbol.symbol_type in kinds
    )
    if data[:4] == b"\x7fELF":
        x86, pieces = elf_pieces(data)
    else:
        # Loaded as it is, at an address of which only differences matter.
        begin = finder.kernel_text_candidate
        end = next(each.virtual_address for each in finder.symbols if each.name == "_etext")
        x86, pieces = False, [(begin, data[: end - begin])]
    return Image(x86, tuple(pieces), tuple(symbols))
