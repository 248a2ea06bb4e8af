"""Reads a yaml of configs/ as it stands: to compose a run takes a hundred times as long."""

import re
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """As Hydra reads a yaml: 1e-4 is a number, which to PyYAML alone is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a yaml holds, and what it shares with others (`_glue`); nothing is resolved."""
    content = yaml.load(path.read_text("utf-8"), _Loader)
    found: dict[str, Any] = {}
    for name in content.get("defaults", ()):
        if str(name).startswith("_") and name != "_self_":
            found = _merged(found, read_yaml(path.with_name(f"{name}.yaml")))
    return _merged(found, content)


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return both, block by block; of a key that both have, one's own value."""
    both = {**shared, **own}
    for key in shared.keys() & own.keys():
        if isinstance(shared[key], dict) and isinstance(own[key], dict):
            both[key] = _merged(shared[key], own[key])
    return both
