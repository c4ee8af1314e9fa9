"""What a metric family is, without any metric: all that a front needs to know of them."""

from __future__ import annotations

from dataclasses import dataclass

# Values of the labels, and the value.
Sample = tuple[tuple[str, ...], float]
# Samples by the name of their family, in the order of a scrape.
Samples = list[tuple[str, list[Sample]]]


@dataclass(frozen=True)
class Spec:
    """One metric family. `name` of a counter is without `_total`, as the library wants it."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name as it is scraped."""
        return f"{self.name}_total" if self.kind == "counter" else self.name
