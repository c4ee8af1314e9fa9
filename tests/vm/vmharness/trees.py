"""Unpacked packages: directories, made without running anything of them.

Roots for guests of another kind than this machine, and programs of another Debian.

A cache entry is a directory with `root/` and `complete.json`, written last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from . import debian, roots
from .cachedir import cache_root, filled_atomically, locked, say
from .debian import Source
from .errors import HarnessError

FORMAT = 4  # of a cache entry; raise it when PACKAGES or the set-up change
SUITE = "trixie"
# Nothing is essential here: a system for one command. Without maintainer
# scripts there are no alternatives (awk), and no users but those of base-passwd.
PACKAGES = (
    *(
        "base-files",
        "base-passwd",
        "libc-bin",
        "bash",
        "dash",
        "coreutils",
        "util-linux",
        "mount",
        "procps",
    ),
    *("grep", "sed", "findutils", "hostname", "kmod", "e2fsprogs", "iproute2", "busybox-static"),
    *("python3", "python3-pytest", "python3-pytest-timeout", "python3-hypothesis"),
    *("python3-bpfcc", "python3-prometheus-client", "python3-psutil", "python3-pyroute2"),
    *("python3-h11", "python3-bcrypt", "python3-yaml", "python3-textual", "openssl"),
)


def prepare(root: Path) -> None:
    """What a maintainer script would have done, as far as it is missed."""
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    # The command of the checkout that the guest sees: PYTHONPATH says where that is.
    command = root / "usr/local/bin/ksmwatch"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text('#!/bin/sh\nexec /usr/bin/python3 -m ksmwatch "$@"\n')
    command.chmod(0o755)
    for name in ("proc", "sys", "dev", "run", "tmp", "root"):
        (root / name).mkdir(exist_ok=True)


def nothing(root: Path) -> None:
    """No preparation."""


def load(arch: str, entry: Path) -> Path | None:
    """The directory of a complete cache entry."""
    try:
        complete = json.loads((entry / "complete.json").read_text())
    except (OSError, ValueError):
        return None
    return entry / "root" if complete == {"format": FORMAT, "arch": arch} else None


def guest_root(arch: str) -> Path:
    """The root of a guest of another kind than this machine."""
    return ensure(arch, arch, PACKAGES, prepare)


def ensure(
    name: str, arch: str, packages: Sequence[str], prepare: Callable[[Path], None] = nothing
) -> Path:
    """A root with packages of a kind of machine, made first if it must be. Raises HarnessError."""
    entry = cache_root() / "trees" / name
    try:
        with locked(entry):
            root = load(arch, entry)
            if root is None:
                say(f"root {name}: unpacking it, which takes a minute")
                with filled_atomically(entry) as scratch:
                    line = Source(debian.machine_archives().main, SUITE, arch).line()
                    options = [f"--arch={arch}", "--variant=extract"]
                    roots.mmdebstrap(options, packages, SUITE, scratch / "root", line)
                    prepare(scratch / "root")
                    complete = {"format": FORMAT, "arch": arch}
                    (scratch / "complete.json").write_text(json.dumps(complete) + "\n")
                say(f"root {name}: ready in {entry}")
    except OSError as error:
        raise HarnessError(f"root {name} could not be put into the cache: {error}") from error
    return entry / "root"
