"""What the running kernel is made of: symbols, code and BTF. It stays the same until the next boot.

`read_facts` reads everything that can change.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ksmwatch.kernel.btf import Btf
from ksmwatch.kernel.events import MAP_ITERATOR, TRACEPOINTS, symbols
from ksmwatch.kernel.facts import Facts
from ksmwatch.kernel.kernel_text import callers_and_called, read_calls, read_symbols
from ksmwatch.kernel.struct_layout import MEMBERS

_KALLSYMS_PIECE = 1 << 18
# Looked up besides the functions that can be probed.
_TRAMPOLINE, _DIRECT = "bpf_trampoline_link_prog", "register_ftrace_direct"
_ALLOCATOR = "bpf_mem_alloc_init"
# By tracepoint, the kernel's function that calls what is attached to it.
_CALLERS = {each.symbol: f"__traceiter_{each.symbol}" for each in TRACEPOINTS}
_OTHERS = (_TRAMPOLINE, _DIRECT, _ALLOCATOR, *_CALLERS.values())


class Image(NamedTuple):
    """The facts of these names in `Facts`, which describes them."""

    symbols: Mapping[str, int]
    kallsyms_error: str | None
    tracepoints: frozenset[str]
    trampolines: bool
    bpf_mem_alloc: bool
    calls: Mapping[str, bool]
    calls_error: str | None
    prototypes: Mapping[str, tuple[str, ...]]
    offsets: Mapping[str, int]
    functions: Mapping[str, int]
    # Not yet whether the kernel accepts a program with such a cast.
    casts: Mapping[str, int]
    btf_error: str | None

    @property
    def whole(self) -> bool:
        """Whether everything could be read."""
        errors = (self.kallsyms_error, self.calls_error, self.btf_error)
        return errors == (None, None, None) and bool(self.calls)

    @classmethod
    def of(cls, facts: Facts) -> Image:
        """The image of a host whose facts are known."""
        return cls(*(getattr(facts, name) for name in cls._fields))

    def to_json(self) -> dict[str, Any]:
        """A plain document."""
        return {**self._asdict(), "tracepoints": sorted(self.tracepoints)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Image:
        """The inverse of `to_json`. Raises KeyError or TypeError."""
        values = dict(document)
        values["tracepoints"] = frozenset(values["tracepoints"])
        values["prototypes"] = {k: tuple(v) for k, v in values["prototypes"].items()}
        return cls(**values)


def read_image(root: Path = Path("/")) -> Image:
    """Examine the running kernel."""
    machine = os.uname().machine
    with _kernel_btf() as (opened, btf_error):
        btf = _read_btf(opened, btf_error)
        text = _read_text(root, opened, btf_error, frozenset((*symbols(), *_OTHERS)))
    found = text.symbols
    return Image(
        symbols={name: found[name] for name in symbols() if name in found},
        kallsyms_error=text.error,
        tracepoints=frozenset(name for name, caller in _CALLERS.items() if caller in found),
        trampolines=_trampolines(found, machine),
        bpf_mem_alloc=_ALLOCATOR in found,
        calls=text.calls,
        calls_error=text.calls_error,
        prototypes=btf.prototypes,
        offsets=btf.offsets,
        functions=btf.functions,
        casts=btf.casts,
        btf_error=btf.error,
    )


def _trampolines(symbols_found: Container[str], machine: str) -> bool:
    """Whether fentry programs can be attached.

    On arm64 that needs direct calls of ftrace, which came with 6.4 (commit 2aa6ac03516d). x86 does
    not need them.
    """
    direct = machine != "aarch64" or _DIRECT in symbols_found
    return direct and _TRAMPOLINE in symbols_found


class _FromText(NamedTuple):
    """What the kernel's own symbols and code say. `symbols`: how often each wanted name occurs."""

    symbols: Mapping[str, int]
    error: str | None
    calls: dict[str, bool]
    calls_error: str | None


def _read_text(
    root: Path, btf: Btf | None, no_btf: str | None, wanted: frozenset[str]
) -> _FromText:
    """Use one walk of a BPF program over all symbols, if possible; otherwise /proc/kallsyms.

    The kernel makes a text of each symbol for that file, which takes several times as long.
    """
    why = no_btf or "it is not the running kernel's"
    if btf is not None and root == Path("/"):
        try:
            found = read_symbols(btf, wanted | callers_and_called())
            counts = Counter(each.name for each in found if not each.module and each.name in wanted)
            return _FromText(counts, None, read_calls(found, os.uname().machine), None)
        except OSError as error:
            why = error.strerror or str(error)
        except MemoryError:
            # The daemon may be short of memory for a while.
            why = os.strerror(errno.ENOMEM)
    return _FromText(*_read_symbols(root, wanted), {}, why)


def _read_symbols(root: Path, wanted: frozenset[str]) -> tuple[dict[str, int], str | None]:
    """How often each wanted name occurs in /proc/kallsyms as vmlinux's own symbol, or why not."""
    # A hundred thousand lines: a pattern is used, as splitting each costs a tenth of a second. In a
    # module's line, its name in brackets follows the symbol.
    pattern = re.compile(rf"^\w+ \w ({'|'.join(map(re.escape, wanted))})\n".encode(), re.MULTILINE)
    counts: Counter[str] = Counter()
    rest = b""
    try:
        with (root / "proc/kallsyms").open("rb") as file:
            while piece := file.read(_KALLSYMS_PIECE):
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                counts.update(map(bytes.decode, pattern.findall(whole + newline)))
    except OSError as error:
        return {}, error.strerror or str(error)
    return counts, None


class _FromBtf(NamedTuple):
    prototypes: dict[str, tuple[str, ...]]
    offsets: dict[str, int]
    casts: dict[str, int]
    functions: dict[str, int]
    error: str | None


def _read_btf(btf: Btf | None, error: str | None) -> _FromBtf:
    if btf is None:
        return _FromBtf({}, {}, {}, {}, error)
    return _FromBtf(
        _read_prototypes(btf), member_offsets(btf), _read_casts(btf), _read_functions(btf), None
    )


@contextmanager
def _kernel_btf() -> Iterator[tuple[Btf | None, str | None]]:
    """The kernel's BTF, or why there is none."""
    try:
        opened = Btf()
    except OSError as error:
        yield None, error.strerror or str(error)
        return
    with opened as btf:
        yield btf, None


def _read_prototypes(btf: Btf) -> dict[str, tuple[str, ...]]:
    found = {name: btf.parameters(name) for name in symbols()}
    return {name: tuple(types) for name, types in found.items() if types is not None}


def _read_functions(btf: Btf) -> dict[str, int]:
    found = {name: btf.function(name) for name in (*symbols(), MAP_ITERATOR)}
    return {name: number for name, number in found.items() if number is not None}


def member_offsets(btf: Btf) -> dict[str, int]:
    """Byte offsets of those struct_layout.MEMBERS that this kernel has."""
    offsets = {}
    for member in MEMBERS:
        found = (btf.offset(*place) for place in member.places)
        offset = next((o for o in found if o is not None), None)
        if offset is not None:
            offsets[member.name] = offset
    return offsets


def _read_casts(btf: Btf) -> dict[str, int]:
    function = btf.function("bpf_rdonly_cast")
    kinds = (btf.struct(name) for name in ("folio", "page"))
    kind = next((each for each in kinds if each is not None), None)
    return {} if function is None or kind is None else {"function": function, "page": kind}
