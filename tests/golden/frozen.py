"""Golden files: what runs and reports were before a change of the code, and are to be after it.

    tests/golden/run_ids.txt   command lines, each with the id of its run and of its problem
    tests/golden/runs/         runs of made-up problems: the record, and the curves of metrics.jsonl
    tests/analysis/golden/     everything that `make tables` writes from a fixed set of records

A test that fails here says that behaviour has changed. Where that is wanted, write the files again,
read the difference, and commit it with the change:

    DOG_BENCH_UPDATE_GOLDEN=1 python -m pytest -n0 tests/golden tests/analysis/test_golden_report.py

A run id that changes makes every finished run of it unknown: such a change needs a migration.

The numbers of a run are compared to the last bit where `made_with` agrees (torch, the processor,
what of it torch uses, the kernel of the optimizer's step), and within a tolerance elsewhere: the
libraries below torch choose their code by the processor, too. To compare bits on another machine,
write the files there at the commit before the change, then test the change.

The functions below are the only ones here that call the suite.
"""

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
UPDATE = bool(os.environ.get("DOG_BENCH_UPDATE_GOLDEN"))
# Runs are made up, and leave nothing but their folders.
QUIET = ["task.synthetic=true", "device=cpu", "threads=1", "progress=false"]
QUIET += ["wandb.mode=disabled"]

Words = list[str]
Trained = tuple[dict[str, Any], list[dict[str, Any]]]  # a record, and the lines of metrics.jsonl


def identify(words: Words) -> tuple[str, str]:
    """Return the ids of the run that a command line describes, and of its problem."""
    from runner import config

    spec = config.load(words).spec
    return spec.run_id, spec.problem_id


def train(words: Words, runs_dir: Path) -> Trained:
    """Train one run."""
    from runner import config
    from runner.run import run

    return _trained(run(config.load([*words, *QUIET, f"runs_dir={runs_dir}"])), runs_dir)


def train_replicas(runs: list[Words], runs_dir: Path) -> list[Trained]:
    """Train several runs of one problem together."""
    from runner import config
    from sweeps.replicas import run_together

    configs = [config.load([*words, *QUIET, f"runs_dir={runs_dir}"]) for words in runs]
    ends = dict(run_together(configs))
    return [_trained(ends[place], runs_dir) for place in range(len(runs))]


def _trained(record: Any, runs_dir: Path) -> Trained:
    folder = runs_dir / record.settings["task"]["name"] / record.run_id
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads((folder / "record.json").read_text()), [json.loads(line) for line in lines]
