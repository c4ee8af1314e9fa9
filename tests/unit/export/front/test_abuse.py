"""The abuse test, shortened; `make test-abuse` is the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter


def test_misuse_is_counted_logged_once_and_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.abuse", "280"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    complaints = Counter(line["kind"] for line in lines if "kind" in line)
    assert complaints == {kind: 1 for kind, count in result["complaints"].items() if count}
    messages = Counter(line["msg"] for line in lines if "kind" not in line)
    assert messages == {
        "the web configuration is invalid; the previous one stays in use": result["changes"],
        "web configuration reloaded": result["changes"],
    }
