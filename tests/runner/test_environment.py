"""What a record tells of its surroundings."""

import tomllib
from importlib import metadata

import torch
from conftest import ROOT

from runner import environment


def test_a_plain_checkout_tells_its_version_too(monkeypatch):
    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    described = environment.describe(torch.device("cpu"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert described["code"]["version"] == project["version"]
    assert list(described["packages"]) == ["python"]
