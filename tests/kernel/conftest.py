"""Fixtures of the kernel tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.hooks import KPROBES
from tests.ksmctl import Ksm


@pytest.fixture
def ksm() -> Iterator[Ksm]:
    """KSM in a known state: quick, stopped, nothing merged; so it is left as well."""
    with Ksm() as control:
        yield control


@pytest.fixture(scope="module")
def tracefs() -> Path:
    """The kernel's own list of functions that ftrace calls something for; see hooks.py."""
    if not KPROBES.exists():
        subprocess.run(["mount", "-t", "debugfs", "none", "/sys/kernel/debug"], check=True)
    path = Path("/sys/kernel/tracing")
    if not (path / "enabled_functions").exists():
        subprocess.run(["mount", "-t", "tracefs", "none", path], check=True)
    return path / "enabled_functions"
