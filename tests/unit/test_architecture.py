"""What holds for the sources as a whole: order of imports, size, nothing skips."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ksmwatch import errors
from ksmwatch.errors import Exit, KsmwatchError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ksmwatch"

# The order has one source: the table of packages in docs/design.md.
DESIGN = (ROOT / "docs/design.md").read_text()
TOP = "(top)"
LAST = "(last)"
TABLE = DESIGN.split("## Packages")[1].split("\n## ")[0]
ORDER = [
    name.strip("`") for name in re.findall(r"^\| (`[a-z]+`|\([a-z]+\)) \|", TABLE, re.MULTILINE)
]
MODULES = {
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", "."): path
    for path in PACKAGE.rglob("*.py")
}
LAST_MODULES = {"cli", "cli_calls", "command_line", "__main__"}
# What touches files, clocks, the kernel, other processes, or a terminal, itself or at second hand.
# All others are judgement and have no effects.
EFFECTFUL = {
    *("__main__", "child_process", "cli", "cli_calls", "command_line", "config", "log"),
    *("systemd",),
    *("commands.audit", "commands.build", "commands.check", "commands.estimate"),
    *("commands.estimate_subjects", "commands.history", "commands.oneshot", "commands.peers"),
    *("commands.progress", "commands.record", "commands.rest", "commands.run", "commands.why"),
    *("counting.accounting", "counting.age_sampling", "counting.assembly"),
    *("counting.audit_schedule", "counting.backend", "counting.choose_backend"),
    *("counting.comeback", "counting.controls", "counting.exact_read", "counting.findings"),
    *("counting.hooks", "counting.host", "counting.live_backend", "counting.polling_backend"),
    *("counting.node_reads", "counting.steps"),
    *("diagnose.page_changes", "diagnose.page_prints", "diagnose.page_survey"),
    *("diagnose.read_evidence", "export.front.auth", "export.front.clients"),
    *("export.front.complaints", "export.front.confine", "export.front.connection"),
    *("export.front.encryption", "export.front.link"),
    *("export.front.main", "export.front.runbook"),
    *("export.front.site", "export.front.textfile", "export.front.web"),
    *("export.front.workers",),
    *("export.front_channel", "export.front_keeper", "export.fronts", "export.own_resources"),
    *("export.tls", "export.web_config_watch"),
    *("history.file_errors", "history.reader", "history.recorder", "history.store"),
    *("kernel.bpf_maps", "kernel.btf", "kernel.cgroup_members", "kernel.cgroup_rooms"),
    *("kernel.cgroup_top", "kernel.frame_source", "kernel.memory_nodes", "kernel.node_reader"),
    *("kernel.host_sources", "kernel.kcore", "kernel.kept_file", "kernel.kernel_image"),
    *("kernel.kernel_text", "kernel.limit_watch"),
    *("kernel.libbpf", "kernel.new_maps", "kernel.page_content", "kernel.page_frames"),
    *("kernel.page_tables", "kernel.pinned_frames", "kernel.probe_switches", "kernel.procfs"),
    *("kernel.read_areas", "kernel.read_facts", "kernel.syscalls"),
    *("owners.process_connector", "owners.processes"),
    *("probes.age_maps", "probes.all_accounts", "probes.attachments", "probes.baselines"),
    *("probes.capabilities",),
    *("probes.compiler", "probes.configured_plan", "probes.cow_call_site", "probes.handover"),
    *("probes.kept_image", "probes.kept_programs", "probes.learning", "probes.loader"),
    *("probes.looks", "probes.mapped_memory"),
    *("probes.maps", "probes.node_shift", "probes.own_page", "probes.persistence", "probes.pins"),
    *("probes.programs", "probes.quiet_map", "probes.sources", "probes.totals"),
    *("snapshot.collector", "snapshot.desk", "snapshot.homes", "snapshot.ksmd_numbers"),
    *("snapshot.roster",),
    *("snapshot.socket_client", "snapshot.socket_server", "snapshot.zero_holders"),
    *("top.app", "top.batch", "top.command", "top.scrape", "top.screens", "top.source"),
    *("top.timeline", "top.widgets"),
}
EFFECTS = {
    *("os", "io", "pathlib", "tempfile", "shutil", "glob", "mmap", "sqlite3", "_sqlite3"),
    *("fcntl", "platform"),
    *("socket", "select", "selectors", "ssl", "asyncio", "urllib.request", "h11", "textual"),
    *("subprocess", "multiprocessing", "threading", "concurrent", "queue", "signal", "resource"),
    *("time", "random", "secrets", "uuid", "ctypes", "psutil", "pyroute2", "bcc", "pwd", "grp"),
}
# A constant, and a generator whose seed is an argument.
HARMLESS = {"mmap.PAGESIZE", "random.Random"}
EFFECTFUL_CALLS = {"open", "print", "input"}
# Clocks among the methods of datetime.
CLOCKS = {"now", "today", "utcnow"}


def package_of(module: str) -> str:
    """The package that a module is in, one of ORDER."""
    head, dot, _ = module.partition(".")
    if dot or head in ORDER:
        return head
    return LAST if module in LAST_MODULES else TOP


@cache
def tree(module: str) -> ast.Module:
    """What a module says; many tests look at it."""
    return ast.parse(MODULES[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def own(module: str) -> frozenset[str]:
    """Modules of the package that a module imports."""
    names = {name.partition(".")[2] for name in imports(module) if name.startswith("ksmwatch.")}
    return frozenset(names & set(MODULES))


@cache
def reached(module: str) -> frozenset[str]:
    """Modules of the package that a module imports, at first or second hand."""
    found: set[str] = set()
    new = {module}
    while new:
        found |= new
        new = {each for name in new for each in own(name)} - found
    return frozenset(found - {module})


# ---- order ----


def test_every_package_has_one_place() -> None:
    assert len(ORDER) == len(set(ORDER))
    assert {package_of(module) for module in MODULES} == set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_only_from_those_before_them(module: str) -> None:
    place = ORDER.index(package_of(module))
    later = {name for name in own(module) if ORDER.index(package_of(name)) > place}
    assert later == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_itself_at_second_hand(module: str) -> None:
    assert module not in {each for name in own(module) for each in reached(name) | {name}}


def effects(module: str) -> set[str]:
    """What of a module itself is an effect."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    heads = (".".join(name.split(".")[:n]) for name in found - HARMLESS for n in (1, 2))
    called = [n.func for n in ast.walk(tree(module)) if isinstance(n, ast.Call)]
    names = {function.id for function in called if isinstance(function, ast.Name)}
    methods = {function.attr for function in called if isinstance(function, ast.Attribute)}
    clocks = methods & CLOCKS if any(name.startswith("datetime") for name in found) else set()
    return {*heads} & EFFECTS | names & EFFECTFUL_CALLS | clocks


@pytest.mark.parametrize("module", sorted(set(MODULES) - EFFECTFUL))
def test_judgement_has_no_effects(module: str) -> None:
    assert {each: effects(each) for each in {module} | reached(module) if effects(each)} == {}


@pytest.mark.parametrize("module", sorted(EFFECTFUL))
def test_what_is_said_to_have_effects_has_some(module: str) -> None:
    assert any(effects(each) for each in {module} | reached(module))


def test_what_the_design_calls_pure_is_pure() -> None:
    section = DESIGN.split("## Modules")[1].split("\nOutside the package")[0]
    pure = re.findall(r"^\| `([\w/]+)` \|.*\bPure\b", section, re.MULTILINE)
    assert len(pure) > 10
    assert {name.replace("/", ".") for name in pure} & EFFECTFUL == set()


# ---- size, and where to look ----


def too_large(path: Path) -> list[str]:
    """What of a module is over the limits: 400 lines, 250 of a class, 60 of a function."""
    text = path.read_text()
    found = [f"{path}: {len(text.splitlines())} lines"] if len(text.splitlines()) > 400 else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > (250 if isinstance(node, ast.ClassDef) else 60):
                found.append(f"{path}: {node.name} has {lines} lines")
    return found


def test_modules_classes_and_functions_are_small() -> None:
    others = [
        path
        for name in ("tools", "bench", "demo", "grafana", "tests")
        for path in rglob(ROOT / name)
    ]
    assert len(others) > 300
    assert [large for path in (*MODULES.values(), *others) for large in too_large(path)] == []


def test_c_files_are_small() -> None:
    found = [
        path
        for directory in ("bpf", "tests/workload")
        for path in (ROOT / directory).rglob("*.[ch]")
    ]
    assert len(found) > 40
    lines = {path: len(path.read_text().splitlines()) for path in found}
    assert {path: count for path, count in lines.items() if count > 400} == {}


def test_every_module_is_named_where_a_reader_would_look() -> None:
    section = DESIGN.split("## Modules")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([\w/]+)` \|", section, re.MULTILINE)
    modules = {name.replace(".", "/") for name in MODULES if not name.endswith("__init__")}
    assert len(listed) == len(set(listed))
    assert set(listed) == modules
    places = [ORDER.index(package_of(name.replace("/", "."))) for name in listed]
    assert places == sorted(places)


def test_files_outside_the_package_are_named_too() -> None:
    section = DESIGN.split("## Modules")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([\w/]+\.\w+)` \|", section, re.MULTILINE)
    found = [
        *(path for kind in ("c", "h") for path in (ROOT / "bpf").glob(f"*.{kind}")),
        *(ROOT / "grafana").glob("*.py"),
        *(ROOT / "tests").glob("*.py"),
        *(ROOT / "tests/vm/vmharness").glob("*.py"),
        *(ROOT / "tools").glob("*.py"),
    ]
    assert listed == sorted(listed)
    names = {str(path.relative_to(ROOT)) for path in found if path.stem != "__init__"}
    assert set(listed) == names


def types_of(module: str) -> Iterator[str]:
    """Public names of classes, and other names of types, that a module makes."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if re.match("[A-Z][a-z]", name))


def test_the_name_of_a_type_is_the_name_of_one_thing() -> None:
    found = Counter(name for module in MODULES for name in types_of(module))
    assert len(found) > 100
    assert [name for name, times in found.items() if times > 1] == []


def test_the_files_that_newcomers_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("## Where is it?")[1].split("\n## ")[0]
    named = re.findall(r"^- .*\? \[`(.+)`\]\((.+)\)$", section, re.MULTILINE)
    assert len(named) == section.count("\n- ")
    assert [name for name, link in named if name != link or not (ROOT / name).is_file()] == []


def test_the_daemon_never_imports_bcc() -> None:
    # It brings 100 MB; only the compiler's own process may.
    users = {module for module in MODULES if "bcc" in imports(module)}
    assert users == {"probes.compiler"}


# What starts a process, perhaps as root in a directory that other users may write to.
STARTS = {"subprocess", "pty", "multiprocessing", "ctypes.util"}
STARTING = re.compile(r"^(system|popen|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?|find_library)$")


def test_one_module_starts_processes() -> None:
    users = {
        module
        for module, path in MODULES.items()
        if imports(module) & STARTS
        or any(
            isinstance(node, ast.Attribute) and STARTING.match(node.attr)
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert users == {"child_process"}


def test_one_module_makes_raw_system_calls() -> None:
    users = {
        module
        for module, path in MODULES.items()
        if {"ctypes"} & imports(module) and "CDLL(" in path.read_text()
    }
    # libbpf is a library, and has the calls that are its own.
    assert users == {"kernel.syscalls", "kernel.libbpf"}


def test_one_module_knows_the_format_of_smaps() -> None:
    # A text, and not a comment or a docstring.
    users = {
        module
        for module, path in MODULES.items()
        if re.search(r"""\b[rb]*["'][^"'\n]*VmFlags""", path.read_text())
    }
    assert users == {"kernel.smaps"}


FRONT = {
    *("__init__", "digests", "errors", "log", "units", "export.__init__"),
    *("export.metric_family", "export.own_resources", "export.front_channel"),
    *("export.web_config", "export.tls", "snapshot.last_hour"),
    # Asks the kernel for something and reads nothing of it.
    *("kernel.__init__", "kernel.syscalls"),
}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("export.front.")])
def test_a_front_imports_nothing_that_reads_the_kernel(module: str) -> None:
    assert {name for name in own(module) if not name.startswith("export.front.")} <= FRONT


def test_the_daemon_imports_no_web_library() -> None:
    loaded = (
        "import sys, ksmwatch.commands.run; print(*{name.split('.')[0] for name in sys.modules})"
    )
    names = subprocess.run([sys.executable, "-c", loaded], check=True, stdout=subprocess.PIPE)
    assert set(names.stdout.decode().split()) & {"h11", "prometheus_client", "yaml"} == set()


# ---- texts for people ----


def subclasses(kind: type[KsmwatchError]) -> Iterator[type[KsmwatchError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def test_the_table_of_exit_statuses_is_complete() -> None:
    text = (ROOT / "README.md").read_text()
    section = text.split("## Exit status")[1].split("\n## ")[0]
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert rows == [status.value for status in Exit]


def test_every_status_but_success_belongs_to_an_error() -> None:
    statuses = {kind.status for kind in subclasses(KsmwatchError)}
    assert statuses == set(Exit) - {Exit.OK}
    direct = [k.status for k in KsmwatchError.__subclasses__() if k is not errors.SourceError]
    # So that the status tells the kinds apart. SourceError is an internal error.
    assert len(direct) == len(set(direct))


# ---- tests ----

TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_skips(path: Path) -> None:
    tree = ast.parse(path.read_text())
    words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert words & {"skip", "skipif", "xfail", "importorskip", "skipTest"} == set()


def test_nothing_is_imported_from_a_file_of_tests() -> None:
    files = [path for name in ("tests", "bench", "demo", "grafana") for path in rglob(ROOT / name)]
    assert len(files) > 100
    guilty = {
        str(path.relative_to(ROOT))
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        if any(part.startswith("test_") for part in (node.module or "").split("."))
    }
    assert guilty == set()


def rglob(directory: Path) -> list[Path]:
    """All Python files of a directory, except those of other projects."""
    found = directory.rglob("*.py")
    return [path for path in found if not {"node_modules", "build"} & set(path.parts)]
