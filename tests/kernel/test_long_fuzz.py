"""Long random programs, by each mechanism that the kernel has. `make test-kernels` runs them."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz
from tests.kernel.hooks import mechanisms

OPERATIONS = 20_000


@pytest.mark.parametrize("seed", [131, 132])
@pytest.mark.parametrize("probes", mechanisms())
def test_a_long_random_program_is_counted_to_the_page(probes: str, seed: int) -> None:
    assert fuzz.at_length(OPERATIONS, seed, f"--probes={probes}") == 0
