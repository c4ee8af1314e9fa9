"""Loads compiled programs, by libbpf: creates their maps, puts them in, asks the verifier.

Nothing is compiled and nothing attached here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ksmwatch.errors import NoLiveError
from ksmwatch.kernel import libbpf, new_maps
from ksmwatch.kernel.events import Mechanism
from ksmwatch.probes.compiled import Compiled, MapShape
from ksmwatch.probes.map_records import Field
from ksmwatch.probes.plan import LEARNER, Access, Program
from ksmwatch.probes.sources import MAPS

_PROG_TYPES = {
    Mechanism.FENTRY: libbpf.PROG_TYPE_TRACING,
    Mechanism.KPROBE: libbpf.PROG_TYPE_KPROBE,
    Mechanism.RAW_TRACEPOINT: libbpf.PROG_TYPE_RAW_TRACEPOINT,
    Access.SYSCALL: libbpf.PROG_TYPE_SYSCALL,
    Access.ITERATOR: libbpf.PROG_TYPE_TRACING,
}
# No other program would get a descriptor either.
NO_ROOM = (errno.EMFILE, errno.ENFILE)
# Loads of a map's descriptor, and of the address of its only value.
_OF_MAPS = (libbpf.PSEUDO_MAP, libbpf.PSEUDO_MAP_VALUE)


class ProgramOrigin(StrEnum):
    """Where programs come from."""

    COMPILED = "compiled"
    KEPT = "kept"
    ADOPTED = "adopted"


class LoadedMap(NamedTuple):
    """A map's descriptor, and the layout of its values if they are records."""

    fd: int
    key_size: int
    value_size: int
    fields: tuple[Field, ...]


class Loaded(NamedTuple):
    """Everything that was loaded. The receiver owns the descriptors.

    `learner`: a program that is needed once, after loading; see cow_call_site.py.
    """

    maps: dict[str, LoadedMap]
    programs: dict[str, int]
    learner: int | None = None
    origin: ProgramOrigin = ProgramOrigin.COMPILED

    def close_programs(self) -> None:
        """Release them; what is attached or kept stays."""
        for fd in (*self.programs.values(), *([] if self.learner is None else [self.learner])):
            os.close(fd)


class ProgramRefusedError(NoLiveError):
    """The kernel's verifier refused one program; another mechanism may work."""

    def __init__(self, program: str, why: str) -> None:
        super().__init__(f"The kernel refused the BPF program {program}: {why}.")
        self.program = program
        self.why = why


def load(
    compiled: Compiled,
    programs: Sequence[Program],
    functions: Mapping[str, int],
    origin: ProgramOrigin,
) -> Loaded:
    """Load these programs. `functions`: BTF ids of those that tracing programs are for.

    Raises ProgramRefusedError when the verifier refuses a program, OSError when a map cannot be
    created or descriptors run out. Then nothing stays.
    """
    maps: list[int] = []
    loaded: dict[str, int] = {}
    try:
        maps.extend(map(_create, compiled.maps))
        for program in programs:
            try:
                loaded[program.name] = _load(compiled, maps, program, functions)
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise
                raise ProgramRefusedError(program.name, error.strerror or str(error)) from error
    except (OSError, ProgramRefusedError):
        for fd in (*maps, *loaded.values()):
            os.close(fd)
        raise
    shared = {}
    for shape, fd in zip(compiled.maps, maps, strict=True):
        if shape.name in MAPS:
            shared[shape.name] = LoadedMap(fd, shape.key_size, shape.value_size, shape.fields)
        else:
            # The programs have it.
            os.close(fd)
    learner = loaded.pop(LEARNER, None)
    return Loaded(shared, loaded, learner, origin)


def _create(shape: MapShape) -> int:
    sizes = (shape.key_size, shape.value_size, shape.entries)
    return new_maps.create(shape.name, shape.kind, *sizes, shape.flags)


def _load(
    compiled: Compiled, maps: Sequence[int], program: Program, functions: Mapping[str, int]
) -> int:
    code = compiled.programs[program.name]
    kind = _PROG_TYPES[program.mechanism]
    return libbpf.prog_load(
        program.name,
        kind,
        with_maps(code.words, maps),
        attach_type=_attach_type(program),
        function=functions.get(program.symbol, 0) if kind == libbpf.PROG_TYPE_TRACING else 0,
        functions=code.functions,
        flags=libbpf.F_SLEEPABLE if kind == libbpf.PROG_TYPE_SYSCALL else 0,
    )


def with_maps(instructions: bytes, maps: Sequence[int]) -> bytes:
    """Instructions in which places of maps have become their descriptors."""
    words = list(libbpf.INSTRUCTION.iter_unpack(instructions))
    for at, (opcode, register, offset, number) in enumerate(words):
        if opcode == libbpf.LOAD_64 and register & 0xF0 in _OF_MAPS:
            words[at] = (opcode, register, offset, maps[number])
    return libbpf.assemble(*words)


def _attach_type(program: Program) -> int:
    if program.mechanism is Access.ITERATOR:
        return libbpf.TRACE_ITER
    if program.mechanism is not Mechanism.FENTRY:
        return 0
    return libbpf.TRACE_FEXIT if program.at_return else libbpf.TRACE_FENTRY
