"""An owner: its kind, its id, which the kernel proves, and its name, which may be a claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypedDict

from ksmwatch.owners.safe_text import MAX_TEXT

MAX_ID_PARTS = 4
MAX_ID = MAX_ID_PARTS * (MAX_TEXT + 1) - 1


class OwnerKind(StrEnum):
    """What an owner is."""

    VM = "vm"
    POD = "pod"
    CONTAINER = "container"
    UNIT = "unit"
    USER = "user"
    SLICE = "slice"
    COMMAND = "command"
    # The owner of mappings without a known process; `owner_of` never returns it.
    UNKNOWN = "unknown"


class Qos(StrEnum):
    """Quality-of-service class of a pod. The kubelet creates no cgroup for GUARANTEED."""

    GUARANTEED = "guaranteed"
    BURSTABLE = "burstable"
    BEST_EFFORT = "besteffort"


@dataclass(frozen=True)
class Owner:
    """The owner of a process. Every text is one harmless line of bounded length.

    `claimed`: the process or an unprivileged user chose `name`, or claims that it is a VM. `uuid`
    is always a claim. `uid` is that of the user whose session or manager the process is below; for
    USER and COMMAND, it is the process's own.
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

    @cached_property
    def key(self) -> tuple[OwnerKind, str]:
        """Equal for two processes if and only if they have the same owner."""
        return self.kind, self.id


class OwnerDocument(TypedDict):
    """An owner in JSON."""

    kind: OwnerKind
    name: str
    id: str
    manager: str | None
    claimed: bool
    uuid: str | None
    pod: str | None
    qos: Qos | None
    container: str | None
    unit: str | None
    slice: str | None
    uid: int | None


def owner_document(owner: Owner) -> OwnerDocument:
    return {
        "kind": owner.kind,
        "name": owner.name,
        "id": owner.id,
        "manager": owner.manager,
        "claimed": owner.claimed,
        "uuid": owner.uuid,
        "pod": owner.pod,
        "qos": owner.qos,
        "container": owner.container,
        "unit": owner.unit,
        "slice": owner.slice,
        "uid": owner.uid,
    }


# The owner of mappings without a known process.
UNKNOWN = Owner(OwnerKind.UNKNOWN, "unknown", "unknown")


def best_known(members: Iterable[Owner]) -> Owner:
    """The most complete of owners with the same key.

    The helpers of a VM (swtpm, virtiofsd) share its key, but do not know its name and uuid.
    """
    return max(
        members,
        # The rest makes the choice the same in whatever order they come.
        key=lambda o: (o.uuid is not None, o.claimed, o.name, o.uuid or "", o.manager or ""),
    )
