"""The kernel's own numbers: /sys/kernel/mm/ksm, /proc/meminfo, /proc/vmstat, /proc/PID.

Values keep the kernel's units. A file or line that a kernel lacks is absent from the result, never
0. Parsers are pure functions from text; roots are injectable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ksmwatch.kernel.kept_file import KeptFile

# Files of /sys/kernel/mm/ksm whose value is a word.
_WORDS = frozenset({"advisor_mode"})


def parse_pairs(text: str) -> dict[str, int]:
    """`name value` or `name: value kB` per line, as in vmstat, meminfo and ksm_stat.

    Lines with other values (ksm_stat's yes and no, since 6.17) are left out.
    """
    pairs = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] != ":" and words[1].lstrip("-").isdigit():
            pairs[words[0].removesuffix(":")] = int(words[1])
    return pairs


def find_pairs(text: str, names: Iterable[str]) -> dict[str, int]:
    """The pairs with these names in a long text, as `parse_pairs` finds them."""
    lines = []
    for name in names:
        _, found, rest = f"\n{text}".partition(f"\n{name} ")
        lines.append(name + " " + rest.partition("\n")[0] if found else "")
    return parse_pairs("\n".join(lines))


def ksm_files(sys: Path) -> dict[str, KeptFile] | None:
    """The files of /sys/kernel/mm/ksm with a number, by name; None on a kernel without KSM."""
    directory = sys / "kernel/mm/ksm"
    if not (directory / "run").exists():
        return None
    paths = sorted(directory.iterdir())
    return {path.name: KeptFile(str(path)) for path in paths if path.name not in _WORDS}


def read_ksm_files(files: Mapping[str, KeptFile]) -> tuple[dict[str, int], list[str]]:
    """Their numbers by name, and the files that could not be read."""
    numbers: dict[str, int] = {}
    failures = []
    for name, file in files.items():
        try:
            # general_profit is signed; int() takes both.
            numbers[name] = int(file.read())
        except (OSError, ValueError):
            failures.append(file.path)
    return numbers, failures


def read_ksm(sys: Path) -> tuple[dict[str, int] | None, list[str]]:
    """Numbers of /sys/kernel/mm/ksm by file name, and the files that could not be read."""
    files = ksm_files(sys)
    return (None, []) if files is None else read_ksm_files(files)


def run_file(sys: Path) -> KeptFile:
    """/sys/kernel/mm/ksm/run, which is read every second: 0 stopped, 1 scanning, 2 unmerged."""
    return KeptFile(f"{sys}/kernel/mm/ksm/run")


def pages_shared_file(sys: Path) -> KeptFile:
    """/sys/kernel/mm/ksm/pages_shared: stable nodes that ksmd knows."""
    return KeptFile(f"{sys}/kernel/mm/ksm/pages_shared")


def read_number(read: Callable[[], bytes]) -> int | None:
    """The number that a file has; None if that is no number (`max`), or unreadable."""
    try:
        return int(read())
    except (OSError, ValueError):
        return None


def read_full_scans(sys: Path) -> int | None:
    """/sys/kernel/mm/ksm/full_scans: how often ksmd has scanned everything; None if unreadable."""
    return read_number(lambda: read_file(f"{sys}/kernel/mm/ksm/full_scans"))


class KsmStat(NamedTuple):
    """/proc/PID/ksm_stat and ksm_merging_pages: ksmd's records, None if absent."""

    rmap_items: int | None
    merging_pages: int | None
    zero_pages: int | None
    process_profit: int | None
    # Whether it has offered any memory; None if the kernel does not tell (before 6.17).
    offers: bool | None = None

    @property
    def user(self) -> bool:
        """Whether ksmd has records about this process.

        A process that has only zero pages no longer has an rmap_item.
        """
        return bool(self.rmap_items or self.merging_pages or self.zero_pages)


def read_ksm_stat(directory: Path) -> KsmStat:
    """The kernel's numbers for the process at /proc/PID.

    Before 6.5 ksm_stat has only rmap_items, and merging pages come from ksm_merging_pages.
    Both files are empty for a kernel thread.
    Raises OSError if the process is gone or the files are denied.
    """
    words = read_file(f"{directory}/ksm_stat").split()
    stat = dict(zip(words[::2], words[1::2], strict=False))
    if stat and b"ksm_merging_pages" not in stat:
        stat[b"ksm_merging_pages"] = read_file(f"{directory}/ksm_merging_pages") or b"0"
    names = (b"ksm_rmap_items", b"ksm_merging_pages", b"ksm_zero_pages", b"ksm_process_profit")
    items, merging, zero, profit = (int(stat[n]) if n in stat else None for n in names)
    return KsmStat(items, merging, zero, profit, _offers(stat))


def _offers(stat: dict[bytes, bytes]) -> bool | None:
    """ksm_merge_any and ksm_mergeable, since 6.17: yes or no."""
    words = {stat[name] for name in (b"ksm_merge_any:", b"ksm_mergeable:") if name in stat}
    return b"yes" in words if words else None


TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def _ksmd_stat(stat: KeptFile) -> list[str] | None:
    """Fields of /proc/PID/stat after the name, if the process is ksmd.

    A kernel thread is a child of kthreadd, which is process 2.
    """
    try:
        text = stat.read().decode(errors="replace")
    except OSError:
        return None
    comm, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split()
    return fields if comm == "ksmd" and fields[1] == "2" else None


def _stat(proc: Path, pid: int) -> KeptFile:
    return KeptFile(f"{proc}/{pid}/stat")


def find_ksmd(proc: Path) -> int:
    """Ksmd's process id, 0 if there is none (then merges count as other arrivals)."""
    return next((pid for pid in pids(proc) if _ksmd_stat(_stat(proc, pid))), 0)


class Ksmd:
    """The kernel thread ksmd. It starts with the kernel and never ends.

    So it is searched for once, and not again in a pid namespace that hides it.
    """

    def __init__(self, proc: Path) -> None:
        pid = find_ksmd(proc)
        self._stat = _stat(proc, pid) if pid else None

    def cpu_seconds(self) -> float | None:
        """CPU time since boot in steps of a clock tick; None if ksmd is not visible."""
        if self._stat is None:
            return None
        fields = _ksmd_stat(self._stat)
        if fields is None:
            # The number belongs to another process by now.
            self._stat = None
            return None
        # utime and stime, fields 14 and 15 of proc(5).
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def pids(proc: Path) -> list[int]:
    """Process ids that /proc lists now."""
    return sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def other_threads(proc: Path, pid: int) -> list[int]:
    """Threads of a process besides its main thread, which may have ended; none if it has gone.

    /proc does not list them, and has their directories all the same.
    """
    try:
        threads = [int(entry.name) for entry in (proc / str(pid) / "task").iterdir()]
    except OSError:
        return []
    return sorted(thread for thread in threads if thread != pid)


def read_file(path: str, limit: int = 1 << 16) -> bytes:
    """A small file, or its first bytes, at a fifth of the cost of Path.read_bytes().

    Each process has several of these, and there can be ten thousand processes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, min(limit, _PIECE))
        # A file of /proc that is smaller than a piece comes in one read.
        if len(data) < _PIECE:
            return data
        pieces = [data]
        while data and (left := limit - sum(map(len, pieces))):
            data = os.read(fd, min(left, _PIECE))
            pieces.append(data)
        return b"".join(pieces)
    finally:
        os.close(fd)


_PIECE = 1 << 12


def read_start_ticks(directory: Path) -> int:
    """Start of the process at /proc/PID, in clock ticks since boot (field 22 of stat)."""
    return read_origin(directory).start_ticks


def sleeps(directory: Path) -> bool:
    """Whether the thread at /proc/PID waits for work (S in field 3 of stat)."""
    return read_file(f"{directory}/stat").rpartition(b")")[2].split(maxsplit=1)[0] == b"S"


class Origin(NamedTuple):
    """What /proc/PID/stat says: fields 2, 4 and 22, and `family`, 26 and 28.

    `family`: where code and the first stack begin, which fork keeps and exec changes. None without
    the privilege to see them: the kernel then shows 0 or 1.
    """

    comm: str
    ppid: int
    start_ticks: int
    family: tuple[int, int] | None


def read_origin(directory: Path) -> Origin:
    """The origin of the process at /proc/PID."""
    head, _, tail = read_file(f"{directory}/stat").rpartition(b")")
    fields = tail.split(maxsplit=26)
    code, stack = (int(fields[at]) if at < len(fields) else 0 for at in (23, 25))
    comm = head.partition(b"(")[2].decode(errors="replace")
    family = (code, stack) if stack > 1 else None
    return Origin(comm, int(fields[1]), int(fields[19]), family)


# The longest cmdline that is read, in bytes. It can have megabytes, but what identifies an owner
# comes early.
_MAX_CMDLINE = 1 << 18


def read_cmdline(directory: Path) -> bytes:
    """The arguments of the process at /proc/PID, a NUL after each; empty for a kernel thread."""
    return read_file(f"{directory}/cmdline", _MAX_CMDLINE)


def read_exe(directory: Path) -> str:
    """The path of the program; empty for a kernel thread, and if it may not be read."""
    try:
        return os.fspath((directory / "exe").readlink())
    except OSError:
        return ""


def read_cgroup(directory: Path) -> bytes:
    """/proc/PID/cgroup: one line per hierarchy. Empty if the kernel has no cgroups."""
    try:
        return read_file(f"{directory}/cgroup")
    except FileNotFoundError:
        # CONFIG_CGROUPS=n, if the process exists at all.
        if directory.exists():
            return b""
        raise


def unified_path(cgroup: bytes) -> str | None:
    """The path in the unified hierarchy (v2), from the text of /proc/PID/cgroup; None if none.

    Also None if it is not below the visible part of that hierarchy (`/..`), or was removed.
    """
    for line in cgroup.split(b"\n"):
        if line.startswith(b"0::/"):
            path = os.fsdecode(line[3:])
            outside = "/../" in f"{path}/" or path.endswith(" (deleted)")
            return None if outside else path
    return None


def unified_alone(cgroup: bytes) -> bool:
    """Whether the unified hierarchy is the only one, from the text of /proc/PID/cgroup."""
    return cgroup.count(b"\n") == 1


def read_uid(directory: Path) -> int:
    """The real uid of the process at /proc/PID.

    Not the effective one, which a set-user-ID program changes, nor the owner of the files
    below /proc/PID, which is root if the process may not be dumped.
    """
    status = read_file(f"{directory}/status")
    return int(status.partition(b"\nUid:")[2].split(maxsplit=1)[0])


def read_users(passwd: Path) -> dict[int, str]:
    """Names of users by uid, from a file like /etc/passwd; the first of several names counts."""
    try:
        lines = passwd.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    users: dict[int, str] = {}
    for line in lines:
        name, *rest = line.split(":")
        if len(rest) >= 2 and rest[1].isdecimal():
            users.setdefault(int(rest[1]), name)
    return users
