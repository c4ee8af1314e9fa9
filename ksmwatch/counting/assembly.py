"""Puts the live backend together from loaded programs and maps."""

from __future__ import annotations

from collections.abc import Callable

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.live_backend import Live
from ksmwatch.kernel.page_tables import PagemapReader, SmapsReader
from ksmwatch.probes import cow_call_site
from ksmwatch.probes.attachments import Attachments
from ksmwatch.probes.handover import Kept
from ksmwatch.probes.loader import ProgramRefusedError
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.persistence import Keep


def make_live(
    kept: Kept,
    reader: SmapsReader | PagemapReader,
    *,
    keep: Keep,
    policy: Policy,
    progress: Callable[[], None] = lambda: None,
) -> Live:
    """The backend, not started, with programs and maps that some daemon has loaded.

    Raises ProgramRefusedError, and then releases them, if the kernel does not let maps be listed.
    """
    try:
        maps = Maps(kept.loaded)
    except (OSError, ProgramRefusedError):
        kept.loaded.close_programs()
        raise
    if kept.loaded.learner is not None:
        (program,) = kept.plan.learners
        cow_call_site.teach(maps, kept.loaded.learner, program)
    return Live(
        kept.plan,
        maps,
        Attachments(kept.loaded.programs, keep, kept.links),
        reader,
        keep=keep,
        policy=policy,
        progress=progress,
    )
