"""Attaching and detaching the probes of a plan. The daemon does this itself, by libbpf.

Every attachment is one descriptor. It ends when that is closed, also when the process dies,
unless it is kept (``keep``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.events import Mechanism
from ksmwatch.probes.persistence import Keep
from ksmwatch.probes.plan import Probe, Program


class AttachError(OSError):
    """The kernel refused to attach one probe."""

    def __init__(self, probe: Probe, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause))
        self.probe = probe


def attach(fd: int, program: Program, sys: Path = Path("/sys")) -> int:
    """Attach a loaded program; it is off when the descriptor is closed. Raises OSError."""
    if program.mechanism is Mechanism.KPROBE:
        return libbpf.attach_kprobe(fd, program.symbol, at_return=program.at_return, sys=sys)
    if program.mechanism is Mechanism.RAW_TRACEPOINT:
        return libbpf.raw_tracepoint_open(fd, program.symbol)
    return libbpf.raw_tracepoint_open(fd)


class Attachments:
    """What of a plan is attached now."""

    def __init__(
        self,
        programs: Mapping[str, int],
        keep: Keep,
        links: Mapping[str, int] | None = None,
        sys: Path = Path("/sys"),
    ) -> None:
        """`links`: attachments that a daemon before us has kept, by program."""
        self._programs = programs
        self._keep = keep
        self._links = dict(links or {})
        self._sys = sys
        self.unkept = 0
        self._ids: dict[str, int] = {}

    def attach(self, probes: Iterable[Probe]) -> None:
        """Attach all programs of the probes: all or none. Raises AttachError."""
        done: list[Probe] = []
        for probe in probes:
            done.append(probe)
            for program in probe.programs:
                try:
                    self._attach(program)
                except OSError as error:
                    self.detach(done)
                    raise AttachError(probe, error) from error

    def _attach(self, program: Program) -> None:
        name = program.name
        link = attach(self._programs[name], program, self._sys)
        self._links[name] = link
        try:
            self._keep.store(f"link-{name}", link)
        except OSError:
            # Accounting goes on all the same; it only ends with this process.
            self.unkept += 1

    def detach(self, probes: Iterable[Probe]) -> None:
        """Detach the probes, the last one first."""
        for probe in reversed(list(probes)):
            for program in probe.programs:
                if program.name not in self._links:
                    continue
                # Somebody may have closed it in our back, and the number be another file's now.
                ours = self._is_ours(program.name)
                link = self._links.pop(program.name)
                self._keep.drop(f"link-{program.name}")
                if ours:
                    os.close(link)

    def holds(self, probes: Iterable[Probe]) -> bool:
        """Whether every program of the probes is attached, and is the one that we know."""
        return self.first_lost(probes) is None

    def first_lost(self, probes: Iterable[Probe]) -> Probe | None:
        """The first of the probes that is not attached, if any."""
        for probe in probes:
            if not all(self._is_ours(program.name) for program in probe.programs):
                return probe
        return None

    def missed(self, program: Program) -> int:
        """Runs that the kernel has skipped (recursion_misses, since 5.12): it ran there already."""
        return int(libbpf.prog_info(self._programs[program.name]).recursion_misses)

    def close(self) -> None:
        """Let the programs go. What is still attached keeps them."""
        for fd in self._programs.values():
            os.close(fd)

    def _is_ours(self, name: str) -> bool:
        link = self._links.get(name)
        if link is None:
            return False
        try:
            return libbpf.link_program(link) == self._program_id(name)
        except OSError:
            # A perf event from before there were links: it is attached as long as it is open.
            return _is_perf_event(link)

    def _program_id(self, name: str) -> int:
        if name not in self._ids:
            self._ids[name] = int(libbpf.prog_info(self._programs[name]).id)
        return self._ids[name]


def _is_perf_event(fd: int) -> bool:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:[perf_event]"
    except OSError:
        return False
