"""Reads a yaml of configs/ as it stands: to compose a run takes a hundred times as long."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def read_yaml(path: Path) -> dict[Any, Any]:
    """Return what a yaml holds, and what it shares with others (`_glue`); nothing is resolved."""
    content: Any = OmegaConf.load(path)
    names = [name for name in content.get("defaults", ()) if str(name).startswith("_")]
    shared = [read_yaml(path.with_name(f"{name}.yaml")) for name in names if name != "_self_"]
    plain: Any = OmegaConf.to_container(OmegaConf.merge(*shared, content))
    return plain
