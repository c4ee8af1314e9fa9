"""The built wheel, installed: its command runs, and it contains everything needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.installed import install

# Nothing of this checkout may come in by another way.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("wheel"))


def said(*command: str | Path) -> str:
    return subprocess.run(
        command, cwd="/", env=CLEAN, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def test_it_is_the_wheel_and_not_the_checkout(venv: Path) -> None:
    found = said(venv / "bin/python", "-c", "import ksmwatch; print(ksmwatch.__file__)")
    assert Path(found.strip()).is_relative_to(venv)


def test_its_command_runs(venv: Path) -> None:
    assert said(venv / "bin/ksmwatch", "--version").startswith("ksmwatch ")


def test_every_module_can_be_imported(venv: Path) -> None:
    text = (
        "import pkgutil, importlib, ksmwatch\n"
        "names = [m.name for m in pkgutil.walk_packages(ksmwatch.__path__, 'ksmwatch.')]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__'): importlib.import_module(name)\n"
        "print(len(names))\n"
    )
    sources = len(list((Path(__file__).parents[3] / "ksmwatch").rglob("*.py")))
    # One of them is the package itself.
    assert int(said(venv / "bin/python", "-c", text)) == sources - 1


def test_it_brings_the_programs_for_the_kernel(venv: Path) -> None:
    text = "from ksmwatch.probes.sources import bpf_directory as d; print(d())"
    directory = Path(said(venv / "bin/python", "-c", text).strip())
    assert directory.is_relative_to(venv)
    checkout = Path(__file__).parents[3] / "bpf"
    names = {path.relative_to(checkout) for path in checkout.rglob("*.[ch]")}
    assert {path.relative_to(directory) for path in directory.rglob("*.[ch]")} == names


def test_it_brings_what_is_for_other_programs(venv: Path) -> None:
    for name in (
        *("ksmwatch/systemd/ksmwatch.service", "ksmwatch/prometheus/ksmwatch.rules.yml"),
        "ksmwatch/schemas/snapshot.json",
        *("man/man1/ksmwatch.1", "bash-completion/completions/ksmwatch"),
    ):
        assert (venv / "share" / name).exists(), name
