"""Which source tells page frames with KSM pages from others on this host."""

from __future__ import annotations

from pathlib import Path

from ksmwatch.errors import PrivilegeError, SourceError
from ksmwatch.kernel.btf import Btf
from ksmwatch.kernel.kernel_image import member_offsets
from ksmwatch.kernel.page_frames import AnyFrame, Frames, KpageFlags, PageStructs
from ksmwatch.kernel.page_tables import honest, own_frames
from ksmwatch.kernel.pinned_frames import PinnedFrames


def _structs(proc: Path) -> PageStructs:
    with Btf() as btf:
        return PageStructs(proc, member_offsets(btf))


def demand_frames(proc: Path) -> None:
    """Raise PrivilegeError if the kernel hides frame numbers."""
    with own_frames(proc) as own:
        if not all(own):
            raise PrivilegeError("The kernel hides page frame numbers without CAP_SYS_ADMIN.")


def pinned_frames(proc: Path) -> PinnedFrames | None:
    """What tells pinned pages from others, after a test with our own pages; None if nothing can."""
    try:
        with Btf() as btf:
            found = PinnedFrames(proc, btf.offset)
        with own_frames(proc) as own:
            return found if found.knows(own) else None
    except (OSError, SourceError):
        return None


def choose_frames(proc: Path) -> Frames:
    """The source that distinguishes KSM pages from others, after a test with our own pages.

    Raises PrivilegeError if the kernel hides frame numbers.
    """
    demand_frames(proc)
    failed = []
    for source, make in (("kpageflags", KpageFlags), ("kcore", _structs)):
        try:
            frames: Frames = make(proc)
            if honest(frames, proc):
                return frames
            failed.append(f"{source} is wrong about ksmwatch's own pages")
        except OSError as error:
            failed.append(f"{source}: {error.strerror}")
        except SourceError as error:
            failed.append(f"{source}: {error}".removesuffix("."))
    return AnyFrame("; ".join(failed))
