"""A kernel's BTF, and files of an invented host."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class FakeBtf:
    """BTF that has certain members and functions."""

    members: dict[tuple[str, str], int]
    functions: dict[str, list[str]]
    error: OSError | None

    def __init__(self) -> None:
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def struct(self, name: str) -> int | None:
        """Its index among the structs that the test has declared."""
        names = [struct for struct, _ in self.members]
        return names.index(name) if name in names else None

    def function(self, name: str) -> int | None:
        """Its index among the functions that the test has declared."""
        return list(self.functions).index(name) if name in self.functions else None

    def offset(self, struct: str, member: str) -> int | None:
        """Where the test says that it is."""
        return self.members.get((struct, member))

    def parameters(self, function: str) -> list[str] | None:
        """What the test says that it takes."""
        return self.functions.get(function)


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
