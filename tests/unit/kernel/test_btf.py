"""The kernel's BTF, where it cannot be had."""

from __future__ import annotations

import ctypes as ct
import errno
import os
from types import SimpleNamespace

import pytest

from ksmwatch.counting.comeback import may_pass
from ksmwatch.kernel import btf, libbpf


@pytest.mark.parametrize(
    ("exists", "words", "passes"),
    [(True, "Cannot allocate memory", True), (False, "there is no /sys/kernel/btf/vmlinux", False)],
)
def test_want_of_memory_is_not_taken_for_a_kernel_without_btf(
    monkeypatch: pytest.MonkeyPatch,
    exists: bool,  # noqa: FBT001
    words: str,
    passes: bool,  # noqa: FBT001
) -> None:
    """It looks in many places, and libbpf says ESRCH in the end."""

    def failing(number: int) -> None:
        ct.set_errno(number)

    library = SimpleNamespace(
        btf__load_vmlinux_btf=lambda: failing(errno.ESRCH),
        btf__parse=lambda path, base: failing(errno.ENOMEM),
    )
    monkeypatch.setattr(libbpf, "library", lambda: library)
    monkeypatch.setattr(os, "access", lambda path, mode: exists)
    with pytest.raises(OSError, match=words) as caught:
        btf.Btf()
    assert may_pass(f"This kernel has no BTF ({caught.value.strerror}).") is passes
