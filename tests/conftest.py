"""What all tests share: no surroundings leak in, real data only where it is at hand."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from runner.config import CONFIGS
from tasks.sources import default_data_dir, is_fetched, source_from


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch):
    """Each test's runs and wandb files go where it says, on one thread."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(autouse=True, scope="session")
def _threads():
    torch.set_num_threads(1)


@pytest.fixture
def real_data():
    """A function that skips the test unless the named configs' archives have been fetched."""

    def need(*names: str) -> Path:
        for name in names:
            config = OmegaConf.load(CONFIGS / f"{name}.yaml")
            block = config.get("data") or config.weights
            source = source_from(OmegaConf.to_container(block.source))
            if not is_fetched(source, default_data_dir()):
                pytest.skip(f"needs the data of {name}: run make prepare")
        return default_data_dir()

    return need


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    """Say at the end, after the list of all that was skipped, which command runs it."""
    result = yield
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])]
    for command in ("make setup", "make prepare"):
        if left_out := sum(f"run {command}" in reason for reason in reasons):
            line = f"{left_out} tests were left out: `{command} test` runs them, too"
            terminalreporter.write_line(line, yellow=True)
    return result
