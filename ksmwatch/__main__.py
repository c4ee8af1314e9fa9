"""``python -m ksmwatch``, by which deploy/ksmwatch starts every command."""

import contextlib
import gc
import sys

# More objects than a short command makes: to look for garbage among its modules takes 2 % of it.
gc.set_threshold(50_000)

from ksmwatch.deferred import IN_COMMANDS, defer  # noqa: E402

defer(*IN_COMMANDS)

from ksmwatch.cli import main  # noqa: E402

# Or else `ps` and `pgrep` would show the name of the interpreter. pathlib takes time to load.
with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:  # noqa: PTH123
    file.write("ksmwatch")
sys.exit(main())
