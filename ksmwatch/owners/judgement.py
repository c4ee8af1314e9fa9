r"""Who owns a process: a pure function of its command line, program, cgroup, comm and user.

The owner of a directory writes the cgroup paths below it: root's managers (systemd, libvirt, the
kubelet, container runtimes) near the root; an unprivileged user, or a container's payload, further
down. A process chooses its own command line, comm and program: any user may name a file of his own
qemu-kvm. So:

1. The path is read from the root, and the first tenant in it wins: a virtual machine, a pod or
   a container. What is below belongs to the tenant, who could make it up.
2. Without a tenant, a hypervisor's command line that names its guest makes a VM. The executable,
   argv[0] or comm identifies the program, because launchers rewrite some of them.
3. Otherwise the owner is the unit; in a login session, or directly below a user's service
   manager, the user; else the slice; without any of these a regular user, or the command.

`id` begins with what the kernel proves: the cgroup path or the uid. Anything that an unprivileged
party can choose comes after its proven owner (`1000/foo.service`, `1000/qemu/<uuid>`), so that
no process can take another owner's id. `name` is for people and may be a claim (`claimed`): group
by `key`, never by name.

Decisions that could be made otherwise:

- A container in a pod counts as the pod, because a cluster schedules pods and a tenant owns them.
  The container's id stays in `container`. The same holds for Podman's pods and ECS tasks. A job of
  Slurm or PBS is a container.
- A container that runs a hypervisor is a container, whatever its command line says. Only in a
  pod, with a name of KubeVirt's form, is it a VM; its id begins with the pod's uid.
- A tenant below a service, a user's manager or a directory that no runtime creates is named after
  it, because any of these may have been delegated: `foo.service/<container>`.
- Below a user's manager, units count as units, with `uid` for those who want to group by user.
- A VM without a name and uuid belongs to its unit or user.
- A machine scope says that something is registered with machined, but not what. With `payload` or
  `supervisor` below, it is systemd-nspawn's, whatever its name. With nothing below, a hypervisor in
  it makes it a VM, claimed; its id is still the scope's.
- In its own cgroup name space the daemon sees paths that begin with `/..`. With `top`, the path
  of the name space's root, they become those of the host. Without, a pod is known by its uid, a
  task of ECS by its id, a user by the slice; the QoS class of the daemon's own class is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ksmwatch.owners.cgroup_paths import Place, place_of
from ksmwatch.owners.cgroup_tenants import Tenant
from ksmwatch.owners.command_lines import Claim, base_name, claim_of, is_hypervisor
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.safe_text import decoded, harmless, harmless_or_none, joined

# Programs that serve a VM from its own scope.
_VM_HELPERS = frozenset(
    {"swtpm", "virtiofsd", "passt", "systemd-vmspawn", "systemd-journal-remote"}
)


# systemd's range of regular users, including homed's (UIDS-GIDS.md of systemd).
_REGULAR = range(1000, 60514)
# A KubeVirt domain is NAMESPACE_NAME, and neither part can contain the underscore.
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

    `users` has the names of users by uid. A root process in a user's session is that user's.
    `exe`: the program's path, empty if unknown. `top`: the path of the root of our own cgroup
    name space (v2), None if it is the host's or unknown.
    """
    place, claim = place_of(decoded(cgroup), top), claim_of(cmdline, exe, comm)
    if place.tenant is not None:
        owner = _tenant_owner(place, place.tenant, claim)
        helps = {base_name(exe), comm} & _VM_HELPERS
        if place.tenant.bare and (helps or is_hypervisor(cmdline, exe, comm)):
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
        joined(parts),
        manager="systemd" if kind in (OwnerKind.UNIT, OwnerKind.SLICE) else None,
        claimed=kind is OwnerKind.COMMAND or len(parts) > 1,
        unit=harmless_or_none(place.unit),
        slice=harmless_or_none(place.slice),
        uid=uid if place.uid is None and kind in (OwnerKind.USER, OwnerKind.COMMAND) else place.uid,
    )


def _plain(
    place: Place, comm: str, uid: int, users: Mapping[int, str]
) -> tuple[OwnerKind, str, tuple[str, ...]]:
    """Kind, name and id of the owner if there is neither a tenant nor a VM."""
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


def _guest(place: Place, claim: Claim, proven: tuple[str, ...]) -> Owner:
    """A VM by its own claim, below the owner that the kernel proves."""
    return Owner(
        OwnerKind.VM,
        harmless(claim.name),
        joined((*proven, claim.manager, claim.reference)),
        manager=claim.manager,
        claimed=True,
        uuid=claim.uuid,
        unit=harmless_or_none(place.unit),
        slice=harmless_or_none(place.slice),
        uid=place.uid,
    )


def _tenant_owner(place: Place, tenant: Tenant, claim: Claim | None) -> Owner:
    """The owner that the path names, with the credible parts of the command line."""
    owner = Owner(
        tenant.kind,
        harmless(tenant.name),
        joined((*place.namer, *tenant.id)),
        manager=tenant.manager,
        claimed=bool(place.namer),
        pod=harmless_or_none(tenant.pod),
        qos=tenant.qos,
        container=harmless_or_none(tenant.container),
        unit=harmless_or_none(place.unit),
        slice=harmless_or_none(place.slice),
        uid=place.uid,
    )
    if claim is not None and tenant.kind is OwnerKind.VM:
        return _believe(owner, tenant, claim)
    if claim is not None and tenant.kind is OwnerKind.POD:
        return _kubevirt(owner, claim)
    return owner


def _believe(owner: Owner, tenant: Tenant, claim: Claim) -> Owner:
    """A VM with its claimed uuid, and with its name if that fits what is proven."""
    owner = replace(owner, uuid=claim.uuid)
    if tenant.manager == "libvirt" and _agrees(claim.name, tenant):
        return replace(owner, name=harmless(claim.name))
    if tenant.manager == claim.manager == "proxmox" and claim.reference == tenant.name:
        return replace(owner, name=harmless(claim.name), claimed=True)
    return owner


def _agrees(name: str, tenant: Tenant) -> bool:
    """Whether libvirt can have made its machine name from this name.

    libvirt drops characters that a host name cannot have, and stops after about 64.
    """
    claimed, proven = (re.sub(r"[^0-9A-Za-z]", "", text) for text in (name, tenant.name))
    machine = tenant.id[-1]
    if tenant.name == machine:
        # Nothing of the name was left: `qemu-1`.
        return not claimed
    return claimed == proven or (len(machine) >= 60 and claimed.startswith(proven))


def _kubevirt(pod: Owner, claim: Claim) -> Owner:
    """The guest of a pod, named `namespace/name` as kubectl writes it; otherwise the pod."""
    match = _KUBEVIRT.fullmatch(claim.name)
    if match is None or claim.manager != "qemu":
        return pod
    return replace(
        pod,
        kind=OwnerKind.VM,
        name=harmless(f"{match[1]}/{match[2]}"),
        id=f"{pod.id}/{joined((claim.reference,))}",
        manager="kubevirt",
        claimed=True,
        uuid=claim.uuid,
    )
