"""A host that is files below a directory, and invented BTF."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ksmwatch.kernel import kernel_image, libbpf
from tests.fake_btf import FakeBtf


@pytest.fixture
def btf(monkeypatch: pytest.MonkeyPatch) -> type[FakeBtf]:
    """The kernel's BTF; empty until a test fills it."""
    fake = type("Fake", (FakeBtf,), {"members": {}, "functions": {}, "error": None})
    monkeypatch.setattr(kernel_image, "Btf", fake)
    return fake


@pytest.fixture
def root(tmp_path: Path, btf: type[FakeBtf], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without anything. Everything that is not a file is refused or missing."""
    (tmp_path / "proc/self").mkdir(parents=True)
    monkeypatch.setattr(libbpf, "prog_type_supported", lambda number: False)
    monkeypatch.setattr(libbpf, "cast_supported", lambda function, kind: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path
