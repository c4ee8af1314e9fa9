"""Root file systems: what is prepared, and which cache entry is trusted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "vm"))

from vmharness import cli, roots, trees


def test_what_takes_time_is_masked(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (tmp_path / "var").mkdir()
    (units / roots.MASKED[0]).write_text("something else")
    roots.prepare(tmp_path)
    assert {str((units / name).readlink()) for name in roots.MASKED} == {"/dev/null"}
    assert len((tmp_path / "etc/machine-id").read_text()) == 33


@pytest.mark.parametrize(
    ("complete", "believed"),
    [
        ({"format": roots.FORMAT, "suite": "trixie"}, True),
        ({"format": roots.FORMAT - 1, "suite": "trixie"}, False),
        ({"format": roots.FORMAT, "suite": "bookworm"}, False),
        (None, False),
    ],
)
def test_only_a_complete_root_is_believed(
    complete: dict[str, object] | None,
    believed: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    (tmp_path / "root.img").touch()
    if complete is not None:
        (tmp_path / "complete.json").write_text(json.dumps(complete))
    assert (roots.load("trixie", tmp_path) is not None) == believed


def test_the_checkout_shows_through_a_root_of_its_own() -> None:
    paths = ["/work/here", "/tmp/there"]
    assert cli.kept_paths(paths) == ["/tmp/there"]
    assert cli.kept_paths(paths, everything=True) == sorted(paths)
    environment = cli.guest_environment({}, "6.12", [], own_root=True)
    assert environment["PATH"] == cli.SYSTEM_PATH


@pytest.mark.parametrize(
    ("complete", "believed"),
    [
        ({"format": trees.FORMAT, "arch": "arm64"}, True),
        ({"format": trees.FORMAT - 1, "arch": "arm64"}, False),
        (None, False),
    ],
)
def test_only_a_complete_tree_is_believed(
    complete: dict[str, object] | None,
    believed: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    if complete is not None:
        (tmp_path / "complete.json").write_text(json.dumps(complete))
    assert (trees.load("arm64", tmp_path) is not None) == believed


def test_a_tree_knows_its_users(tmp_path: Path) -> None:
    (tmp_path / "usr/share/base-passwd").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        (tmp_path / f"usr/share/base-passwd/{name}.master").write_text(f"root: {name}")
    trees.prepare(tmp_path)
    assert (tmp_path / "etc/passwd").read_text() == "root: passwd"
    assert (tmp_path / "proc").is_dir()
