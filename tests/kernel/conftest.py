"""Fixtures of the kernel tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ksmctl import Ksm


@pytest.fixture
def ksm() -> Iterator[Ksm]:
    """KSM in a known state: quick, stopped, nothing merged; so it is left as well."""
    with Ksm() as control:
        yield control
