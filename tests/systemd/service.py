"""The installed service, and its objects in the kernel."""

from __future__ import annotations

import contextlib
import ctypes as ct
import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ksmwatch.kernel import libbpf
from tests.slowness import patience
from tests.waiting import wait_until

SOCKET = Path("/run/ksmwatch/ksmwatch.sock")
UNIT = "ksmwatch.service"
# Of the reference machine, under emulation; nothing is measured by this.
_PATIENCE_SECONDS = 480
# Program types that attach to functions and tracepoints; systemd itself has others.
_PROBING = (libbpf.PROG_TYPE_KPROBE, libbpf.PROG_TYPE_RAW_TRACEPOINT, libbpf.PROG_TYPE_TRACING)


def run(*argv: str) -> str:
    """Run a program that must succeed; its output."""
    done = subprocess.run(
        argv, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def show(name: str) -> str:
    """A property of the unit."""
    return run("systemctl", "show", "--property", name, "--value", UNIT).strip()


def pid() -> int:
    """Of the daemon; 0 while there is none."""
    return int(show("MainPID"))


def journal() -> list[str]:
    """What the service has logged, without systemd's lines about it."""
    lines = run("journalctl", "--unit", UNIT, "--output", "cat", "--no-pager").splitlines()
    return [line for line in lines if line.startswith("ts=")]


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Until something holds."""
    wait_until(holds, lambda: f"{what}\n" + "\n".join(journal()[-20:]), seconds=_PATIENCE_SECONDS)


class Service:
    """Requests to the daemon, whichever process it is at the moment."""

    def snapshot(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(patience(_PATIENCE_SECONDS))
            sock.connect(str(SOCKET))
            sock.sendall(b'{"command": "snapshot"}\n')
            document: dict[str, Any] = json.loads(sock.makefile("rb").read())
        assert "error" not in document, document
        return document


def capabilities() -> set[int]:
    """Numbers of the capabilities that any thread of the daemon has, or could have again."""
    found = 0
    for status in Path(f"/proc/{pid()}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith(("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")):
                found |= int(line.split()[1], 16)
    return {bit for bit in range(64) if found >> bit & 1}


def probing_programs() -> Counter[int]:
    """BPF programs in the kernel that probes run, by type, as bpftool would find them."""
    found: Counter[int] = Counter()
    library, number = libbpf.library(), ct.c_uint32(0)
    while library.bpf_prog_get_next_id(number, ct.byref(number)) == 0:
        fd = library.bpf_prog_get_fd_by_id(number)
        if fd >= 0:
            found[libbpf.prog_info(fd).type] += 1
            os.close(fd)
    return Counter({kind: found[kind] for kind in _PROBING if found[kind]})


def hooked_functions() -> set[str]:
    """Kernel functions with a probe of anybody's."""
    lines = Path("/sys/kernel/tracing/enabled_functions").read_text().splitlines()
    return {line.split()[0] for line in lines}


def processes_of(uid: int) -> list[Path]:
    """Processes of a user."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_uid == uid:
                found.append(path)
    return found


def files() -> set[Path]:
    """All files, except dpkg's records, the journal, and Python's compiled files."""
    roots = ("/etc", "/usr", "/var", "/lib", "/run", "/opt", "/srv", "/root", "/home")
    listing = run("find", *roots, "-xdev", "-not", "-path", "*/__pycache__*")
    ours = ("/var/lib/dpkg", "/var/log", "/var/cache", "/run/log", "/run/ksmwatch-vm", "/run/user")
    return {
        Path(line)
        for line in listing.splitlines()
        if not line.startswith((*ours, "/run/systemd", "/run/dbus"))
    }
