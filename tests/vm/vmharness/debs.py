"""Debian packages of the machine's own suite, unpacked beside the system instead of installed.

That is how tests get programs such as prometheus without a service being started.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from . import debian
from .cachedir import cache_root, filled_atomically, locked, say
from .debian import PrivateApt
from .errors import STATUS_HARNESS, HarnessError

MARK = ".complete"  # written last
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def download(name: str, work: Path) -> Path:
    """Download the candidate version, with package lists of our own if the machine has none."""
    target = work / "debs"
    target.mkdir(parents=True)
    argv = ["-o", "APT::Sandbox::User=root", "-q", "download", name]
    try:
        debian.run_apt(["apt-get", *argv], f"download {name}", cwd=target)
    except HarnessError:
        apt = PrivateApt(work / "apt", None)
        apt.update()
        debian.run_apt(["apt-get", *apt.options, *argv], f"download {name}", cwd=target)
    return next(target.glob("*.deb"))


def ensure(name: str) -> Path:
    """Give the directory of an unpacked package, fetched first if it must be."""
    if not NAME.fullmatch(name):
        raise HarnessError(f"{name} is not the name of a Debian package")
    entry = cache_root() / "debs" / name
    try:
        with locked(entry):
            if not (entry / MARK).exists():
                say(f"package {name}: fetching")
                with filled_atomically(entry) as scratch:
                    deb = download(name, scratch / "work")
                    debian.unpack(deb, scratch)
                    shutil.rmtree(scratch / "work")
                    (scratch / MARK).write_text(deb.name + "\n")
    except OSError as error:
        raise HarnessError(f"{name} could not be put into the cache: {error}") from error
    return entry


def main(names: Sequence[str]) -> int:
    """Print the directory of each package, one a line."""
    if not names or any(name.startswith("-") for name in names):
        print("usage: tests/vm/debs PACKAGE...", file=sys.stderr)
        return 2
    try:
        for name in names:
            print(ensure(name), flush=True)
    except HarnessError as error:
        print(f"vm: {error}", file=sys.stderr)
        return STATUS_HARNESS
    return 0
