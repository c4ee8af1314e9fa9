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


def find(
    proc: Path, subjects: Sequence[str], labels: Iterable[Label]
) -> tuple[list[EstimateParty], list[SurveyedProcess]]:
    """Parties and processes, those with most pages first. Raises ConfigError for an unknown one.

    `subjects`: processes, owners by name, id or KIND:ID; without any all processes.
    """
    table, labels = ProcessTable(proc), tuple(labels)
    pages = {pid: _anonymous(proc / str(pid)) for pid in procfs.pids(proc) if pid != os.getpid()}
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
        found.append(SurveyedProcess(pid, known[pid].start_ticks, place, pages[pid]))
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


def _anonymous(directory: Path) -> int:
    """Anonymous pages of a process; 0 when it has gone, or is a kernel thread."""
    try:
        found = _RSS_ANON.search(procfs.read_file(f"{directory}/status"))
    except OSError:
        return 0
    return int(found[1]) * 1024 // PAGE_SIZE if found else 0
