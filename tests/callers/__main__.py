"""Lists callers of the hooked functions in kernel images: `python -m tests.callers [KERNEL...]`.

Without names: every kernel that the cache has. Compares with what is recorded beside this file;
with --record writes that instead. Exit status 1 if anything differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ksmwatch.kernel.callers import ROLES, unseen
from ksmwatch.kernel.events import EVENTS
from tests.callers import cache, image

EXPECTED = Path(__file__).with_name("expected")


def table(kernel: image.Image) -> str:
    """A line for each hooked function, and one for each role that no call shows."""
    callers = kernel.callers(symbol for event in EVENTS for symbol in event.symbols)
    functions = kernel.functions()
    lines = [f"{name}: {' '.join(found)}" for name, found in callers.items()]
    for event in EVENTS:
        for symbol in event.symbols:
            if symbol in callers:
                known = {
                    f"{caller} {symbol}": caller in callers[symbol]
                    for role in ROLES
                    for caller in role.callers
                    if caller in functions
                }
                lines += [
                    f"! {symbol} is not called by {' or '.join(role.callers)}: {role.meaning}"
                    for role in unseen(known, event.name, symbol)
                ]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Print, and compare or record."""
    record = "--record" in argv
    wrong = 0
    for name in [word for word in argv if word != "--record"] or cache.kernels():
        text = table(image.read(cache.image_of(name)))
        release = cache.release_of(name)
        path = EXPECTED / f"{release}.txt"
        print(f"== {name} ({release})\n{text}", end="", flush=True)
        if record:
            path.write_text(text)
        elif not path.exists():
            print("   not recorded")
        elif path.read_text() != text:
            wrong += 1
            print(f"   differs from {path}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
