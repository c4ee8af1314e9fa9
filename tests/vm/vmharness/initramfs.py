"""The initramfs of a run: busybox, the guest's scripts and the modules that lead to the root.

It is made in memory for every run (a few milliseconds), so nothing of it can go stale.
"""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import HarnessError

GUEST = Path(__file__).resolve().parent.parent / "guest"
APPLETS = ("sh", "mount", "mkdir", "insmod", "ln", "cp", "reboot", "switch_root", "dd")
BUSYBOX_PLACES = ("bin/busybox", "usr/bin/busybox")


@dataclass
class Archive:
    """A cpio archive of the "newc" kind that the kernel unpacks."""

    parts: list[bytes] = field(default_factory=list)
    count: int = 0

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        self.count += 1
        raw = name.encode() + b"\0"
        numbers = (self.count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
        self.parts += [head, padding(len(head)), data, padding(len(data))]

    def directory(self, name: str) -> None:
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a plain file."""
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def bytes(self) -> bytes:
        """The finished archive."""
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self.parts)


def padding(length: int) -> bytes:
    """Everything in the archive starts at a multiple of four."""
    return b"\0" * (-length % 4)


@dataclass(frozen=True)
class Job:
    """What the guest is to do."""

    command: Sequence[str]
    directory: str
    environment: Mapping[str, str]
    token: str  # ends each output stream; the guest says it when all is written
    modules: str  # host directory of the kernel's modules
    writable: Sequence[str] = ()
    keep: Sequence[str] = ()  # host paths that must show through a fresh /tmp, /run or /dev
    network: bool = False
    disk: bool = False  # the root is a disk with systemd, not the host's file system
    apart: bool = False  # the root is a directory of its own; the host's files are another share
    share: str = "9p"  # or virtiofs
    programs: bool = False  # compiled programs are shared with other guests


def settings_script(job: Job) -> str:
    """The job as shell assignments; lists are newline-separated."""
    values = {
        "TOKEN": job.token,
        "MODULES": job.modules,
        "WRITABLE": "\n".join(job.writable),
        "KEEP": "\n".join(job.keep),
        "NETWORK": "1" if job.network else "",
        "DISK": "1" if job.disk else "",
        "APART": "1" if job.apart else "",
        "SHARE": job.share,
        "PROGRAMS": "1" if job.programs else "",
    }
    for path in (*job.writable, *job.keep):
        if "\n" in path:
            raise HarnessError("a directory with a newline in its name cannot be shown to a guest")
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in values.items())


def command_script(job: Job) -> str:
    """A script that becomes the command, with exactly the job's environment.

    env sets it, so that names which a shell would not take are passed on as well, and its exit
    status for a command that is missing (127) or not executable (126) is the usual one. It must
    be the machine's own env by its full path: busybox would run its own applets instead of the
    machine's programs.
    """
    variables = [f"{key}={value}" for key, value in job.environment.items()]
    words = ["/usr/bin/env", "-i", *variables, *job.command]
    return (
        f"cd {shlex.quote(job.directory)} || exit 126\n"
        f"exec {' '.join(shlex.quote(word) for word in words)}\n"
    )


def busybox(root: Path = Path("/")) -> bytes:
    """The static busybox of a root, by default the machine's."""
    for path in (root / place for place in BUSYBOX_PLACES):
        if path.is_file():
            data = path.read_bytes()
            if b"/ld-linux" in data[:4096]:
                raise HarnessError(f"{path} is not static; install the package busybox-static")
            return data
    raise HarnessError("there is no busybox; install the package busybox-static")


def build(
    modules: Sequence[Path],
    job: Job | None,
    disk_modules: Sequence[tuple[str, bytes]] = (),
    root: Path = Path("/"),
) -> bytes:
    """The initramfs; without a job it only proves that the kernel boots (see probe).

    `root`: where the programs are that the guest's machine can run.
    """
    archive = Archive()
    for name in ("bin", "dev", "proc", "modules", "lower", "upper", "host", "newroot", "vm"):
        archive.directory(name)
    archive.file("bin/busybox", busybox(root), 0o755)
    for applet in APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    if job is None:
        archive.file("init", (GUEST / "probe").read_bytes(), 0o755)
        return archive.bytes()
    archive.file("init", (GUEST / "init").read_bytes(), 0o755)
    archive.file("vm/stage2", (GUEST / "stage2").read_bytes(), 0o755)
    archive.file("vm/settings", settings_script(job).encode())
    archive.file("vm/command", command_script(job).encode("utf-8", "surrogateescape"))
    for module in modules:
        if job.network or not module.stem.endswith(("failover", "virtio_net")):
            archive.file(f"modules/{module.name}", module.read_bytes())
    for number, (name, image) in enumerate(disk_modules):
        # Sorts after the others.
        archive.file(f"modules/disk-{number:02}-{name}.ko", image)
    return archive.bytes()
