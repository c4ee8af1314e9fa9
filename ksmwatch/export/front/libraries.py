"""Loads the libraries of a front without what they import for what no front does.

A library cannot tell what is not wanted of it: prometheus_client brings an HTTP server, a client
and OpenSSL. So an empty stand-in takes the place of each such module while the library is
imported. What is used of the libraries is the same code.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType, SimpleNamespace
from typing import Any

# Imported by prometheus_client.exposition for its own servers, and to push metrics.
_SERVERS = ("http.server", "socketserver", "ssl", "wsgiref", "wsgiref.simple_server")
_CLIENTS = ("urllib.error", "urllib.request")
# What renders.
_RENDERER = ("exposition", "metrics_core", "registry", "utils")


class _StandIn(ModuleType):
    """A module in which there is, under any name, a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


def load_renderer() -> None:
    """Load what renders metrics, and none of the other parts of prometheus_client."""
    library = "prometheus_client"
    if (spec := find_spec(library)) is None:
        raise ModuleNotFoundError(f"there is no {library}")
    # Its package imports everything as soon as any of its modules is imported.
    sys.modules.setdefault(library, module_from_spec(spec))
    _load(library, _RENDERER, _stand_ins((*_SERVERS, *_CLIENTS)))


def load_escape() -> None:
    """Load what escapes HTML, without the table of 2,200 entities by which it could be undone."""
    _load("html", (), _stand_ins(("html.entities",)))


def load_protocol() -> None:
    """Load what parses HTTP, without `inspect`, which takes a megabyte with what it imports.

    dataclasses would use it to describe a class of h11 that has no docstring. Since Python 3.13
    they need it for every class.
    """
    _load("h11", ("_connection",), _no_descriptions())


def _load(library: str, modules: Sequence[str], left_out: AbstractContextManager[None]) -> None:
    """Load these modules of a library, while something else is left out.

    Another version may use more of that when it is imported. Then it is loaded as a whole.
    """
    try:
        with left_out:
            _import(library, modules)
    except (AttributeError, ImportError, TypeError):
        for name in [name for name in sys.modules if f"{name}.".startswith(f"{library}.")]:
            del sys.modules[name]
        _import(library, modules)


def _import(library: str, modules: Sequence[str]) -> None:
    for name in modules:
        import_module(f"{library}.{name}")


@contextmanager
def _no_descriptions() -> Iterator[None]:
    """Let dataclasses describe classes by their names, if they would do it by `inspect`."""
    names = vars(dataclasses)
    before = names.get("inspect")
    names["inspect"] = SimpleNamespace(signature=lambda described: described.__name__)
    try:
        yield
    finally:
        names["inspect"] = before


@contextmanager
def _stand_ins(names: Sequence[str]) -> Iterator[None]:
    """Stand-ins for modules that nothing has loaded yet; afterwards they can be loaded."""
    made = {name: _StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(made)
    parents: dict[str, ModuleType] = {}
    try:
        for name, module in made.items():
            package, _, last = name.rpartition(".")
            if package:
                parents[name] = import_module(package)
                setattr(parents[name], last, module)
        yield
    finally:
        for name in made:
            del sys.modules[name]
        for name, parent in parents.items():
            delattr(parent, name.rpartition(".")[2])
