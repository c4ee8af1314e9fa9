r"""Who a process belongs to: a pure function of its command line, program, cgroup, comm and user.

A cgroup path is written by whoever owns the directories: by root's managers (systemd, libvirt,
the kubelet, container runtimes) near the root, by an unprivileged user or a container's payload
further down. A command line and a comm are the process's own word, and so is its program: anybody
may call a file of his own qemu-kvm. So:

1. The path is read from the root, and the first tenant in it wins: a virtual machine, a pod or
   a container. What is below is the tenant's inner life, and the tenant could make it up.
2. Without a tenant, a command line that is a hypervisor's and names its guest makes a VM. Which
   program it is the executable tells, or argv[0], or comm: launchers rewrite one or the other.
3. Otherwise the owner is the unit; in a login session, or directly below a user's service
   manager, the user; the slice; without any of these a regular user, or the command.

`id` begins with what the kernel proves: the cgroup path or the uid. Whatever an unprivileged
party can choose comes after its proven owner (`1000/foo.service`, `1000/qemu/<uuid>`), so nobody
can take the id of somebody else. `name` is for people and may be a claim (`claimed`): group by
`key`, never by name.

Decisions that one could take otherwise:

- A container in a pod is the pod: that is what a cluster schedules and a tenant owns. The
  container's id stays in `container`. So are pods of Podman and tasks of ECS. A job of Slurm is
  a container.
- A container that runs a hypervisor is a container, whatever its command line says. Only in a
  pod, with a name of KubeVirt's form, is it a VM; its id begins with the pod's uid.
- A tenant below a service, a user's manager or a directory that no runtime makes is named after
  it, because any of these may have been delegated: `foo.service/<container>`.
- Below a user's manager, units count as units, with `uid` for those who want users.
- A VM that bears no name or uuid is its unit's or user's.
- A machine scope says that something is registered with machined, and not what. With `payload` or
  `supervisor` below it is systemd-nspawn's, whatever its name. With nothing below, a hypervisor's
  command line in it makes it a VM, claimed: its id is the scope's all the same.
- In a cgroup name space of its own the daemon sees paths that begin with `/..`. With `top`, the
  path of the name space's root, they are those of the host. Without, a pod is told by its uid, and
  the QoS class of the daemon's own class is not known.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import dropwhile

from ksmwatch.digests import blake2s

# Of every text of an owner but `id`, in characters; a component of an id has this limit too.
MAX_TEXT = 128
MAX_ID_PARTS = 4
MAX_ID = MAX_ID_PARTS * (MAX_TEXT + 1) - 1
# A mark that a text is not what was given: `~` and 16 hexadecimal digits.
_MARK = 17
# A hypervisor's options that name the guest come early; a cmdline can have megabytes.
_MAX_CMDLINE = 1 << 18
# Nothing that runs on a host nests its tenants deeper.
_MAX_DEPTH = 32


class OwnerKind(StrEnum):
    """What an owner is."""

    VM = "vm"
    POD = "pod"
    CONTAINER = "container"
    UNIT = "unit"
    USER = "user"
    SLICE = "slice"
    COMMAND = "command"
    # Of mappings of which no process is known; `owner_of` never says so.
    UNKNOWN = "unknown"


class Qos(StrEnum):
    """Quality-of-service class of a pod; the kubelet names no cgroup for GUARANTEED."""

    GUARANTEED = "guaranteed"
    BURSTABLE = "burstable"
    BEST_EFFORT = "besteffort"


@dataclass(frozen=True)
class Owner:
    """The owner of a process. Every text is one harmless line of bounded length.

    `claimed`: `name`, or that it is a VM, is the word of the process or of an unprivileged
    user. `uuid` is always a claim. `uid` is of the user whose session or manager the
    process is below, or for USER and COMMAND its own.
    """

    kind: OwnerKind
    name: str
    id: str
    manager: str | None = None
    claimed: bool = False
    uuid: str | None = None
    pod: str | None = None
    qos: Qos | None = None
    container: str | None = None
    unit: str | None = None
    slice: str | None = None
    uid: int | None = None

    @property
    def key(self) -> tuple[OwnerKind, str]:
        """Equal for two processes if and only if they have the same owner."""
        return self.kind, self.id


# Whose mappings are that no process could be named for.
UNKNOWN = Owner(OwnerKind.UNKNOWN, "unknown", "unknown")


def best_known(members: Iterable[Owner]) -> Owner:
    """Of owners with one key, the one that knows most.

    The helpers of a VM (swtpm, virtiofsd) share its key, and do not know its name and uuid.
    """
    return max(members, key=lambda o: (o.uuid is not None, o.claimed, o.name))


# -- Harmless texts --------------------------------------------------------------------------


def _is_harmful(char: str, unsafe: str) -> bool:
    """Control, format, surrogate and unassigned characters, and every space but the plain one."""
    return char in unsafe or (char != " " and unicodedata.category(char)[0] in "CZ")


def harmless(raw: str, unsafe: str = "") -> str:
    """`raw` as one line for any terminal, label or JSON; two texts never become one.

    A text that had to be changed ends in `~` and a hash of what it was. A text with a `~` of
    its own is marked too, so that nobody can spell the mark of somebody else.
    """
    head = raw[: MAX_TEXT + 1].strip(" ")
    text = "".join("?" if _is_harmful(c, unsafe) else c for c in head)
    if text == raw and text and "~" not in text and len(text) <= MAX_TEXT:
        return text
    digest = blake2s(raw.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"{text[: MAX_TEXT - _MARK]}~{digest}"


def _optional(raw: str | None) -> str | None:
    return None if raw is None else harmless(raw)


def _join(parts: Sequence[str]) -> str:
    """An id. The separator must not occur in a part."""
    return "/".join(harmless(part, "/") for part in parts)


def _text(raw: bytes | str) -> str:
    """Undecodable bytes become surrogates: `harmless` then still tells texts apart."""
    return raw.decode(errors="surrogateescape") if isinstance(raw, bytes) else raw


# -- Command lines: claims -------------------------------------------------------------------


@dataclass(frozen=True)
class _Claim:
    """What a hypervisor's command line says of its guest. `reference`: uuid, number or name."""

    manager: str
    name: str
    reference: str
    uuid: str | None = None


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# qemu-kvm: Red Hat and KubeVirt; kvm: Debian and Proxmox; the dot and -wrapped: NixOS.
_QEMU = re.compile(r"\.?(qemu-system-[\w.-]+?|qemu-kvm|kvm|qemu)(-wrap\w*)?", re.ASCII)
_FIRECRACKER = re.compile(r"firecracker([-_]v?[0-9][\w.-]*)?", re.ASCII)
# A comm is cut off after 15 bytes.
_CLOUD_HYPERVISOR = re.compile(r"\.?cloud-hypervis(o|or(-static)?(-wrapped)?)?")
_CROSVM = re.compile(r"\.?crosvm(-wrapped)?")
_LKVM = re.compile(r"lkvm(-static)?")
_STRATOVIRT = re.compile(r"stratovirt")
# The dynamic loader as the program: its words come before those of the program that it loads.
_LOADER = re.compile(
    r"ld-linux[\w.-]*|ld-musl[\w.-]*|ld-[0-9.]+\.so|ld(64)?\.so(\.[0-9]+)?", re.ASCII
)
_LOADER_OPTIONS = frozenset(
    f"--{name}"
    for name in (
        "argv0",
        "audit",
        "glibc-hwcaps-mask",
        "glibc-hwcaps-prepend",
        "inhibit-rpath",
        "library-path",
        "preload",
    )
)
# Sockets called thus say nothing: the directory is what names the VM.
_PLAIN_SOCKETS = frozenset({"api", "ch", "ch-api", "clh-api", "cloud-hypervisor", "socket"})


def _option(argv: Sequence[str], name: str) -> str | None:
    """Last value of `-name VALUE`, `--name VALUE` or `--name=VALUE`."""
    value = None
    for at, word in enumerate(argv):
        if word in (f"-{name}", f"--{name}") and at + 1 < len(argv):
            value = argv[at + 1]
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def _keyed(value: str, first: str) -> dict[str, str]:
    """QEMU's `key=value,key=value`; a doubled comma is a comma, `first` the key left out."""
    pairs = {}
    # No argument contains a NUL: it separates them.
    for at, item in enumerate(value.replace(",,", "\0").split(",")):
        key, equals, text = item.replace("\0", ",").partition("=")
        if equals:
            pairs[key] = text
        elif at == 0:
            pairs[first] = key
    return pairs


def _uuid(text: str | None) -> str | None:
    lower = (text or "").lower()
    return lower if _UUID.fullmatch(lower) else None


def _qemu(argv: Sequence[str]) -> _Claim | None:
    """QEMU: `-name guest=a,debug-threads=on` or `-name a`, `-uuid`; Proxmox adds `-id`."""
    name = _keyed(_option(argv, "name") or "", "guest").get("guest")
    number, uuid = _option(argv, "id"), _uuid(_option(argv, "uuid"))
    reference = number or uuid or name
    if not reference:
        return None
    return _Claim("proxmox" if number else "qemu", name or reference, reference, uuid)


def _firecracker(argv: Sequence[str]) -> _Claim | None:
    """Firecracker: `--id`; the default id names nobody."""
    name = _option(argv, "id")
    if not name or name == "anonymous-instance":
        return None
    return _Claim("firecracker", name, name)


def _cloud_hypervisor(argv: Sequence[str]) -> _Claim | None:
    """Cloud Hypervisor has no name; its API socket is the next best, `--platform` has a uuid."""
    value = _option(argv, "api-socket") or ""
    socket = "" if value.startswith("fd=") else value.removeprefix("path=")
    uuid = _uuid(_keyed(_option(argv, "platform") or "", "").get("uuid"))
    return _by_socket("cloud-hypervisor", socket, uuid)


def _by_socket(manager: str, socket: str, uuid: str | None = None) -> _Claim | None:
    """A guest without a name, by the path of its socket."""
    if not socket and not uuid:
        return None
    *directories, base = [part for part in socket.split("/") if part] or [uuid or ""]
    stem = base.partition(".")[0]
    name = directories[-1] if stem in _PLAIN_SOCKETS and directories else stem or base
    return _Claim(manager, name, uuid or socket, uuid)


def _by_name(manager: str, argv: Sequence[str]) -> _Claim | None:
    name = _option(argv, "name")
    return _Claim(manager, name, name) if name else None


def _crosvm(argv: Sequence[str]) -> _Claim | None:
    """crosvm: `run --name`, or the control socket, `-s` or `--socket`."""
    socket = _option(argv, "socket") or _option(argv, "s") or ""
    return _by_name("crosvm", argv) or _by_socket("crosvm", socket)


def _lkvm(argv: Sequence[str]) -> _Claim | None:
    """kvmtool: `lkvm run --name`."""
    return _by_name("kvmtool", argv)


def _stratovirt(argv: Sequence[str]) -> _Claim | None:
    """StratoVirt has QEMU's options; without a name its QMP socket (`unix:PATH,server`)."""
    value = _option(argv, "qmp") or _option(argv, "api-channel") or ""
    socket = value.removeprefix("unix:").partition(",")[0]
    return _by_name("stratovirt", argv) or _by_socket("stratovirt", socket)


_HYPERVISORS: tuple[tuple[re.Pattern[str], Callable[[Sequence[str]], _Claim | None]], ...] = (
    (_QEMU, _qemu),
    (_FIRECRACKER, _firecracker),
    (_CLOUD_HYPERVISOR, _cloud_hypervisor),
    (_CROSVM, _crosvm),
    (_LKVM, _lkvm),
    (_STRATOVIRT, _stratovirt),
)


def _base(path: str) -> str:
    return path.removesuffix(" (deleted)").rpartition("/")[2]


def _claim_of(cmdline: bytes, exe: str, comm: str) -> _Claim | None:
    """The guest that a command line names, if the program is a hypervisor."""
    argv = _text(cmdline[:_MAX_CMDLINE]).split("\0")
    programs = [_base(exe), _base(argv[0]), comm]
    if any(map(_LOADER.fullmatch, programs)):
        argv = _loaded(argv)
        programs = [_base(argv[0])]
    for program in programs:
        for pattern, recognise in _HYPERVISORS:
            if pattern.fullmatch(program):
                return recognise(argv[1:])
    return None


def _loaded(argv: Sequence[str]) -> list[str]:
    """The command line of what the dynamic loader was told to load."""
    words = list(argv[1:])
    while words and words[0].startswith("-"):
        del words[: 2 if words[0] in _LOADER_OPTIONS else 1]
    return words or [""]


# -- Cgroup paths: tenants -------------------------------------------------------------------


@dataclass(frozen=True)
class _Tenant:
    """A VM, pod or container that a path names; `id` is unique among those of its namer."""

    kind: OwnerKind
    manager: str | None
    id: tuple[str, ...]
    name: str
    pod: str | None = None
    qos: Qos | None = None
    container: str | None = None
    # A machine scope with nothing below: it does not say what is registered.
    bare: bool = False


_HEX = re.compile(
    # cgroupfs: HEX, crio-HEX, libpod-HEX; systemd: docker-HEX.scope; and what runc makes of a
    # systemd path when it was told to use cgroupfs: system.slice:docker:HEX.
    r"(?:[^:]*:([a-z][a-z-]*):|([a-z][a-z-]*?)-)?([0-9a-f]{64})(?:\.scope)?"
)
# By the prefix of the scope, or by the directory that the container is in.
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
_POD_SLICE = re.compile(
    r"(?:[^:]*-)?kubepods(?:-(burstable|besteffort))?-pod([^:]+?)\.slice"
    r"(?::([a-z][a-z-]*):([0-9a-f]{64}))?"
)
_MACHINE_SCOPE = re.compile(r"machine-(.+)\.scope")
_NSPAWN = re.compile(r"systemd-nspawn@(.+)\.service")
_VMSPAWN = re.compile(r"systemd-vmspawn@(.+)\.service")
# What systemd-nspawn has below its scope, and libvirt below its own.
_OF_NSPAWN = frozenset({"payload", "supervisor"})
_OF_LIBVIRT = re.compile(r"libvirt|emulator|vcpu[0-9]+|iothread[0-9]+")
# Programs that serve a VM from its own scope.
_HELPERS = frozenset({"swtpm", "virtiofsd", "passt", "systemd-vmspawn"})
# virDomainDriverGenerateMachineName of libvirt; old ones leave the domain's number out.
_DOMAIN = re.compile(r"(qemu|ch|lxc)(?:-embed-[0-9a-f]{8})?-(?:[0-9]+(?:-(.+))?|(.+))", re.DOTALL)
_LIBVIRT_DIRECTORY = re.compile(r"(.+)\.libvirt-(qemu|ch|lxc)")
_PROXMOX = re.compile(r"([0-9]+)\.scope")
_LXC = re.compile(r"lxc\.(?:payload|monitor)\.(.+)")
_PODMAN_POD = re.compile(r"(?:[^/]*-)?libpod_pod_([0-9a-f]{64})\.slice")
_ECS_TASK = re.compile(
    r"(?:ecstasks-)?([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\.slice)?"
)
_KATA = re.compile(r"(?:[^:]*:)?kata_overhead[-:](.+?)(?:\.scope)?")
_SLURM = re.compile(r"(?:.+_)?slurmstepd\.scope")
_SLURM_JOB = re.compile(r"job_[0-9]+")
# Directories of runtimes that have a child for each container, called as they like.
_NESTS = frozenset({"buildkit", "garden", "htcondor", "mesos", "nomad"})


def unescape(name: str) -> str:
    r"""Undo the escaping of systemd.unit(5): `-` is a slash, `\xHH` a byte.

    What is not the escaping of anything is returned as it is, so that no two texts become one.
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


def _domain(machine: str, driver: str | None = None) -> _Tenant | None:
    """A guest of libvirt from its machine name, `qemu-1-foo`."""
    match = _DOMAIN.fullmatch(machine)
    driver = driver or (match[1] if match else None)
    if driver is None:
        return None
    kind = OwnerKind.CONTAINER if driver == "lxc" else OwnerKind.VM
    name = (match[2] or match[3] if match else None) or machine
    return _Tenant(kind, "libvirt", ("libvirt", machine), name)


def _in_libvirt(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """libvirt: a machine scope; without machined a directory; before 1.0.5 two levels."""
    if scope := _MACHINE_SCOPE.fullmatch(here[0]):
        machine, below = unescape(scope[1]), "".join(here[1:2])
        numbered = (match := _DOMAIN.fullmatch(machine)) is not None and match[3] is None
        # A name alone may be anybody's, such as a container's that is called qemu-build.
        ours = _OF_LIBVIRT.fullmatch(below) or (numbered and below not in _OF_NSPAWN)
        return _domain(machine) if ours else None
    if directory := _LIBVIRT_DIRECTORY.fullmatch(here[0]):
        return _domain(directory[1], directory[2])
    if tuple(above) in {("libvirt", "qemu"), ("libvirt", "lxc")}:
        return _domain(here[0], above[1])
    return None


def _in_proxmox(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """Proxmox VE: `qemu.slice/100.scope`."""
    match = _PROXMOX.fullmatch(here[0])
    if match is None or above[-1:] != ["qemu.slice"]:
        return None
    return _Tenant(OwnerKind.VM, "proxmox", ("proxmox", match[1]), match[1])


def _in_jailer(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """Firecracker's jailer: a directory named as the program, and in it one per id."""
    if not above or not _FIRECRACKER.fullmatch(above[-1]):
        return None
    return _Tenant(OwnerKind.VM, "firecracker", ("firecracker", here[0]), here[0])


def _in_pod(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
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
    return _Tenant(OwnerKind.POD, "kubernetes", (uid,), uid, uid, _qos(qos), container)


def _in_kubepods(above: Sequence[str], uid: str) -> bool:
    if above[-1:] == ["kubepods"] or (above[:1] == ["kubepods"] and above[-1] in list(Qos)):
        return True
    # The upper part is not seen: the kubelet's uid has to do.
    below = above[:1] == [_UNSEEN] and (len(above) == 1 or above[-1] in list(Qos))
    return below and _POD_UID.fullmatch(uid) is not None


def _qos(name: str | None) -> Qos | None:
    """The class by the directory or slice. Where that is not seen it is not known."""
    if name == _UNSEEN:
        return None
    return Qos(name) if name in list(Qos) else Qos.GUARANTEED


def _in_other_pod(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """Pods of Podman, and tasks of ECS: a slice, or a directory with containers in it."""
    container = next((m[3] for m in map(_HEX.fullmatch, here[1:2]) if m), None)
    if match := _PODMAN_POD.fullmatch(here[0]):
        return _Tenant(
            OwnerKind.POD, "podman", (match[1],), match[1][:12], match[1], None, container
        )
    if above[-1:] == ["libpod_parent"] and re.fullmatch(r"[0-9a-f]{64}", here[0]):
        return _Tenant(OwnerKind.POD, "podman", (here[0],), here[0][:12], here[0], None, container)
    task = _ECS_TASK.fullmatch(here[0])
    if task is not None and above[-1:] in (["ecs"], ["ecstasks.slice"]):
        return _Tenant(OwnerKind.POD, "ecs", ("ecs", task[1]), task[1], task[1], None, container)
    return None


def _in_kata(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """Kata's sandbox, whose VM is outside its pod's cgroup (sandbox_cgroup_only=false)."""
    if above[-1:] == ["kata_overhead"] and not here[0].startswith("kubepods"):
        ident = here[0]
    elif match := _KATA.fullmatch(here[0]):
        ident = match[1]
    elif here[0].startswith("kata_") and set(above[-1:]) <= _RUNTIME_DIRECTORIES:
        ident = here[0].removeprefix("kata_")
    else:
        return None
    if ident == "overhead":
        return None
    name = ident[:12] if re.fullmatch(r"[0-9a-f]{64}", ident) else ident
    return _Tenant(OwnerKind.VM, "kata", ("kata", ident), name)


def _in_slurm(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """A job of Slurm: below slurmstepd.scope (v2), or /slurm/uid_N (v1)."""
    if not _SLURM_JOB.fullmatch(here[0]) or not above:
        return None
    v1 = len(above) == 2 and above[0] == "slurm" and above[1].startswith("uid_")
    if not v1 and not _SLURM.fullmatch(above[-1]):
        return None
    return _Tenant(OwnerKind.CONTAINER, "slurm", ("slurm", here[0]), here[0])


def _in_nest(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """Runtimes that have a directory of their own, and in it one for each container."""
    if not above or above[-1] not in _NESTS:
        return None
    name = here[0]
    return _Tenant(OwnerKind.CONTAINER, above[-1], (above[-1], name), name, container=name)


def _in_lxc(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """LXC, Incus, LXD (`PROJECT_NAME` but for the default project) and Proxmox (a number).

    The container's monitor serves it alone, and counts with it.
    """
    name = None
    if match := _LXC.fullmatch(here[0]):
        name = match[1]
    elif above and above[-1] in {"lxc", "lxc.payload", "lxc.monitor"}:
        name = here[0]
    if name is None:
        return None
    return _Tenant(OwnerKind.CONTAINER, "lxc", ("lxc", name), name, container=name)


def _in_container(above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """Docker, containerd, CRI-O, Podman: 64 hexadecimal digits, which no two runtimes share."""
    match = _HEX.fullmatch(here[0])
    if match is None:
        return None
    runtime = _RUNTIMES.get(match[1] or match[2] or (above[-1] if above else ""))
    ident = match[3]
    return _Tenant(OwnerKind.CONTAINER, runtime, (ident,), ident[:12], container=ident)


def _in_machine(_above: Sequence[str], here: Sequence[str]) -> _Tenant | None:
    """systemd-nspawn, systemd-vmspawn and whatever else registers with machined."""
    if match := _VMSPAWN.fullmatch(here[0]):
        name = unescape(match[1])
        return _Tenant(OwnerKind.VM, "machined", ("machine", name), name)
    scope = _MACHINE_SCOPE.fullmatch(here[0])
    match = scope or _NSPAWN.fullmatch(here[0])
    if match is None:
        return None
    name, bare = unescape(match[1]), scope is not None and len(here) == 1
    kind = OwnerKind.CONTAINER
    return _Tenant(kind, "machined", ("machine", name), name, container=name, bare=bare)


# Tried in this order at each level of a path. `above`: the two levels before `here`.
_TENANTS: tuple[Callable[[Sequence[str], Sequence[str]], _Tenant | None], ...] = (
    _in_libvirt,  # before _in_machine, which takes every machine scope
    _in_proxmox,
    _in_jailer,  # before _in_container: an id may look like a container's
    _in_pod,
    _in_other_pod,
    _in_kata,
    _in_slurm,
    _in_nest,
    _in_lxc,  # before _in_container: so may a name
    _in_container,
    _in_machine,
)


# -- Cgroup paths: places --------------------------------------------------------------------

_UNIT = re.compile(r"_?(.+\.(?:service|scope|slice|mount|socket|swap))")
_USER_SLICE = re.compile(r"user-([0-9]{1,10})\.slice")
_SESSION = re.compile(r"session-[^/]+\.scope")
# Their children are tenants that root's runtime made, not the service's own doing.
_RUNTIME_UNITS = frozenset(
    f"{name}.service"
    for name in (
        "containerd",
        "crio",
        "docker",
        "k3s",
        "k3s-agent",
        "kubelet",
        "rke2-agent",
        "rke2-server",
    )
)
# In a path of which the upper part is not seen.
_UNSEEN = ".."
# So are those of these directories. An administrator may have given away any other.
_RUNTIME_DIRECTORIES = frozenset(
    {"libvirt", "qemu", "machine", "kubepods", "burstable", "besteffort", "docker", "moby"}
    | {"default", "k8s.io", "libpod_parent", "lxc", "lxc.payload", "lxc.monitor"}
    | {"kata_overhead", "ecs", "slurm", "actions_job", _UNSEEN}
    | _NESTS
)


@dataclass
class _Place:
    """Where a path leads in systemd's tree, outside in, up to the first unit or tenant."""

    slice: str | None = None
    unit: str | None = None
    uid: int | None = None
    # The first that is neither systemd's nor a runtime's.
    directory: str | None = None
    # Below user@UID.service, or in one of the user's sessions.
    users: bool = False
    # The unit is the user's session, or the user's service manager itself.
    session: bool = False
    tenant: _Tenant | None = None

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
        of_slurm = list(above) == ["slurm"] and segment.startswith("uid_")
        known = of_slurm or segment in _RUNTIME_DIRECTORIES or _FIRECRACKER.fullmatch(segment)
        if not known and not self.users and self.directory is None:
            self.directory = segment

    def _enter_slice(self, above: Sequence[str], name: str) -> None:
        self.slice = name
        match = _USER_SLICE.fullmatch(name)
        if match and list(above) == ["user.slice"]:
            self.uid = int(match[1])

    @property
    def outer(self) -> tuple[str, ...]:
        """Who could have made up the unit: a user, or who was given a directory."""
        if self.users:
            return (str(self.uid),)
        return () if self.directory is None else (self.directory,)

    @property
    def namer(self) -> tuple[str, ...]:
        """Who could have made up the tenant."""
        runtime = self.unit in _RUNTIME_UNITS or _SLURM.fullmatch(self.unit or "")
        trusted = not self.outer and runtime
        if self.unit is None or self.session or trusted:
            return self.outer
        return (*self.outer, self.unit)

    @property
    def detail(self) -> tuple[int, bool]:
        """How much is known; the most telling hierarchy of several is used."""
        if self.tenant is not None:
            return (4 if not self.namer else 3), not self.tenant.bare
        return (2 if self.unit or self.users else int(self.slice is not None)), True


def _from_root(path: str, top: str | None) -> list[str]:
    """The levels of a path that is seen from the name space whose root is `top`."""
    seen = [s for s in path.split("/") if s]
    below = list(dropwhile(lambda s: s == "..", seen))
    up = len(seen) - len(below)
    above = [s for s in (top or "").split("/") if s]
    if up <= len(above):
        return above[: len(above) - up] + below
    return [_UNSEEN, *below]


def _walk(path: str, top: str | None) -> _Place:
    segments = _from_root(path, top)[:_MAX_DEPTH]
    place = _Place()
    for at, segment in enumerate(segments):
        above, here = segments[max(at - 2, 0) : at], segments[at:]
        place.tenant = next(filter(None, (find(above, here) for find in _TENANTS)), None)
        if place.tenant is not None:
            break
        place.enter(segments[:at], segment)
    return place


def _paths(cgroup: str) -> list[str]:
    """Paths of /proc/PID/cgroup, those first that systemd keeps.

    v2 has the line `0::PATH`; v1 a line per hierarchy, of which systemd's is called so; a
    hybrid host both, and there an old runtime leaves containers out of the unified one.
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


def _place_of(cgroup: str, top: str | None) -> _Place:
    places = [_walk(path, top) for path in _paths(cgroup)]
    # max() takes the first of equals.
    return max(places, key=lambda place: place.detail, default=_Place())


# -- Owners ----------------------------------------------------------------------------------

# systemd's range of regular users, homed's included (UIDS-GIDS.md of systemd).
_REGULAR = range(1000, 60514)
# A domain of KubeVirt is NAMESPACE_NAME, and neither can contain the underscore.
_KUBEVIRT = re.compile(r"([a-z0-9-]{1,63})_([a-z0-9][a-z0-9.-]*)")


def owner_of(
    cmdline: bytes,
    cgroup: bytes | str,
    comm: str,
    uid: int,
    users: Mapping[int, str] | None = None,
    *,
    exe: str = "",
    top: str | None = None,
) -> Owner:
    """The owner of the process with these /proc/PID/cmdline, /proc/PID/cgroup, comm and uid.

    `users` has names of users by uid: a process of root in a user's session is that user's.
    `exe`: the program's path, empty if not known. `top`: the path of the root of our own cgroup
    name space (v2), None if it is the host's or not known.
    """
    place, claim = _place_of(_text(cgroup), top), _claim_of(cmdline, exe, comm)
    if place.tenant is not None:
        owner = _tenant_owner(place, place.tenant, claim)
        if place.tenant.bare and (claim is not None or {_base(exe), comm} & _HELPERS):
            uuid = claim.uuid if claim else None
            owner = replace(owner, kind=OwnerKind.VM, container=None, uuid=uuid, claimed=True)
        return owner
    kind, name, parts = _plain(place, comm, uid, users or {})
    if claim is not None:
        proven = (str(uid),) if kind is OwnerKind.COMMAND else parts
        return _guest(place, claim, proven)
    return Owner(
        kind,
        harmless(name),
        _join(parts),
        manager="systemd" if kind in (OwnerKind.UNIT, OwnerKind.SLICE) else None,
        claimed=kind is OwnerKind.COMMAND or len(parts) > 1,
        unit=_optional(place.unit),
        slice=_optional(place.slice),
        uid=uid if place.uid is None and kind in (OwnerKind.USER, OwnerKind.COMMAND) else place.uid,
    )


def _plain(
    place: _Place, comm: str, uid: int, users: Mapping[int, str]
) -> tuple[OwnerKind, str, tuple[str, ...]]:
    """Kind, name and id of the owner where there is neither tenant nor VM."""
    if place.unit is not None and not place.session:
        return OwnerKind.UNIT, place.unit, (*place.outer, place.unit)
    if place.uid is not None:
        return OwnerKind.USER, users.get(place.uid, str(place.uid)), (str(place.uid),)
    # user.slice alone says less than the uid: v1's controllers often stop there.
    if place.slice is not None and place.slice != "user.slice":
        return OwnerKind.SLICE, place.slice, (*place.outer, place.slice)
    if uid in _REGULAR:
        return OwnerKind.USER, users.get(uid, str(uid)), (str(uid),)
    return OwnerKind.COMMAND, comm, (str(uid), comm)


def _guest(place: _Place, claim: _Claim, proven: tuple[str, ...]) -> Owner:
    """A VM by its own word, below what the kernel says it is."""
    return Owner(
        OwnerKind.VM,
        harmless(claim.name),
        _join((*proven, claim.manager, claim.reference)),
        manager=claim.manager,
        claimed=True,
        uuid=claim.uuid,
        unit=_optional(place.unit),
        slice=_optional(place.slice),
        uid=place.uid,
    )


def _tenant_owner(place: _Place, tenant: _Tenant, claim: _Claim | None) -> Owner:
    """The owner that the path names, with what may be believed of the command line."""
    owner = Owner(
        tenant.kind,
        harmless(tenant.name),
        _join((*place.namer, *tenant.id)),
        manager=tenant.manager,
        claimed=bool(place.namer),
        pod=_optional(tenant.pod),
        qos=tenant.qos,
        container=_optional(tenant.container),
        unit=_optional(place.unit),
        slice=_optional(place.slice),
        uid=place.uid,
    )
    if claim is not None and tenant.kind is OwnerKind.VM:
        return _believe(owner, tenant, claim)
    if claim is not None and tenant.kind is OwnerKind.POD:
        return _kubevirt(owner, claim)
    return owner


def _believe(owner: Owner, tenant: _Tenant, claim: _Claim) -> Owner:
    """A VM with the uuid that it says, and its name where that fits what is proven."""
    owner = replace(owner, uuid=claim.uuid)
    if tenant.manager == "libvirt" and _agrees(claim.name, tenant):
        return replace(owner, name=harmless(claim.name))
    if tenant.manager == claim.manager == "proxmox" and claim.reference == tenant.name:
        return replace(owner, name=harmless(claim.name), claimed=True)
    return owner


def _agrees(name: str, tenant: _Tenant) -> bool:
    """Whether libvirt's machine name can have been made from this name.

    It leaves out what a host name cannot have, and ends after some 64 characters.
    """
    claimed, proven = (re.sub(r"[^0-9A-Za-z]", "", text) for text in (name, tenant.name))
    machine = tenant.id[-1]
    if tenant.name == machine:
        # Nothing of the name was left: `qemu-1`.
        return not claimed
    return claimed == proven or (len(machine) >= 60 and claimed.startswith(proven))


def _kubevirt(pod: Owner, claim: _Claim) -> Owner:
    """The guest of a pod, named `namespace/name` as kubectl writes it; or else the pod."""
    match = _KUBEVIRT.fullmatch(claim.name)
    if match is None or claim.manager != "qemu":
        return pod
    return replace(
        pod,
        kind=OwnerKind.VM,
        name=harmless(f"{match[1]}/{match[2]}"),
        id=f"{pod.id}/{_join((claim.reference,))}",
        manager="kubevirt",
        claimed=True,
        uuid=claim.uuid,
    )
