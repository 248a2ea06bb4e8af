"""What a record tells of its surroundings."""

import tomllib

import torch
from conftest import ROOT

from runner import environment
from tasks.data import cache


def test_a_plain_checkout_tells_its_version_too(monkeypatch):
    monkeypatch.setattr(cache, "installed_version", lambda package: None)
    described = environment.describe(torch.device("cpu"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["code"]["version"] == project["version"]
    assert list(described["packages"]) == ["python"]
