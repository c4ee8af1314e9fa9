"""Modules that are loaded at their first use, wherever they are imported; and those that go again.

The standard library imports some modules for rare cases only: `inspect` for dataclasses without a
docstring, `ipaddress` for addresses in URLs, `traceback` for exceptions in logs. importlib's
LazyLoader does not help: before Python 3.12, an import is such a use.
"""

import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# A megabyte, and a tenth of the time that the daemon's modules take to load.
IN_COMMANDS = ("inspect", "ipaddress", "traceback")
# A front loads nothing later that it might need: its user may have no access to the files.
IN_CHILDREN = ("inspect", "ipaddress", "locale")


class _Deferred(ModuleType):
    """Stands for a module until something of it is used. Whoever imports it then gets it itself."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer(*names: str) -> None:
    """Defer these modules, as long as nothing has loaded them."""
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))


def unload(*names: str) -> None:
    """Forget modules to which no others refer, so that what is loaded next takes their place.

    With a package, all its modules go.
    """
    for name in names:
        package, _, last = name.rpartition(".")
        for each in [each for each in sys.modules if f"{each}.".startswith(f"{name}.")]:
            del sys.modules[each]
        if package in sys.modules:
            vars(sys.modules[package]).pop(last, None)
    gc.collect()
