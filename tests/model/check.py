"""Searches every variant of the model by spin: the remedies must hold, each fault must be found.

A search counts only if it was complete: no depth or memory limit met, every state visited.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.slowness import patience

MODELS = Path(__file__).parents[2] / "docs" / "model"
MODEL = "count.pml"
DEPTH = 20_000
MEGABYTES = 3_000
# Only to prevent hangs: the time depends on the load of the machine.
SECONDS = 900

_ERRORS = re.compile(r"errors: (\d+)")
_STATES = re.compile(r"^ *(\d+) states, stored$", re.MULTILINE)
# What pan says of a search that was cut short.
_TRUNCATED = ("too small", "out of memory", "memlim", "aborted")
_COMPLETE = "Full statespace search"
_INCOMPLETE = "Search not completed"


@dataclass(frozen=True)
class Variant:
    """A model by `flags` of the preprocessor, and whether the property must hold in it."""

    name: str
    what: str
    flags: str = ""
    holds: bool = False


VARIANTS = (
    Variant("x86", "The remedies, one page, zap, swap-in, two reads", "", holds=True),
    Variant("x86-zaps", "Both processes lose their PTE", "-DZAPS=2 -DREADS=1", holds=True),
    Variant("x86-moves", "mremap between two areas", "-DMOVES=1 -DREADS=1", holds=True),
    Variant(
        "x86-replace",
        "ksmd then points another PTE at the page",
        "-DREPLACEMENT -DREADS=1",
        holds=True,
    ),
    Variant(
        "x86-rotations",
        "The tree changes under the walk, sweeps",
        "-DROTATIONS=1 -DSWEEPS=2 -DREADS=0",
        holds=True,
    ),
    Variant("x86-exit", "The process that shares the page exits", "-DEXITS -DREADS=1", holds=True),
    Variant("x86-fork", "A child is forked off meanwhile", "-DFORK -DREADS=1", holds=True),
    Variant(
        "x86-fork-swept",
        "The same, and the tree changes under the walk, and a sweep follows",
        "-DFORK -DREADS=0 -DSWEEPS=1 -DROTATIONS=1",
        holds=True,
    ),
    Variant(
        "arm64",
        "The remedies, with `order()` and ordered loads",
        "-DARM64 -DZAPS=1 -DREADS=1",
        holds=True,
    ),
    Variant("A", "Removals do not look at the page in conversion", "-DNO_COMPARISON"),
    Variant("A-loads", "Mapping loaded first, page in conversion second", "-DMAPPING_FIRST"),
    Variant("A-loads-arm64", "Nothing orders the two loads", "-DARM64 -DUNORDERED_LOADS"),
    Variant("A-late", "In conversion is set after the mapping turns", "-DLATE_PAGE"),
    Variant("A-arm64", "`order()` does nothing", "-DARM64 -DRELAXED"),
    Variant("B", "What was seen on entry is forgotten at the return", "-DENTRY_FORGOTTEN"),
    Variant("B-after", "The mapcount is looked at only after", "-DSIGN=0"),
    Variant(
        "B-early",
        "It is looked at on entry of try_to_merge_one_page(): huge page, swap-in, migration",
        "-DSIGN=1",
    ),
    Variant("B-entry", "No second doubt at the return", "-DENTRY_ONLY"),
    Variant("B'", "Reads do not see a shared conversion under way", "-DSHARED_UNSEEN"),
    Variant("B'-order", "Doubt first, shared second", "-DDOUBT_BEFORE_SHARED"),
    Variant("C", "The walk does not notice a change", "-DROTATIONS=1 -DNO_TREE_SEQUENCE"),
    Variant("C-leader", "An mm whose leader is exiting is skipped", "-DOWNER_MUST_LIVE"),
    Variant("C-users", "An mm that has lost its last user is skipped", "-DEXITS -DUSERS_ONLY"),
    Variant("C'", "No account for a child of a count of 0", "-DFORK -DREADS=1 -DEARLY_RETURN"),
    Variant("D", "PTEs move while areas are walked", "-DMOVES=1 -DNO_MOVE_HOOK"),
    Variant("read", "A read ignores its mm's conversion under way", "-DNO_UNDER_WAY"),
    Variant(
        "sweep",
        "A disturbed read of a process without account leaves nothing in doubt",
        "-DROTATIONS=1 -DSWEEPS=2 -DREADS=0 -DDISTURBED_FORGOTTEN",
    ),
    Variant(
        "departure",
        "A departure opens an account that is not in doubt",
        "-DROTATIONS=1 -DSWEEPS=2 -DREADS=0 -DDEPARTURE_TRUSTED",
    ),
    Variant(
        "fork-swept",
        "A child whose fork began before an alarm and ended after its sweep",
        "-DFORK -DREADS=0 -DSWEEPS=1 -DROTATIONS=1 -DFORK_ALARMED_NOW",
    ),
    Variant(
        "fork-left",
        "A parent whose account was read, is 0 and has no departure: none for the child",
        "-DFORK -DREADS=0 -DSWEEPS=1 -DROTATIONS=1 -DEVER_LEFT",
    ),
)


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=patience(SECONDS),
        check=False,
    )
    return done.stdout + done.stderr


def _cut_short(said: str) -> str | None:
    """Why what pan said is no result, or None."""
    if not (_ERRORS.search(said) and _STATES.search(said) and _COMPLETE in said):
        return f"pan did not finish: {said[-500:]}"
    cut = [word for word in _TRUNCATED if word in said.lower()]
    if cut:
        return f"the search was truncated: {cut[0]}"
    violated = "assertion violated" in said
    # It stops at the first violation, and at nothing else.
    if violated == ("errors: 0" in said) or violated != (_INCOMPLETE in said):
        return f"it ended by something else than the property: {said[:500]}"
    return None


def judge(variant: Variant, said: str, *, trail: bool) -> str | None:
    """What is wrong with the result of a search, or None."""
    cut = _cut_short(said)
    if cut is not None:
        return cut
    violated = "assertion violated" in said
    if variant.holds:
        return "the property is violated" if violated else None
    if not violated:
        return "the fault was not found"
    return None if trail else "there is no trail"


def search(variant: Variant) -> tuple[str | None, int]:
    """Build and run the verifier of a variant: what is wrong, and how many states it stored."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        for source in MODELS.glob("*.pml"):
            (directory / source.name).write_bytes(source.read_bytes())
        made = _run(["spin", "-a", *variant.flags.split(), MODEL], directory)
        if not (directory / "pan.c").exists() or "rror" in made:
            return f"spin refuses it: {made}", 0
        # Where a fault is found soon, the compiler would take longer than the search.
        long = variant.holds or "-DFORK" in variant.flags
        optimised = "-O1" if long else "-O0"
        options = [optimised, "-w", "-DSAFETY", f"-DMEMLIM={MEGABYTES}"]
        made = _run(["gcc", *options, "-o", "pan", "pan.c"], directory)
        if not (directory / "pan").exists():
            return f"gcc refuses it: {made}", 0
        try:
            said = _run(["./pan", f"-m{DEPTH}", "-w22"], directory)
        except subprocess.TimeoutExpired:
            return f"it took more than {patience(SECONDS):.0f} s", 0
        states = _STATES.search(said)
        trail = (directory / f"{MODEL}.trail").exists()
        return judge(variant, said, trail=trail), int(states[1]) if states else 0


def main(names: list[str]) -> int:
    """Search the named variants, or all; returns the number of wrong results."""
    wrong = 0
    for variant in VARIANTS:
        if names and variant.name not in names:
            continue
        complaint, states = search(variant)
        wrong += complaint is not None
        verdict = "holds" if variant.holds else "refuted"
        print(f"{variant.name:14} {complaint or verdict:8} {states:9,} states  {variant.what}")
        sys.stdout.flush()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of CPU time")
    return wrong


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
