"""Every sentence that a command can end with has an entry in docs/troubleshooting.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
# A wrong flag or setting is named in the sentence, with what it must be.
SELF_EXPLANATORY = {"ConfigError", "KsmwatchError"}
# Sentences about one file, which are caught before a user sees them.
INTERNAL = {
    "smaps_rollup has no KSM line",
    "BTF does not describe how pages are pinned.",
}


def text_of(node: ast.expr) -> str | None:
    """A text of the source, with … for what differs; None if nothing in it is fixed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
    return "".join(map(str, parts))


def errors() -> set[str]:
    """Names of the classes of errors."""
    tree = ast.parse((ROOT / "ksmwatch/errors.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def nodes() -> Iterator[ast.AST]:
    for path in sorted((ROOT / "ksmwatch").rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text()))


def sentences() -> set[str]:
    """What obstacles and errors say."""
    wanted = {*errors(), "Obstacle"} - SELF_EXPLANATORY
    calls = [node for node in nodes() if isinstance(node, ast.Call) and node.args]
    named = [call for call in calls if getattr(call.func, "id", None) in wanted]
    found = {text for call in named if (text := text_of(call.args[0])) is not None}
    return found | warnings()


def probes(module: str) -> ast.Module:
    return ast.parse((ROOT / f"ksmwatch/probes/{module}.py").read_text())


def function(tree: ast.Module, name: str) -> ast.FunctionDef:
    (found,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    return found


def warnings() -> set[str]:
    """Sentences printed although live accounting is possible."""
    made = function(probes("shortcomings"), "warnings")
    calls = [node for node in ast.walk(made) if isinstance(node, ast.Call)]
    return {
        text
        for call in calls
        if getattr(call.func, "attr", None) == "append" and (text := text_of(call.args[0]))
    }


def given(node: ast.AST) -> list[ast.expr]:
    """What may be a reason here: what is returned or assigned, and why a probe is Rejected."""
    if isinstance(node, (ast.Return, ast.Assign)) and node.value is not None:
        return [node.value]
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Rejected":
        return node.args[3:4]
    return []


def reasons() -> set[str]:
    """Why a probe is rejected."""
    tree = probes("plan")
    constants = {
        target.id: text
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and (text := text_of(node.value))
    }
    found = set()
    for name in (
        "_choose_event",
        "_refusal",
        "_objection",
        "_inlined",
        "_fentry_objection",
        "_kprobe_objection",
        "_choose_tracepoint",
    ):
        for node in ast.walk(function(tree, name)):
            for value in given(node):
                constant = constants.get(value.id) if isinstance(value, ast.Name) else None
                found.add(constant or text_of(value))
    # What the operator asked for explains itself.
    return {text for text in found if text and text.strip("…")}


def test_there_is_something_to_look_for() -> None:
    assert "The daemon is stopping." in sentences()
    assert any(text.startswith("Without CAP_NET_ADMIN") for text in sentences())
    assert "the kernel has no BPF trampolines" in reasons()


def test_every_sentence_has_an_entry_and_every_entry_a_sentence() -> None:
    entries = set(re.findall(r"^### (.+)$", PAGE, re.MULTILINE))
    assert entries == sentences() - INTERNAL


def test_every_reason_to_reject_a_probe_is_explained() -> None:
    section = PAGE.partition("## Why a probe was rejected")[2]
    explained = set(re.findall(r"^\| (.+?) \| ", section, re.MULTILINE)) - {"reason"}
    assert explained == reasons()


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert targets
    for target in targets:
        assert (ROOT / "docs" / target).exists()
