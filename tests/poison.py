"""A directory and an environment that another user has prepared for a command that is called there.

Whatever of them is run leaves its name behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Of others and of ours: everything that a command could import.
PACKAGES = (
    *("ksmwatch", "bcc", "bpfcc", "pyroute2", "h11", "prometheus_client", "psutil", "yaml"),
    *("bcrypt", "textual", "rich", "sitecustomize", "usercustomize", "_cffi_backend"),
)
# What libraries, or their build systems, are known to call.
PROGRAMS = (
    *("python3", "python", "sh", "readlink", "dirname", "env", "uname", "file", "tar", "mkdir"),
    *("ldconfig", "gcc", "cc", "clang", "ld", "objdump", "nm", "lsb_release", "modprobe"),
    *("ksmwatch", "ausyscall", "id", "getent", "mount", "infocmp", "tput", "stty"),
)
# Each command but `run`, with arguments with which it succeeds; {} is a directory of the test.
COMMANDS = {
    "check": "--json",
    "build": "--output={}/built",
    "snapshot": "--json",
    "meminfo": "",
    "forecast": "--json",
    "top": "-n 1",
    "audit": "--json",
    "why": "--json",
    "peers": "--json",
    "estimate": "--json",
    "history": "--json --history.directory={}/history",
    "record": "{}/recorded",
}


@dataclass(frozen=True)
class Poison:
    """The directory, what the environment adds to it, and what of both has run."""

    directory: Path
    environment: dict[str, str]
    marks: Path

    def ran(self) -> list[str]:
        """Names of everything that has run since the last call."""
        found = sorted(self.marks.iterdir())
        for path in found:
            path.unlink()
        return [path.name for path in found]


def spread(base: Path) -> Poison:
    """Poison in the current directory and wherever Python could be told to look."""
    marks = base / "marks"
    marks.mkdir()
    directory = base / "poisoned"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = base / "home"
    for place in (
        directory,
        base / "pythonpath",
        home / "lib" / version,
        home / ".local/lib" / version / "site-packages",
    ):
        _modules(place, marks)
    _programs(base / "bin", marks)
    for name in PROGRAMS:
        _program(directory / name, marks)
    startup = base / "startup.py"
    startup.write_text(_mark(marks, "startup"))
    environment = {
        "PATH": f"{base / 'bin'}::{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONPATH": f"{base / 'pythonpath'}:",
        "PYTHONHOME": str(home),
        "PYTHONSTARTUP": str(startup),
        # Not LD_LIBRARY_PATH: the linker obeys it before any code of ours runs.
        "PYTHONUSERBASE": str(home / ".local"),
    }
    return Poison(directory, environment, marks)


def _modules(place: Path, marks: Path) -> None:
    place.mkdir(parents=True)
    for name in {*sys.stdlib_module_names, *PACKAGES} - set(sys.builtin_module_names):
        (place / f"{name}.py").write_text(_mark(marks, f"{place.name} {name}"))
    # Where a module of ours would be looked for at second hand.
    (place / "ksmwatch").mkdir()
    (place / "ksmwatch/__init__.py").write_text(_mark(marks, f"{place.name} ksmwatch"))


def _mark(marks: Path, name: str) -> str:
    """A module that works however early it is imported."""
    path = str(marks / name)
    return f"import posix\nposix.close(posix.open({path!r}, posix.O_CREAT | posix.O_WRONLY))\n"


def _programs(place: Path, marks: Path) -> None:
    place.mkdir()
    for name in PROGRAMS:
        _program(place / name, marks)


def _program(path: Path, marks: Path) -> None:
    if path.is_dir():
        return
    path.write_text(f"#!/bin/sh\n: >'{marks}/program {path.name}'\nexit 1\n")
    path.chmod(0o755)


def install(prefix: Path) -> Path:
    """The command as the wheel installs it, into a virtual environment of its own."""
    command = [sys.executable, "-m", "venv", "--without-pip", "--system-site-packages"]
    subprocess.run([*command, str(prefix)], check=True)
    packages = prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    ours = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "ksmwatch.pth").write_text("\n".join(ours) + "\n")
    launcher = prefix / "bin/ksmwatch"
    launcher.write_bytes((ROOT / "deploy/ksmwatch").read_bytes())
    launcher.chmod(0o755)
    return launcher
