"""Learns from the kernel, before hooks are attached, what the programs need and nothing tells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ksmwatch.log import logger
from ksmwatch.probes import cow_call_site, node_shift
from ksmwatch.probes.attachments import attach
from ksmwatch.probes.maps import Maps
from ksmwatch.probes.plan import Program


def learn(
    maps: Maps, learner: int, program: Program, nodes: Iterable[int], sys: Path = Path("/sys")
) -> None:
    """Tell COW breaks from unmapping, and nodes of memory apart, if possible.

    `learner`: the loaded program, which is closed. Counts of processes need neither.
    """
    learnt = False
    try:
        link = attach(learner, program, sys)
        try:
            learnt = cow_call_site.learn(maps)
            if maps.counts_nodes:
                node_shift.learn(maps, nodes)
        finally:
            os.close(link)
    except OSError as error:
        logger.warning("the learning program could not be attached", extra={"why": error.strerror})
    if not learnt:
        logger.warning(
            "COW breaks are counted as unmapped: on this host the two cannot be told apart"
        )
    os.close(learner)
