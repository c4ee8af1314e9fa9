"""Virtual machines by the command line of their hypervisor: its claims about its guest.

Each hypervisor has a function: QEMU, Firecracker, Cloud Hypervisor, crosvm, kvmtool, StratoVirt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ksmwatch.owners.safe_text import decoded

# The options that name the guest come early. A command line can have megabytes.
_MAX_CMDLINE = 1 << 18


class Claim(NamedTuple):
    """What a hypervisor's command line says about its guest. `reference`: uuid, number or name."""

    manager: str
    name: str
    reference: str
    uuid: str | None = None


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# qemu-kvm: Red Hat and KubeVirt; qemu-kvm-one: OpenNebula; qemu-virtiofs-system: Kata 1; kvm:
# Debian and Proxmox; the dot and -wrapped: NixOS.
_QEMU = re.compile(
    r"\.?(qemu-(\w+-)?system-[\w.-]+?|qemu-kvm(-\w+)?|kvm|qemu)(-wrap\w*)?", re.ASCII
)
FIRECRACKER = re.compile(r"firecracker([-_]v?[0-9][\w.-]*)?", re.ASCII)
# The kernel cuts a comm off after 15 bytes.
_CLOUD_HYPERVISOR = re.compile(r"\.?cloud-hypervis(o|or([-_][\w.-]+)?)?", re.ASCII)
_CROSVM = re.compile(r"\.?crosvm([-_][\w.-]+)?", re.ASCII)
_LKVM = re.compile(r"(lkvm|vm)(-static)?")
_STRATOVIRT = re.compile(r"stratovirt([-_][\w.-]+)?", re.ASCII)
# If the dynamic loader is the program, its words come before those of the program it loads.
_LOADER = re.compile(
    r"ld-linux[\w.-]*|ld-musl[\w.-]*|ld-[0-9.]+\.so|ld(64)?\.so(\.[0-9]+)?", re.ASCII
)
_LOADER_OPTIONS = frozenset(
    f"--{name}"
    for name in (
        "argv0",
        "audit",
        "glibc-hwcaps-mask",
        "glibc-hwcaps-prepend",
        "inhibit-rpath",
        "library-path",
        "preload",
    )
)
# Sockets with these names say nothing; their directory names the VM, unless it is one of these.
_PLAIN_SOCKETS = frozenset(
    {"api", "ch", "ch-api", "clh-api", "cloud-hypervisor", "crosvm", "firecracker", "qmp", "socket"}
)
_PLAIN_DIRECTORIES = frozenset({"run", "tmp"})


def _option(argv: Sequence[str], name: str) -> str | None:
    """The last value of `-name VALUE`, `--name VALUE` or `--name=VALUE`."""
    value = None
    for at, word in enumerate(argv):
        if word in (f"-{name}", f"--{name}") and at + 1 < len(argv):
            value = argv[at + 1]
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def _keyed(value: str, first: str) -> dict[str, str]:
    """QEMU's `key=value,key=value`. A doubled comma is a comma; `first` is the omitted key."""
    pairs = {}
    # A NUL separates arguments, so no argument contains one.
    for at, item in enumerate(value.replace(",,", "\0").split(",")):
        key, equals, text = item.replace("\0", ",").partition("=")
        if equals:
            pairs[key] = text
        elif at == 0:
            pairs[first] = key
    return pairs


def _uuid(text: str | None) -> str | None:
    lower = (text or "").lower()
    return lower if _UUID.fullmatch(lower) else None


def _qemu(argv: Sequence[str]) -> Claim | None:
    """QEMU: `-name guest=a,debug-threads=on` or `-name a`, `-uuid`.

    Proxmox adds `-id`; Android's emulator has `-avd` instead.
    """
    name = _keyed(_option(argv, "name") or "", "guest").get("guest") or _option(argv, "avd")
    number, uuid = _option(argv, "id"), _uuid(_option(argv, "uuid"))
    reference = number or uuid or name
    if not reference:
        return None
    return Claim("proxmox" if number else "qemu", name or reference, reference, uuid)


def _firecracker(argv: Sequence[str]) -> Claim | None:
    """Firecracker: `--id`. The default id names no guest, and the API socket stands in."""
    name = _option(argv, "id")
    if not name or name == "anonymous-instance":
        return _by_socket("firecracker", _option(argv, "api-sock") or "")
    return Claim("firecracker", name, name)


def _cloud_hypervisor(argv: Sequence[str]) -> Claim | None:
    """Cloud Hypervisor has no name. Its API socket stands in; `--platform` has a uuid."""
    value = _option(argv, "api-socket") or ""
    socket = "" if value.startswith("fd=") else value.removeprefix("path=")
    uuid = _uuid(_keyed(_option(argv, "platform") or "", "").get("uuid"))
    return _by_socket("cloud-hypervisor", socket, uuid)


def _by_socket(manager: str, socket: str, uuid: str | None = None) -> Claim | None:
    """A guest without a name, named by the path of its socket."""
    if not socket and not uuid:
        return None
    *directories, base = [part for part in socket.split("/") if part] or [uuid or ""]
    stem = base.partition(".")[0]
    named = [part for part in directories[-1:] if part not in _PLAIN_DIRECTORIES]
    name = named[0] if stem in _PLAIN_SOCKETS and named else stem or base
    return Claim(manager, name, uuid or socket, uuid)


def _by_name(manager: str, argv: Sequence[str]) -> Claim | None:
    name = _option(argv, "name")
    return Claim(manager, name, name) if name else None


def _crosvm(argv: Sequence[str]) -> Claim | None:
    """crosvm: `run --name`, or the control socket, `-s` or `--socket`."""
    socket = _option(argv, "socket") or _option(argv, "s") or ""
    return _by_name("crosvm", argv) or _by_socket("crosvm", socket)


def _lkvm(argv: Sequence[str]) -> Claim | None:
    """kvmtool: `lkvm run --name`, whose other name is `vm`."""
    return _by_name("kvmtool", argv) if argv[:1] in (["run"], ["sandbox"]) else None


def _stratovirt(argv: Sequence[str]) -> Claim | None:
    """StratoVirt has QEMU's options. Its QMP socket stands in for a name (`unix:PATH,server`)."""
    value = _option(argv, "qmp") or _option(argv, "api-channel") or ""
    socket = value.removeprefix("unix:").partition(",")[0]
    return _by_name("stratovirt", argv) or _by_socket("stratovirt", socket)


Recogniser = Callable[[Sequence[str]], Claim | None]
_HYPERVISORS: tuple[tuple[re.Pattern[str], Recogniser], ...] = (
    (_QEMU, _qemu),
    (FIRECRACKER, _firecracker),
    (_CLOUD_HYPERVISOR, _cloud_hypervisor),
    (_CROSVM, _crosvm),
    (_LKVM, _lkvm),
    (_STRATOVIRT, _stratovirt),
)


def base_name(path: str) -> str:
    """The name of a program, from its path. The program may have been deleted since."""
    return path.removesuffix(" (deleted)").rpartition("/")[2]


def claim_of(cmdline: bytes, exe: str, comm: str) -> Claim | None:
    """The guest that a command line names, if the program is a hypervisor."""
    argv, recognise = _program(cmdline, exe, comm)
    return recognise(argv[1:]) if recognise else None


def is_hypervisor(cmdline: bytes, exe: str, comm: str) -> bool:
    """Whether the program is a hypervisor, even if its command line names no guest."""
    return _program(cmdline, exe, comm)[1] is not None


def _program(cmdline: bytes, exe: str, comm: str) -> tuple[list[str], Recogniser | None]:
    """The command line of the program, and the function for it if it is a hypervisor."""
    argv = decoded(cmdline[:_MAX_CMDLINE]).split("\0")
    programs = [base_name(exe), base_name(argv[0]), comm]
    if any(map(_LOADER.fullmatch, programs)):
        argv = _loaded(argv)
        programs = [base_name(argv[0])]
    for program in programs:
        for pattern, recognise in _HYPERVISORS:
            if pattern.fullmatch(program):
                return argv, recognise
    return argv, None


def _loaded(argv: Sequence[str]) -> list[str]:
    """The command line of the program that the dynamic loader was told to load."""
    words = list(argv[1:])
    while words and words[0].startswith("-"):
        del words[: 2 if words[0] in _LOADER_OPTIONS else 1]
    return words or [""]
