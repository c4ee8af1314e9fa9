"""Where the programs of a plan come from: a kept file, or else the compiler."""

from __future__ import annotations

from collections.abc import Sequence

from ksmwatch.errors import Exit
from ksmwatch.kernel.facts import Facts
from ksmwatch.probes.compiled import Compiled
from ksmwatch.probes.kept_programs import PACKAGED, KeptPrograms, key
from ksmwatch.probes.loader import Loaded, ProgramOrigin, load
from ksmwatch.probes.obstacles import Obstacle
from ksmwatch.probes.plan import Plan


class Programs:
    """Finds or compiles, and loads. `used`: what was, by key."""

    def __init__(self, facts: Facts, path: str) -> None:
        """`path`: where programs are kept. If empty, everything is compiled."""
        self._facts = facts
        self._own = KeptPrograms(path) if path else None
        self._places = [self._own, KeptPrograms(PACKAGED)] if self._own else []
        self.used: dict[str, Compiled] = {}

    def load(self, plan: Plan, flags: Sequence[str]) -> Loaded:
        """The programs of a plan, in the kernel.

        Raises ProgramRefusedError when the verifier refuses one, NoLiveError when there is
        nothing to load, OSError when a map cannot be created.
        """
        wanted = key(plan, flags)
        compiled, origin = self._find(wanted), ProgramOrigin.KEPT
        if compiled is None:
            if self._facts.bcc is None:
                raise self._without_bcc.error()
            # Imported here: most starts find a kept file, or adopt what runs.
            from ksmwatch.probes.compiler import compile_programs

            compiled, origin = compile_programs(plan, flags), ProgramOrigin.COMPILED
            if self._own:
                self._own.keep(wanted, compiled)
        self.used[wanted] = compiled
        return load(compiled, plan.programs, self._facts.functions, origin)

    def obstacle(self, plan: Plan, flags: Sequence[str]) -> Obstacle | None:
        """Why nothing could be loaded, if so."""
        if self._facts.bcc is not None or self._find(key(plan, flags)) is not None:
            return None
        return self._without_bcc

    def _find(self, wanted: str) -> Compiled | None:
        found = (place.find(wanted) for place in self._places)
        return next((each for each in found if each is not None), None)

    @property
    def _without_bcc(self) -> Obstacle:
        return Obstacle(
            f"bcc is missing ({self._facts.bcc_error}): install the package python3-bpfcc.",
            Exit.NO_LIVE,
        )
