"""A program that the kernel refuses: its error says why, and keeps no more than that."""

from __future__ import annotations

import ctypes as ct
import errno
import tracemalloc

import pytest

from ksmwatch.kernel import libbpf

REASON = b"R1 invalid mem access 'scalar'"


class Library:
    """A kernel that refuses every program, and writes into the log if there is one."""

    def bpf_prog_load(self, *arguments: object) -> int:
        """The call's result."""
        options = arguments[-1]._obj  # type: ignore[attr-defined]
        if options.log_level:
            text = b"0: (b7) r0 = 0\n" + REASON + b"\nprocessed 1 insns\n\0"
            ct.memmove(options.log_buf, text, len(text))
        return -errno.EACCES


def test_the_error_is_the_verifiers_reason_without_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libbpf, "library", Library)
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="invalid mem access") as caught:
            libbpf.prog_load("x", libbpf.PROG_TYPE_KPROBE, bytes(16))
        # The daemon keeps the exception, with its frames, for as long as it counts by polling.
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (caught.value.errno, caught.value.strerror) == (errno.EACCES, REASON.decode())
    assert most > libbpf._LOG_BYTES > 8 * kept
