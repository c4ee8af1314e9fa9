"""An earlier ksmwatch, which a benchmark runs beside this one, in the same guest."""

from __future__ import annotations

import compileall
import subprocess
import sys
from pathlib import Path

from bench.results import ROOT

# The last commit before the work of the daemon was made proportional to what moves.
COMMIT = "8c729c5"
# Where a guest sees it, too, and where git ignores it.
_PLACE = ROOT / ".cache/baseline"
_PARTS = ("ksmwatch", "bpf")
# As pip made it then. Processes that it starts shall not find the package in their directory.
_SCRIPT = """#!{python}
import os, sys
os.environ["PYTHONSAFEPATH"] = "1"
sys.path[0] = {place!r}
from ksmwatch.cli import main
sys.exit(main())
"""


def program(commit: str = COMMIT) -> Path:
    """A command that runs the ksmwatch of a commit, with the Python of this checkout."""
    place = _PLACE / commit
    command = place / "ksmwatch.py"
    if not command.exists():
        place.mkdir(parents=True, exist_ok=True)
        archive = ["git", "-C", str(ROOT), "archive", commit, *_PARTS]
        done = subprocess.run(archive, check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(place)], check=True, input=done.stdout)
        # An installed package has been compiled, too.
        compileall.compile_dir(place, quiet=1)
        command.write_text(
            _SCRIPT.format(python=sys.executable, place=str(place)), encoding="utf-8"
        )
        command.chmod(0o755)
    return command
