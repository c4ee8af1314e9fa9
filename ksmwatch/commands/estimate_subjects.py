"""Whose pages `ksmwatch estimate` reads: processes, and the owner that each counts for."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ksmwatch.commands.named_owner import named_owner
from ksmwatch.diagnose.estimate import EstimateParty
from ksmwatch.diagnose.page_survey import SurveyedProcess
from ksmwatch.diagnose.sharers import Label, tenant_of
from ksmwatch.kernel import procfs
from ksmwatch.kernel.syscalls import same_memory
from ksmwatch.owners.owner import Owner, best_known
from ksmwatch.owners.processes import Identity, ProcessTable
from ksmwatch.units import PAGE_SIZE

_RSS_ANON = re.compile(rb"^RssAnon:\s+(\d+) kB$", re.MULTILINE)
_ONE_THREAD = b"\nThreads:\t1\n"


def find(
    proc: Path, subjects: Sequence[str], labels: Iterable[Label]
) -> tuple[list[EstimateParty], list[SurveyedProcess]]:
    """Parties and processes, those with most pages first. Raises ConfigError for an unknown one.

    `subjects`: processes, owners by name, id or KIND:ID; without any all processes.
    """
    table, labels = ProcessTable(proc), tuple(labels)
    memory = {pid: _memory(proc, str(pid)) for pid in procfs.pids(proc) if pid != os.getpid()}
    pages = {pid: amount for pid, (_, amount) in memory.items()}
    known = {
        pid: identity
        for pid, amount in pages.items()
        if amount and (identity := table.identify(pid)) is not None
    }
    parties = _by_owner(known, labels)
    wanted = {} if subjects else parties
    for subject in subjects:
        wanted |= _named(subject, known, parties)
    places: dict[EstimateParty, int] = {}
    found = []
    for pid in sorted(wanted, key=lambda pid: (-pages[pid], pid)):
        if known[pid].ppid in wanted and same_memory(pid, known[pid].ppid):
            continue
        place = places.setdefault(wanted[pid], len(places))
        found.append(SurveyedProcess(pid, known[pid].start_ticks, place, *memory[pid]))
    return list(places), found


def _by_owner(known: Mapping[int, Identity], labels: tuple[Label, ...]) -> dict[int, EstimateParty]:
    members: defaultdict[object, set[Owner]] = defaultdict(set)
    for identity in known.values():
        members[identity.owner.key].add(identity.owner)
    parties = {}
    for key, owners in members.items():
        best = best_known(owners)
        parties[key] = EstimateParty(
            best.kind, best.id, best.name, tenant_of(best.kind, best.id, labels)
        )
    return {pid: parties[identity.owner.key] for pid, identity in known.items()}


def _named(
    subject: str, known: Mapping[int, Identity], parties: Mapping[int, EstimateParty]
) -> dict[int, EstimateParty]:
    """Processes of an owner, or the one that was asked about, which is a party by itself."""
    if subject.isdecimal() and int(subject) in known:
        pid = int(subject)
        return {pid: EstimateParty("process", subject, known[pid].name, parties[pid].tenant)}
    known_parties = sorted(set(parties.values()), key=lambda party: f"{party.kind}:{party.id}")
    nobody = f"No process or owner {subject!r} has private memory."
    found = named_owner(known_parties, subject, nobody)
    return {pid: party for pid, party in parties.items() if party == found}


def _memory(proc: Path, task: str) -> tuple[str, int]:
    """Where the memory of a process is to be read, below /proc, and its anonymous pages.

    None when it has gone, or is a kernel thread. A main thread that has ended has no memory either,
    though other threads may live.
    """
    try:
        status = procfs.read_file(f"{proc}/{task}/status")
        found = _RSS_ANON.search(status)
        if found:
            return task, int(found[1]) * 1024 // PAGE_SIZE
        if "/" not in task and _ONE_THREAD not in status:
            threads = procfs.other_threads(proc, int(task))
            others = (_memory(proc, f"{task}/task/{thread}") for thread in threads)
            return max(others, key=lambda other: other[1])
    except (OSError, ValueError):
        pass
    return task, 0
