"""What the packages contain besides the modules: units, settings, and that they agree."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from ksmwatch import config
from ksmwatch.errors import Exit
from ksmwatch.kernel.facts import CAPABILITIES

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.*[ef]"))


def settings(path: Path) -> dict[str, list[str]]:
    """Values of a unit by name; those of lists are separated by blanks."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] += value.split()
    return found


SERVICE = settings(DEPLOY / "systemd/ksmwatch.service")
DEBIAN_12 = settings(DEPLOY / "systemd/debian-12.conf")


def test_there_are_units() -> None:
    assert [path.name for path in UNITS] == [
        *("debian-12.conf", "kprobes.conf", "ksmwatch-estimate.service", "ksmwatch.service")
    ]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_what_is_granted_is_explained_and_bounded(path: Path) -> None:
    unit = settings(path)
    assert unit["AmbientCapabilities"] == unit["CapabilityBoundingSet"]
    assert set(unit["AmbientCapabilities"]) <= CAPABILITIES.keys()
    table = re.findall(r"^\| (CAP_.*?) \|", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
    assert set(unit["AmbientCapabilities"]) <= {name for row in table for name in row.split(", ")}


def test_the_store_is_as_large_where_systemd_does_not_say_how_large_it_is() -> None:
    assert DEBIAN_12["Environment"] == [f"FDSTORE={SERVICE['FileDescriptorStoreMax'][0]}"]


def test_no_start_is_tried_again_that_would_end_alike() -> None:
    hopeless = {Exit.USAGE, Exit.PRIVILEGE, Exit.NO_LIVE}
    assert {int(s) for s in SERVICE["RestartPreventExitStatus"]} == hopeless
    assert [int(s) for s in SERVICE["SuccessExitStatus"]] == [Exit.NO_KSM]


def test_the_service_reads_the_file_of_the_package() -> None:
    (flag,) = [word for word in SERVICE["ExecStart"] if word.startswith("--config.file=")]
    installed = (DEPLOY / "debian/ksmwatch.install").read_text().split()
    assert flag == f"--config.file=/{installed[1]}/{Path(installed[0]).name}"


def test_the_settings_of_the_package_are_the_defaults() -> None:
    text = (DEPLOY / "ksmwatch.toml").read_text()
    assert config.make(config.read_file(DEPLOY / "ksmwatch.toml"), {}) == config.make({}, {})
    # Including the examples.
    shown = tomllib.loads(re.sub(r"^#(?! )", "", text, flags=re.MULTILINE))
    assert config.make(config.flatten(shown), {}) == config.make({}, {})
    assert shown


def test_the_wheel_has_what_is_for_other_programs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert {"deploy/systemd", "deploy/prometheus", "grafana/dashboards"} <= shared.keys()
    assert all((ROOT / path).exists() for path in shared)


WHEELS = [
    line.split()
    for line in (DEPLOY / "top-wheels.txt").read_text().splitlines()
    if not line.startswith("#")
]


def test_every_library_of_the_terminal_view_is_pinned_by_its_hash_and_has_its_licence_named() -> (
    None
):
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", pinned) for _, pinned in WHEELS)
    paragraphs = (DEPLOY / "debian/copyright").read_text().split("\n\n")
    named = [
        glob.removeprefix("top-wheels/").rstrip("*")
        for text in paragraphs
        if "License: " in text
        for glob in re.findall(r"top-wheels/[a-z_]+\*", text)
    ]
    wheels = [name.partition("==")[0].replace("-", "_") for name, _ in WHEELS]
    assert sorted(next(n for n in named if wheel.startswith(n)) for wheel in wheels) == sorted(
        named
    )


def test_the_textual_of_the_package_is_one_that_top_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wish,) = project["optional-dependencies"]["top"]
    pins = {name.partition("==")[0]: name.partition("==")[2] for name, _ in WHEELS}
    oldest, before = re.findall(r"[\d.]+", wish)
    assert int(oldest) <= int(pins["textual"].partition(".")[0]) < int(before)
