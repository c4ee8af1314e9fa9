"""Tenants that a cgroup path names: virtual machines, pods and containers.

Each runtime has a function: libvirt, Proxmox, Kubernetes, Kata, Slurm, LXC, Docker and others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ksmwatch.owners.command_lines import FIRECRACKER
from ksmwatch.owners.owner import OwnerKind, Qos


class Tenant(NamedTuple):
    """A VM, pod or container that a path names. `id` is unique among those of its namer."""

    kind: OwnerKind
    manager: str | None
    id: tuple[str, ...]
    name: str
    pod: str | None = None
    qos: Qos | None = None
    container: str | None = None
    # A machine scope with nothing below does not say what is registered.
    bare: bool = False


_HEX = re.compile(
    # cgroupfs: HEX, crio-HEX, libpod-HEX; systemd: docker-HEX.scope; and runc's form of a systemd
    # path when it uses cgroupfs: system.slice:docker:HEX.
    r"(?:[^:]*:([a-z][a-z-]*):|([a-z][a-z-]*?)-)?([0-9a-f]{64})(?:\.scope)?"
)
# By the prefix of the scope, or by the container's directory.
_RUNTIMES = {
    "docker": "docker",
    "moby": "docker",
    "actions_job": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "default": "containerd",
    "k8s.io": "containerd",
    "crio": "cri-o",
    "crio-conmon": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
    "libpod-conmon": "podman",
}
_POD_UID = re.compile(r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}")
# A pod of the kubelet's own files (static), such as etcd of a control plane: an MD5 sum.
_STATIC_POD_UID = re.compile(r"[0-9a-f]{32}")
_POD_SLICE = re.compile(
    r"(?:[^:]*-)?kubepods(?:-(burstable|besteffort))?-pod([^:]+?)\.slice"
    r"(?::([a-z][a-z-]*):([0-9a-f]{64}))?"
)
_MACHINE_SCOPE = re.compile(r"machine-(.+)\.scope")
_NSPAWN = re.compile(r"systemd-nspawn@(.+)\.service")
_VMSPAWN = re.compile(r"systemd-vmspawn@(.+)\.service")
# What systemd-nspawn has below its scope, and libvirt below its own scope.
_OF_NSPAWN = frozenset({"payload", "supervisor"})
_OF_LIBVIRT = re.compile(r"libvirt|emulator|vcpu[0-9]+|iothread[0-9]+")
# virDomainDriverGenerateMachineName of libvirt. Old versions leave the domain's number out.
_DOMAIN = re.compile(r"(qemu|ch|lxc)(?:-embed-[0-9a-f]{8})?-(?:[0-9]+(?:-(.+))?|(.+))", re.DOTALL)
_LIBVIRT_DIRECTORY = re.compile(r"(.+)\.libvirt-(qemu|ch|lxc)")
_PROXMOX = re.compile(r"([0-9]+)\.scope")
_LXC = re.compile(r"lxc\.(?:payload|monitor)\.(.+)")
_PODMAN_POD = re.compile(r"(?:[^/]*-)?libpod_pod_([0-9a-f]{64})\.slice")
_ECS_TASK = re.compile(
    r"(?:ecstasks-)?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.slice)?"
)
_KATA = re.compile(r"(?:[^:]*:)?kata_overhead[-:](.+?)(?:\.scope)?")
SLURM = re.compile(r"(?:.+_)?slurmstepd\.scope")
# v1; with the node's name if several daemons run on a machine.
SLURM_DIRECTORY = re.compile(r"slurm(?:_.+)?")
_SLURM_JOB = re.compile(r"job_[0-9]+")
# PBS on cgroups v1 and v2.
_OF_PBS = (["pbs_jobs.service", "jobid"], ["pbs_jobs.service", "jobs"])
# Nomad's drivers: ALLOCATION.TASK.scope on cgroups v2, ALLOCATION.TASK on v1.
_NOMAD = re.compile(rf"({_POD_UID.pattern})\.(.+?)(?:\.scope)?")
_OF_NOMAD = frozenset({"share.slice", "reserve.slice"})
# Directories of runtimes with a child for each container, under any name.
_NESTS = frozenset({"buildkit", "garden", "hadoop-yarn", "htcondor", "mesos", "nomad"})


def unescape(name: str) -> str:
    r"""Undo the escaping of systemd.unit(5): `-` is a slash, `\xHH` a byte.

    A text that is not a valid escape is returned unchanged, so that no two texts become one.
    """
    if not re.fullmatch(r"(?:[^\\]|\\x[0-9a-f]{2})*", name, re.DOTALL):
        return name
    raw = name.replace("-", "/").encode(errors="surrogatepass")
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), raw)
    plain = raw.decode(errors="surrogateescape")
    return plain if _escape(plain) == name else name


def _escape(name: str) -> str:
    out = []
    for at, byte in enumerate(name.encode(errors="surrogateescape")):
        char = chr(byte)
        if char == "/":
            out.append("-")
        elif (char.isascii() and char.isalnum()) or char in ":_" or (char == "." and at):
            out.append(char)
        else:
            out.append(f"\\x{byte:02x}")
    return "".join(out)


def _domain(machine: str, driver: str | None = None) -> Tenant | None:
    """A libvirt guest from its machine name, `qemu-1-foo`."""
    match = _DOMAIN.fullmatch(machine)
    driver = driver or (match[1] if match else None)
    if driver is None:
        return None
    kind = OwnerKind.CONTAINER if driver == "lxc" else OwnerKind.VM
    name = (match[2] or match[3] if match else None) or machine
    return Tenant(kind, "libvirt", ("libvirt", machine), name)


def _in_libvirt(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """libvirt: a machine scope; without machined a directory; before 1.0.5 two levels."""
    if scope := _MACHINE_SCOPE.fullmatch(here[0]):
        machine, below = unescape(scope[1]), "".join(here[1:2])
        numbered = (match := _DOMAIN.fullmatch(machine)) is not None and match[3] is None
        # A name alone may belong to anything, such as a container named qemu-build.
        ours = _OF_LIBVIRT.fullmatch(below) or (numbered and below not in _OF_NSPAWN)
        return _domain(machine) if ours else None
    if directory := _LIBVIRT_DIRECTORY.fullmatch(here[0]):
        return _domain(directory[1], directory[2])
    if tuple(above) in {("libvirt", "qemu"), ("libvirt", "lxc")}:
        return _domain(here[0], above[1])
    return None


def _in_proxmox(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Proxmox VE: `qemu.slice/100.scope`."""
    match = _PROXMOX.fullmatch(here[0])
    if match is None or above[-1:] != ["qemu.slice"]:
        return None
    return Tenant(OwnerKind.VM, "proxmox", ("proxmox", match[1]), match[1])


def _in_jailer(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Firecracker's jailer: a directory named after the program, with one directory per id."""
    if not above or not FIRECRACKER.fullmatch(above[-1]):
        return None
    return Tenant(OwnerKind.VM, "firecracker", ("firecracker", here[0]), here[0])


def _in_pod(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Kubernetes, with the kubelet's systemd and cgroupfs drivers."""
    container = next((m[3] for m in map(_HEX.fullmatch, here[1:3]) if m), None)
    if match := _POD_SLICE.fullmatch(here[0]):
        qos, uid, container = match[1], match[2], match[4] or container
    elif here[0].startswith("pod") and _in_kubepods(above, here[0].removeprefix("pod")):
        qos, uid = above[-1], here[0].removeprefix("pod")
    else:
        return None
    if _POD_UID.fullmatch(uid):
        # A dash means a parent in the name of a slice, so the kubelet writes underscores.
        uid = uid.replace("_", "-")
    return Tenant(OwnerKind.POD, "kubernetes", (uid,), uid, uid, _qos(qos), container)


def _in_kubepods(above: Sequence[str], uid: str) -> bool:
    if above[-1:] == ["kubepods"] or (above[:1] == ["kubepods"] and above[-1] in list(Qos)):
        return True
    # The upper part is not visible, so the kubelet's uid has to do.
    below = above[:1] == [UNSEEN] and (len(above) == 1 or above[-1] in list(Qos))
    return below and (_POD_UID.fullmatch(uid) or _STATIC_POD_UID.fullmatch(uid)) is not None


def _qos(name: str | None) -> Qos | None:
    """The class by the directory or slice. If that is not visible, the class is unknown."""
    if name == UNSEEN:
        return None
    return Qos(name) if name in list(Qos) else Qos.GUARANTEED


def _in_podman_pod(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Podman's pods: a slice, or a directory with containers in it."""
    container = next((m for m in map(_HEX.fullmatch, here[1:2]) if m), None)
    if match := _PODMAN_POD.fullmatch(here[0]):
        pod = match[1]
    elif re.fullmatch(r"[0-9a-f]{64}", here[0]) and (
        above[-1:] == ["libpod_parent"]
        or (above == [UNSEEN] and container is not None and container[2] == "libpod")
    ):
        pod = here[0]
    else:
        return None
    ident = container[3] if container else None
    return Tenant(OwnerKind.POD, "podman", (pod,), pod[:12], pod, None, ident)


def _in_ecs_task(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """A task of ECS: a slice, or a directory with containers in it, perhaps below its cluster's."""
    task = _ECS_TASK.fullmatch(here[0])
    container = next((m[3] for m in map(_HEX.fullmatch, here[1:2]) if m), None)
    known = above[-1:] in (["ecs"], ["ecstasks.slice"]) or above[:-1] == ["ecs"]
    if task is None or not (known or (above == [UNSEEN] and container)):
        return None
    return Tenant(OwnerKind.POD, "ecs", ("ecs", task[1]), task[1], task[1], None, container)


def _in_kata(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Kata's sandbox, with its VM outside its pod's cgroup (sandbox_cgroup_only=false)."""
    if above[-1:] == ["kata_overhead"] and not here[0].startswith("kubepods"):
        ident = here[0]
    elif match := _KATA.fullmatch(here[0]):
        ident = match[1]
    elif here[0].startswith("kata_") and set(above[-1:]) <= RUNTIME_DIRECTORIES:
        ident = here[0].removeprefix("kata_")
    else:
        return None
    if ident == "overhead":
        return None
    name = ident[:12] if re.fullmatch(r"[0-9a-f]{64}", ident) else ident
    return Tenant(OwnerKind.VM, "kata", ("kata", ident), name)


def _in_slurm(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """A Slurm job: below slurmstepd.scope (v2), or /slurm/uid_N (v1)."""
    if not _SLURM_JOB.fullmatch(here[0]) or not above:
        return None
    v1 = len(above) == 2 and SLURM_DIRECTORY.fullmatch(above[0]) and above[1].startswith("uid_")
    if not v1 and not SLURM.fullmatch(above[-1]):
        return None
    return Tenant(OwnerKind.CONTAINER, "slurm", ("slurm", here[0]), here[0])


def _in_pbs(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """A job of PBS."""
    if above not in _OF_PBS:
        return None
    return Tenant(OwnerKind.CONTAINER, "pbs", ("pbs", here[0]), here[0])


def _in_nomad(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """A task of a Nomad allocation, whose drivers make cgroups themselves."""
    match = _NOMAD.fullmatch(here[0])
    parents = [name for name in above if name not in _OF_NOMAD]
    if match is None or parents[-1:] not in (["nomad"], ["nomad.slice"], [UNSEEN]):
        return None
    ident = f"{match[1]}.{match[2]}"
    return Tenant(OwnerKind.CONTAINER, "nomad", ("nomad", ident), match[2], container=ident)


def _in_nest(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Runtimes with a directory of their own, and one directory for each container in it."""
    if not above or above[-1] not in _NESTS:
        return None
    name = here[0]
    return Tenant(OwnerKind.CONTAINER, above[-1], (above[-1], name), name, container=name)


def _in_lxc(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """LXC, Incus, LXD (`PROJECT_NAME`, except for the default project) and Proxmox (a number).

    The container's monitor serves only that container, and counts with it.
    """
    name = None
    if match := _LXC.fullmatch(here[0]):
        name = match[1]
    elif above and above[-1] in {"lxc", "lxc.payload", "lxc.monitor"}:
        name = here[0]
    if name is None:
        return None
    return Tenant(OwnerKind.CONTAINER, "lxc", ("lxc", name), name, container=name)


def _in_container(above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """Docker, containerd, CRI-O, Podman: 64 hexadecimal digits, which no two runtimes share."""
    match = _HEX.fullmatch(here[0])
    if match is None:
        return None
    runtime = _RUNTIMES.get(match[1] or match[2] or (above[-1] if above else ""))
    ident = match[3]
    return Tenant(OwnerKind.CONTAINER, runtime, (ident,), ident[:12], container=ident)


def _in_machine(_above: Sequence[str], here: Sequence[str]) -> Tenant | None:
    """systemd-nspawn, systemd-vmspawn and anything else that registers with machined."""
    if match := _VMSPAWN.fullmatch(here[0]):
        name = unescape(match[1])
        return Tenant(OwnerKind.VM, "machined", ("machine", name), name)
    scope = _MACHINE_SCOPE.fullmatch(here[0])
    match = scope or _NSPAWN.fullmatch(here[0])
    if match is None:
        return None
    name, bare = unescape(match[1]), scope is not None and len(here) == 1
    kind = OwnerKind.CONTAINER
    return Tenant(kind, "machined", ("machine", name), name, container=name, bare=bare)


# Tried in this order at each level of a path. `above`: the two levels before `here`.
FINDERS: tuple[Callable[[Sequence[str], Sequence[str]], Tenant | None], ...] = (
    _in_libvirt,  # before _in_machine, which takes every machine scope
    _in_proxmox,
    _in_jailer,  # before _in_container: an id may look like a container's
    _in_pod,
    _in_podman_pod,
    _in_ecs_task,
    _in_kata,
    _in_slurm,
    _in_pbs,
    _in_nomad,
    _in_nest,
    _in_lxc,  # before _in_container: a name may look like a container's
    _in_container,
    _in_machine,
)
# Tried in a path whose upper part is not visible.
UNSEEN = ".."
# Root's runtime creates the children of these as tenants. Any other directory may have been
# delegated by an administrator.
RUNTIME_DIRECTORIES = frozenset(
    {"libvirt", "qemu", "machine", "kubepods", "burstable", "besteffort", "docker", "moby"}
    | {"default", "k8s.io", "libpod_parent", "lxc", "lxc.payload", "lxc.monitor"}
    | {"kata_overhead", "ecs", "slurm", "actions_job", UNSEEN}
    | _NESTS
)
