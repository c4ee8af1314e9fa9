"""Made-up processes, and what `ksmwatch estimate` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ksmwatch.errors import Exit
from tests.estimate_host import Host
from tests.published import faults


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def asked(host: Host, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The document that is printed, which its schema allows."""

    def ask(*subjects: str, **wish: Any) -> dict[str, Any]:
        assert host.ask(*subjects, **wish) is Exit.OK
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert faults(found) == []
        return found

    return ask
