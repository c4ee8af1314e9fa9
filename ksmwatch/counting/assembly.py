"""Puts the live backend together from loaded programs and maps."""

from __future__ import annotations

from collections.abc import Callable

from ksmwatch.counting.audit_schedule import Policy
from ksmwatch.counting.exact_read import Readers
from ksmwatch.counting.live_backend import Live
from ksmwatch.probes.attachments import Attachments
from ksmwatch.probes.handover import Kept
from ksmwatch.probes.loader import ProgramRefusedError
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.persistence import Keep


def make_live(
    kept: Kept,
    readers: Readers,
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
        # Imported here: who adopts learns nothing.
        from ksmwatch.probes import learning

        (program,) = kept.plan.learners
        learning.learn(maps, kept.loaded.learner, program, kept.plan.nodes)
    return Live(
        kept.plan,
        maps,
        Attachments(kept.loaded.programs, keep, kept.links),
        readers,
        keep=keep,
        policy=policy,
        progress=progress,
    )
