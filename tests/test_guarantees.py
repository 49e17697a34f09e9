"""Every line of docs/guarantees.md names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/\S+\.py)::(\w+)`")


def test_every_guarantee_names_tests_and_each_of_them_exists():
    guaranteed = PAGE.partition("## What is not")[0]
    lines = guaranteed.split("\n- ")[1:]
    assert all(NAMED.search(line) for line in lines)
    for file, name in NAMED.findall(PAGE):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
