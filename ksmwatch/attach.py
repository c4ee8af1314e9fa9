"""Attaching and detaching the probes of a plan. The daemon does this itself, by libbpf.

Every attachment is one descriptor and ends when it is closed, also when the process dies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ksmwatch import libbpf
from ksmwatch.events import Mechanism
from ksmwatch.plan import Probe, Program

Links = dict[str, int]


class AttachError(OSError):
    """The kernel refused to attach one probe."""

    def __init__(self, probe: Probe, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause))
        self.probe = probe


def _attach(program: Program, prog_fd: int, sys: Path) -> int:
    if program.mechanism is Mechanism.KPROBE:
        return libbpf.attach_kprobe(prog_fd, program.symbol, at_return=program.at_return, sys=sys)
    if program.mechanism is Mechanism.RAW_TRACEPOINT:
        return libbpf.raw_tracepoint_open(prog_fd, program.symbol)
    return libbpf.raw_tracepoint_open(prog_fd)


def attach(probes: Iterable[Probe], programs: Mapping[str, int], sys: Path = Path("/sys")) -> Links:
    """Attach all programs of the probes: all or none. Raises AttachError."""
    links: Links = {}
    for probe in probes:
        for program in probe.programs:
            try:
                links[program.name] = _attach(program, programs[program.name], sys)
            except OSError as error:
                detach(links)
                raise AttachError(probe, error) from error
    return links


def detach(links: Links) -> None:
    """Detach; the dictionary is empty afterwards."""
    while links:
        _, fd = links.popitem()
        os.close(fd)
