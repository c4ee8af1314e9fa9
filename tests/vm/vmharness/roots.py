"""Roots of their own: a Debian suite with systemd, on a disk image, instead of the host's files.

A cache entry is a directory with `root.img` (ext4) and `complete.json`, written last.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import debian
from .cachedir import cache_root, filled_atomically, locked, say
from .debian import Source
from .errors import HarnessError

FORMAT = 6  # of a cache entry; raise it when PACKAGES or the set-up change
SUITES = ("bookworm", "trixie")
# What the package of ksmwatch depends on, so that it installs without a network; and what its
# tests need.
PACKAGES = (
    *("systemd-sysv", "dbus", "python3-pytest", "openssl", "tmux"),
    *("python3-bpfcc", "python3-prometheus-client", "python3-psutil", "python3-pyroute2"),
    *("python3-h11", "python3-bcrypt", "python3-yaml"),
    # Those who have pages: a rootless container, a session, a virtual machine.
    *("podman", "crun", "uidmap", "dbus-user-session", "libpam-systemd", "qemu-system-x86"),
)
IMAGE_SIZE = "3G"  # sparse
# Nothing to find, nobody to log in, no network: they would only take time.
MASKED = (
    *("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    *("systemd-udev-trigger.service", "systemd-logind.service", "getty@tty1.service"),
    *("serial-getty@ttyS0.service", "apt-daily.timer", "apt-daily-upgrade.timer", "tmp.mount"),
    *("dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"),
    *("systemd-timesyncd.service", "systemd-networkd.service", "systemd-modules-load.service"),
)
MACHINE_ID = "6b736d77617463680000000000000001"


def mmdebstrap(
    options: Sequence[str], packages: Sequence[str], suite: str, target: Path, line: str
) -> None:
    """Put packages of a suite below a directory."""
    argv = [
        *("mmdebstrap", "--quiet", *options, f"--include={','.join(packages)}"),
        *('--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
        *("--dpkgopt=path-exclude=/usr/share/man/*", suite, str(target), line),
    ]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise HarnessError(f"cannot start mmdebstrap: {error} (package mmdebstrap)") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise HarnessError(f"mmdebstrap failed: {' '.join(words[-2:])}")


def bootstrap(suite: str, target: Path) -> None:
    """Install the suite below a directory, from the archives that this machine uses."""
    line = Source(debian.machine_archives().main, suite).line()
    mmdebstrap(["--variant=minbase"], PACKAGES, suite, target, line)


def prepare(root: Path) -> None:
    """Make it start quickly and always alike."""
    units = root / "etc/systemd/system"
    for name in MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
    (root / "etc/machine-id").write_text(MACHINE_ID + "\n")
    (root / "etc/hostname").write_text("ksmwatch-vm\n")
    # Else the first boot brings indexes up to date that nobody asks.
    for place in ("etc", "var"):
        (root / place / ".updated").touch()


def make_image(root: Path, image: Path) -> None:
    """Put a directory on an ext4 image, without mounting anything."""
    argv = ["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image), IMAGE_SIZE]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise HarnessError(f"mke2fs failed: {done.stderr.decode(errors='replace').strip()}")


def load(suite: str, entry: Path) -> Path | None:
    """The image of a complete cache entry."""
    try:
        complete = json.loads((entry / "complete.json").read_text())
    except (OSError, ValueError):
        return None
    whole = complete == {"format": FORMAT, "suite": suite}
    return entry / "root.img" if whole and (entry / "root.img").exists() else None


def ensure(suite: str) -> Path:
    """The disk image of a suite, made first if it must be."""
    entry = cache_root() / "roots" / suite
    try:
        with locked(entry):
            image = load(suite, entry)
            if image is None:
                say(f"root {suite}: installing it, which takes some minutes")
                with filled_atomically(entry) as scratch:
                    bootstrap(suite, scratch / "root")
                    prepare(scratch / "root")
                    make_image(scratch / "root", scratch / "root.img")
                    shutil.rmtree(scratch / "root")
                    complete = {"format": FORMAT, "suite": suite}
                    (scratch / "complete.json").write_text(json.dumps(complete) + "\n")
                say(f"root {suite}: ready in {entry}")
    except OSError as error:
        raise HarnessError(f"root {suite} could not be put into the cache: {error}") from error
    return entry / "root.img"
