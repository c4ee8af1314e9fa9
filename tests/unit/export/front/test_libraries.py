"""What a front does not load of its libraries, and that it renders the same without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RENDER = """
import sys
from ksmwatch.export.front import libraries
if sys.argv[1] == "lean":
    libraries.load_renderer()
from ksmwatch.export.front.exposition import Exposition
from ksmwatch.export.metric_family import COUNT, INFINITE, SUM, Spec

specs = (
    Spec("ksmwatch_one", "gauge", "A \\\\ and\\na line feed."),
    Spec("ksmwatch_of_owners", "counter", "By owner.", ("name", "id")),
    Spec("ksmwatch_ages_seconds", "histogram", "Ages.", ("reason",)),
)
ages = [((("cow", end)), number) for end, number in
        (("1.0", 3), ("1e+07", 5), (INFINITE, 6), (COUNT, 6), (SUM, 0.25))]
page = Exposition(specs, [
    ("ksmwatch_one", [((), float("inf"))]),
    ("ksmwatch_of_owners", [(("quoted \\" ", "b\\\\s\\n"), 2**60), (("", "\\u00fc"), 1e300)]),
    ("ksmwatch_ages_seconds", ages),
])
for accept in ("", "text/plain; version=1.0.0; escaping=values", "*/*",
               "application/openmetrics-text", "application/openmetrics-text; version=0.0.1",
               "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8"):
    found = page.page(accept)
    print(accept, found.headers, found.body)
print(*sys.modules, file=sys.stderr)
"""
ESCAPE = """
import sys
from ksmwatch.export.front import libraries
libraries.load_escape()
print(*sys.modules)
import html
print(html.escape("<a href='&amp;\\"'>"))
# Who imports it later gets the real one.
import html.entities
assert html.entities.html5["amp"] == "&"
"""
# Parts of libraries, and of Python, that only those parts need.
SERVERS = {"http.server", "socketserver", "urllib.request", "wsgiref.simple_server", "ssl"}
COLLECTORS = {"prometheus_client.metrics", "prometheus_client.process_collector"}


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_what_is_rendered_is_the_same_as_with_the_whole_library() -> None:
    lean, whole = run(RENDER, "lean"), run(RENDER, "whole")
    assert lean.stdout == whole.stdout
    assert lean.stdout.count("ksmwatch_ages_seconds_bucket") == 6 * 3
    assert set(whole.stderr.split()) >= SERVERS | COLLECTORS
    assert set(lean.stderr.split()) & (SERVERS | COLLECTORS) == set()


def test_what_escapes_html_loads_no_table_of_entities() -> None:
    modules, escaped = run(ESCAPE).stdout.splitlines()
    assert "html" in modules.split()
    assert "html.entities" not in modules.split()
    assert escaped == "&lt;a href=&#x27;&amp;amp;&quot;&#x27;&gt;"


def test_what_parses_http_loads_nothing_to_describe_it() -> None:
    program = """
import sys
from ksmwatch.deferred import IN_CHILDREN, defer
defer(*IN_CHILDREN)
from ksmwatch.export.front import libraries
libraries.load_protocol()
print(*sys.modules)
import dataclasses
# Who needs a description later gets the real one.
made = dataclasses.make_dataclass("Undocumented", [("value", int)])
assert made.__doc__ == "Undocumented(value: int)", made.__doc__
"""
    names = set(run(program).stdout.split())
    assert "h11" in names
    assert "ast" not in names


def test_a_python_that_needs_more_of_inspect_loads_the_whole_protocol() -> None:
    # As 3.13 does, for every class.
    program = """
import dataclasses, inspect
from ksmwatch.export.front import libraries
process = dataclasses._process_class
def newer(cls, *rest):
    dataclasses.inspect.get_annotations(cls)
    return process(cls, *rest)
dataclasses._process_class = newer
libraries.load_protocol()
import h11
assert h11.Connection(h11.SERVER).our_state is h11.IDLE
assert dataclasses.inspect is inspect
"""
    run(program)


def test_without_prometheus_client_that_is_the_error() -> None:
    program = """
import importlib.util, sys
from ksmwatch.export.front import libraries
libraries.find_spec = lambda name: None
libraries.load_renderer()
"""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(program)
    assert "there is no prometheus_client" in caught.value.stderr


def test_a_version_that_uses_more_is_loaded_whole(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/__init__.py").write_text("")
    (tmp_path / "library/early.py").write_text("import ssl\n")
    (tmp_path / "library/late.py").write_text(
        "from library import early\nVERSION = early.ssl.OPENSSL_VERSION_INFO[0] + 0\n"
    )
    program = """
import sys
sys.path.append(sys.argv[1])
from ksmwatch.export.front import libraries
libraries._load("library", ("early", "late"), libraries._stand_ins(("ssl", "http.cookies")))
import http, library.late, ssl
assert library.late.VERSION == ssl.OPENSSL_VERSION_INFO[0]
assert library.late.early.ssl is ssl
assert not hasattr(http, "cookies")
"""
    run(program, str(tmp_path))
