"""The description of a metric family. A front needs to know no more about metrics."""

from __future__ import annotations

from dataclasses import dataclass

# Label values and the value.
LabelledValue = tuple[tuple[str, ...], float]
# Samples by family name, in the order of a scrape.
Samples = list[tuple[str, list[LabelledValue]]]


@dataclass(frozen=True)
class Spec:
    """One metric family. A counter's `name` has no `_total`, because the library adds it."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def exposed(self) -> str:
        """The name that a scrape shows."""
        return f"{self.name}_total" if self.kind == "counter" else self.name
