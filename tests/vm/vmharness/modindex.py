"""Kernel modules: reading them, and the index files that modprobe wants.

Debian's packages leave the index to depmod, which runs at installation and may be missing
here; modules may be packed. So both are done in Python.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .errors import HarnessError


@dataclass(frozen=True)
class Module:
    """What a module says about itself."""

    path: str  # relative to lib/modules/RELEASE
    depends: tuple[str, ...]
    aliases: tuple[str, ...]
    softdeps: tuple[str, ...]


def module_name(path: str) -> str:
    """The kernel's name of a module file: no suffixes, underscores only."""
    return path.rsplit("/", 1)[-1].split(".ko", 1)[0].replace("-", "_")


def read_module(path: Path) -> bytes:
    """The plain ELF image of a module file."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".ko":
        return data
    raise HarnessError(f"{path} is packed in a way that is not known here")


def modinfo(image: bytes) -> list[tuple[str, str]]:
    """The key=value pairs of the .modinfo section of a 64-bit little-endian ELF file."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise HarnessError("a kernel module is not a 64-bit ELF file")
    (sections_at,) = struct.unpack_from("<Q", image, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", image, 0x3A)

    def header(index: int) -> tuple[int, int, int]:
        at = sections_at + index * entry_size
        (name,) = struct.unpack_from("<I", image, at)
        offset, size = struct.unpack_from("<QQ", image, at + 0x18)
        return name, offset, size

    _, names_at, _ = header(names_index)
    for index in range(count):
        name, offset, size = header(index)
        start = names_at + name
        if image[start : image.index(b"\0", start)] == b".modinfo":
            pairs = []
            for item in image[offset : offset + size].split(b"\0"):
                key, equals, value = item.decode("utf-8", "replace").partition("=")
                if equals:
                    pairs.append((key, value))
            return pairs
    return []


def describe(path: str, image: bytes) -> Module:
    """The part of a module's modinfo that loading it depends on."""
    pairs = modinfo(image)
    depends = [name for key, value in pairs if key == "depends" for name in value.split(",")]
    return Module(
        path,
        tuple(name.replace("-", "_") for name in depends if name),
        tuple(value for key, value in pairs if key == "alias"),
        tuple(value for key, value in pairs if key == "softdep"),
    )


def load_order(wanted: Sequence[str], modules: Mapping[str, Module]) -> list[str]:
    """The wanted modules and all they need, each after what it needs."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name not in modules:
            raise HarnessError(f"the kernel has no module {name}")
        for needed in modules[name].depends:
            visit(needed)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def dep_text(modules: Mapping[str, Module]) -> str:
    """modules.dep: per module all it needs, what must be loaded first coming last."""
    lines = []
    for name, module in modules.items():
        needed = [each for each in reversed(load_order([name], modules)) if each != name]
        lines.append(f"{module.path}: {' '.join(modules[each].path for each in needed)}".rstrip())
    return "\n".join(lines) + "\n"


def alias_text(modules: Mapping[str, Module]) -> str:
    """modules.alias: how the kernel's own requests find a module."""
    return "".join(
        f"alias {alias} {name}\n" for name, module in modules.items() for alias in module.aliases
    )


def softdep_text(modules: Mapping[str, Module]) -> str:
    """modules.softdep."""
    return "".join(
        f"softdep {name} {text}\n" for name, module in modules.items() for text in module.softdeps
    )


def scan(directory: Path) -> dict[str, Module]:
    """Describe all modules below lib/modules/RELEASE."""
    paths = sorted(path for path in directory.rglob("*.ko*") if path.is_file())

    def one(path: Path) -> Module:
        return describe(str(path.relative_to(directory)), read_module(path))

    with ThreadPoolExecutor(2) as pool:  # unpacking releases the interpreter lock
        return {module_name(module.path): module for module in pool.map(one, paths)}


def write_index(directory: Path, modules: Mapping[str, Module]) -> None:
    """Write what modprobe reads."""
    (directory / "modules.dep").write_text(dep_text(modules))
    (directory / "modules.alias").write_text(alias_text(modules))
    (directory / "modules.softdep").write_text(softdep_text(modules))
    (directory / "modules.symbols").touch()
