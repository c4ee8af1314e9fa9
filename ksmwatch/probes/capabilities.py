"""Giving up capabilities that counting needs no more. docs/security.md says who asks for which.

A process that has loaded its programs attaches and detaches them, and reads its maps, without any:
since 5.19 (commit c8644cd0efe7) only loading asks for CAP_BPF.
"""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterable

from ksmwatch.kernel.events import Mechanism
from ksmwatch.kernel.facts import CAPABILITIES
from ksmwatch.probes.plan import Plan

# include/uapi/linux/capability.h
_VERSION_3 = 0x20080522
_OTHERS = {"CAP_SETGID": 6, "CAP_SETUID": 7}
CHANGE_USER = frozenset(_OTHERS)


def needed(plan: Plan | None, *, smaps_ksm: bool) -> frozenset[str]:
    """What stays needed, once the plan is attached. None: nothing is attached, all is polled."""
    names = {"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"}
    if plan is not None and any(p.mechanism is Mechanism.KPROBE for p in plan.probes):
        # A kprobe is opened anew each time that it is attached.
        names |= {"CAP_PERFMON", "CAP_SYS_ADMIN"}
    if not smaps_ksm:
        # Frame numbers in pagemap.
        names.add("CAP_SYS_ADMIN")
    return frozenset(names)


def give_up_all_but(names: Iterable[str]) -> None:
    """Lower this thread's capabilities, and those of threads that it starts, for good.

    Raises OSError.
    """
    wanted = sum(1 << (CAPABILITIES | _OTHERS)[name] for name in names)
    effective, permitted, inheritable = (mask & wanted for mask in _read())
    _write(effective, permitted, inheritable)


class _Data(ct.Structure):
    """struct __user_cap_data_struct: 32 capabilities of each set."""

    _fields_ = [
        ("effective", ct.c_uint32),
        ("permitted", ct.c_uint32),
        ("inheritable", ct.c_uint32),
    ]


def _call(name: str, data: ct.Array[_Data]) -> None:
    """capget(2) or capset(2) of this thread; both are in the C library, unannounced."""
    header = (ct.c_uint32 * 2)(_VERSION_3, 0)
    if getattr(ct.CDLL(None, use_errno=True), name)(header, data) < 0:
        number = ct.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _read() -> tuple[int, int, int]:
    """Effective, permitted and inheritable set."""
    data = (_Data * 2)()
    _call("capget", data)
    low, high = data
    return (
        high.effective << 32 | low.effective,
        high.permitted << 32 | low.permitted,
        high.inheritable << 32 | low.inheritable,
    )


def _write(*sets: int) -> None:
    low, high = (_Data(*(each >> shift & 0xFFFFFFFF for each in sets)) for shift in (0, 32))
    _call("capset", (_Data * 2)(low, high))
