"""Judges why nothing, or little, merges on a host or in a process. Pure.

Each cause has its evidence and the next step. They come in the order in which to fix them: as
long as ksmd is stopped, nothing else matters. `advice` has the remedies.

Nothing is concluded from a counter that ksmd moves while ksmd has not moved it: whether memory
was offered is read from the processes. KSM's zero pages are merged pages that no other counter
includes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ksmwatch.diagnose.advice import Advice
from ksmwatch.diagnose.evidence import HostEvidence, Memory, ProcessEvidence
from ksmwatch.units import PAGE_KB

# A slower scan finds little of what lives for minutes only.
SLOW_SCAN_SECONDS = 900.0
# ksmd merges a page at its second visit at the earliest, if it is unchanged since the first.
_VISITS = 2
# A share below this is called little.
_LITTLE = 0.5
# A kind of memory that KSM cannot merge matters from this share of a process's memory.
_MATTERS = 0.1


class Code(StrEnum):
    """The kinds of causes."""

    STOPPED = "stopped"
    UNMERGED = "unmerged"
    NOBODY = "nobody"
    UNSEEN = "unseen"
    NOT_ASKED = "not_asked"
    SHARED = "shared"
    HUGETLB = "hugetlb"
    SPECIAL = "special"
    PINNED = "pinned"
    PAGE_CACHE = "page_cache"
    SWAPPED = "swapped"
    TAGGED = "tagged"
    YOUNG = "young"
    SLOW = "slow"
    NOT_SCANNED = "not_scanned"
    CHANGING = "changing"
    ACROSS_NODES = "across_nodes"
    PAGE_SHARING = "page_sharing"
    SKIPPING = "skipping"
    HELD = "held"
    UNIQUE = "unique"
    UNEQUAL = "unequal"
    MERGED = "merged"


@dataclass(frozen=True)
class Cause:
    """One reason, in plain words. `evidence`: numbers by the name of their kernel source."""

    code: Code
    what: str
    evidence: Mapping[str, int | float]
    advice: str


def _mib(kilobytes: float) -> str:
    return f"{kilobytes / 1024:.1f} MiB"


def _of_ksmd(
    host: HostEvidence, asked: Memory | None, processes: int | None = None
) -> Iterator[Cause]:
    """The cause that ksmd is stopped. `asked`: the offered memory, if known."""
    run = host.ksm.get("run")
    if run not in (0, 2):
        return
    evidence: dict[str, int | float] = {"run": run}
    waiting = ""
    if asked is not None and asked.asked:
        whose = "" if processes is None else f" by {processes} process{'es' * (processes != 1)}"
        waiting = f" {_mib(asked.asked)} are offered{whose}."
        evidence |= {"offered_kb": asked.asked}
        evidence |= {} if processes is None else {"processes": processes}
    what = (
        "ksmd is stopped; merged pages stay merged."
        if run == 0
        else "KSM was asked to unmerge everything (run=2), and ksmd is stopped."
    )
    code = Code.STOPPED if run == 0 else Code.UNMERGED
    yield Cause(code, what + waiting, evidence, host.advise(Advice.START))


def _of_scanning(host: HostEvidence) -> Iterator[Cause]:
    ksm = host.ksm
    if not host.running:
        return
    pace = {key: ksm[key] for key in ("pages_to_scan", "sleep_millisecs") if key in ksm}
    if ksm.get("pages_to_scan") == 0:
        yield Cause(
            Code.SLOW,
            "ksmd runs, but scans no page: pages_to_scan is 0.",
            pace,
            host.advise(Advice.SCAN_FASTER),
        )
        return
    if ksm.get("full_scans", _VISITS) < _VISITS:
        yield Cause(
            Code.YOUNG,
            "ksmd has not yet scanned all memory twice; it merges at the second visit.",
            {"full_scans": ksm.get("full_scans", 0), **pace},
            host.advise(Advice.WAIT, Advice.SCAN_FASTER),
        )
    seconds = host.scan_seconds
    if seconds is not None and seconds > SLOW_SCAN_SECONDS:
        yield Cause(
            Code.SLOW,
            f"The scan is slow for this much memory: a full scan takes {seconds / 60:.0f} minutes.",
            {"pages": host.visited_pages, "scan_seconds": round(seconds, 1), **pace},
            host.advise(Advice.SCAN_FASTER),
        )


def _of_switches(host: HostEvidence) -> Iterator[Cause]:
    """Settings because of which ksmd does not merge equal pages."""
    ksm = host.ksm
    if ksm.get("merge_across_nodes") == 0 and host.nodes > 1:
        yield Cause(
            Code.ACROSS_NODES,
            "Pages on different NUMA nodes are not merged (merge_across_nodes is 0, "
            f"{host.nodes} nodes), even if they are equal.",
            {"merge_across_nodes": 0, "nodes": host.nodes},
            host.advise(Advice.ACROSS_NODES),
        )
    copies = ksm.get("stable_node_dups", 0) - ksm.get("stable_node_chains", 0)
    if copies > max(1, host.merged_pages) * _MATTERS:
        yield Cause(
            Code.PAGE_SHARING,
            f"Each merged page takes {ksm.get('max_page_sharing')} mappings "
            f"(max_page_sharing), so ksmd keeps {copies} more copies.",
            {"stable_node_dups": ksm["stable_node_dups"], "copies": copies},
            host.advise(Advice.SHARE_MORE),
        )
    if ksm.get("smart_scan") == 1 and ksm.get("pages_skipped", 0) > 0 and host.running:
        yield Cause(
            Code.SKIPPING,
            "In some scans ksmd skips pages that did not merge before (smart_scan), so "
            "pages that have become equal since then merge late.",
            {"smart_scan": 1, "pages_skipped": ksm["pages_skipped"]},
            host.advise(Advice.SKIPPING),
        )


def _of_contents(host: HostEvidence, known: int, merged: int) -> Iterator[Cause]:
    """Why pages that ksmd knows are not merged.

    The kernel does not distinguish pages that change from those that are unique: it counts both
    again in each scan, and smart_scan (since 6.7) skips both. A sample of pages does.
    """
    if not known or merged >= known * _LITTLE:
        return
    kinds = ("pages_unshared", "pages_volatile", "pages_skipped")
    evidence: dict[str, int | float] = {k: host.ksm[k] for k in kinds if k in host.ksm}
    sample = host.sample
    if sample is None or not sample.pages:
        yield from _of_switches(host)
        yield Cause(
            Code.UNEQUAL,
            "Most pages that ksmd has scanned equal no other page, or change between two "
            "visits; the kernel does not show which.",
            evidence,
            host.advise(Advice.READ_TWICE),
        )
        return
    evidence |= {"sampled_pages": sample.pages, "changed": sample.changed}
    evidence |= {"equal": sample.equal, "within_seconds": round(sample.seconds, 1)}
    if sample.changing(host.scan_seconds or 0) * known > (known - merged) * _LITTLE:
        yield Cause(
            Code.CHANGING,
            "Most pages change too fast: ksmd merges only pages that are unchanged at two visits.",
            evidence,
            host.advise(Advice.SCAN_FASTER, Advice.CHANGES),
        )
        return
    switches = list(_of_switches(host))
    yield from switches
    # The sample includes merged pages.
    if sample.equal / sample.pages - merged / known > _LITTLE:
        yield Cause(
            Code.HELD,
            "Most pages do not change and equal others, but ksmd has not merged them. Perhaps they "
            "are held where the kernel's numbers do not show it: by io_uring of root, by a pipe "
            "(vmsplice), or by a device. If an equal page of another process is held, ksmd tries "
            "that one each time, and merges none.",
            evidence,
            host.advise(Advice.WAIT, Advice.LET_GO),
        )
        return
    yield Cause(
        Code.UNIQUE,
        "Most pages do not change, but ksmd finds no equal pages to merge them with.",
        evidence,
        host.advise(Advice.LIMITED if switches else Advice.UNIQUE),
    )


def _of_offers(host: HostEvidence) -> Iterator[Cause]:
    """No process has offered memory, or none is known to have."""
    offers = host.offers
    if host.known_pages or host.mergeable or (offers is not None and offers.processes):
        return
    complete = offers.complete if offers is not None else host.mergeable is not None
    evidence: dict[str, int | float] = {"processes": 0, "pages": 0}
    if complete:
        yield Cause(
            Code.NOBODY,
            "No process has offered memory to KSM.",
            evidence,
            host.advise(Advice.OFFER, Advice.ESTIMATE),
        )
    else:
        yield Cause(
            Code.UNSEEN,
            "No process is known to have offered memory to KSM, but some could not be read.",
            evidence,
            host.advise(Advice.AS_ROOT),
        )


def of_host(host: HostEvidence) -> list[Cause]:
    """Why little merges on the host. The last cause is MERGED if much does."""
    offers = host.offers
    asked, processes = (offers.memory, offers.processes) if offers else (None, None)
    causes = list(_of_ksmd(host, asked, processes))
    causes += _of_offers(host)
    if causes:
        return causes
    if asked is not None:
        causes += _of_excluded(asked, host)
    if 0 < host.known_pages < host.present_pages * _LITTLE:
        causes.append(
            Cause(
                Code.NOT_SCANNED,
                f"ksmd has scanned {host.known_pages} of the {host.present_pages} pages that are "
                "offered.",
                {"known_pages": host.known_pages, "pages": host.present_pages},
                host.advise(Advice.WAIT, Advice.SCAN_FASTER),
            )
        )
    causes += _of_scanning(host)
    causes += _of_contents(host, host.known_pages, host.merged_pages)
    if not causes and host.known_pages:
        causes.append(
            Cause(
                Code.MERGED,
                "KSM works: most of the pages that ksmd knows are merged.",
                {"pages": host.known_pages, "merged": host.merged_pages}
                | ({"zero_pages": host.zero_pages} if host.zero_pages else {}),
                host.advise(Advice.NOTHING),
            )
        )
    elif not causes:
        causes.append(
            Cause(
                Code.NOT_SCANNED,
                "Memory is offered, but ksmd knows no page of it.",
                {"processes": processes or host.mergeable or 0, "pages": 0},
                host.advise(Advice.WAIT, Advice.SCAN_FASTER),
            )
        )
    return causes


# What KSM cannot merge: member of Memory, code, description, and advice.
_EXCLUDED = (
    (
        "shared",
        Code.SHARED,
        "shared mappings (MAP_SHARED, shared memory, files), which KSM never merges",
        Advice.PRIVATE,
    ),
    (
        "hugetlb",
        Code.HUGETLB,
        "hugetlbfs pages, which KSM never merges",
        Advice.ORDINARY_PAGES,
    ),
    (
        "special",
        Code.SPECIAL,
        "special areas, such as those of devices (VM_PFNMAP, VM_IO, VM_MIXEDMAP, VM_DONTEXPAND)",
        Advice.NOTHING_SPECIAL,
    ),
    (
        "pinned",
        Code.PINNED,
        "pinned memory (VFIO, RDMA, io_uring), which must not move, so ksmd cannot merge it",
        Advice.NO_DEVICE,
    ),
)
# The same for offered memory.
_WAITING = (
    (
        "cached",
        Code.PAGE_CACHE,
        "page cache of private file mappings, which KSM merges only after a write to the page",
        Advice.WRITE_FIRST,
    ),
    (
        "swapped",
        Code.SWAPPED,
        "in swap, which ksmd does not scan",
        Advice.SWAP_IN,
    ),
    (
        "tagged",
        Code.TAGGED,
        "memory with tags (arm64's MTE), which the kernel never merges",
        Advice.UNTAGGED,
    ),
)


def _of_excluded(memory: Memory, host: HostEvidence) -> Iterator[Cause]:
    """Offered memory that ksmd cannot find, or never merges."""
    for member, code, what, advice in _WAITING:
        kilobytes = getattr(memory, member)
        if kilobytes > memory.asked * _MATTERS:
            yield Cause(
                code,
                f"{_mib(kilobytes)} of the {_mib(memory.asked)} offered are {what}.",
                {f"{member}_kb": kilobytes, "offered_kb": memory.asked},
                host.advise(advice),
            )


def _of_areas(process: ProcessEvidence, host: HostEvidence) -> Iterator[Cause]:
    memory = process.memory
    if memory.unasked > max(memory.asked, memory.total * _MATTERS):
        yield Cause(
            Code.NOT_ASKED,
            f"{_mib(memory.unasked)} of its memory were never offered to KSM"
            + (f"; {_mib(memory.asked)} were." if memory.asked else "."),
            {"offered_kb": memory.asked, "not_offered_kb": memory.unasked},
            host.advise(Advice.OFFER_ITS_OWN, Advice.ESTIMATE),
        )
    for member, code, what, advice in _EXCLUDED:
        kilobytes = getattr(memory, member)
        if kilobytes > max(memory.saving, memory.total * _MATTERS):
            evidence = {f"{member}_kb": kilobytes}
            yield Cause(code, f"{_mib(kilobytes)} are {what}.", evidence, host.advise(advice))
    yield from _of_excluded(memory, host)


def of_process(process: ProcessEvidence, host: HostEvidence) -> list[Cause]:
    """Why little of a process merges. The last cause is MERGED if much does."""
    memory = process.memory
    causes = [*_of_ksmd(host, memory), *_of_areas(process, host)]
    present = memory.present
    if not memory.asked:
        return causes
    if memory.saving >= memory.asked * _LITTLE:
        causes.append(
            Cause(
                Code.MERGED,
                f"{_mib(memory.saving)} of the {_mib(memory.asked)} that it offers are merged.",
                {"offered_kb": memory.asked, "merged_kb": memory.saving}
                | ({"zero_kb": memory.zero} if memory.zero else {}),
                host.advise(Advice.NOTHING),
            )
        )
        return causes
    # There is no more to say about memory that ksmd cannot find, nor while ksmd does not run.
    if not host.running or present <= memory.asked * _MATTERS:
        return causes
    return causes + _of_present(process, host, present)


def _of_present(process: ProcessEvidence, host: HostEvidence, present: int) -> list[Cause]:
    """Why memory that ksmd can find is not merged."""
    memory, scanned = process.memory, process.rmap_items
    pages, merged = present // PAGE_KB, memory.saving // PAGE_KB
    if scanned is not None and scanned + memory.zero // PAGE_KB < pages * _LITTLE:
        looked = Cause(
            Code.NOT_SCANNED,
            f"ksmd has scanned {scanned} of the {pages} pages that it offers.",
            {"ksm_rmap_items": scanned, "pages": pages},
            host.advise(Advice.WAIT, Advice.SCAN_FASTER),
        )
        return [looked, *_of_scanning(host)]
    return [*_of_scanning(host), *_of_contents(host, pages, merged)]
