"""``python -m ksmwatch``, by which deploy/ksmwatch starts every command."""

import contextlib
import sys
from pathlib import Path

from ksmwatch.cli import main

with contextlib.suppress(OSError):
    # Or else `ps` and `pgrep` would show the name of the interpreter.
    Path("/proc/self/comm").write_text("ksmwatch")
sys.exit(main())
