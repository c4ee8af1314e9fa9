"""Documents against the schemas that are published with them."""

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
    """Of the document that a command prints."""
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


def faults(document: Mapping[str, Any]) -> list[str]:
    """Where a document is not as its schema says; by `schema` it names the one."""
    name = document["schema"].removeprefix("ksmwatch.").partition("/")[0]
    found = validator(name).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]
