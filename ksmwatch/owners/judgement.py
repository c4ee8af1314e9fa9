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
from collections.abc import Mapping
from dataclasses import replace

from ksmwatch.owners.cgroup_paths import Place, place_of
from ksmwatch.owners.cgroup_tenants import Tenant
from ksmwatch.owners.command_lines import Claim, base_name, claim_of
from ksmwatch.owners.owner import Owner, OwnerKind
from ksmwatch.owners.safe_text import decoded, harmless, harmless_or_none, joined

# Programs that serve a VM from its own scope.
_VM_HELPERS = frozenset({"swtpm", "virtiofsd", "passt", "systemd-vmspawn"})


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
    place, claim = place_of(decoded(cgroup), top), claim_of(cmdline, exe, comm)
    if place.tenant is not None:
        owner = _tenant_owner(place, place.tenant, claim)
        if place.tenant.bare and (claim is not None or {base_name(exe), comm} & _VM_HELPERS):
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


def _guest(place: Place, claim: Claim, proven: tuple[str, ...]) -> Owner:
    """A VM by its own word, below what the kernel says it is."""
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
    """The owner that the path names, with what may be believed of the command line."""
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
    """A VM with the uuid that it says, and its name where that fits what is proven."""
    owner = replace(owner, uuid=claim.uuid)
    if tenant.manager == "libvirt" and _agrees(claim.name, tenant):
        return replace(owner, name=harmless(claim.name))
    if tenant.manager == claim.manager == "proxmox" and claim.reference == tenant.name:
        return replace(owner, name=harmless(claim.name), claimed=True)
    return owner


def _agrees(name: str, tenant: Tenant) -> bool:
    """Whether libvirt's machine name can have been made from this name.

    It leaves out what a host name cannot have, and ends after some 64 characters.
    """
    claimed, proven = (re.sub(r"[^0-9A-Za-z]", "", text) for text in (name, tenant.name))
    machine = tenant.id[-1]
    if tenant.name == machine:
        # Nothing of the name was left: `qemu-1`.
        return not claimed
    return claimed == proven or (len(machine) >= 60 and claimed.startswith(proven))


def _kubevirt(pod: Owner, claim: Claim) -> Owner:
    """The guest of a pod, named `namespace/name` as kubectl writes it; or else the pod."""
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
