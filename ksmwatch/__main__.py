"""``python -m ksmwatch``, by which deploy/ksmwatch starts every command."""

import contextlib
import sys

from ksmwatch.cli import main

# Or else `ps` and `pgrep` would show the name of the interpreter. pathlib takes time to load.
with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:  # noqa: PTH123
    file.write("ksmwatch")
sys.exit(main())
