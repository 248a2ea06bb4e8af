"""docs/rivals.md says what the yamls and the packages say."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from runner import config
from runner.optimizer import build_optimizer, take_step

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/rivals.md").read_text()
COLUMNS = ("opt", "method", "paper", "kind", "role", "left", "memory")


def rows():
    """Yield the rows of the first table, as dicts."""
    table = DOCUMENT.split("| opt | method |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield dict(zip(COLUMNS, cells, strict=True))


ROWS = {row["opt"].strip("`"): row for row in rows()}


def floats_in(state):
    """Return how many numbers a state has in tensors."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    values = state.values() if isinstance(state, dict) else state
    return sum(map(floats_in, values)) if isinstance(state, dict | list | tuple) else 0


def memory(opt):
    """Return the floats of state for each parameter, after two steps of a small network."""
    network = nn.Linear(100, 20)
    optimizer = build_optimizer(opt, network)

    def backward():
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = network(torch.ones(3, 100)).square().mean()
            loss.backward()
        return loss.detach()

    for _ in range(2):
        take_step(optimizer, opt, backward(), backward)
    return floats_in(dict(optimizer.state)) / sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_its_yaml_says(name):
    row = ROWS[name]
    opt = config.load(["task=probe_newsgroups", "task.synthetic=true", f"opt={name}"]).spec.opt
    assert row["method"] == opt.label and row["paper"] == str(opt.paper or "–")
    assert row["role"] == f"{opt.role}, {opt.schedule}"
    assert row["left"] == ", ".join(opt.left_to_set)
    assert float(row["memory"]) == pytest.approx(memory(opt), abs=0.02)
    for package, version in re.findall(r"of `(\S+)` (\d\S*)", row["kind"]):
        assert f"{package}=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_every_rival_has_a_row_in_order():
    targets = {
        name: OmegaConf.load(config.CONFIGS / f"opt/{name}.yaml")["_target_"]
        for name in config.options("opt")
    }
    rivals = [name for name, target in targets.items() if not target.startswith(("torch.", "dog."))]
    assert set(rivals) <= set(ROWS) <= set(targets)
    assert list(ROWS) == sorted(ROWS)


def test_every_fault_has_its_test():
    tests = (ROOT / "tests/rivals/test_packages.py").read_text()
    named = re.findall(r"`(test_\w+)` \|", DOCUMENT)
    assert len(named) >= 15
    assert all(f"def {name}(" in tests for name in named)
    faults = set(re.findall(r"def (test_\w+)\(", tests))
    assert faults == set(named)
