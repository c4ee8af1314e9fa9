"""The place of a cgroup path in systemd's tree: slice, unit, user, and the first tenant in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile

from ksmwatch.owners.cgroup_tenants import (
    FINDERS,
    RUNTIME_DIRECTORIES,
    SLURM,
    SLURM_DIRECTORY,
    UNSEEN,
    Tenant,
)
from ksmwatch.owners.command_lines import FIRECRACKER

# No real host nests its tenants deeper than this.
_MAX_DEPTH = 32


_UNIT = re.compile(r"_?(.+\.(?:service|scope|slice|mount|socket|swap))")
_USER_SLICE = re.compile(r"user-([0-9]{1,10})\.slice")
_SESSION = re.compile(r"session-[^/]+\.scope")
# Root's runtime creates the children of these as tenants; they do not belong to the service.
_RUNTIME_UNITS = frozenset(
    f"{name}.service"
    for name in (
        "containerd",
        "crio",
        "docker",
        "k0scontroller",
        "k0sworker",
        "k3s",
        "k3s-agent",
        "kubelet",
        "pbs_jobs",
        "rke2-agent",
        "rke2-server",
        "snap.microk8s.daemon-containerd",
    )
)
# What is above the slices of users, as far as it is visible.
_ABOVE_USERS = (["user.slice"], [UNSEEN, "user.slice"], [UNSEEN])


def _of_runtime(above: Sequence[str], segment: str) -> bool:
    """Whether root's runtime creates the children of this directory as tenants."""
    if segment in RUNTIME_DIRECTORIES or FIRECRACKER.fullmatch(segment):
        return True
    visible = [name for name in above if name != UNSEEN]
    if not visible:
        return SLURM_DIRECTORY.fullmatch(segment) is not None
    of_slurm = len(visible) == 1 and SLURM_DIRECTORY.fullmatch(visible[0]) is not None
    # A cluster of ECS has any name.
    return visible == ["ecs"] or (of_slurm and segment.startswith("uid_"))


@dataclass
class Place:
    """Where a path leads in systemd's tree, from the outside in, up to the first unit or tenant."""

    slice: str | None = None
    unit: str | None = None
    uid: int | None = None
    # The first level that belongs to neither systemd nor a runtime.
    directory: str | None = None
    # The path lies below user@UID.service, or in one of the user's sessions.
    users: bool = False
    # The unit is the user's session, or the user's service manager itself.
    session: bool = False
    tenant: Tenant | None = None

    def enter(self, above: Sequence[str], segment: str) -> None:
        """Go one level down. What is below a unit is the unit's own business."""
        if self.unit is not None:
            return
        match = _UNIT.fullmatch(segment)
        if match is None:
            self._enter_directory(above, segment)
            return
        # systemd puts `_` before a name that the kernel might use (`_cpu.service`).
        name = match[1]
        if name.endswith(".slice"):
            self._enter_slice(above, name)
        elif self.uid is not None and not self.users and name == f"user@{self.uid}.service":
            self.users, self.slice = True, None
        else:
            self.unit = name
            login = self.uid is not None and _SESSION.fullmatch(name) is not None
            self.session = (login and not self.users) or (self.users and name == "init.scope")
            self.users |= self.session

    def _enter_directory(self, above: Sequence[str], segment: str) -> None:
        if not _of_runtime(above, segment) and not self.users and self.directory is None:
            self.directory = segment

    def _enter_slice(self, above: Sequence[str], name: str) -> None:
        self.slice = name
        match = _USER_SLICE.fullmatch(name)
        if match and list(above) in _ABOVE_USERS:
            self.uid = int(match[1])

    @property
    def outer(self) -> tuple[str, ...]:
        """Who could have made up the unit: a user, or an owner of a delegated directory."""
        if self.users:
            return (str(self.uid),)
        return () if self.directory is None else (self.directory,)

    @property
    def namer(self) -> tuple[str, ...]:
        """Who could have made up the tenant."""
        runtime = self.unit in _RUNTIME_UNITS or SLURM.fullmatch(self.unit or "")
        trusted = not self.outer and runtime
        if self.unit is None or self.session or trusted:
            return self.outer
        return (*self.outer, self.unit)

    @property
    def detail(self) -> tuple[int, bool]:
        """How much the path tells. Of several hierarchies, the one that tells most is used."""
        if self.tenant is not None:
            return (4 if not self.namer else 3), not self.tenant.bare
        return (2 if self.unit or self.users else int(self.slice is not None)), True


def _from_root(path: str, top: str | None) -> list[str]:
    """The levels of a path that is seen from the name space with root `top`."""
    seen = [s for s in path.split("/") if s]
    below = list(dropwhile(lambda s: s == "..", seen))
    up = len(seen) - len(below)
    above = [s for s in (top or "").split("/") if s]
    if up <= len(above):
        return above[: len(above) - up] + below
    return [UNSEEN, *below]


def _walk(path: str, top: str | None) -> Place:
    segments = _from_root(path, top)[:_MAX_DEPTH]
    place = Place()
    for at, segment in enumerate(segments):
        above, here = segments[max(at - 2, 0) : at], segments[at:]
        place.tenant = next(filter(None, (find(above, here) for find in FINDERS)), None)
        if place.tenant is not None:
            break
        place.enter(segments[:at], segment)
    return place


def _paths(cgroup: str) -> list[str]:
    """The paths of /proc/PID/cgroup, those that systemd keeps first.

    v2 has the line `0::PATH`. v1 has a line for each hierarchy, and systemd's is named so. A hybrid
    host has both, and an old runtime there leaves containers out of the unified one.
    """
    ranks = {"": 0, "name=systemd": 1, "memory": 2}
    found = []
    # The kernel refuses a newline in the name of a cgroup.
    for line in cgroup.split("\n"):
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and number.isdecimal() and path.startswith("/"):
            found.append((ranks.get(controllers, 3), path.removesuffix(" (deleted)")))
    return list(dict.fromkeys(path for _, path in sorted(found, key=lambda each: each[0])))


def place_of(cgroup: str, top: str | None) -> Place:
    """The place of a process, by the path in its /proc/PID/cgroup that tells most."""
    places = [_walk(path, top) for path in _paths(cgroup)]
    # max() returns the first of equals.
    return max(places, key=lambda place: place.detail, default=Place())
