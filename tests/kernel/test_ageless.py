"""Where ages cannot be kept, each output says so, and why; test_ages.py has the other kernels.

6.1 refuses fentry on migrate_pages(), which has more arguments than a trampoline could pass before
6.6, so there one of the hooks on which ages rest is a kprobe.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.kernel.daemon import Daemon

KPROBE = "one of its hooks is a kprobe, and the kernel skips some of their runs"


def checked(*options: str) -> tuple[str, list[str]]:
    """What `ksmwatch check` says of ages, and its warnings."""
    words = ["ksmwatch", "check", *options]
    text, document = (
        subprocess.run(each, check=True, stdout=subprocess.PIPE, text=True).stdout
        for each in (words, [*words, "--json"])
    )
    (line,) = (row for row in text.splitlines() if row.startswith("age of mappings"))
    return line.removeprefix("age of mappings").strip(), json.loads(document)["warnings"]


@pytest.mark.parametrize("wish", ["auto", "kprobe"])
def test_what_each_output_says_of_ages(wish: str) -> None:
    option = f"--probes={wish}"
    line, warnings = checked(option)
    with Daemon(option) as daemon:
        host, metrics = daemon.snapshot()["host"], daemon.metrics()
        said = [each["msg"] for each in daemon.log()]
    told, logged = (
        [text for text in texts if "how long mappings last" in text] for texts in (warnings, said)
    )
    histogram = "ksmwatch_mapping_age_seconds_bucket" in metrics
    if wish == "auto" and not os.uname().release.startswith("6.1."):
        assert (line, told, logged, host["ages_reason"]) == ("kept", [], [], None)
        assert (host["ages"]["one_in"], histogram) == (16, True)
        assert "ksmwatch_mapping_ages_one_in 16.0" in metrics
        return
    assert (line, host["ages_reason"]) == (f"unknown: {KPROBE}", KPROBE)
    assert told == logged == [f"It is unknown how long mappings last: {KPROBE}."]
    assert (host["ages"], histogram) == (None, False)
    assert "ksmwatch_mapping_ages_one_in 0.0" in metrics
