"""``ksmwatch build``: compiles the programs for a kernel like this one, for hosts without bcc."""

from __future__ import annotations

import platform
from pathlib import Path

from ksmwatch.config import Config
from ksmwatch.counting.choose_backend import start_live
from ksmwatch.errors import Exit, SourceError
from ksmwatch.kernel.read_facts import read_facts
from ksmwatch.probes.compiled import encode
from ksmwatch.probes.kept_programs import write
from ksmwatch.probes.programs import Programs


def run(settings: Config, output: Path) -> Exit:
    """Start live accounting for a moment, and write what had to be loaded on the way.

    That includes programs that this kernel has refused: an equal host tries them first, too.
    Raises KsmwatchError where there is no live accounting, or the file cannot be written.
    """
    facts = read_facts()
    programs = Programs(facts, settings.state_programs_path)
    live, _ = start_live(facts, settings, loader=programs.load)
    live.stop()
    data = b"".join(encode(key, compiled) for key, compiled in programs.used.items())
    try:
        write(output, data)
    except OSError as error:
        raise SourceError(f"{output} cannot be written: {error.strerror}.") from error
    print(f"{output}: programs for {platform.release()} {platform.machine()}, {len(data)} bytes")
    return Exit.OK
