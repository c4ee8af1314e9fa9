"""The built wheel, installed as a user installs it: not the checkout from which it was built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Tells a guest where it is.
VARIABLE = "KSMWATCH_TEST_INSTALLED"


def install(directory: Path) -> Path:
    """Build and install it into a virtual environment there; returns that.

    Its dependencies are those of the tests' own environment, so nothing is downloaded.
    """
    shutil.rmtree(directory, ignore_errors=True)
    venv = directory / "venv"
    _run(
        *("-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-build-isolation", "--wheel-dir", str(directory), str(ROOT)),
    )
    (wheel,) = directory.glob("*.whl")
    _run("-m", "venv", "--system-site-packages", "--without-pip", str(venv))
    packages = venv / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # What such a file adds comes last, and links of an editable installation are not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _run(
        *("-m", "pip", "--python", str(venv / "bin/python"), "install", "--quiet", "--no-deps"),
        *("--disable-pip-version-check", "--no-index", "--ignore-installed", str(wheel)),
    )
    return venv


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, stdin=subprocess.DEVNULL)


def program() -> Path:
    """The command of the wheel that was installed for this guest."""
    return Path(os.environ[VARIABLE]) / "bin/ksmwatch"
