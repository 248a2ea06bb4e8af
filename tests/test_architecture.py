"""The house: imports go only downwards (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the top; a module may import from its own floor and from those below it.
FLOORS = ["sweeps"]
FLOORS += ["analysis.report", "analysis.html", "analysis.findings", "analysis.all_tables"]
FLOORS += ["analysis.paper", "analysis.figures", "analysis.answer", "analysis.tables", "analysis"]
FLOORS += ["runner", "tasks", "tasks.data", "rivals", "dog"]
# Every floor raises the one and writes as the other says.
EVERYBODYS = {"tasks.errors", "tasks.format"}


def floor_of(module):
    return max(
        (name for name in FLOORS if f"{module}.".startswith(f"{name}.")), key=len, default=None
    )


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_downwards(floor):
    checked, upwards = [], []
    for path in sorted((ROOT / floor.partition(".")[0]).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if floor_of(module) != floor:
            continue
        checked.append(module)
        for name in imported(path):
            other = floor_of(name)
            if other is None or any(name.startswith(free) for free in EVERYBODYS):
                continue
            if FLOORS.index(other) < FLOORS.index(floor):
                upwards.append(f"{module} imports {name}")
    assert checked and not upwards
