"""All advice, each sentence with its conditions; and the choice among it. Data.

A sentence is right only on some hosts: the kernel must have the files that it names, another
program must understand it, and no other program may set the files that it tells to write. A
program that sets `run` again each minute undoes a value written by hand. While the kernel's
advisor is on, writing `pages_to_scan` fails (EINVAL, commit 4e5fa4f5eff6).

docs/advice.md is generated from this, and a test tries all of it on each recorded host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

# The prctl and this file came in one series (6.4, commits d7597f59d1d3 and d21077fbc2fc).
PRCTL = "general_profit"
_NEVER = 1 << 16


@dataclass(frozen=True)
class Holder:
    """A program that sets files of /sys/kernel/mm/ksm.

    `comm`: of its process, as the kernel cuts it. `instead`: the place of its configuration.
    """

    name: str
    comm: str | None
    files: frozenset[str]
    instead: str


_PACE = ("pages_to_scan", "sleep_millisecs")
_TUNED = frozenset({"run", *_PACE})
ADVISOR = Holder(
    "the kernel's advisor",
    None,
    frozenset({"pages_to_scan", "advisor_mode"}),
    "advisor_target_scan_time and advisor_max_cpu in /sys/kernel/mm/ksm",
)
TUNERS = (
    Holder(
        "ksmtuned",
        "ksmtuned",
        _TUNED,
        # findings/ksmtuned-does-not-see-libvirt.sh
        "/etc/ksmtuned.conf (KSM_THRES_COEF: when it starts ksmd, 100 for always, because "
        "Debian's ksmtuned does not see guests of libvirt; KSM_NPAGES_MAX: how fast ksmd scans)",
    ),
    Holder(
        "KubeVirt's virt-handler",
        "virt-handler",
        _TUNED,
        "ksmConfiguration in the KubeVirt resource, and the annotations of the node",
    ),
    Holder(
        "Harvester's node manager",
        "harvester-node-",
        _TUNED,
        "the node's Ksmtuned resource (run, ksmtunedParameters)",
    ),
    Holder("oVirt's MOM", "momd", _TUNED, "the KSM policy in /etc/vdsm/mom.d"),
    Holder("oVirt's vdsm", "vdsmd", _TUNED, "the KSM policy in /etc/vdsm/mom.d"),
)


@dataclass(frozen=True)
class Conditions:
    """Facts of a host. `files`: in /sys/kernel/mm/ksm. `systemd`: its version, None if unknown."""

    files: frozenset[str] = frozenset()
    systemd: int | None = None
    holders: tuple[Holder, ...] = ()

    def holder_of(self, *files: str) -> Holder | None:
        """The program that sets one of these files, if any."""
        return next((h for h in self.holders if h.files & set(files)), None)


@dataclass(frozen=True)
class Sentence:
    """Advice, and when it is right.

    `files`: the kernel has them. `lacks`: it does not. `systemd`: from the first version, to before
    the second; None: any. `writes`: files that it tells to write, which no program may set. `held`:
    files that a program sets, which `{holder}` and `{instead}` describe.
    """

    text: str
    files: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    systemd: tuple[int, int] | None = None
    writes: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    def fits(self, host: Conditions) -> bool:
        """Whether it is right on this host."""
        if not self.files <= host.files or self.lacks & host.files:
            return False
        if self.systemd is not None:
            low, high = self.systemd
            if host.systemd is None or not low <= host.systemd < high:
                return False
        if self.held:
            return host.holder_of(*self.held) is not None
        return host.holder_of(*self.writes) is None

    def on(self, host: Conditions) -> str:
        """The text for this host."""
        holder = host.holder_of(*self.held)
        names = {"holder": holder.name, "instead": holder.instead} if holder else {}
        return self.text.format(systemd=host.systemd, **names)


class Advice(StrEnum):
    START = "start"
    SCAN_FASTER = "scan_faster"
    SCAN_SLOWER = "scan_slower"
    STOP = "stop"
    UNMERGE = "unmerge"
    OFFER = "offer"
    OFFER_ITS_OWN = "offer_its_own"
    ESTIMATE = "estimate"
    WITHDRAW = "withdraw"
    READ_TWICE = "read_twice"
    CHANGES = "changes"
    UNIQUE = "unique"
    LIMITED = "limited"
    ACROSS_NODES = "across_nodes"
    SHARE_MORE = "share_more"
    SKIPPING = "skipping"
    PRIVATE = "private"
    ORDINARY_PAGES = "ordinary_pages"
    NOTHING_SPECIAL = "nothing_special"
    NO_DEVICE = "no_device"
    LET_GO = "let_go"
    WRITE_FIRST = "write_first"
    SWAP_IN = "swap_in"
    UNTAGGED = "untagged"
    AS_ROOT = "as_root"
    WAIT = "wait"
    NOTHING = "nothing"


def _f(*names: str) -> frozenset[str]:
    return frozenset(names)


_HELD_RUN = Sentence(
    "{holder} runs and keeps setting `run`, so a value written by hand does not last. "
    "Change its configuration: {instead}.",
    held=("run",),
)
_BY_MADVISE = "A program offers memory by madvise(MADV_MERGEABLE) (QEMU: mem-merge=on)"
_ITS_OWN = "The program must offer its memory by madvise(MADV_MERGEABLE) (QEMU: mem-merge=on)"
_TAKEN_BACK = " An area that was withdrawn stays withdrawn."


def _offers(by_madvise: str, after: str) -> tuple[Sentence, ...]:
    """MemoryKSM= needs the kernel's prctl, and a systemd that knows the key."""
    kernel = _f(PRCTL)
    return (
        Sentence(
            f"{by_madvise}. MemoryKSM=yes in a unit offers all memory of a service.{after}",
            kernel,
            systemd=(256, _NEVER),
        ),
        Sentence(
            f"{by_madvise}. MemoryKSM=yes in a unit offers all memory of a service. "
            f"Without the fix for its issue 31683, systemd {{systemd}} makes the service fail, so "
            f"try it first on a service that may fail.{after}",
            kernel,
            systemd=(254, 256),
        ),
        Sentence(
            f"{by_madvise}, or all of its memory by prctl(PR_SET_MEMORY_MERGE). "
            f"MemoryKSM=yes needs systemd 254; systemd {{systemd}} ignores it.{after}",
            kernel,
            systemd=(0, 254),
        ),
        Sentence(
            f"{by_madvise}, or all of its memory by prctl(PR_SET_MEMORY_MERGE). "
            "Since 254, systemd does so for a service with MemoryKSM=yes (254 and 255 need "
            f"the fix for systemd's issue 31683).{after}",
            kernel,
        ),
        Sentence(
            f"{by_madvise}. This kernel has no other way: offering all memory of a "
            f"process, and so systemd's MemoryKSM=yes, needs Linux 6.4.{after}",
            lacks=kernel,
        ),
    )


_UNMERGE_FIRST = (
    "The kernel accepts this only while nothing is merged. Check with `ksmwatch forecast` "
    "that there is enough memory, then echo 2 > /sys/kernel/mm/ksm/run, "
)

# The first sentence that fits is given.
CATALOGUE: Mapping[Advice, tuple[Sentence, ...]] = {
    Advice.START: (
        _HELD_RUN,
        Sentence("Start it: echo 1 > /sys/kernel/mm/ksm/run", writes=("run",)),
    ),
    Advice.STOP: (
        _HELD_RUN,
        Sentence(
            "Stop it: echo 0 > /sys/kernel/mm/ksm/run. Merged pages stay merged.",
            writes=("run",),
        ),
    ),
    Advice.UNMERGE: (
        _HELD_RUN,
        Sentence(
            "Check with `ksmwatch forecast` that there is enough memory, then echo 2 > "
            "/sys/kernel/mm/ksm/run",
            writes=("run",),
        ),
    ),
    Advice.SCAN_FASTER: (
        Sentence(
            "Make it scan faster: the advisor sets pages_to_scan, so lower "
            "advisor_target_scan_time or raise advisor_max_cpu.",
            _f("advisor_target_scan_time", "advisor_max_cpu"),
            held=("advisor_mode",),
        ),
        Sentence(
            "Make it scan faster: {holder} runs and sets pages_to_scan itself. Change its "
            "configuration: {instead}.",
            held=_PACE,
        ),
        Sentence(
            "Make it scan faster: raise pages_to_scan, or let the advisor do so: echo "
            "scan-time > /sys/kernel/mm/ksm/advisor_mode.",
            _f("advisor_mode"),
            writes=("pages_to_scan", "advisor_mode"),
        ),
        Sentence("Make it scan faster: raise pages_to_scan.", writes=("pages_to_scan",)),
    ),
    Advice.SCAN_SLOWER: (
        Sentence(
            "Make it scan slower: the advisor sets pages_to_scan, so raise "
            "advisor_target_scan_time or lower advisor_max_cpu. Merged pages stay merged.",
            _f("advisor_target_scan_time", "advisor_max_cpu"),
            held=("advisor_mode",),
        ),
        Sentence(
            "Make it scan slower: {holder} runs and sets pages_to_scan itself. Change its "
            "configuration: {instead}. Merged pages stay merged.",
            held=_PACE,
        ),
        Sentence(
            "Make it scan slower: lower pages_to_scan, or raise sleep_millisecs. Merged "
            "pages stay merged.",
            writes=_PACE,
        ),
    ),
    Advice.OFFER: _offers(_BY_MADVISE, ""),
    Advice.OFFER_ITS_OWN: _offers(_ITS_OWN, _TAKEN_BACK),
    Advice.ESTIMATE: (Sentence("Before that, run `ksmwatch estimate` to see what it would save."),),
    Advice.WITHDRAW: (
        Sentence(
            # findings/qemu-takes-mem-merge-too-late.sh
            "Take it out of KSM: QEMU mem-merge=off (of a guest that runs: qom-set merge to false "
            "on each memory backend), libvirt <nosharepages/>, MADV_UNMERGEABLE, or a unit without "
            "MemoryKSM=yes (needs a restart)."
        ),
    ),
    Advice.READ_TWICE: (
        Sentence("Run this command as root: it then reads some pages twice to find out."),
    ),
    Advice.CHANGES: (Sentence("Or take memory that changes all the time out of KSM."),),
    Advice.UNIQUE: (
        Sentence(
            "There is nothing to gain, unless other processes with equal memory offer theirs too."
        ),
    ),
    Advice.LIMITED: (
        Sentence(
            "First fix the limits above: because of them, ksmd may leave equal pages unmerged."
        ),
    ),
    Advice.ACROSS_NODES: (
        _HELD_RUN,
        Sentence(
            _UNMERGE_FIRST + "echo 1 > /sys/kernel/mm/ksm/merge_across_nodes, and echo 1 > "
            "/sys/kernel/mm/ksm/run. Access to memory of another node is "
            "slower.",
            writes=("run", "merge_across_nodes"),
        ),
    ),
    Advice.SHARE_MORE: (
        _HELD_RUN,
        Sentence(
            _UNMERGE_FIRST + "write a larger number to max_page_sharing, and echo 1 > "
            "/sys/kernel/mm/ksm/run. Reclaim and migration of such pages get slower.",
            writes=("run", "max_page_sharing"),
        ),
    ),
    Advice.SKIPPING: (
        Sentence(
            "Wait: ksmd scans pages that did not merge only every few scans. To scan all "
            "pages each time: echo 0 > /sys/kernel/mm/ksm/smart_scan, which costs CPU "
            "time.",
            _f("smart_scan"),
            writes=("smart_scan",),
        ),
        Sentence("Wait: ksmd scans pages that did not merge only every few scans."),
    ),
    Advice.PRIVATE: (
        Sentence("Use private anonymous memory: for QEMU a memory backend with share=off."),
    ),
    Advice.ORDINARY_PAGES: (
        Sentence(
            "Use transparent huge pages or normal pages. ksmd splits a transparent huge page."
        ),
    ),
    Advice.NOTHING_SPECIAL: (Sentence("Nothing can be done: such memory cannot be merged."),),
    Advice.NO_DEVICE: (
        Sentence(
            "Do not pass a device through to a guest whose memory should be merged. For other "
            "programs, offer only memory that they do not register with RDMA or io_uring."
        ),
    ),
    Advice.LET_GO: (
        Sentence(
            "If that changes nothing, find out whether the program registers this memory with "
            "io_uring or a device, or passes it to a pipe. Such memory merges when it is released."
        ),
    ),
    Advice.WRITE_FIRST: (
        Sentence(
            "Read the file into anonymous memory (QEMU: a memory backend that is not a "
            "file; a snapshot: copied, not mapped). Processes share the page cache "
            "anyway."
        ),
    ),
    Advice.SWAP_IN: (
        Sentence(
            "It can merge once it is back in memory. Give the host, or the cgroup "
            "(memory.high, memory.max), more memory, and let the process use it."
        ),
    ),
    Advice.UNTAGGED: (
        Sentence(
            "Only memory without tags merges: the program must not map it with PROT_MTE (the heap "
            "of glibc: GLIBC_TUNABLES=glibc.mem.tagging=0)."
        ),
    ),
    Advice.AS_ROOT: (Sentence("Run this command as root, which may read all processes."),),
    Advice.WAIT: (Sentence("Wait for two full scans."),),
    Advice.NOTHING: (Sentence("Nothing to do."),),
}


def advise(what: Advice, host: Conditions) -> str:
    """The advice that is right on this host."""
    return next(each.on(host) for each in CATALOGUE[what] if each.fits(host))
