"""Where programs come from: kept ones are preferred, and what was compiled is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.errors import Exit, NoLiveError
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes import compiler, programs
from ksmwatch.probes.compiled import Compiled, Instructions, encode
from ksmwatch.probes.kept_programs import KeptPrograms, key
from ksmwatch.probes.loader import Loaded, ProgramOrigin
from ksmwatch.probes.plan import Plan, choose
from ksmwatch.probes.programs import Programs
from tests.fakes import capable

COMPILED = Compiled((), {"on_f": Instructions(b"12345678")})
PLAN = choose(capable())
WITHOUT_BCC = replace(capable(), bcc=None, bcc_error="gone")
SENTENCE = "bcc is missing (gone): install the package python3-bpfcc."


class Host:
    """A compiler that counts, and a kernel that takes everything."""

    def __init__(self, base: Path) -> None:
        self.compiled = 0
        self.path = str(base / "programs")
        self.packaged = base / "packaged"

    def compile(self, plan: Plan, flags: Sequence[str]) -> Compiled:
        """What always comes out."""
        self.compiled += 1
        return COMPILED

    def load(self, compiled: Compiled, *what: Any) -> Loaded:
        """Load what was compiled, and nothing else."""
        assert compiled == COMPILED
        assert what[0] == PLAN.programs
        return Loaded({}, {}, None, what[-1])

    def start(self, facts: Facts = capable(), path: str | None = None) -> ProgramOrigin:  # noqa: B008
        """Where the programs of a start come from."""
        found = Programs(facts, self.path if path is None else path)
        return found.load(PLAN, ["-DX"]).origin


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host(tmp_path)
    monkeypatch.setattr(KeptPrograms.__init__, "__defaults__", (os.geteuid(),))
    monkeypatch.setattr(programs, "PACKAGED", str(fake.packaged))
    monkeypatch.setattr(compiler, "compile_programs", fake.compile)
    monkeypatch.setattr(programs, "load", fake.load)
    return fake


def bring(host: Host) -> None:
    """A package has brought what was made elsewhere."""
    host.packaged.mkdir()
    (host.packaged / "fleet.programs").write_bytes(encode(key(PLAN, ["-DX"]), COMPILED))


def test_the_second_start_compiles_nothing(host: Host) -> None:
    assert [host.start(), host.start(), host.start(WITHOUT_BCC)] == ["compiled", "kept", "kept"]
    assert host.compiled == 1


def test_without_a_directory_everything_is_compiled(host: Host, tmp_path: Path) -> None:
    bring(host)
    assert [host.start(path=""), host.start(path="")] == ["compiled", "compiled"]
    assert not Path(host.path).exists()


def test_a_packaged_file_serves_a_host_without_bcc(host: Host) -> None:
    bring(host)
    assert host.start(WITHOUT_BCC) is ProgramOrigin.KEPT
    assert not Path(host.path).exists()


def test_without_bcc_and_without_a_file_there_is_a_reason(host: Host) -> None:
    with pytest.raises(NoLiveError) as caught:
        host.start(WITHOUT_BCC)
    assert (str(caught.value), caught.value.passing) == (SENTENCE, False)
    found = Programs(WITHOUT_BCC, host.path).obstacle(PLAN, ["-DX"])
    assert found is not None
    assert (found.sentence, found.status) == (SENTENCE, Exit.NO_LIVE)


def test_with_either_there_is_no_obstacle(host: Host) -> None:
    assert Programs(capable(), host.path).obstacle(PLAN, ["-DX"]) is None
    bring(host)
    assert Programs(WITHOUT_BCC, host.path).obstacle(PLAN, ["-DX"]) is None
    # For other flags there is nothing.
    assert Programs(WITHOUT_BCC, host.path).obstacle(PLAN, ["-DY"]) is not None


def test_what_was_used_can_be_brought_to_others(host: Host) -> None:
    for _ in range(2):
        found = Programs(capable(), host.path)
        found.load(PLAN, ["-DX"])
        assert found.used == {key(PLAN, ["-DX"]): COMPILED}
