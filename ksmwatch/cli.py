"""Runs one command. The only place where an error becomes a line on stderr and a status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import SimpleNamespace

from ksmwatch.errors import Exit, KsmwatchError


def _parsed(argv: Sequence[str]) -> SimpleNamespace:
    # Imported here: the daemon forgets it, and this module stays.
    from ksmwatch.command_line import parse

    return parse(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        args = _parsed(sys.argv[1:] if argv is None else argv)
        status: Exit = args.run(args)
        sys.stdout.flush()
    except KsmwatchError as error:
        print(f"ksmwatch: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader has closed its end of the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return 130
    return status
