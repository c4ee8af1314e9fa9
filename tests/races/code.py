"""Places in the kernel's code, found by what stands there.

Numbers differ from build to build, so a place is said in words: behind the call of such a
function, behind such a store. The code is read from the running guest and disassembled by
objdump, which gcc brings along (capstone would be one more dependency for a few patterns).
"""

from __future__ import annotations

import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class NoPlaceError(Exception):
    """The kernel's code does not have what was looked for."""


@dataclass(frozen=True)
class Symbol:
    """A function of the guest's kallsyms."""

    name: str
    address: int
    end: int


@dataclass(frozen=True)
class Instruction:
    """One of objdump's lines."""

    address: int
    text: str
    target: int | None = None  # of a call or jump

    @property
    def calls(self) -> bool:
        """Whether it calls a function, or ends by jumping there."""
        return self.text.startswith(("call", "jmp")) and self.target is not None


def parse(listing: str) -> list[Instruction]:
    """The lines of objdump -D."""
    found = []
    for line in listing.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\t(.*)", line)
        if match:
            text = " ".join(match[2].split("#")[0].split())
            jump = re.match(r"(?:call|j\w+)\s+0x([0-9a-f]+)", text)
            found.append(Instruction(int(match[1], 16), text, int(jump[1], 16) if jump else None))
    return found


def disassemble(code: bytes, address: int) -> list[Instruction]:
    """Machine code of x86-64 that stands at an address."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        done = subprocess.run(
            [
                *("objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn"),
                *(f"--adjust-vma={address:#x}", file.name),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    return parse(done.stdout)


@dataclass(frozen=True)
class Place:
    """Somewhere in a function; the first of `functions` that the kernel has.

    `find` gets the function's instructions and the addresses of `callees`.
    """

    words: str
    functions: tuple[str, ...]
    callees: tuple[str, ...]
    find: Callable[[Sequence[Instruction], set[int]], list[int]]

    def __str__(self) -> str:
        return self.words


def _followers(code: Sequence[Instruction], wanted: Callable[[Instruction], bool]) -> list[int]:
    """Addresses behind the instructions that are wanted."""
    return [after.address for each, after in itertools.pairwise(code) if wanted(each)]


def inside(*functions: str) -> Place:
    """Behind the place where ftrace calls: hooks on the entry have run, and nothing else has."""

    def find(code: Sequence[Instruction], _: set[int]) -> list[int]:
        # ftrace's five bytes are first, or second behind endbr64, which may be patched away.
        pairs = itertools.pairwise(code[:3])
        return [after.address for site, after in pairs if after.address - site.address == 5]

    return Place(f"inside {functions[0]}", functions, (), find)


def at(*functions: str) -> Place:
    """Before a function's first instruction: hooks on the entry have not run."""
    return Place(f"at {functions[0]}", functions, (), lambda code, _: [code[0].address])


def behind_call(function: str | tuple[str, ...], *callees: str) -> Place:
    """Where a function goes on after it has called another: hooks on that one's return have run."""
    functions = (function,) if isinstance(function, str) else function

    def find(code: Sequence[Instruction], targets: set[int]) -> list[int]:
        def wanted(each: Instruction) -> bool:
            return each.text.startswith("call") and each.target in targets

        return _followers(code, wanted)

    return Place(f"behind {callees[0]} in {functions[0]}", functions, callees, find)


def before_call(function: str | tuple[str, ...], *callees: str) -> Place:
    """Where a function is about to call another."""
    functions = (function,) if isinstance(function, str) else function

    def find(code: Sequence[Instruction], targets: set[int]) -> list[int]:
        return [each.address for each in code if each.calls and each.target in targets]

    return Place(f"before {callees[0]} in {functions[0]}", functions, callees, find)


def behind(function: str | tuple[str, ...], pattern: str) -> Place:
    """Behind instructions that a regular expression describes."""
    functions = (function,) if isinstance(function, str) else function

    def find(code: Sequence[Instruction], _: set[int]) -> list[int]:
        return _followers(code, lambda each: re.fullmatch(pattern, each.text) is not None)

    return Place(f"behind '{pattern}' in {functions[0]}", functions, (), find)


# Where a return leads, as long as the kernel has not found that it need not.
_RETURN_THUNKS = tuple(f"{kind}_return_thunk" for kind in ("__x86", "srso", "retbleed", "its"))


def end_of(*functions: str) -> Place:
    """Before a function returns: hooks on its return have not run."""

    def find(code: Sequence[Instruction], targets: set[int]) -> list[int]:
        def returns(each: Instruction) -> bool:
            jumps = each.text.startswith("jmp") and each.target in targets
            return jumps or re.match(r"(bnd )?ret\b", each.text) is not None

        return [each.address for each in code if returns(each)]

    return Place(f"end of {functions[0]}", functions, _RETURN_THUNKS, find)
