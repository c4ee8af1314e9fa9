"""The resources that a process of ksmwatch uses, as Prometheus names them for every process."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator

from ksmwatch.export.metric_family import Samples, Spec
from ksmwatch.units import PAGE_SIZE

_DESCRIPTORS = "/proc/self/fd"
_STARTED = time.time()


def specs(prefix: str, whose: str) -> tuple[Spec, ...]:
    """Metric families of one process. `whose` names it at the end of a sentence."""
    return (
        Spec(f"{prefix}_cpu_seconds", "counter", f"User and system CPU time of {whose}."),
        Spec(f"{prefix}_virtual_memory_bytes", "gauge", f"Virtual memory of {whose}."),
        Spec(f"{prefix}_resident_memory_bytes", "gauge", f"Resident memory of {whose}."),
        Spec(f"{prefix}_start_time_seconds", "gauge", f"Start of {whose}, in Unix time."),
        Spec(f"{prefix}_open_fds", "gauge", f"Open descriptors of {whose}."),
        Spec(f"{prefix}_max_fds", "gauge", f"Largest number of open descriptors of {whose}."),
    )


def samples(prefix: str) -> Samples:
    """The values of the calling process, now."""
    return [(f"{prefix}_{name}", [((), value)]) for name, value in _values()]


def _values() -> Iterator[tuple[str, float]]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield "cpu_seconds", used.ru_utime + used.ru_stime
    virtual, resident = _statm().split()[:2]
    yield "virtual_memory_bytes", int(virtual) * PAGE_SIZE
    yield "resident_memory_bytes", int(resident) * PAGE_SIZE
    yield "start_time_seconds", _STARTED
    yield "open_fds", _descriptors()
    yield "max_fds", resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _statm() -> bytes:
    fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def _descriptors() -> int:
    # Since 6.2 (commit f1f1f2569901) it is the size of the directory, which was 0.
    number = os.stat(_DESCRIPTORS).st_size
    # One of those in a list belongs to the listing itself.
    return number or len(os.listdir(_DESCRIPTORS)) - 1
