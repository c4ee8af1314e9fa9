"""The virtual environment belongs to the path of the checkout, and some paths cannot be used."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# In place of Python: makes the directories that venv makes, and a pip that does nothing.
PYTHON = """#!/bin/sh
for last; do :; done
case $2 in
venv) mkdir -p "$last/bin" && cp "$0" "$last/bin/python" ;;
pip) echo installed >>"${0%/bin/python}/pip" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return made(tmp_path / "a checkout")


def made(path: Path) -> Path:
    """What setting up needs of a checkout."""
    (path / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/venv", path / "deploy/venv")
    (path / "pyproject.toml").touch()
    (path / "python").write_text(PYTHON)
    (path / "python").chmod(0o755)
    return path


def set_up(checkout: Path) -> str:
    return subprocess.run(
        ["deploy/venv", ".venv", "./python"],
        cwd=checkout,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_it_is_made_once(checkout: Path) -> None:
    assert "Installing" in set_up(checkout)
    (checkout / ".venv/mark").touch()
    assert set_up(checkout) == ""
    assert (checkout / ".venv/mark").exists()
    assert (checkout / ".venv/pip").read_text() == "installed\n"


def test_after_a_change_of_the_project_it_is_installed_again(checkout: Path) -> None:
    set_up(checkout)
    (checkout / ".venv/.done").touch()
    newer = (checkout / ".venv/.done").stat().st_mtime + 10
    subprocess.run(["touch", "-d", f"@{newer}", checkout / "pyproject.toml"], check=True)
    assert "Installing" in set_up(checkout)


@pytest.mark.parametrize("how", ["move", "copy"])
def test_one_that_was_made_for_another_path_is_made_anew(checkout: Path, how: str) -> None:
    set_up(checkout)
    (checkout / ".venv/mark").touch()
    other = checkout.with_name("other")
    (shutil.move if how == "move" else shutil.copytree)(checkout, other)
    said = set_up(other)
    assert f"it was created for {checkout}" in said
    assert not (other / ".venv/mark").exists()
    assert set_up(other) == ""


def test_of_a_link_to_another_ones_only_the_link_goes(checkout: Path) -> None:
    set_up(checkout)
    other = made(checkout.with_name("other"))
    (other / ".venv").symlink_to(checkout / ".venv")
    set_up(other)
    assert (checkout / ".venv/bin/python").exists()
    assert not (other / ".venv").is_symlink()


@pytest.mark.parametrize("name", ["a:b", "it's", 'a"b', "a\\b", "a$b", "a`b", "a\nb"])
def test_where_it_cannot_work_it_says_so(tmp_path: Path, name: str) -> None:
    checkout = made(tmp_path / name)
    done = subprocess.run(
        ["deploy/venv", "--check"], cwd=checkout, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "cannot lie in" in done.stderr


@pytest.mark.parametrize("name", ["a b", "ä", "a,b", "a" * 200, "a%b", "(a)", "a&b"])
def test_where_it_can_it_says_nothing(tmp_path: Path, name: str) -> None:
    checkout = made(tmp_path / name)
    done = subprocess.run(
        ["deploy/venv", "--check"], cwd=checkout, check=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("", "")
