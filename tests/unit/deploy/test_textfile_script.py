"""What `ksmwatch-textfile` writes for node_exporter, and what it does not run or overwrite."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ksmwatch.export.catalogue import CATALOGUE
from tests.textfile import ESTIMATE, METRICS, SAVED, SCRIPT

ROOT = Path(__file__).resolve().parents[3]

PEERS = {
    "schema": "ksmwatch.peers/1",
    "confidence": "exact",
    "pairs": [
        {"pages": 3, "crosses_border": True},
        {"pages": 9, "crosses_border": False},
        {"pages": 5, "crosses_border": True},
    ],
}


def ksmwatch(directory: Path, document: object) -> None:
    """A program of this name, which notes its arguments and place, and prints the document."""
    directory.mkdir(exist_ok=True)
    (directory / "answer").write_text(json.dumps(document))
    program = directory / "ksmwatch"
    program.write_text(
        '#!/bin/sh\nhere=${0%/*}\necho "$*, in $PWD" > "$here/words"\n/bin/cat "$here/answer"\n'
    )
    program.chmod(0o755)


def run(
    directory: Path,
    command: str,
    file: Path,
    *options: str,
    path: str = "/nonexistent",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Call the script as it is installed in a directory."""
    directory.mkdir(exist_ok=True)
    return subprocess.run(
        [shutil.copy(SCRIPT, directory), command, file, *options],
        env={"PATH": path},
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def written(
    tmp_path: Path, document: object, command: str = "estimate"
) -> dict[tuple[str, ...], float]:
    """Values by name and values of labels."""
    programs, path = tmp_path / "programs", tmp_path / f"{command}.prom"
    ksmwatch(programs, document)
    done = run(programs, command, path, "--option=5")
    assert (done.returncode, done.stderr) == (0, "")
    assert (programs / "words").read_text() == f"{command} --json --option=5, in /\n"
    return {
        (sample.name.removeprefix(f"ksmwatch_{command}_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_amounts_are_bytes(tmp_path: Path) -> None:
    found = written(tmp_path, ESTIMATE)
    assert found.pop(("timestamp_seconds",)) > 1e9
    expected: dict[tuple[str, ...], float] = {
        ("saved_bytes",): 10 * 4096,
        **{("would_save_bytes", bound): 20 * 4096 for bound in ("estimate", "low", "high")},
        **{("would_save_all_bytes", bound): 30.5 * 4096 for bound in ("estimate", "low", "high")},
        ("zero_bytes",): 7 * 4096,
        ("across_tenants_bytes",): 3 * 4096,
        ("owner_would_save_all_bytes", "vm", 'a"b\\c', "web"): 30.5 * 4096,
        ("exact",): 1,
    }
    assert found == expected


@pytest.mark.parametrize("confidence", ["estimated"])
def test_what_is_unknown_is_absent(tmp_path: Path, confidence: str) -> None:
    unknown = {**ESTIMATE, "confidence": confidence, "host": dict.fromkeys(SAVED), "owners": []}
    found = written(tmp_path, unknown)
    assert not [name for name, *_ in found if "sav" in name]
    assert found["exact",] == 0


def test_pairs_of_different_tenants(tmp_path: Path) -> None:
    found = written(tmp_path, PEERS, "peers")
    assert found.pop(("timestamp_seconds",)) > 1e9
    assert found == {("crossing_pairs",): 2, ("crossing_pages",): 5, ("exact",): 1}
    none = written(tmp_path, {**PEERS, "confidence": "estimated", "pairs": []}, "peers")
    assert none.pop(("timestamp_seconds",)) > 1e9
    assert none == {("crossing_pairs",): 0, ("crossing_pages",): 0, ("exact",): 0}


@pytest.mark.parametrize("path", ["", ":", ".", "bin", "::", "./bin:.", "{}/bin", "{}:/usr/bin"])
def test_no_program_of_the_callers_path_runs(tmp_path: Path, path: str) -> None:
    """CWE-426. A PATH of which nothing is left is empty, which would mean this directory."""
    for place in (tmp_path, tmp_path / "bin", tmp_path / "installed"):
        ksmwatch(place, PEERS)
    done = run(
        tmp_path / "installed",
        "peers",
        Path("peers.prom"),
        path=path.format(tmp_path),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "words").exists()
    assert not (tmp_path / "bin/words").exists()
    assert (tmp_path / "installed/words").read_text() == "peers --json, in /\n"
    # The file's name is one of the caller's directory.
    assert "ksmwatch_peers_exact 1" in (tmp_path / "peers.prom").read_text()


def test_no_link_is_followed_and_nothing_is_left_beside(tmp_path: Path) -> None:
    """CWE-59. Links stand at the file's own name and at the one that it used to be written to."""
    victim, directory = tmp_path / "victim", tmp_path / "collector"
    victim.write_text("precious")
    directory.mkdir()
    for name in ("peers.prom", "peers.prom.new"):
        (directory / name).symlink_to(victim)
    ksmwatch(tmp_path / "programs", PEERS)
    previous = os.umask(0o077)
    try:
        done = run(tmp_path / "programs", "peers", directory / "peers.prom")
    finally:
        os.umask(previous)
    assert (done.returncode, done.stderr) == (0, "")
    assert victim.read_text() == "precious"
    assert sorted(os.listdir(directory)) == ["peers.prom", "peers.prom.new"]
    assert stat.S_IMODE(os.lstat(directory / "peers.prom").st_mode) == 0o644
    assert stat.S_ISREG(os.lstat(directory / "peers.prom").st_mode)


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "collector/peers.prom/full").mkdir(parents=True)
    ksmwatch(tmp_path / "programs", PEERS)
    done = run(tmp_path / "programs", "peers", tmp_path / "collector/peers.prom")
    assert done.returncode == 1
    assert os.listdir(tmp_path / "collector") == ["peers.prom"]


def test_a_command_that_fails_has_the_last_word(tmp_path: Path) -> None:
    ksmwatch(tmp_path, PEERS)
    (tmp_path / "ksmwatch").write_text("#!/bin/sh\necho no >&2\nexit 7\n")
    done = run(tmp_path, "peers", tmp_path / "peers.prom")
    assert (done.returncode, done.stderr) == (7, "no\n")
    assert not (tmp_path / "peers.prom").exists()


@pytest.mark.parametrize("words", [[], ["peers"], ["snapshot", "file"]])
def test_other_words_are_answered_by_the_usage(words: list[str]) -> None:
    done = subprocess.run([SCRIPT, *words], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "ksmwatch-textfile peers FILE" in done.stderr


def test_no_metric_is_in_the_daemons_file_too() -> None:
    """Of two files, node_exporter takes a metric from one if HELP differs (node_exporter#2317)."""
    assert METRICS
    assert METRICS.isdisjoint(spec.name for spec in CATALOGUE)


def test_each_metric_of_an_estimate_is_documented(tmp_path: Path) -> None:
    documented = (ROOT / "docs/estimate.md").read_text()
    for name, *_ in written(tmp_path, ESTIMATE):
        assert f"`ksmwatch_estimate_{name}`" in documented


def test_the_timer_runs_it_as_it_is_documented() -> None:
    systemd = SCRIPT.parents[1] / "systemd"
    service = (systemd / "ksmwatch-estimate.service").read_text()
    words = service.partition("ExecStart=")[2].splitlines()[0].split()
    assert words[1] == "estimate"
    assert all(Path(word).is_absolute() for word in (words[0], words[2]))
    documented = (ROOT / "docs/estimate.md").read_text()
    assert f"prometheus/ksmwatch-textfile {Path(words[0]).parent}/" in documented
    # A timer starts the service of its name.
    assert "OnCalendar=" in (systemd / "ksmwatch-estimate.timer").read_text()
