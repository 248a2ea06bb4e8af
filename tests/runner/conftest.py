"""Runs for the runner's tests: made-up problems, real processes."""

import json
import os
from pathlib import Path

import pytest
import warm

ROOT = Path(__file__).parents[2]
QUIET = ["task.synthetic=true", "wandb.mode=disabled", "progress=false"]


@pytest.fixture
def command(tmp_path):
    """The command line of a made-up run whose files go to tmp_path, as a process to start."""

    def start(*overrides):
        flags = [word for word in overrides if word.startswith("-")]
        keys = [*QUIET, f"runs_dir={tmp_path}", *(w for w in overrides if w not in flags)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return warm.Process(["run.py", *flags, *keys], env=environment)

    return start


@pytest.fixture
def finish(command):
    """Run a command to its end; return its exit status, output and errors."""

    def run(*overrides):
        process = command(*overrides)
        output, errors = process.communicate(timeout=240)
        return process.returncode, output, errors

    return run


def only_record(folder):
    """The one record below a folder, without what differs between two equal runs."""
    (path,) = Path(folder).glob("*/*/record.json")
    record = json.loads(path.read_text())
    metrics = (path.parent / "metrics.jsonl").read_text()
    return {k: v for k, v in record.items() if k not in ("measured", "code")}, metrics
