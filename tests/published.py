"""Compares documents with their published schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[1] / "docs/schemas"


@cache
def validator(name: str) -> Draft202012Validator:
    """The schema of a command's document."""
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


def faults(document: Mapping[str, Any]) -> list[str]:
    """Where a document violates its schema, which `schema` names."""
    name = document["schema"].removeprefix("ksmwatch.").partition("/")[0]
    found = validator(name).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]
