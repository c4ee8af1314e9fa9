"""Attaches and detaches the probes of a plan, by libbpf, in the daemon itself.

Every attachment is one descriptor. It ends when that is closed, also when the process dies,
unless it is kept (``persistence``).
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from ksmwatch.kernel import libbpf
from ksmwatch.kernel.events import Mechanism
from ksmwatch.probes.persistence import Keep
from ksmwatch.probes.pins import FREED_SECONDS, PAUSE
from ksmwatch.probes.plan import Probe, Program


class AttachError(OSError):
    """The kernel refused to attach one probe."""

    def __init__(self, probe: Probe, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause))
        self.probe = probe


def attach(fd: int, program: Program, sys: Path = Path("/sys")) -> int:
    """Attach a loaded program; closing the descriptor detaches it. Raises OSError."""
    if program.mechanism is Mechanism.KPROBE:
        return libbpf.attach_kprobe(fd, program.symbol, at_return=program.at_return, sys=sys)
    if program.mechanism is Mechanism.RAW_TRACEPOINT:
        return libbpf.raw_tracepoint_open(fd, program.symbol)
    return libbpf.raw_tracepoint_open(fd)


class Attachments:
    """The attached probes of a plan."""

    def __init__(
        self,
        programs: Mapping[str, int],
        keep: Keep,
        links: Mapping[str, int] | None = None,
        sys: Path = Path("/sys"),
    ) -> None:
        """`links`: attachments that an earlier daemon has kept, by program."""
        self._programs = programs
        self._keep = keep
        self._links = dict(links or {})
        self._sys = sys
        self.unkept = 0
        self._ids: dict[str, int] = {}
        self._detached: set[str] = set()
        # Missed by former attachments.
        self._missed_before: Counter[str] = Counter()

    def attach(self, probes: Iterable[Probe]) -> None:
        """Attach all programs of the probes, or none. Raises AttachError."""
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
        link = self._attach_once_free(program)
        self._links[name] = link
        try:
            self._keep.store(f"link-{name}", link)
        except OSError:
            # Accounting works anyway; it only ends with this process.
            self.unkept += 1

    def _attach_once_free(self, program: Program) -> int:
        """Attach, when the former attachment of the same program has ended: see `Pins`."""
        late = time.monotonic() + FREED_SECONDS
        while True:
            try:
                return attach(self._programs[program.name], program, self._sys)
            except OSError as error:
                former = error.errno == errno.EBUSY and program.name in self._detached
                if not former or time.monotonic() > late:
                    raise
            time.sleep(PAUSE)

    def detach(self, probes: Iterable[Probe]) -> None:
        """Detach the probes, the last one first.

        When it returns, no kprobe runs. What is left of others cannot be attached beside them.
        """
        attached = [
            program
            for probe in reversed(list(probes))
            for program in probe.programs
            if program.name in self._links
        ]
        self._keep.drop(*(f"link-{program.name}" for program in attached))
        for program in attached:
            # Another program may have closed it, and its number may now belong to another file.
            ours = self._is_ours(program.name)
            if program.mechanism is Mechanism.KPROBE:
                self._missed_before[program.name] += self._missed_hits(program.name)
            link = self._links.pop(program.name)
            self._detached.add(program.name)
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
        """Runs that the kernel skipped because one was under way (recursion_misses, since 5.12).

        A kprobe also misses hits inside another kprobe, and returns beyond its limit (since 6.7).
        """
        name = program.name
        skipped = int(libbpf.prog_info(self._programs[name]).recursion_misses)
        if program.mechanism is not Mechanism.KPROBE:
            return skipped
        return skipped + self._missed_before[name] + self._missed_hits(name)

    def _missed_hits(self, name: str) -> int:
        try:
            return libbpf.kprobe_missed(self._links[name]) if self._is_ours(name) else 0
        except OSError:
            # A perf event from before there were links.
            return 0

    def close(self) -> None:
        """Release the programs. Attachments keep those that are still attached."""
        for fd in self._programs.values():
            os.close(fd)

    def _is_ours(self, name: str) -> bool:
        link = self._links.get(name)
        if link is None:
            return False
        try:
            return libbpf.link_program(link) == self._program_id(name)
        except OSError:
            # Before links existed, a perf event was attached as long as it was open.
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
