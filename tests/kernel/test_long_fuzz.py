"""Long random programs, by each mechanism that skips nothing. `make test-kernels` runs them."""

from __future__ import annotations

import os

import pytest

from tests.fuzz import fuzz
from tests.kernel.hooks import complete_mechanisms

OPERATIONS = 20_000
SEEDS = (131, 132)


def programs() -> list[tuple[str, int]]:
    """Mechanisms and seeds: all pairs on arm64, where less else has run; otherwise each once."""
    mechanisms = complete_mechanisms()
    if os.uname().machine == "aarch64":
        return [(probes, seed) for probes in mechanisms for seed in SEEDS]
    return [(mechanisms[number % len(mechanisms)], seed) for number, seed in enumerate(SEEDS)]


@pytest.mark.parametrize(("probes", "seed"), programs())
def test_a_long_random_program_is_counted_to_the_page(probes: str, seed: int) -> None:
    assert fuzz.at_length(OPERATIONS, seed, f"--probes={probes}") == 0
