"""The scripts below findings/ have the form that they promise; nothing here runs their tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))
NAMED = re.compile(r"findings/[a-z0-9-]+\.sh")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("ksmwatch/**/*.py")]


def test_there_are_findings_and_nothing_else() -> None:
    assert SCRIPTS
    assert sorted((ROOT / "findings").iterdir()) == SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_of_what_version_and_what_was_seen(script: Path) -> None:
    head = re.match(r"#!/bin/sh\n((?:#.*\n)+)set -eu\n", script.read_text())
    assert head is not None
    assert re.search(r"\d+\.\d+", head[1])
    assert "\n# A good engineer would expect" in head[1]
    assert "\n# Seen" in head[1]
    assert script.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_each_package_has_its_version(script: Path) -> None:
    text = script.read_text().replace("\\\n", " ")
    packages = " ".join(re.findall(r"^apt-get .* download (.*)$", text, re.MULTILINE)).split()
    assert all("=" in package for package in packages), packages
    assert not re.search(r"^[^#]*apt-get .*\binstall\b", text, re.MULTILINE)


def test_each_script_that_a_page_names_is_there() -> None:
    named = {name for page in PAGES for name in NAMED.findall(page.read_text())}
    assert named
    assert named <= {str(path.relative_to(ROOT)) for path in SCRIPTS}
